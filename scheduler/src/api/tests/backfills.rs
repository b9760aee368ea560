//! Backfills, from the wish to their end.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

use super::{Answer, Api};

const DAILY: &str = "/v1/schedules/daily";

async fn ask(api: &Api, body: Value) -> Answer {
    api.post(&format!("{DAILY}:backfill"), &body.to_string()).await
}

fn week() -> Value {
    json!({"from": "2026-03-02T00:00:00Z", "to": "2026-03-08T23:59:59Z"})
}

fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_dry_run_counts_and_leaves_nothing() {
    let api = Api::new().await;
    let answer = ask(&api, with(week(), &json!({"dryRun": true}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let expected = json!({
        "dryRun": true, "total": 7, "excluded": 0,
        "first": "2026-03-02T01:00:00.000Z", "last": "2026-03-08T01:00:00.000Z",
    });
    assert_eq!(answer.json, expected);
    assert_eq!(api.get(&format!("{DAILY}/backfills")).await.json, json!({"items": []}));
    // Both ends count.
    let exactly = json!({"from": "2026-03-02T01:00:00Z", "to": "2026-03-03T01:00:00Z", "dryRun": true});
    assert_eq!(ask(&api, exactly).await.json["total"], 2);
}

#[tokio::test]
async fn asked_for_twice_under_one_id_it_is_made_once() {
    let api = Api::new().await;
    let body = with(week(), &json!({"id": "march", "maxParallel": 3, "by": "alice", "reason": "outage"}));
    let made = ask(&api, body.clone()).await;
    assert_eq!(made.status, 202, "{}", made.text);
    for (member, value) in [
        ("id", json!("march")),
        ("schedule", json!("daily")),
        ("from", json!("2026-03-02T00:00:00.000Z")),
        ("to", json!("2026-03-08T23:59:59.000Z")),
        ("maxParallel", json!(3)),
        ("status", json!("running")),
        ("percentComplete", json!(0.0)),
        ("total", json!(7)),
        ("triggered", json!(0)),
        ("by", json!("alice")),
        ("reason", json!("outage")),
        ("scheduleVersion", json!(1)),
    ] {
        assert_eq!(made.json[member], value, "{member}");
    }
    let again = ask(&api, body.clone()).await;
    assert_eq!((again.status.as_u16(), &again.json), (202, &made.json));
    let other = ask(&api, with(body, &json!({"maxParallel": 4}))).await;
    assert_eq!((other.status.as_u16(), &other.json["code"]), (409, &json!("BackfillDiffers")));

    let fresh = ask(&api, week()).await;
    assert_eq!(fresh.status, 202, "{}", fresh.text);
    let list = api.get(&format!("{DAILY}/backfills")).await.json;
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let first = api.get(&format!("{DAILY}/backfills?limit=1")).await;
    let rest = api.get(&format!("{DAILY}/backfills?limit=1&page={}", first.header("opc-next-page"))).await;
    assert_eq!(rest.json["items"], json!([list["items"][1]]));
    assert_eq!(api.get(&format!("{DAILY}/backfills/march")).await.json, made.json);
}

#[tokio::test]
async fn a_range_that_makes_no_sense_is_refused_with_the_reason() {
    let api = Api::new().await;
    let range = |from: &str, to: &str| json!({"from": from, "to": to});
    for (schedule, body, field, message) in [
        ("daily", range("2026-03-02T00:00:00Z", "2026-03-01T00:00:00Z"), "to", "is before from"),
        ("daily", range("2026-03-02T00:00:00Z", "2999-03-01T00:00:00Z"), "to", "is in the future"),
        ("daily", range("2026-03-02T02:00:00Z", "2026-03-02T03:00:00Z"), "from", "there is no due time"),
        (
            "often",
            range("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"),
            "from",
            "are 1054081 due times, and the most is 100000",
        ),
        ("daily", json!({"to": "2026-03-02T03:00:00Z"}), "from", "is missing"),
        ("daily", with(week(), &json!({"maxParallel": 0})), "maxParallel", "from 1 to 1000"),
        ("daily", with(week(), &json!({"maxParallel": 1001})), "maxParallel", "from 1 to 1000"),
        ("daily", with(week(), &json!({"maxParallel": 1.5})), "maxParallel", "from 1 to 1000"),
        ("daily", with(week(), &json!({"id": "A"})), "id", "not a name"),
        ("daily", with(week(), &json!({"dryRun": "yes"})), "dryRun", "true or false"),
        ("daily", with(week(), &json!({"from": "yesterday"})), "from", "must be an instant"),
    ] {
        let answer = api.post(&format!("/v1/schedules/{schedule}:backfill"), &body.to_string()).await;
        assert_eq!((answer.status.as_u16(), answer.wrong()), (422, vec![field]), "{body}: {}", answer.text);
        assert!(answer.json["message"].as_str().unwrap().contains(message), "{}", answer.text);
    }
    let answer = api.post(&format!("{DAILY}:backfill"), "").await;
    assert_eq!((answer.status.as_u16(), answer.wrong()), (422, vec!["from", "to"]));
    assert_eq!(api.post("/v1/schedules/x:backfill", &week().to_string()).await.status, 404);
    assert_eq!(api.get(&format!("{DAILY}/backfills")).await.json, json!({"items": []}));
}

#[tokio::test]
async fn canceled_it_stays_canceled() {
    let api = Api::new().await;
    ask(&api, with(week(), &json!({"id": "march"}))).await;
    let path = format!("{DAILY}/backfills/march");
    for _ in 0..2 {
        let answer = api.call(Method::DELETE, &path, &[], Body::empty()).await;
        assert_eq!((answer.status.as_u16(), &answer.json["status"]), (202, &json!("canceled")), "{}", answer.text);
        assert!(answer.json["timeEnded"].is_string() && answer.json["endedBy"] == "api");
    }
    for path in
        [format!("{DAILY}/backfills/none"), format!("{DAILY}/backfills/%00"), "/v1/schedules/x/backfills/march".into()]
    {
        assert_eq!(api.get(&path).await.status, 404, "{path}");
        assert_eq!(api.call(Method::DELETE, &path, &[], Body::empty()).await.status, 404, "{path}");
    }
    assert_eq!(api.get("/v1/schedules/x/backfills").await.status, 404);
}
