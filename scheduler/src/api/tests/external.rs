//! Workers in other languages: claims, signs of life, events, and what is refused.

use axum::body::Body;
use axum::http::Method;
use jiff::{SignedDuration, Timestamp};
use reveille_shared::broker::Route;
use reveille_shared::definition::{Priority, read_texts};
use reveille_shared::trigger::Trigger;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Answer, Api, DEFINITIONS};

const STRUCTURED: &str = "content-type: application/cloudevents+json";
const BATCH: &str = "content-type: application/cloudevents-batch+json";

/// A router with an external job, and the trigger of its only run.
async fn with_trigger() -> (Api, Trigger) {
    let api = Api::new().await;
    let more =
        "version: 1\njobs: { resize: { external: { lease: 30s }, queue: thumbnails, retry: { max_attempts: 1 } } }";
    let texts = [("test.yaml".to_owned(), DEFINITIONS.to_owned()), ("more.yaml".to_owned(), more.to_owned())];
    let definitions = read_texts(&texts).unwrap();
    api.store.apply_definitions(api.leader, &definitions, &definitions.digest(), "test").await.unwrap();
    api.trigger("resize").await;
    let trigger = api.store.take_due(10).await.unwrap().remove(0).trigger;
    (api, trigger)
}

/// The same with the run claimed: its path and token.
async fn with_lease() -> (Api, String, String) {
    let (api, trigger) = with_trigger().await;
    let (path, token) = (format!("/v1/workRequests/{}", trigger.id), Uuid::new_v4().to_string());
    let answer = claim(&api, &path, 1, &token).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    (api, path, token)
}

async fn claim(api: &Api, path: &str, n: u32, token: &str) -> Answer {
    let body = json!({"n": n, "worker": "thumb-7", "token": token});
    api.post(&format!("{path}:claim"), &body.to_string()).await
}

fn event(token: &str, id: &str, kind: &str, data: Value) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/thumb-7", "type": format!("io.reveille.run.{kind}"),
        "time": "2026-01-01T00:00:00Z", "leasetoken": token, "data": data,
    })
}

async fn tell(api: &Api, path: &str, event: &Value) -> Answer {
    api.call(Method::POST, &format!("{path}/events"), &[STRUCTURED], event.to_string()).await
}

/// Status and code of a refusal.
fn refusal(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.json["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn who_claims_first_is_told_what_to_run_and_until_when() {
    let (api, trigger) = with_trigger().await;
    let (path, token) = (format!("/v1/workRequests/{}", trigger.id), Uuid::new_v4().to_string());
    let first = claim(&api, &path, 1, &token).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let run = &first.json;
    assert_eq!((&run["attempt"], &run["job"], &run["namespace"]), (&json!(1), &json!("resize"), &json!("default")));
    assert_eq!((&run["doubt"], &run["canceling"], &run["leaseSeconds"]), (&json!(false), &json!(false), &json!(30)));
    let time = |name: &str| run[name].as_str().unwrap().parse::<Timestamp>().unwrap();
    let silence = time("leaseUntil").duration_since(time("timeAccepted"));
    assert!((SignedDuration::from_secs(29)..SignedDuration::from_secs(60)).contains(&silence), "{run}");
    assert!(time("deadline") > time("leaseUntil"));
    assert_eq!(claim(&api, &path, 1, &token).await.json, first.json, "asked again, the same is answered");
    assert!(!first.text.contains(&token), "a token is a secret");

    let other = Uuid::new_v4().to_string();
    assert_eq!(refusal(&claim(&api, &path, 1, &other).await), (409, "Taken"));
    assert_eq!(refusal(&claim(&api, &path, 2, &other).await), (409, "Taken"));
    let workers = api.get("/v1/workers").await.json;
    assert_eq!((&workers["items"][0]["kind"], &workers["items"][0]["name"]), (&json!("external"), &json!("thumb-7")));
    tell(&api, &path, &event(&token, "1", "succeeded", Value::Null)).await;
    assert_eq!(refusal(&claim(&api, &path, 1, &other).await), (410, "Ended"));
    let nothing = format!("/v1/workRequests/{}", Uuid::new_v4());
    assert_eq!(refusal(&claim(&api, &nothing, 1, &other).await), (404, "NotFound"));
}

/// Its message is of no namespace, and a worker hands on what it has: else no marker comes back, and no lost trigger is found.
#[tokio::test]
async fn a_marker_comes_back_as_it_was_sent() {
    let api = Api::new().await;
    let route = Route { queue: "thumbnails".to_owned(), priority: Priority::Normal };
    let marker = api.store.put_marker(&route).await.unwrap();
    let namespace = format!("x-reveille-namespace: {}", marker.namespace);
    let headers = ["content-type: application/json", &namespace];
    let body = json!({"n": marker.n, "worker": "thumb-7", "token": Uuid::new_v4()}).to_string();
    let path = format!("/v1/workRequests/{}:claim", marker.id);
    let answer = api.call(Method::POST, &path, &headers, body).await;
    assert_eq!(refusal(&answer), (410, "Marker"), "{}", answer.text);
    assert!(api.store.markers().await.unwrap()[0].back_at.is_some());
}

#[tokio::test]
async fn what_is_no_claim_is_refused_without_showing_the_token() {
    let (api, trigger) = with_trigger().await;
    let path = format!("/v1/workRequests/{}:claim", trigger.id);
    let answer = api.post(&path, r#"{"n": "1", "worker": "", "token": "hunter2", "more": 1}"#).await;
    assert_eq!((answer.status.as_u16(), answer.wrong()), (422, vec!["n", "worker", "token", "more"]));
    assert!(!answer.text.contains("hunter2"));
    assert_eq!(api.post(&path, "{}").await.wrong(), ["token", "n", "worker"]);
    let id = api.trigger("hello").await;
    let ours = claim(&api, &format!("/v1/workRequests/{id}"), 1, &Uuid::new_v4().to_string()).await;
    assert_eq!(refusal(&ours), (409, "NotExternal"));
    assert_eq!(api.post(&format!("/v1/workRequests/{id}:claims"), "").await.status, 404);
    assert_eq!(api.post(&format!("/v1/workRequests/{id}"), "").await.status, 405);
}

#[tokio::test]
async fn a_sign_of_life_is_answered_with_how_the_lease_stands() {
    let (api, path, token) = with_lease().await;
    let beat = async || api.post(&format!("{path}:heartbeat"), &json!({"token": token}).to_string()).await;
    let first = beat().await;
    assert_eq!((first.status.as_u16(), &first.json["canceling"]), (200, &json!(false)));
    let wrong = api.post(&format!("{path}:heartbeat"), &json!({"token": Uuid::new_v4()}).to_string()).await;
    assert_eq!(refusal(&wrong), (409, "LeaseLost"));
    assert_eq!(api.call(Method::DELETE, &path, &[], Body::empty()).await.status, 202);
    assert_eq!(beat().await.json["canceling"], json!(true));
    let answer = tell(&api, &path, &event(&token, "1", "progress", json!({"percent": 5}))).await;
    assert_eq!((answer.status.as_u16(), &answer.json["canceling"]), (200, &json!(true)), "{}", answer.text);
    let answer = tell(&api, &path, &event(&token, "2", "canceled", Value::Null)).await;
    assert_eq!(answer.json, json!({"items": [{"id": "2", "verdict": "taken"}]}), "no lease is left");
    assert_eq!(refusal(&beat().await), (409, "LeaseLost"));
    assert_eq!(api.get(&path).await.json["status"], "CANCELED");
}

#[tokio::test]
async fn events_come_in_all_shapes_and_count_once() {
    let (api, path, token) = with_lease().await;
    let half = event(&token, "1", "progress", json!({"percent": 50, "message": "half"}));
    assert_eq!(tell(&api, &path, &half).await.json["items"][0]["verdict"], "taken");
    assert_eq!(tell(&api, &path, &half).await.json["items"][0]["verdict"], "repeated");
    let token_header = format!("ce-leasetoken: {token}");
    let headers = [
        "ce-specversion: 1.0",
        "ce-id: 2",
        "ce-source: /thumb%207",
        "ce-type: io.reveille.run.log",
        "ce-time: 2026-01-01T00:00:00Z",
        &token_header,
        "content-type: application/json",
    ];
    let line = api.call(Method::POST, &format!("{path}/events"), &headers, r#"{"seq": 1, "text": "a"}"#).await;
    assert_eq!(line.json["items"][0]["verdict"], "taken", "{}", line.text);
    let batch = json!([
        event(&token, "3", "output", json!({"made": 5})),
        event(&token, "4", "paused", Value::Null),
        5,
        event(&token, "5", "succeeded", Value::Null),
    ]);
    let answer = api.call(Method::POST, &format!("{path}/events"), &[BATCH], batch.to_string()).await;
    let items = answer.json["items"].as_array().unwrap();
    let verdicts: Vec<_> =
        items.iter().map(|item| (item["verdict"].as_str(), item["error"]["code"].as_str())).collect();
    let refused = |code| (Some("refused"), Some(code));
    let taken = (Some("taken"), None);
    assert_eq!(verdicts, [taken, refused("UnknownType"), refused("Malformed"), taken], "{}", answer.text);
    let run = api.get(&path).await.json;
    assert_eq!((&run["status"], &run["message"]), (&json!("SUCCEEDED"), &json!("half")), "{run}");
    assert_eq!(api.get(&format!("{path}/result")).await.json, json!({"made": 5}));
    assert_eq!(api.get(&format!("{path}/logs")).await.json["items"][0]["message"], "a");
    for shown in [format!("{path}/events"), path.clone(), "/v1/refusedEvents".to_owned()] {
        assert!(!api.get(&shown).await.text.contains(&token), "{shown} shows a token");
    }
}

#[tokio::test]
async fn what_is_wrong_with_an_event_is_answered_and_listed() {
    let (api, path, token) = with_lease().await;
    let good = event(&token, "1", "progress", json!({"percent": 50}));
    let with = |name: &str, value: Value| {
        let mut event = good.clone();
        event[name] = value;
        event
    };
    let soon = api.store.now().await.unwrap().saturating_add(SignedDuration::from_mins(9)).unwrap();
    let cases = [
        (with("specversion", json!("2.0")), 400, "Malformed"),
        (with("subject", json!(Uuid::new_v4())), 400, "Malformed"),
        (with("namespace", json!("other")), 400, "Malformed"),
        (with("type", json!("com.example.hello")), 422, "UnknownType"),
        (with("data", json!({"percent": -1})), 422, "InvalidData"),
        (with("time", json!(soon.to_string())), 422, "FutureTime"),
        (with("leasetoken", json!(Uuid::new_v4())), 409, "StaleToken"),
        (event(&token, "2", "canceled", Value::Null), 409, "NotCanceling"),
    ];
    for (event, status, code) in &cases {
        let answer = tell(&api, &path, event).await;
        assert_eq!(refusal(&answer), (*status, *code), "{event}");
        assert!(!answer.text.contains(&token));
    }
    let elsewhere = format!("/v1/workRequests/{}", Uuid::new_v4());
    assert_eq!(refusal(&tell(&api, &elsewhere, &good).await), (404, "UnknownRun"));
    let headers = [STRUCTURED, "x-reveille-namespace: n"];
    let other = api.call(Method::POST, &format!("{path}/events"), &headers, good.to_string()).await;
    assert_eq!(refusal(&other), (404, "UnknownRun"), "another tenant's run is not there");
    let huge = api.call(Method::POST, &format!("{path}/events"), &[STRUCTURED], vec![b'x'; 10_000_000]).await;
    assert_eq!(refusal(&huge), (413, "TooLarge"));
    let listed = api.get("/v1/refusedEvents?limit=2").await;
    assert_eq!(listed.json["items"][0]["code"], "TooLarge", "the newest first");
    let mut codes = Vec::new();
    let mut page = listed.json;
    loop {
        codes.extend(page["items"].as_array().unwrap().iter().map(|item| item["code"].as_str().unwrap().to_owned()));
        let Some(next) = page["nextPage"].as_str() else { break };
        page = api.get(&format!("/v1/refusedEvents?limit=2&page={next}")).await.json;
    }
    codes.reverse();
    let expected: Vec<_> =
        cases.iter().map(|(.., code)| *code).chain(["UnknownRun", "UnknownRun", "TooLarge"]).collect();
    assert_eq!(codes, expected, "each is there once");
    let run = api.get(&path).await.json;
    assert_eq!((&run["status"], &run["message"]), (&json!("IN_PROGRESS"), &Value::Null), "nothing has changed");
}
