//! Nobody takes more than their share.

use axum::body::Body;
use axum::http::Method;
use serde_json::json;

use super::{Access, Api, RateLimits};

const HELLO: &str = "/v1/jobs/hello/trigger";

async fn with_rates(rates: RateLimits) -> Api {
    Api::limited(Access::Open, rates, 0).await
}

#[tokio::test]
async fn who_has_no_requests_left_is_told_when_to_come_again() {
    let api = with_rates(RateLimits { key_reads: 2, ..RateLimits::NONE }).await;
    for left in ["1", "0"] {
        let answer = api.get("/v1/jobs").await;
        assert_eq!((answer.status.as_u16(), answer.header("ratelimit-remaining")), (200, left));
        assert_eq!((answer.header("ratelimit-limit"), answer.header("ratelimit-reset")), ("2", "1"));
    }
    let refused = api.get("/v1/jobs").await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"), "{}", refused.text);
    assert_eq!(refused.json["code"], "TooManyRequests");
    assert!(refused.json["detail"].as_str().unwrap().contains("too many reads in a second: the limit is 2"));
    // Probes have no limit, and writes another one.
    for path in ["/livez", "/readyz", "/openapi.json", "/"] {
        let answer = api.get(path).await;
        assert!(answer.status.as_u16() != 429 && answer.header("ratelimit-limit").is_empty(), "{path}");
    }
    assert_eq!(api.post(HELLO, "").await.status, 202);
}

#[tokio::test]
async fn a_namespace_has_a_limit_of_its_own() {
    let api = with_rates(RateLimits { namespace_writes: 1, ..RateLimits::NONE }).await;
    assert_eq!(api.post(HELLO, "").await.status, 202);
    let refused = api.post(HELLO, "").await;
    assert_eq!(refused.status, 429);
    assert!(refused.json["detail"].as_str().unwrap().contains("namespace default"), "{}", refused.text);
    let elsewhere = api.call(Method::POST, HELLO, &["x-reveille-namespace: other"], Body::empty()).await;
    assert_eq!(elsewhere.status, 404, "another namespace has requests left, and no such job");
}

#[tokio::test]
async fn more_may_not_be_queued_than_a_namespace_may_have() {
    let api = Api::limited(Access::Open, RateLimits::NONE, 3).await;
    let inputs = |count: usize| json!({"inputs": vec![json!({}); count]}).to_string();
    assert_eq!(api.post(HELLO, &inputs(4)).await.status, 429, "more than may ever wait");
    assert_eq!(api.post(HELLO, &inputs(2)).await.status, 202);
    let key = ["content-type: application/json", "idempotency-key: once"];
    let accepted = api.call(Method::POST, HELLO, &key, "{}").await;
    assert_eq!(accepted.status, 202);
    for (path, body) in [(HELLO, "{}"), ("/v1/schedules/daily:trigger", "{}")] {
        let refused = api.post(path, body).await;
        assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "10"), "{path}");
        assert_eq!(refused.json["code"], "TooManyQueued");
        assert!(refused.json["detail"].as_str().unwrap().contains("3 runs of this namespace"), "{}", refused.text);
    }
    // What was accepted before is answered as it was.
    let again = api.call(Method::POST, HELLO, &key, "{}").await;
    assert_eq!((again.status.as_u16(), &again.json["id"]), (202, &accepted.json["id"]));
}
