//! Starting runs by hand, and starting them once.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Method;
use futures_util::future::join_all;
use serde_json::json;

use super::{Answer, Api, HOST};

const HELLO: &str = "/v1/jobs/hello/trigger";

async fn keyed(api: &Api, key: &str, body: &str) -> Answer {
    let key = format!("idempotency-key: {key}");
    api.call(Method::POST, HELLO, &["content-type: application/json", &key], body.to_owned()).await
}

#[tokio::test]
async fn the_answer_says_where_to_follow_the_run() {
    let api = Api::new().await;
    let answer = api.post(HELLO, r#"{"input": {"day": 1}, "resource": {"type": "share"}}"#).await;
    assert_eq!(answer.status, 202);
    let id = answer.json["id"].as_str().unwrap();
    let monitor = format!("http://{HOST}/v1/workRequests/{id}");
    assert_eq!(answer.header("operation-location"), monitor);
    assert_eq!(answer.header("azure-asyncoperation"), monitor);
    assert_eq!(answer.header("location"), format!("{monitor}/result"));
    assert_eq!(answer.header("opc-work-request-id"), id);
    assert_eq!(answer.header("retry-after"), "1");
    for (member, value) in [
        ("status", json!("ACCEPTED")),
        ("job", json!("hello")),
        ("namespace", json!("default")),
        ("queue", json!("default")),
        ("jobVersion", json!(1)),
        ("percentComplete", json!(0.0)),
        ("attempt", json!(0)),
        ("input", json!({"day": 1})),
        ("resource", json!({"type": "share"})),
    ] {
        assert_eq!(answer.json[member], value, "{member}");
    }
    let accepted = answer.json["timeAccepted"].as_str().unwrap();
    assert_eq!((accepted.len(), accepted.ends_with('Z')), ("2026-01-02T03:04:05.678Z".len(), true), "{accepted}");
    assert!(answer.json.get("timeStarted").is_none() && answer.json.get("error").is_none());

    let seen = api.get(&format!("/v1/workRequests/{id}")).await;
    assert_eq!((seen.status.as_u16(), seen.header("retry-after")), (200, "1"));
    for member in ["id", "timeAccepted", "input", "resource"] {
        assert_eq!(seen.json[member], answer.json[member]);
    }
}

#[tokio::test]
async fn no_body_is_fine_whatever_type_it_claims() {
    let api = Api::new().await;
    for headers in [&[][..], &["content-type: application/json"], &["content-type: text/plain", "content-length: 0"]] {
        let answer = api.call(Method::POST, HELLO, headers, Body::empty()).await;
        assert_eq!(answer.status, 202, "{headers:?}: {}", answer.text);
    }
    assert_eq!(api.post(HELLO, "{}").await.status, 202);
    assert_eq!(api.post(HELLO, r#"{"input": null, "delay": null, "resource": null}"#).await.status, 202);
    let charset = ["content-type: Application/JSON; charset=utf-8"];
    assert_eq!(api.call(Method::POST, HELLO, &charset, "{}").await.status, 202);
}

#[tokio::test]
async fn a_delay_is_kept_and_told() {
    let api = Api::new().await;
    let answer = api.post(HELLO, r#"{"delay": "10m"}"#).await;
    assert!(answer.json["waitingFor"].as_str().unwrap().starts_with("due at 20"), "{}", answer.text);
    assert!(api.store.take_due(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_same_request_under_the_same_key_is_one_run() {
    let api = Api::new().await;
    let first = keyed(&api, "k1", r#"{"input": {"a": 1, "b": 2}, "delay": "1m"}"#).await;
    // Spelled in another way, it is the same request.
    let again = keyed(&api, "k1", r#"{ "delay": "60s", "input": {"b": 2, "a": 1} }"#).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (202, 202));
    assert_eq!(first.json["id"], again.json["id"]);
    assert_eq!(again.header("opc-work-request-id"), first.json["id"]);
    assert_ne!(keyed(&api, "k2", r#"{"input": {"a": 1, "b": 2}, "delay": "1m"}"#).await.json["id"], first.json["id"]);

    // Each member tells a request from another one.
    for other in [
        r#"{"input": {"a": 1, "b": 3}, "delay": "1m"}"#,
        r#"{"input": {"a": 1, "b": 2}, "delay": "2m"}"#,
        r#"{"input": {"a": 1, "b": 2}, "delay": "1m", "resource": {}}"#,
    ] {
        let other = keyed(&api, "k1", other).await;
        assert_eq!((other.status.as_u16(), &other.json["code"]), (422, &json!("IdempotencyKeyReused")));
    }
    assert_eq!(api.get("/v1/workRequests").await.json["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn many_at_once_under_one_key_are_one_run() {
    let api = Api::new().await;
    let answers = join_all((0..20).map(|_| keyed(&api, "same", r#"{"input": {"n": 1}}"#))).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    let ids: BTreeSet<_> = answers.iter().map(|answer| answer.json["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(api.get("/v1/workRequests").await.json["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_must_be_visible_and_short() {
    let api = Api::new().await;
    for key in ["", "a b", "\u{e9}", &"k".repeat(256)] {
        let answer = keyed(&api, key, "{}").await;
        assert_eq!((answer.status.as_u16(), answer.wrong()), (400, vec!["Idempotency-Key"]), "{key:?}");
    }
    assert_eq!(keyed(&api, &"k".repeat(255), "{}").await.status, 202);
    let twice = ["idempotency-key: a", "idempotency-key: b"];
    assert_eq!(api.call(Method::POST, HELLO, &twice, Body::empty()).await.status, 400);
}

#[tokio::test]
async fn a_refused_request_leaves_nothing() {
    let api = Api::new().await;
    let answer = keyed(&api, "k", r#"{"delay": "soon"}"#).await;
    assert_eq!(answer.status, 422);
    assert!(api.get("/v1/workRequests").await.json["items"].as_array().unwrap().is_empty());
    // Nor is its key taken.
    assert_eq!(keyed(&api, "k", r#"{"delay": "1s"}"#).await.status, 202);
}
