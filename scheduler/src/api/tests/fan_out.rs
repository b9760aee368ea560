//! One request, many runs: all of them or none, and what did not succeed once more.

use axum::http::Method;
use reveille_shared::clock::SystemClock;
use reveille_shared::periodic::Pass as _;
use reveille_shared::store::Outcome;
use serde_json::{Value, json};
use std::sync::Arc;

use super::{Answer, Api};
use crate::follow_up::FollowUps;

const HELLO: &str = "/v1/jobs/hello/trigger";

fn inputs(count: usize) -> Vec<Value> {
    (0..count).map(|number| json!({ "number": number })).collect()
}

async fn ask(api: &Api, body: Value) -> Answer {
    api.post(HELLO, &body.to_string()).await
}

/// Lets the scheduler do what there is to do about runs with children.
async fn pass(api: &Api) {
    FollowUps::new(api.store.clone(), Arc::new(SystemClock), None).run_once().await.unwrap();
}

async fn end(api: &Api, outcome: impl Fn(u64) -> Outcome) {
    let worker = uuid::Uuid::new_v4();
    for out in api.store.take_due(1_000).await.unwrap() {
        let claim = reveille_shared::store::Claim { id: out.trigger.id, n: out.trigger.n, token: uuid::Uuid::new_v4() };
        let run = api.store.claim(worker, &[claim]).await.unwrap().remove(0).unwrap();
        let outcome = outcome(run.input["number"].as_u64().unwrap());
        let report = reveille_shared::store::Report::new(run.id, run.token, outcome);
        api.store.report(vec![report]).await.unwrap()[0].unwrap();
    }
}

fn only_even(number: u64) -> Outcome {
    if number.is_multiple_of(2) {
        return Outcome::Succeeded { output: Value::Null };
    }
    let error = reveille_shared::work_request::RunError::new("Odd", "an odd number");
    Outcome::Failed { error, retry: None }
}

async fn rows(api: &Api) -> usize {
    api.get("/v1/workRequests?limit=1000").await.json["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_run_for_each_input_and_one_that_ends_with_them() {
    let api = Api::new().await;
    let accepted =
        ask(&api, json!({"inputs": inputs(5), "fail": {"tolerate": "40%"}, "resource": {"type": "share"}})).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let id = accepted.json["id"].as_str().unwrap();
    let children = json!({"job": "hello", "fail": {"tolerate": "40%"}, "total": 5, "waiting": 5, "underWay": 0,
        "succeeded": 0, "failed": 0, "canceled": 0});
    assert_eq!((&accepted.json["children"], &accepted.json["status"]), (&children, &json!("ACCEPTED")));
    assert_eq!(accepted.json["resource"], json!({"type": "share"}));
    pass(&api).await;
    let seen = api.get(&format!("/v1/workRequests/{id}")).await.json;
    assert_eq!((&seen["status"], &seen["children"]["underWay"]), (&json!("IN_PROGRESS"), &json!(5)));
    assert_eq!(seen["waitingFor"], "its children: 0 of 5 have ended");
    let listed = api.get(&format!("/v1/workRequests?parent={id}")).await.json;
    assert_eq!(listed["items"].as_array().unwrap().len(), 5);
    assert!(listed["items"].as_array().unwrap().iter().all(|child| child["parent"] == id));
    assert_eq!(api.get("/v1/workRequests?parent=x").await.status, 400);
    end(&api, only_even).await;
    pass(&api).await;
    let seen = api.get(&format!("/v1/workRequests/{id}")).await.json;
    assert_eq!((&seen["status"], &seen["percentComplete"]), (&json!("SUCCEEDED"), &json!(100.0)), "{seen}");
    let result = api.get(&format!("/v1/workRequests/{id}/result")).await.json;
    assert_eq!(result["children"], json!({"total": 5, "succeeded": 3, "failed": 2, "canceled": 0}));
}

#[tokio::test]
async fn too_much_or_anything_wrong_leaves_nothing() {
    let api = Api::new().await;
    let wrong = async |body: Value| {
        let answer = ask(&api, body).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        answer.wrong().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(wrong(json!({"inputs": inputs(100_001)})).await, ["inputs"]);
    assert_eq!(wrong(json!({"inputs": []})).await, ["inputs"]);
    assert_eq!(wrong(json!({"inputs": {"a": 1}})).await, ["inputs"]);
    assert_eq!(wrong(json!({"inputs": [{}, 1, {"a": "\u{0}"}]})).await, ["inputs[1]", "inputs[2]"]);
    assert_eq!(wrong(json!({"inputs": vec![1; 100]})).await.len(), 21);
    assert_eq!(wrong(json!({"inputs": [{"a": "x".repeat(256 * 1024)}]})).await, ["inputs[0]"]);
    assert_eq!(wrong(json!({"inputs": inputs(1), "fail": "soon"})).await, ["fail"]);
    assert_eq!(wrong(json!({"inputs": inputs(1), "input": {}, "delay": "1m"})).await, ["input", "delay"]);
    assert_eq!(wrong(json!({"fail": "fast"})).await, ["fail"]);
    let large: Vec<_> = (0..140).map(|_| json!({"a": "x".repeat(250_000)})).collect();
    assert_eq!(ask(&api, json!({ "inputs": large })).await.status, 413);
    assert_eq!(rows(&api).await, 0);
    assert!(api.store.open_fan_outs(None, 10).await.unwrap().is_empty());
    // Other bodies may be no larger than before.
    let other = json!({"reason": "x".repeat(1024 * 1024)}).to_string();
    assert_eq!(api.post("/v1/schedules/often:pause", &other).await.status, 413);
}

#[tokio::test]
async fn the_same_request_under_the_same_key_is_one_run_with_children() {
    let api = Api::new().await;
    let keyed = async |body: Value| {
        let headers = ["content-type: application/json", "idempotency-key: k"];
        api.call(Method::POST, HELLO, &headers, body.to_string()).await
    };
    let first = keyed(json!({"inputs": inputs(3)})).await;
    let again = keyed(json!({"inputs": inputs(3), "fail": "at_end"})).await;
    assert_eq!((first.status.as_u16(), &first.json["id"]), (202, &again.json["id"]), "{}", again.text);
    for other in [json!({"inputs": inputs(4)}), json!({"inputs": inputs(3), "fail": "fast"}), json!({})] {
        let other = keyed(other).await;
        assert_eq!((other.status.as_u16(), &other.json["code"]), (422, &json!("IdempotencyKeyReused")));
    }
    assert_eq!(rows(&api).await, 1);
    pass(&api).await;
    assert_eq!(rows(&api).await, 4);
}

#[tokio::test]
async fn what_did_not_succeed_is_run_again() {
    let api = Api::new().await;
    let id = ask(&api, json!({"inputs": inputs(6), "fail": "at_end"})).await.json["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/workRequests/{id}:retryFailed");
    let early = api.post(&path, "").await;
    assert_eq!((early.status.as_u16(), early.text.contains("has not ended")), (409, true), "{}", early.text);
    pass(&api).await;
    end(&api, only_even).await;
    pass(&api).await;
    let failed = api.get(&format!("/v1/workRequests/{id}")).await.json;
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("FAILED"), &json!("ChildFailed")));
    let headers = ["idempotency-key: again"];
    let noted = [headers[0], "content-type: application/json"];
    let retry = api.call(Method::POST, &path, &noted, r#"{"by": "ann", "reason": "the disk"}"#).await;
    assert_eq!(retry.status, 202, "{}", retry.text);
    let new = retry.json["id"].as_str().unwrap();
    let events = api.get(&format!("/v1/workRequests/{new}/events")).await;
    assert!(events.text.contains("asked for by ann, because: the disk"), "{}", events.text);
    assert_eq!((&retry.json["retryOf"], &retry.json["children"]["total"]), (&json!(id), &json!(3)));
    assert_eq!(api.call(Method::POST, &path, &headers, "").await.json["id"], new, "once under one key");
    pass(&api).await;
    let children = api.get(&format!("/v1/workRequests?parent={new}")).await.json;
    let mut numbers: Vec<_> =
        children["items"].as_array().unwrap().iter().map(|c| c["input"]["number"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [Some(1), Some(3), Some(5)]);
    end(&api, |_| only_even(0)).await;
    pass(&api).await;
    assert_eq!(api.get(&format!("/v1/workRequests/{new}")).await.json["status"], "SUCCEEDED");
    let nothing = api.post(&format!("/v1/workRequests/{new}:retryFailed"), "").await;
    assert_eq!((nothing.status.as_u16(), nothing.text.contains("did not succeed")), (409, true), "{}", nothing.text);
    let single = api.trigger("hello").await;
    assert_eq!(api.post(&format!("/v1/workRequests/{single}:retryFailed"), "").await.status, 409);
    assert_eq!(api.post(&format!("/v1/workRequests/{single}:dance"), "").await.json["code"], "UnknownVerb");
    assert_eq!(api.post(&format!("/v1/workRequests/{single}"), "").await.status, 405);
}

#[tokio::test]
async fn children_that_were_not_made_any_more_are_run_again_too() {
    let api = Api::new().await;
    let id = ask(&api, json!({"inputs": inputs(500), "fail": "fast"})).await.json["id"].as_str().unwrap().to_owned();
    pass(&api).await;
    // No worker is there: the window is at its smallest.
    let seen = api.get(&format!("/v1/workRequests/{id}")).await.json;
    assert_eq!((&seen["children"]["underWay"], &seen["children"]["waiting"]), (&json!(200), &json!(300)));
    end(&api, |number| only_even(u64::from(number == 3))).await;
    pass(&api).await;
    pass(&api).await;
    let seen = api.get(&format!("/v1/workRequests/{id}")).await.json;
    assert_eq!((&seen["status"], &seen["children"]["canceled"]), (&json!("FAILED"), &json!(300)), "{seen}");
    let retry = api.post(&format!("/v1/workRequests/{id}:retryFailed"), "").await.json;
    assert_eq!(retry["children"]["total"], 301);
}

#[tokio::test]
async fn a_cancel_reaches_all_children() {
    let api = Api::new().await;
    let id = ask(&api, json!({"inputs": inputs(450)})).await.json["id"].as_str().unwrap().to_owned();
    pass(&api).await;
    let canceled = api.call(Method::DELETE, &format!("/v1/workRequests/{id}"), &[], "").await;
    assert_eq!((canceled.status.as_u16(), &canceled.json["status"]), (202, &json!("CANCELING")));
    pass(&api).await;
    pass(&api).await;
    let seen = api.get(&format!("/v1/workRequests/{id}")).await.json;
    assert_eq!((&seen["status"], &seen["children"]["canceled"]), (&json!("CANCELED"), &json!(450)), "{seen}");
    assert!(api.store.take_due(10).await.unwrap().is_empty());
}
