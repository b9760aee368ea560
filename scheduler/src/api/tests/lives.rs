//! A run from its acceptance to its end, as a caller sees it.

use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use jiff::Timestamp;
use reveille_shared::state::Refusal;
use reveille_shared::store::{Limit, Loss, NewWorkRequest, Outcome, Progress, Report};
use reveille_shared::work_request::{LogLine, RunError, Stream, WorkRequestId};
use serde_json::{Value, json};

use super::{Answer, Api};

async fn cancel(api: &Api, id: &str) -> Answer {
    // As some clients send it: a type without a body.
    let headers = ["content-type: application/json", "content-length: 0"];
    api.call(Method::DELETE, &format!("/v1/workRequests/{id}"), &headers, Body::empty()).await
}

fn types(events: &Answer) -> Vec<&str> {
    events.json["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_run_that_succeeds() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    let at = format!("/v1/workRequests/{id}");
    let early = api.get(&format!("{at}/result")).await;
    assert_eq!((early.status.as_u16(), early.header("retry-after")), (202, "1"));
    assert!(early.header("location").ends_with(&format!("{at}/result")));

    let played = api.lease().await;
    let progress = Progress { id: played.run, token: played.token, percent: 40.0, message: Some("copying".into()) };
    api.store.progress(&[progress]).await.unwrap();
    let running = api.get(&at).await.json;
    assert_eq!(
        (&running["status"], &running["percentComplete"], &running["message"], &running["attempt"]),
        (&json!("IN_PROGRESS"), &json!(40.0), &json!("copying"), &json!(1))
    );
    assert!(running["timeStarted"].is_string() && running.get("waitingFor").is_none());

    api.report(&played, Outcome::Succeeded { output: json!({"copied": 7}) }).await;
    let ended = api.get(&at).await;
    assert_eq!((&ended.json["status"], &ended.json["percentComplete"]), (&json!("SUCCEEDED"), &json!(100.0)));
    assert!(ended.json["timeFinished"].is_string() && ended.header("retry-after").is_empty());
    let result = api.get(&format!("{at}/result")).await;
    assert_eq!((result.status.as_u16(), result.json), (200, json!({"copied": 7})));
    let events = api.get(&format!("{at}/events")).await;
    assert_eq!(types(&events), ["accepted", "started", "succeeded"]);
    assert_eq!(events.json["items"][1]["worker"], played.id.to_string());
    assert!(!events.text.contains(&played.token.to_string()), "a lease's token is nobody's business");
    assert_eq!(api.get(&format!("{at}/errors")).await.json, json!({"items": []}));
}

#[tokio::test]
async fn a_run_that_fails_twice() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    let at = format!("/v1/workRequests/{id}");
    for (code, retry) in [("Timeout", Some(Duration::ZERO)), ("ExitCode", None)] {
        let played = api.lease().await;
        let error = RunError::new(code, format!("because of {code}"));
        api.report(&played, Outcome::Failed { error, retry }).await;
    }
    let failed = api.get(&at).await;
    assert_eq!(failed.json["status"], "FAILED");
    assert_eq!(failed.json["error"], json!({"code": "ExitCode", "message": "because of ExitCode"}));
    let result = api.get(&format!("{at}/result")).await;
    assert_eq!((result.status.as_u16(), &result.json["code"]), (409, &json!("ExitCode")));
    let events = api.get(&format!("{at}/events")).await;
    assert_eq!(types(&events), ["accepted", "started", "attemptFailed", "started", "failed"]);

    let errors = api.get(&format!("{at}/errors")).await;
    let codes = |answer: &Answer| -> Vec<Value> {
        answer.json["items"].as_array().unwrap().iter().map(|error| error["code"].clone()).collect()
    };
    assert_eq!(codes(&errors), ["Timeout", "ExitCode"]);
    let first = api.get(&format!("{at}/errors?limit=1")).await;
    let rest = api.get(&format!("{at}/errors?limit=1&page={}", first.header("opc-next-page"))).await;
    assert_eq!((codes(&first), codes(&rest)), (vec![json!("Timeout")], vec![json!("ExitCode")]));
    assert!(rest.headers.get("opc-next-page").is_none() && rest.json.get("nextPage").is_none());
}

#[tokio::test]
async fn what_waits_is_canceled_at_once_and_what_runs_is_asked_to_stop() {
    let api = Api::new().await;
    let waiting = api.trigger("hello").await;
    let answer = cancel(&api, &waiting).await;
    assert_eq!((answer.status.as_u16(), &answer.json["status"]), (202, &json!("CANCELED")));
    let result = api.get(&format!("/v1/workRequests/{waiting}/result")).await;
    assert_eq!((result.status.as_u16(), &result.json["code"]), (409, &json!("Canceled")));
    let again = cancel(&api, &waiting).await;
    assert_eq!((again.status.as_u16(), &again.json["code"]), (409, &json!("Conflict")));

    let running = api.trigger("hello").await;
    let played = api.lease().await;
    for _ in 0..2 {
        let answer = cancel(&api, &running).await;
        assert_eq!((answer.status.as_u16(), &answer.json["status"]), (202, &json!("CANCELING")));
        assert_eq!(answer.header("opc-work-request-id"), running);
    }
    api.report(&played, Outcome::Stopped).await;
    assert_eq!(api.get(&format!("/v1/workRequests/{running}")).await.json["status"], "CANCELED");
}

#[tokio::test]
async fn lines_come_in_order_page_by_page() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    let played = api.lease().await;
    let at: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let lines: Vec<_> = (1..=7)
        .map(|seq| {
            let (attempt, stream) = if seq < 5 { (1, Stream::Stdout) } else { (2, Stream::Stderr) };
            (played.run, LogLine { attempt, seq, at, stream, text: format!("<b>line {seq}</b>") })
        })
        .collect();
    api.store.append_logs(&lines).await.unwrap();
    let mut path = format!("/v1/workRequests/{id}/logs?limit=3");
    let mut seen = Vec::new();
    loop {
        let answer = api.get(&path).await;
        seen.extend(answer.json["items"].as_array().unwrap().clone());
        let Some(link) = answer.headers.get("link") else { break };
        let link = link.to_str().unwrap();
        path = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap().to_owned();
    }
    assert_eq!(seen.len(), 7);
    assert_eq!(
        seen[6],
        json!({"attempt": 2, "seq": 7, "timestamp": "2026-01-02T03:04:05.678Z", "stream": "stderr", "message": "<b>line 7</b>"})
    );
}

#[tokio::test]
async fn another_tenant_sees_nothing_of_it() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    let other = ["x-reveille-namespace: other"];
    for path in ["", "/events", "/logs", "/errors", "/result"] {
        let answer = api.call(Method::GET, &format!("/v1/workRequests/{id}{path}"), &other, Body::empty()).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let path = format!("/v1/workRequests/{id}");
    assert_eq!(api.call(Method::DELETE, &path, &other, Body::empty()).await.status, 404);
    assert_eq!(api.call(Method::POST, "/v1/jobs/hello/trigger", &other, Body::empty()).await.status, 404);
    let list = api.call(Method::GET, "/v1/workRequests", &other, Body::empty()).await;
    assert_eq!(list.json, json!({"items": []}));
    assert_eq!(api.get(&path).await.json["status"], "ACCEPTED");
}

#[tokio::test]
async fn what_is_reported_too_late_is_shown_and_changes_nothing() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    let at = format!("/v1/workRequests/{id}");
    let played = api.lease().await;
    assert_eq!(api.get(&format!("{at}/lateReports")).await.json, json!({"items": []}));
    let error = RunError::new("Lost", "worker w died or lost touch");
    let loss = Loss { id: played.run, token: played.token, error, retry: None, verify: false, if_overdue: false };
    assert_eq!(api.store.lose(vec![loss]).await.unwrap(), 1);
    let report = Report::new(played.run, played.token, Outcome::Succeeded { output: json!(7) });
    assert_eq!(api.store.report(vec![report]).await.unwrap(), [Err(Refusal::Ended)]);
    assert_eq!(api.get(&at).await.json["status"], "FAILED");
    let late = api.get(&format!("{at}/lateReports")).await;
    assert_eq!((&late.json["items"][0]["outcome"], &late.json["items"][0]["output"]), (&json!("succeeded"), &json!(7)));
    assert!(!late.text.contains(&played.token.to_string()), "a lease's token is nobody's business");
}

#[tokio::test]
async fn many_runs_are_canceled_at_once_after_a_look_at_how_many() {
    let api = Api::new().await;
    let running = api.trigger("hello").await;
    api.lease().await;
    let waiting = [api.trigger("hello").await, api.trigger("hello").await];
    let cancel = async |body: Value| api.post("/v1/workRequests:cancel", &body.to_string()).await;
    let dry = cancel(json!({"job": "hello", "dryRun": true})).await;
    let expected = json!({"matched": 3, "canceled": 0, "canceling": 0, "dryRun": true, "more": false});
    assert_eq!((dry.status.as_u16(), dry.json), (200, expected));
    assert_eq!(cancel(json!({"job": "other"})).await.json["matched"], 0);
    assert_eq!(cancel(json!({"schedule": "nightly"})).await.json["matched"], 0);
    assert_eq!(cancel(json!({"status": ["IN_PROGRESS"], "dryRun": true})).await.json["matched"], 1);
    assert_eq!(cancel(json!({"acceptedAfter": "2999-01-01T00:00:00Z"})).await.json["matched"], 0);

    let all = cancel(json!({"dryRun": true})).await;
    assert_eq!((all.status.as_u16(), &all.json["matched"]), (200, &json!(3)));

    let done = cancel(json!({"job": "hello", "by": "ann"})).await.json;
    assert_eq!(done, json!({"matched": 3, "canceled": 2, "canceling": 1, "dryRun": false, "more": false}));
    for (id, status) in [(&running, "CANCELING"), (&waiting[0], "CANCELED"), (&waiting[1], "CANCELED")] {
        assert_eq!(api.get(&format!("/v1/workRequests/{id}")).await.json["status"], status);
    }
    let events = api.get(&format!("/v1/workRequests/{running}/events")).await;
    assert!(events.text.contains("asked to stop by ann"), "{}", events.text);

    for (field, wrong) in [
        ("status", json!({"status": ["SUCCEEDED"]})),
        ("status", json!({"status": "ACCEPTED"})),
        ("status", json!({"status": []})),
        ("job", json!({"job": 7})),
        ("job", json!({"job": "No Name"})),
        ("dryRun", json!({"dryRun": "yes"})),
        ("acceptedBefore", json!({"acceptedBefore": "yesterday"})),
        ("jop", json!({"jop": "hello"})),
        ("all", json!({})),
        ("all", json!({"all": false, "by": "ann"})),
        ("all", json!({"job": null})),
        ("all", json!({"job": "hello", "all": true})),
    ] {
        let refused = cancel(wrong.clone()).await;
        assert_eq!(refused.status.as_u16(), 422, "{wrong}");
        assert!(refused.text.contains(field), "{}", refused.text);
    }
    assert_eq!(api.post("/v1/workRequests:cancel", "").await.status.as_u16(), 422, "nothing says which");
    assert_eq!(cancel(json!({"all": true})).await.json["matched"], 1, "the one that is being stopped");
}

#[tokio::test]
async fn a_run_that_waits_for_a_slot_says_so() {
    let api = Api::new().await;
    let job = reveille_shared::definition::Job::new(
        "default",
        "limited",
        reveille_shared::definition::Handler::Function("noop".into()),
    );
    let accept = async || {
        let concurrency = Some(Limit { key: "concurrency:default/limited/eu".into(), most: 1, per: None });
        let id = WorkRequestId::new(api.store.now().await.unwrap());
        let request = NewWorkRequest { concurrency, ..NewWorkRequest::new(id, &job, 1, "test") };
        api.store.accept(request, None).await.unwrap();
        id
    };
    accept().await;
    api.store.take_due(10).await.unwrap();
    let mut held = vec![accept().await];
    api.store.take_due(10).await.unwrap();
    held.push(accept().await);
    api.store.take_due(10).await.unwrap();
    held.sort_unstable();
    let waits = async |id: WorkRequestId| {
        api.get(&format!("/v1/workRequests/{id}")).await.json["waitingFor"].as_str().unwrap().to_owned()
    };
    assert_eq!(waits(held[0]).await, "limit concurrency:default/limited/eu: 1 of 1; it is the next");
    assert_eq!(waits(held[1]).await, "limit concurrency:default/limited/eu: 1 of 1; 1 run goes first");
}
