//! Requests that are repeated are done once, whatever they start.

use axum::body::Body;
use axum::http::Method;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Answer, Api};

const HELLO: &str = "/v1/jobs/hello/trigger";

async fn post(api: &Api, path: &str, headers: &[&str], body: &str) -> Answer {
    let headers: Vec<_> = headers.iter().copied().chain(["content-type: application/json"]).collect();
    api.call(Method::POST, path, &headers, body.to_owned()).await
}

async fn runs(api: &Api) -> usize {
    api.get("/v1/workRequests").await.json["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn three_headers_name_one_key() {
    let api = Api::new().await;
    let first = post(&api, HELLO, &["idempotency-key: k"], "").await;
    for headers in [
        &["opc-retry-token: k"][..],
        &["operation-id: k"],
        &["opc-retry-token: k", "Operation-Id: k", "Idempotency-Key: k"],
    ] {
        let again = post(&api, HELLO, headers, "").await;
        assert_eq!((again.status.as_u16(), &again.json["id"]), (202, &first.json["id"]), "{headers:?}");
        assert_eq!(again.header("opc-work-request-id"), first.json["id"]);
    }
    let apart = post(&api, HELLO, &["idempotency-key: k", "opc-retry-token: other", "operation-id: third"], "").await;
    assert_eq!((apart.status.as_u16(), apart.wrong()), (400, vec!["opc-retry-token", "Operation-Id"]));
    let (longest, too_long) = ("t".repeat(64), "t".repeat(65));
    let token = |text: &str| format!("opc-retry-token: {text}");
    assert_eq!(post(&api, HELLO, &[&token(&longest)], "").await.status, 202);
    let long = post(&api, HELLO, &[&token(&too_long)], "").await;
    assert_eq!((long.status.as_u16(), long.wrong()), (400, vec!["opc-retry-token"]));
    assert_eq!(post(&api, HELLO, &[&format!("operation-id: {too_long}")], "").await.status, 202);
    assert_eq!(runs(&api).await, 3);
}

#[tokio::test]
async fn a_key_is_of_one_namespace_and_one_operation() {
    let api = Api::new().await;
    let key = ["idempotency-key: k"];
    let hello = post(&api, HELLO, &key, "").await;
    let call = post(&api, "/v1/jobs/call/trigger", &key, "").await;
    let schedule = post(&api, "/v1/schedules/often:trigger", &key, "").await;
    assert_eq!([&hello, &call, &schedule].map(|answer| answer.status.as_u16()), [202; 3]);
    assert_eq!(runs(&api).await, 3);
    // Spelled in another way it is the same path.
    assert_eq!(post(&api, "/v1/jobs/h%65llo/trigger", &key, "").await.json["id"], hello.json["id"]);
    let foreign = post(&api, HELLO, &["idempotency-key: k", "x-reveille-namespace: other"], "").await;
    assert_eq!(foreign.status, 404, "another tenant's key tells nothing");
}

#[tokio::test]
async fn fields_that_differ_are_named_and_nothing_of_them_is_told() {
    let api = Api::new().await;
    let key = ["idempotency-key: k"];
    let first = r#"{"input": {"day": 1, "pin": "hunter2"}, "delay": "1m", "resource": {"type": "share"}}"#;
    post(&api, HELLO, &key, first).await;
    for (body, differs) in [
        (
            r#"{"input": {"day": 2, "pin": "hunter3"}, "delay": "1m", "resource": {"type": "share"}}"#,
            &["input.day", "input.pin"][..],
        ),
        (r#"{"input": {"day": 1}, "delay": "60s", "resource": {"type": "share"}}"#, &["input.pin"]),
        (r#"{"input": {"day": 1, "pin": "hunter2"}, "delay": "2m"}"#, &["delay", "resource"]),
        ("", &["delay", "input", "input.day", "input.pin", "resource"]),
        (r#"{"inputs": [{}]}"#, &["delay", "fail", "input", "input.day", "input.pin", "inputs", "resource"]),
    ] {
        let answer = post(&api, HELLO, &key, body).await;
        assert_eq!((answer.status.as_u16(), &answer.json["code"]), (422, &json!("IdempotencyKeyReused")), "{body}");
        assert_eq!(answer.wrong(), differs, "{body}");
        assert!(answer.json["message"].as_str().unwrap().contains(differs[0]) && !answer.text.contains("hunter"));
    }
    assert_eq!(runs(&api).await, 1);
}

#[tokio::test]
async fn the_first_answer_stands_when_the_job_is_gone() {
    let api = Api::new().await;
    let first = post(&api, HELLO, &["idempotency-key: k"], "").await;
    let none =
        reveille_shared::definition::read_texts(&[("test.yaml".into(), "version: 1\njobs: {}\n".into())]).unwrap();
    api.store.apply_definitions(api.leader, &none, &none.digest(), "test").await.unwrap();
    assert_eq!(post(&api, HELLO, &["idempotency-key: k"], "").await.json["id"], first.json["id"]);
    assert_eq!(post(&api, HELLO, &["idempotency-key: other"], "").await.status, 404);
}

#[tokio::test]
async fn a_fire_by_hand_that_is_repeated_is_one_fire() {
    let api = Api::new().await;
    let path = "/v1/schedules/daily:trigger";
    let answers = join_all((0..8).map(|_| post(&api, path, &["idempotency-key: k"], r#"{"by": "ann"}"#))).await;
    for answer in &answers {
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(answer.json["fire"], answers[0].json["fire"]);
        assert_eq!(answer.json["workRequests"][1]["id"], answers[0].json["workRequests"][1]["id"]);
    }
    let other = post(&api, path, &["idempotency-key: k"], r#"{"by": "bob"}"#).await;
    assert_eq!((other.status.as_u16(), other.wrong()), (422, vec!["by"]));
    assert_eq!(runs(&api).await, 2, "two jobs, one fire");
    // One run can be followed by the headers alone.
    let one = post(&api, "/v1/schedules/often:trigger", &[], "").await;
    assert_eq!(one.header("opc-work-request-id"), one.json["workRequests"][0]["id"]);
    assert!(answers[0].headers.get("opc-work-request-id").is_none(), "two runs");
}

#[tokio::test]
async fn a_backfill_that_is_repeated_is_one_backfill() {
    let api = Api::new().await;
    let path = "/v1/schedules/often:backfill";
    let body = |to: &str| format!(r#"{{"from": "2026-01-01T00:00:00Z", "to": "{to}"}}"#);
    let key = ["opc-retry-token: k"];
    let dry =
        post(&api, path, &key, r#"{"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:05:00Z", "dryRun": true}"#)
            .await;
    assert_eq!(dry.status, 200);
    let asked = body("2026-01-01T00:02:00Z");
    let answers = join_all((0..8).map(|_| post(&api, path, &key, &asked))).await;
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), &answer.json["id"]), (202, &answers[0].json["id"]), "{}", answer.text);
    }
    let other = post(&api, path, &key, &body("2026-01-01T00:03:00Z")).await;
    assert_eq!((other.status.as_u16(), other.wrong()), (422, vec!["to"]));
    let all = api.get("/v1/schedules/often/backfills").await;
    assert_eq!(all.json["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_is_asked_without_a_key_is_done_each_time() {
    let api = Api::new().await;
    let ids: Vec<Value> =
        join_all((0..3).map(|_| post(&api, HELLO, &[], ""))).await.into_iter().map(|a| a.json["id"].clone()).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    assert_eq!(runs(&api).await, 3);
    let none = api.call(Method::POST, HELLO, &["idempotency-key: "], Body::empty()).await;
    assert_eq!(none.status, 400, "an empty key is no key");
}
