//! Asking after a run again and again.

use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use futures_util::future::join_all;
use reveille_shared::state::Status;
use reveille_shared::store::{Outcome, Progress};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{Answer, Api};
use crate::api::polling::Seen;

/// Longer than any wait here takes, unless it is for nothing.
const LONG: Duration = Duration::from_secs(20);

async fn ask(api: &Api, path: &str, headers: &[&str]) -> Answer {
    api.call(Method::GET, path, headers, Body::empty()).await
}

#[tokio::test]
async fn what_was_seen_is_not_sent_again() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    for path in [format!("/v1/workRequests/{id}"), format!("/20160918/workRequests/{id}")] {
        let first = api.get(&path).await;
        let tag = first.header("etag").to_owned();
        assert_eq!(api.get(&path).await.header("etag"), tag, "nothing has changed");
        let seen = format!("if-none-match: {tag}");
        let again = ask(&api, &path, &[&seen]).await;
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
        assert_eq!((again.header("etag"), again.header("retry-after")), (tag.as_str(), "1"));
        let other = ask(&api, &path, &["if-none-match: \"another\""]).await;
        assert_eq!((other.status.as_u16(), other.json), (200, first.json));
    }
    let path = format!("/v1/workRequests/{id}");
    let seen = format!("if-none-match: {}", api.get(&path).await.header("etag"));
    let played = api.lease().await;
    assert_eq!(ask(&api, &path, &[&seen]).await.status, 200, "it has started");
    let seen = format!("if-none-match: {}", api.get(&path).await.header("etag"));
    let progress = Progress { id: played.run, token: played.token, percent: 40.0, message: None };
    api.store.progress(&[progress]).await.unwrap();
    assert_eq!(ask(&api, &path, &[&seen]).await.status, 200, "it has come further");
}

#[tokio::test]
async fn a_wait_ends_when_the_state_changes() {
    let api = Api::new().await;
    let (id, other) = (api.trigger("hello").await, api.trigger("call").await);
    let played = api.store.take_due(10).await.unwrap();
    assert_eq!(played.len(), 2);
    let (path, other) = (format!("/v1/workRequests/{id}?wait=30s"), format!("/v1/workRequests/{other}?wait=1h"));
    let (first, second, third) = (api.get(&path), api.get(&path), api.get(&other));
    let change = async {
        // The waits are under way, as far as anyone can tell.
        tokio::time::sleep(Duration::from_millis(150)).await;
        let begin = Instant::now();
        api.call(Method::DELETE, path.split('?').next().unwrap(), &[], Body::empty()).await;
        begin
    };
    let waits = async {
        let (first, second) = tokio::join!(first, second);
        (first, second, Instant::now())
    };
    let (waited, begin) = timeout(LONG, async { tokio::join!(waits, change) }).await.expect("the change was not seen");
    let (first, second, ended) = waited;
    for answer in [first, second] {
        assert_eq!((answer.status.as_u16(), &answer.json["status"]), (200, &json!("CANCELED")));
    }
    assert!(ended - begin < Duration::from_secs(2), "it took {:?}", ended - begin);
    // Whoever looked for all was one of those who are gone now: the other one goes on by itself.
    let change = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        api.call(Method::DELETE, other.split('?').next().unwrap(), &[], Body::empty()).await;
    };
    let (answer, ()) = timeout(LONG, async { tokio::join!(third, change) }).await.expect("the change was not seen");
    assert_eq!(answer.json["status"], "CANCELED");
}

#[tokio::test]
async fn nothing_is_waited_for_that_is_there() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    let path = format!("/v1/workRequests/{id}?wait=30s");
    let stale = timeout(LONG, ask(&api, &path, &["if-none-match: \"stale\""])).await.expect("it waited");
    assert_eq!((stale.status.as_u16(), &stale.json["status"]), (200, &json!("ACCEPTED")));
    let seen = format!("if-none-match: {}", stale.header("etag"));
    let quiet = ask(&api, &path.replace("30s", "100ms"), &[&seen]).await;
    assert_eq!(quiet.status, 304, "nothing has happened");
    let played = api.lease().await;
    api.report(&played, Outcome::Succeeded { output: json!({}) }).await;
    let ended = timeout(LONG, api.get(&path)).await.expect("it waited for a run that has ended");
    assert_eq!(ended.json["status"], "SUCCEEDED");
    assert_eq!(api.get(&format!("/v1/workRequests/{id}?wait=soon")).await.wrong(), ["wait"]);
    assert_eq!(api.get("/v1/workRequests/unknown?wait=30s").await.status, 404);
}

#[tokio::test]
async fn a_thousand_waits_are_one_query_at_a_time() {
    let api = Api::new().await;
    let mut ids = Vec::new();
    for _ in 0..40 {
        ids.push(api.trigger("hello").await.parse().unwrap());
    }
    let polling = crate::api::polling::Polling::default();
    let waits =
        ids.iter().cycle().take(1000).map(|id| polling.change(&api.store, *id, Seen::Status(Status::Accepted), LONG));
    let change = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        api.store.cancel_all("default", &ids, "test").await.unwrap();
    };
    let (changed, ()) = tokio::join!(futures_util::future::join_all(waits), change);
    assert!(changed.into_iter().all(|changed| changed.unwrap()), "some waited for nothing");
}

#[tokio::test]
async fn a_wait_ends_when_the_process_stops() {
    let api = Api::new().await;
    let id = api.trigger("hello").await.parse().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let polling = crate::api::polling::Polling::new(stop.clone());
    let change = polling.change(&api.store, id, Seen::Status(Status::Accepted), LONG);
    let (changed, ()) = timeout(LONG / 2, async { tokio::join!(change, async { stop.cancel() }) }).await.unwrap();
    assert!(!changed.unwrap());
}

#[tokio::test]
async fn a_run_says_when_it_expires_until_it_has_started() {
    let api = Api::new().await;
    let text = "version: 1\njobs: { hello: { command: ['true'], expires: 2h } }\n";
    let definitions = reveille_shared::definition::read_texts(&[("test.yaml".into(), text.into())]).unwrap();
    api.store.apply_definitions(api.leader, &definitions, &definitions.digest(), "test").await.unwrap();
    let id = api.trigger("hello").await;
    let waiting = api.get(&format!("/v1/workRequests/{id}")).await.json;
    let time = |name: &str| waiting[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(time("expiresAt").duration_since(time("timeAccepted")).as_secs(), 2 * 3600);
    api.lease().await;
    assert!(api.get(&format!("/v1/workRequests/{id}")).await.json.get("expiresAt").is_none());
}

#[tokio::test]
async fn looks_that_come_together_are_each_answered() {
    let api = Api::new().await;
    let ids =
        [api.trigger("hello").await, api.trigger("call").await, "0198c0de-0000-7000-8000-000000000001".to_owned()];
    let look = async |number: usize| {
        let id = &ids[number % 3];
        let namespace = if number.is_multiple_of(4) { "other" } else { "default" };
        let header = format!("x-reveille-namespace: {namespace}");
        let answer = ask(&api, &format!("/v1/workRequests/{id}"), &[&header]).await;
        let is_there = number % 3 != 2 && namespace == "default";
        assert_eq!(answer.status, if is_there { 200 } else { 404 }, "{number}");
        if is_there {
            assert_eq!(answer.json["id"], json!(id));
        }
    };
    timeout(LONG, join_all((0..60).map(look))).await.expect("a look was not answered");
    // Callers that go away, whoever of them has the turn, keep nobody from it.
    let mut gone: Vec<_> = (0..8).map(|number| Box::pin(look(number))).collect();
    let mut waiting = 0;
    for caller in &mut gone {
        waiting += usize::from(futures_util::poll!(caller).is_pending());
    }
    assert!(waiting > 0, "nobody is looked for");
    let stay = join_all((0..60).map(look));
    let leave = async {
        tokio::task::yield_now().await;
        drop(gone);
    };
    timeout(LONG, async { tokio::join!(stay, leave) }).await.expect("a look was not answered");
}
