//! Work requests as streams of server-sent events.

use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use reveille_shared::state::Status;
use reveille_shared::store::Outcome;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Answer, Api};

/// Longer than any of it takes.
const LONG: Duration = Duration::from_secs(20);

/// What a client reads: id, event, data.
fn events(text: &str) -> Vec<(i32, String, Value)> {
    let blocks = text.split_terminator("\n\n").filter(|block| !block.starts_with(':') && !block.starts_with("retry"));
    let read = blocks.map(|block| {
        let field = |name: &str| {
            let mut lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let value = lines.next().unwrap_or_else(|| panic!("no {name} in {block:?}"));
            assert_eq!(lines.next(), None, "{block:?}");
            value.to_owned()
        };
        (field("id").parse().unwrap(), field("event"), serde_json::from_str(&field("data")).unwrap())
    });
    read.collect()
}

fn kinds(events: &[(i32, String, Value)]) -> Vec<(i32, &str, &str)> {
    events.iter().map(|(id, event, data)| (*id, event.as_str(), data["status"].as_str().unwrap())).collect()
}

async fn stream(api: &Api, id: &str, headers: &[&str]) -> Answer {
    let path = format!("/v1/workRequests/{id}/stream");
    timeout(LONG, api.call(Method::GET, &path, headers, Body::empty())).await.expect("the stream does not end")
}

#[tokio::test]
async fn who_has_seen_a_part_gets_the_rest() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    let played = api.lease().await;
    api.report(&played, Outcome::Released { doubt: false }).await;
    let played = api.lease().await;
    api.store.cancel("default", played.run, "test".into()).await.unwrap();
    api.report(&played, Outcome::Stopped).await;
    let whole = stream(&api, &id, &[]).await;
    assert_eq!(whole.status, 200);
    assert!(whole.header("content-type").starts_with("text/event-stream"));
    assert_eq!((whole.header("cache-control"), whole.header("content-length")), ("no-cache", ""));
    assert!(whole.text.starts_with("retry: 2000\n\n"), "{}", whole.text);
    let all = events(&whole.text);
    assert_eq!(
        kinds(&all),
        [
            (1, "accepted", "ACCEPTED"),
            (2, "started", "IN_PROGRESS"),
            (3, "released", "IN_PROGRESS"),
            (4, "started", "IN_PROGRESS"),
            (5, "cancelRequested", "CANCELING"),
            (6, "canceled", "CANCELED"),
        ]
    );
    let (_, _, first) = &all[0];
    assert_eq!(
        (&first["workRequestId"], &first["job"], &first["event"]["seq"]),
        (&json!(id), &json!("hello"), &json!(1))
    );
    for seen in 0..6 {
        let rest = stream(&api, &id, &[&format!("last-event-id: {seen}")]).await;
        assert_eq!(events(&rest.text), all[seen..], "behind {seen}");
    }
    let end = stream(&api, &id, &["last-event-id: 6"]).await;
    assert_eq!((end.status.as_u16(), end.text.as_str()), (204, ""));
    for unknown in ["7", "-1", "x", "99999999999", "1.5"] {
        let again = stream(&api, &id, &[&format!("last-event-id: {unknown}")]).await;
        assert_eq!(events(&again.text), all, "{unknown}");
    }
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    let live = async { tokio::join!(stream(&api, &id, &[]), stream(&api, &id, &["last-event-id: 1"])) };
    let happens = async {
        let played = api.lease().await;
        api.report(&played, Outcome::Succeeded { output: json!({"a": "b\nc"}) }).await;
    };
    let ((whole, rest), ()) = tokio::join!(live, happens);
    let all = events(&whole.text);
    assert_eq!(
        kinds(&all),
        [(1, "accepted", "ACCEPTED"), (2, "started", "IN_PROGRESS"), (3, "succeeded", "SUCCEEDED")]
    );
    assert_eq!(events(&rest.text), all[1..]);
    let shown = api.get(&format!("/v1/workRequests/{id}")).await;
    assert_eq!(shown.json["status"], Status::Succeeded.as_str());
}

#[tokio::test]
async fn what_is_not_there_has_no_stream() {
    let api = Api::new().await;
    for id in ["0198c0de-0000-7000-8000-000000000001", "x"] {
        assert_eq!(stream(&api, id, &[]).await.status, 404);
    }
}
