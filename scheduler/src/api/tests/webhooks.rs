//! Webhooks: who may have what posted where, and what is shown of it.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use axum::routing::post;
use reveille_shared::clock::SystemClock;
use reveille_shared::store::{Next, Tried};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::{Access, Answer, Api};
use crate::webhooks::{Allowed, Hidden, WebhookSettings, Webhooks};

pub(super) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What keeps secrets and posts, to this machine too.
pub(super) fn keeper(key: Option<&str>) -> Arc<Webhooks> {
    let settings = WebhookSettings {
        secret_key: key.map(|key| Hidden(key.to_owned())),
        webhook_allow: Allowed::loopback(),
        ..WebhookSettings::default()
    };
    Webhooks::new(&settings, Arc::new(SystemClock), false).unwrap()
}

async fn create(api: &Api, body: &Value) -> Answer {
    api.post("/v1/webhooks", &body.to_string()).await
}

async fn made(api: &Api) -> (String, Value) {
    let answer = create(api, &json!({"url": "https://portal.example.com/hooks"})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    (format!("/v1/webhooks/{}", answer.json["id"].as_str().unwrap()), answer.json)
}

async fn patch(api: &Api, path: &str, body: &str) -> Answer {
    api.call(Method::PATCH, path, &["content-type: application/json"], body.to_owned()).await
}

#[tokio::test]
async fn the_secret_is_shown_once_and_never_kept_as_it_is() {
    let api = Api::new().await;
    let wanted = json!({
        "url": "https://portal.example.com/hooks?tenant=7", "description": "the portal", "jobs": ["hello"],
        "schedules": ["often", "daily"], "statuses": ["FAILED"],
    });
    let answer = create(&api, &wanted).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let (id, secret) = (answer.json["id"].as_str().unwrap(), answer.json["secret"].as_str().unwrap());
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    assert_eq!(answer.header("location"), format!("http://{}/v1/webhooks/{id}", super::HOST));
    let shown = api.get(&format!("/v1/webhooks/{id}")).await;
    let listed = api.get("/v1/webhooks").await;
    assert_eq!(listed.json["items"], json!([shown.json]));
    for (member, value) in wanted.as_object().unwrap() {
        assert_eq!(shown.json[member], *value, "{member}");
    }
    assert_eq!((&shown.json["enabled"], &shown.json["namespace"]), (&json!(true), &json!("default")));
    let bare = &secret["whsec_".len()..];
    let kept = api.store.webhook("default", id.parse().unwrap()).await.unwrap().unwrap();
    for text in [shown.text, listed.text, format!("{kept:?}")] {
        assert!(!text.contains(bare) && !text.contains("secret\":"), "{text}");
    }
    let sealed = kept.secret.0;
    let raw = crate::webhooks::secrets::SigningSecret::of_shown(secret);
    assert!(!sealed.windows(32).any(|window| window == raw.bytes()), "it is kept as it is");
}

#[tokio::test]
async fn every_wrong_member_is_told_at_once() {
    let api = Api::new().await;
    let wrong = json!({
        "url": 7, "description": "two\nlines", "jobs": ["hello", "No Name", 3], "schedules": "often",
        "statuses": ["DONE"], "enabled": "yes", "secret": "mine",
    });
    let refused = create(&api, &wrong).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let mut fields = refused.wrong();
    fields.sort_unstable();
    let expected = ["description", "enabled", "jobs[1]", "jobs[2]", "schedules", "secret", "statuses[0]", "url"];
    assert_eq!(fields, expected);
    for (body, field) in [
        (json!({}), "url"),
        (json!({"url": null}), "url"),
        (json!({"url": "not a url"}), "url"),
        (json!({"url": "ftp://a.example.com/"}), "url"),
        (json!({"url": "http://10.0.0.1/"}), "url"),
        (json!({"url": "http://169.254.169.254/latest/meta-data"}), "url"),
        (json!({"url": "https://me:hunter2@a.example.com/"}), "url"),
        (json!({"url": format!("https://a.example.com/{}", "x".repeat(3000))}), "url"),
        (json!({"url": "https://a.example.com/", "statuses": []}), "statuses"),
        (json!({"url": "https://a.example.com/", "jobs": ["a", "a"]}), "jobs[1]"),
        (json!({"url": "https://a.example.com/", "jobs": vec!["a"; 101]}), "jobs"),
        (json!({"url": "https://a.example.com/", "description": ""}), "description"),
    ] {
        let refused = create(&api, &body).await;
        assert_eq!((refused.status.as_u16(), refused.wrong()), (422, vec![field]), "{}", refused.text);
        assert!(!refused.text.contains("hunter2"), "{}", refused.text);
    }
    assert_eq!(api.get("/v1/webhooks").await.json["items"], json!([]));
}

#[tokio::test]
async fn without_a_key_nothing_is_made_and_the_answer_says_what_to_set() {
    let api = Api::with_key(Access::Open, None).await;
    let refused = create(&api, &json!({"url": "https://a.example.com/"})).await;
    assert_eq!((refused.status.as_u16(), &refused.json["code"]), (409, &json!("SecretKeyMissing")));
    assert!(refused.json["detail"].as_str().unwrap().contains("REVEILLE_SECRET_KEY"), "{}", refused.text);
    assert_eq!(api.get("/v1/webhooks").await.json["items"], json!([]));
}

#[tokio::test]
async fn a_webhook_is_changed_disabled_and_enabled_again() {
    let api = Api::new().await;
    let (path, first) = made(&api).await;
    assert_eq!(first["statuses"], json!(["SUCCEEDED", "FAILED", "CANCELED"]));
    let changed = patch(&api, &path, r#"{"description": "new", "jobs": ["hello"], "statuses": ["IN_PROGRESS"]}"#).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!((&changed.json["jobs"], &changed.json["statuses"]), (&json!(["hello"]), &json!(["IN_PROGRESS"])));
    assert_eq!((&changed.json["url"], &changed.json["description"]), (&first["url"], &json!("new")));
    let back = patch(&api, &path, r#"{"description": null, "jobs": null, "statuses": null}"#).await;
    assert!(back.json.get("description").is_none() && back.json["jobs"] == json!([]), "{}", back.text);
    assert_eq!(back.json["statuses"], first["statuses"]);
    let off = patch(&api, &path, r#"{"enabled": false}"#).await;
    assert_eq!((&off.json["enabled"], &off.json["disabledReason"]), (&json!(false), &json!("by request")));
    assert!(off.json["timeDisabled"].is_string());
    assert_eq!(api.get(&path).await.json, off.json);
    let on = patch(&api, &path, r#"{"enabled": true, "url": "https://other.example.com/"}"#).await;
    assert!(on.json["enabled"] == true && on.json.get("disabledReason").is_none(), "{}", on.text);
    assert_eq!(on.json["url"], "https://other.example.com/");
    for body in [r#"{"url": "http://192.168.0.1/"}"#, r#"{"url": null}"#, r#"{"url": 1}"#] {
        let refused = patch(&api, &path, body).await;
        assert_eq!((refused.status.as_u16(), refused.wrong()), (422, vec!["url"]), "{}", refused.text);
    }
    assert_eq!(api.get(&path).await.json["url"], "https://other.example.com/");
    assert_eq!(api.call(Method::DELETE, &path, &[], Body::empty()).await.status, 204);
    for method in [Method::GET, Method::DELETE, Method::PATCH] {
        assert_eq!(api.call(method, &path, &[], Body::empty()).await.status, 404);
    }
}

#[tokio::test]
async fn what_is_in_another_namespace_does_not_exist() {
    let api = Api::new().await;
    let (path, _) = made(&api).await;
    let elsewhere = ["x-reveille-namespace: other"];
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::PATCH, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::POST, format!("{path}:test")),
        (Method::POST, format!("{path}:rotateSecret")),
        (Method::GET, format!("{path}/deliveries")),
        (Method::GET, format!("{path}/deliveries/{}", uuid::Uuid::nil())),
        (Method::POST, format!("{path}/deliveries/{}:redeliver", uuid::Uuid::nil())),
    ] {
        let there = api.call(method.clone(), &path, &elsewhere, Body::empty()).await;
        let nowhere = path.replace(&path["/v1/webhooks/".len()..][..36], &uuid::Uuid::max().to_string());
        let nowhere = api.call(method, &nowhere, &elsewhere, Body::empty()).await;
        assert_eq!((there.status, &there.json["code"]), (nowhere.status, &nowhere.json["code"]), "{}", there.text);
        assert_eq!(there.status, 404, "{}", there.text);
    }
    assert_eq!(api.call(Method::GET, "/v1/webhooks", &elsewhere, Body::empty()).await.json["items"], json!([]));
}

#[tokio::test]
async fn a_rotation_shows_the_new_secret_and_says_until_when_the_old_one_signs() {
    let api = Api::new().await;
    let (path, first) = made(&api).await;
    let rotated = api.post(&format!("{path}:rotateSecret"), "").await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    assert_ne!(rotated.json["secret"], first["secret"]);
    assert!(rotated.json["oldSecretValidUntil"].is_string(), "{}", rotated.text);
    let at_once = api.post(&format!("{path}:rotateSecret"), r#"{"keepOldFor": "0s"}"#).await;
    assert!(at_once.json.get("oldSecretValidUntil").is_none(), "{}", at_once.text);
    let refused = api.post(&format!("{path}:rotateSecret"), r#"{"keepOldFor": "31d"}"#).await;
    assert_eq!((refused.status.as_u16(), refused.wrong()), (422, vec!["keepOldFor"]));
    assert_eq!(api.post(&format!("{path}:explode"), "").await.json["code"], "UnknownVerb");
    assert_eq!(api.post(&path, "").await.status, 405);
}

#[tokio::test]
async fn a_ping_is_posted_at_once_and_its_outcome_told() {
    let api = Api::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = async |headers: axum::http::HeaderMap, body: String| {
        let event: Value = serde_json::from_str(&body).unwrap();
        let is_whole = headers["webhook-id"] == *event["id"].as_str().unwrap()
            && headers["content-type"] == "application/cloudevents+json"
            && event["type"] == "io.reveille.webhook.ping";
        axum::http::StatusCode::from_u16(if is_whole { 204 } else { 400 }).unwrap()
    };
    let router = axum::Router::new()
        .route("/good", post(echo))
        .route("/bad", post(async || (axum::http::StatusCode::IM_A_TEAPOT, "x")));
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    for (path, delivered, status) in [("good", true, 204), ("bad", false, 418)] {
        let hook = create(&api, &json!({"url": format!("http://{address}/{path}"), "enabled": false})).await;
        let outcome = api.post(&format!("/v1/webhooks/{}:test", hook.json["id"].as_str().unwrap()), "").await;
        assert_eq!(outcome.status, 200, "{}", outcome.text);
        assert_eq!((&outcome.json["delivered"], &outcome.json["status"]), (&json!(delivered), &json!(status)));
        assert_eq!(outcome.json.get("error").is_none(), delivered, "{}", outcome.text);
    }
}

#[tokio::test]
async fn the_log_shows_attempts_and_a_delivery_can_be_sent_again() {
    let api = Api::new().await;
    let (path, _) = made(&api).await;
    for _ in 0..3 {
        api.trigger("hello").await;
        let played = api.lease().await;
        api.report(&played, reveille_shared::store::Outcome::Succeeded { output: Value::Null }).await;
    }
    api.store.match_webhooks(api.leader, 100, |_, _| true).await.unwrap();
    let claimed = api.store.claim_deliveries(&[], 1, std::time::Duration::from_secs(60)).await.unwrap();
    let [one] = &claimed[..] else { panic!("{claimed:?}") };
    let log = async |query: &str| api.get(&format!("{path}/deliveries{query}")).await;
    let sending = log("?state=pending").await.json["items"].as_array().unwrap().clone();
    assert_eq!(sending.iter().filter(|known| known["sending"] == true).count(), 1);
    let redelivery = format!("{path}/deliveries/{}:redeliver", one.delivery.id);
    assert_eq!(api.post(&redelivery, "").await.json["code"], "UnderWay");
    let attempt = reveille_shared::store::DeliveryAttempt {
        at: api.store.now().await.unwrap(),
        ms: 12,
        status: Some(500),
        error: Some("answered 500 Internal Server Error".into()),
    };
    let tried = Tried {
        webhook: one.delivery.webhook,
        id: one.delivery.id,
        claim: one.claim,
        attempts: vec![attempt],
        next: Next::GivenUp,
    };
    api.store.keep_tried(&[tried], jiff::SignedDuration::from_hours(72)).await.unwrap();
    let failed = log("?state=failed").await;
    let [shown] = &failed.json["items"].as_array().unwrap()[..] else { panic!("{}", failed.text) };
    assert_eq!((&shown["state"], &shown["attempts"][0]["status"]), (&json!("failed"), &json!(500)));
    assert_eq!(shown["attempts"][0]["durationMs"], 12);
    assert_eq!(shown["eventId"], format!("{}/3", shown["workRequestId"].as_str().unwrap()));
    assert!(shown["timeEnded"].is_string() && shown.get("nextAttempt").is_none(), "{shown}");
    let single = api.get(&format!("{path}/deliveries/{}", one.delivery.id)).await;
    assert_eq!(single.json, *shown);
    assert!(api.get(&path).await.json["failingSince"].is_string());

    let first = log("?limit=2").await;
    assert_eq!(first.json["items"].as_array().unwrap().len(), 2);
    let next = first.json["nextPage"].as_str().unwrap();
    assert_eq!(log(&format!("?limit=2&page={next}")).await.json["items"].as_array().unwrap().len(), 1);
    assert_eq!(log(&format!("?state=failed&page={next}")).await.wrong(), ["page"]);
    assert_eq!(log("?state=lost").await.wrong(), ["state"]);

    let again = api.post(&redelivery, "").await;
    assert_eq!((again.status.as_u16(), &again.json["state"]), (202, &json!("pending")), "{}", again.text);
    assert!(again.json["nextAttempt"].is_string());
    patch(&api, &path, r#"{"enabled": false}"#).await;
    assert_eq!(api.post(&redelivery, "").await.json["code"], "WebhookDisabled");
    let metrics = api.get("/metrics").await.text;
    assert!(metrics.contains("reveille_webhook_deliveries_pending 3"), "{metrics}");
    assert!(metrics.contains("reveille_webhooks_disabled 1"), "{metrics}");
}
