//! Who asks for runs and their ends, and why: it stands in the histories of these, whatever the way in.

use axum::http::Method;
use reveille_shared::access::{Names, Role};
use reveille_shared::clock::SystemClock;
use reveille_shared::periodic::Pass as _;
use serde_json::{Value, json};
use std::sync::Arc;

use super::access::keyed;
use super::{Answer, Api};
use crate::follow_up::FollowUps;

const WHO: &str = r#"{"by": "ann", "reason": "the disk"}"#;
const QUERY: &str = "by=ann&reason=the%20disk";

fn id(answer: &Answer) -> String {
    answer.json["id"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

/// Type, words, who and why of an entry of a run's history, counted from its end.
async fn entry(api: &Api, run: &str, from_end: usize) -> [Value; 4] {
    let events = api.get(&format!("/v1/workRequests/{run}/events")).await.json;
    let event = events["items"].as_array().unwrap().iter().rev().nth(from_end).unwrap();
    ["type", "message", "by", "reason"].map(|member| event[member].clone())
}

fn told(kind: &str, message: &str, by: &str) -> [Value; 4] {
    [json!(kind), json!(message), json!(by), json!("the disk")]
}

#[tokio::test]
async fn whoever_triggers_says_who_and_why() {
    let api = Api::new().await;
    let accepted = told("accepted", "accepted; asked for by ann, because: the disk", "ann");
    let run = id(&api.post("/v1/jobs/hello/trigger", WHO).await);
    assert_eq!(entry(&api, &run, 0).await, accepted);
    let parent = api.post("/v1/jobs/hello/trigger", r#"{"inputs": [{}], "by": "ann", "reason": "the disk"}"#).await;
    assert_eq!(entry(&api, &id(&parent), 0).await, accepted);
    let fired = api.post("/v1/schedules/daily:trigger", WHO).await;
    for run in fired.json["workRequests"].as_array().unwrap() {
        assert_eq!(entry(&api, run["id"].as_str().unwrap(), 0).await, accepted);
    }
    let silent = id(&api.post("/v1/jobs/hello/trigger", "").await);
    let nobody = [json!("accepted"), json!("accepted; asked for by api"), json!("api"), Value::Null];
    assert_eq!(entry(&api, &silent, 0).await, nobody);

    let backfill = r#"{"from": "2026-03-02T00:00:00Z", "to": "2026-03-02T23:00:00Z", "id": "march", "by": "ann",
        "reason": "the disk"}"#;
    assert_eq!(api.post("/v1/schedules/daily:backfill", backfill).await.status, 202);
    FollowUps::new(api.store.clone(), Arc::new(SystemClock), None).run_once().await.unwrap();
    let runs = api.get("/v1/workRequests?schedule=daily&limit=1").await;
    let run = runs.json["items"][0]["id"].as_str().unwrap();
    let by = "backfill:march of ann";
    let expected = told("accepted", "accepted; asked for by backfill:march of ann, because: the disk", by);
    assert_eq!(entry(&api, run, 0).await, expected);
    assert_eq!(
        api.call(Method::DELETE, &format!("/v1/schedules/daily/backfills/march?{QUERY}"), &[], "").await.status,
        202
    );
    let by = "ann, who canceled backfill march";
    let expected = told("canceled", "canceled; asked for by ann, who canceled backfill march, because: the disk", by);
    assert_eq!(entry(&api, run, 0).await, expected);
}

#[tokio::test]
async fn who_asks_and_why_make_no_other_run_of_a_request() {
    let api = Api::new().await;
    let ask = async |body: &str| {
        let headers = ["content-type: application/json", "idempotency-key: k"];
        id(&api.call(Method::POST, "/v1/jobs/hello/trigger", &headers, body.to_owned()).await)
    };
    assert_eq!(ask(WHO).await, ask(r#"{"by": "bob"}"#).await);
}

#[tokio::test]
async fn whoever_cancels_says_who_and_why_in_every_dialect() {
    let api = Api::new().await;
    let canceled = told("canceled", "canceled; asked for by ann, because: the disk", "ann");
    for (method, path) in [
        (Method::DELETE, "/v1/workRequests/ID?"),
        (Method::DELETE, "/20190415/workRequests/ID?"),
        (Method::POST, "/v1/operations/ID:cancel?$alt=json&"),
        (Method::POST, "/v1/projects/p/operations/ID:cancel?"),
    ] {
        let run = id(&api.post("/v1/jobs/hello/trigger", "").await);
        let answer = api.call(method, &format!("{}{QUERY}", path.replace("ID", &run)), &[], "").await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        assert_eq!(entry(&api, &run, 0).await, canceled, "{path}");
    }
    let waiting = id(&api.post("/v1/jobs/hello/trigger", "").await);
    assert_eq!(
        api.post("/v1/workRequests:cancel", r#"{"by": "ann", "reason": "the disk", "all": true}"#).await.json["canceled"],
        1
    );
    assert_eq!(entry(&api, &waiting, 0).await, canceled);

    let running = id(&api.post("/v1/jobs/hello/trigger", "").await);
    api.lease().await;
    assert_eq!(api.call(Method::DELETE, &format!("/v1/workRequests/{running}?{QUERY}"), &[], "").await.status, 202);
    let asked = told("cancelRequested", "asked to stop by ann, because: the disk", "ann");
    assert_eq!(entry(&api, &running, 0).await, asked);

    for wrong in ["by=", "reason=a%0Ab", "by=a&by=b"] {
        let answer = api.call(Method::DELETE, &format!("/v1/workRequests/{running}?{wrong}"), &[], "").await;
        assert_eq!((answer.status.as_u16(), answer.wrong().len()), (400, 1), "{wrong} {}", answer.text);
    }
}

#[tokio::test]
async fn whoever_deletes_a_webhook_says_so_to_the_audit() {
    let api = Api::new().await;
    let made = api.post("/v1/webhooks", r#"{"url": "https://hooks.example.com/x"}"#).await;
    let deleted = api.call(Method::DELETE, &format!("/v1/webhooks/{}?{QUERY}", id(&made)), &[], "").await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    let change = &api.get("/v1/audit").await.json["items"][0];
    let seen = ["kind", "action", "by", "reason"].map(|member| change[member].as_str().unwrap());
    assert_eq!(seen, ["webhook", "removed", "ann", "the disk"]);
}

#[tokio::test]
async fn a_caller_does_not_choose_the_name_of_its_key() {
    let api = keyed().await;
    let key = api.key(Role::Operator, Names::All, Names::All).await;
    let prefix = key.split('_').nth(1).unwrap();
    let headers = [&*format!("x-api-key: {key}"), "content-type: application/json"];
    let run = api.call(Method::POST, "/v1/jobs/hello/trigger", &headers, WHO.to_owned()).await;
    let events = format!("/v1/workRequests/{}/events", id(&run));
    let events = api.call(Method::GET, &events, &headers[..1], "").await.json;
    let (by, reason) = (&events["items"][0]["by"], &events["items"][0]["reason"]);
    assert_eq!((by, reason), (&json!(format!("ann, ci (key {prefix})")), &json!("the disk")));
}
