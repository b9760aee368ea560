//! Pausing, resuming, firing by hand, and who did what.

use axum::body::Body;
use axum::http::Method;
use reveille_shared::store::ByHand;
use serde_json::{Value, json};

use super::{Answer, Api};

const OFTEN: &str = "/v1/schedules/often";
const DAILY: &str = "/v1/schedules/daily";

fn items(answer: &Answer) -> &Vec<Value> {
    answer.json["items"].as_array().unwrap_or_else(|| panic!("{}", answer.text))
}

fn told(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.json["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_pause_says_by_whom_and_why_until_it_is_resumed() {
    let api = Api::new().await;
    assert!(api.get(OFTEN).await.json.get("paused").is_none());
    let paused = api.post(&format!("{OFTEN}:pause"), r#"{"by": "alice", "reason": "maintenance"}"#).await;
    assert_eq!(paused.status, 200, "{}", paused.text);
    let pause = &paused.json["paused"];
    assert_eq!((&pause["by"], &pause["reason"]), (&json!("alice"), &json!("maintenance")));
    assert!(pause["since"].is_string() && paused.json.get("nextDue").is_none(), "{}", paused.text);
    assert_eq!(api.get(OFTEN).await.json, paused.json);

    let again = api.post(&format!("{OFTEN}:pause"), "").await;
    assert_eq!(told(&again), (409, "AlreadyPaused"));
    let detail = again.json["detail"].as_str().unwrap();
    assert!(detail.contains("by alice at 20") && detail.contains("maintenance"), "{detail}");

    let resumed = api.post(&format!("{OFTEN}:resume"), r#"{"by": "bob"}"#).await;
    assert_eq!(resumed.status, 200, "{}", resumed.text);
    assert!(resumed.json.get("paused").is_none() && resumed.json["nextDue"].is_string());
    assert_eq!(told(&api.post(&format!("{OFTEN}:resume"), "").await), (409, "NotPaused"));

    let history = api.get(&format!("{OFTEN}/history")).await;
    let seen: Vec<_> = items(&history).iter().map(|change| (change["action"].clone(), change["by"].clone())).collect();
    let expected = [("resumed", "bob"), ("paused", "alice"), ("created", "test")];
    assert_eq!(seen, expected.map(|(action, by)| (json!(action), json!(by))));
    assert_eq!(items(&history)[1]["reason"], "maintenance");
}

#[tokio::test]
async fn a_fire_by_hand_runs_every_job_of_the_schedule() {
    let api = Api::new().await;
    let answer = api.post("/v1/schedules/daily:trigger", r#"{"by": "carol"}"#).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let runs = answer.json["workRequests"].as_array().unwrap();
    assert_eq!(runs.iter().map(|run| run["job"].clone()).collect::<Vec<_>>(), [json!("hello"), json!("call")]);
    let ids: Vec<_> = runs.iter().map(|run| run["id"].clone()).collect();
    let fire = &answer.json["fire"];
    assert_eq!((&fire["origin"], &fire["workRequests"]), (&json!("manual"), &json!(ids)));
    assert!(fire["explanation"].as_str().unwrap().starts_with("Fired by hand at 20"), "{fire}");
    let run = api.get(&format!("/v1/workRequests/{}", ids[0].as_str().unwrap())).await.json;
    assert_eq!((&run["origin"], &run["schedule"]), (&json!("manual"), &json!("daily")));
    let events = api.get(&format!("/v1/workRequests/{}/events", ids[0].as_str().unwrap())).await;
    assert!(events.text.contains("asked for by carol"), "{}", events.text);
    assert_eq!(api.get("/v1/schedules/daily/fires").await.json["items"], json!([fire]));

    // Twice is two fires, and a pause holds up nobody's hand.
    assert_eq!(api.post("/v1/schedules/daily:pause", "").await.status, 200);
    assert_eq!(api.post("/v1/schedules/daily:trigger", "").await.status, 202);
    assert_eq!(items(&api.get("/v1/schedules/daily/fires").await).len(), 2);
    assert_eq!(items(&api.get("/v1/workRequests").await).len(), 4);
}

#[tokio::test]
async fn a_page_may_end_between_two_entries_of_one_instant() {
    let api = Api::new().await;
    let key = reveille_shared::store::ScheduleKey { namespace: "default".into(), name: "often".into() };
    let row = api.store.schedule(&key).await.unwrap().unwrap();
    let job = std::sync::Arc::new(api.store.job("default", "hello").await.unwrap().unwrap());
    let now = api.store.now().await.unwrap();
    for (origin, later) in [("manual", 0), ("backfill:a", 0), ("backfill:b", 0), ("manual", 5)] {
        let at = now + jiff::SignedDuration::from_secs(later);
        let (mut fire, requests) = crate::plan::fire_by_hand(&row, std::slice::from_ref(&job), &"test".into(), at);
        fire.origin = origin.parse().unwrap();
        let recorded = api.store.fire_by_hand(fire, requests, None).await.unwrap();
        assert!(matches!(recorded, ByHand::Fired(_)), "{recorded:?}");
    }
    let mut seen = Vec::new();
    let mut path = format!("{OFTEN}/fires?limit=1");
    loop {
        let page = api.get(&path).await;
        seen.extend(items(&page).iter().map(|fire| fire["origin"].as_str().unwrap().to_owned()));
        let Some(token) = page.json["nextPage"].as_str() else { break };
        path = format!("{OFTEN}/fires?limit=1&page={token}");
    }
    assert_eq!(seen, ["manual", "backfill:a", "backfill:b", "manual"]);
}

#[tokio::test]
async fn verbs_that_nobody_knows_are_told_those_that_there_are() {
    let api = Api::new().await;
    for path in ["/v1/schedules/often:explode", "/v1/schedules/often:", "/v1/schedules/often:pause:"] {
        let answer = api.post(path, "").await;
        assert_eq!(told(&answer), (404, "UnknownVerb"), "{path}");
        assert!(answer.json["message"].as_str().unwrap().contains(":pause, :resume, :trigger and :backfill"));
    }
    for verb in ["pause", "resume", "trigger"] {
        for name in ["unheard-of", "A", "", "a:b"] {
            let answer = api.post(&format!("/v1/schedules/{name}:{verb}"), "").await;
            assert_eq!(told(&answer), (404, "NotFound"), "{name}:{verb}");
        }
    }
    let bare = api.post(OFTEN, "{}").await;
    assert_eq!((bare.status.as_u16(), bare.header("allow")), (405, "GET,HEAD"));
    let put = api.call(Method::PUT, &format!("{OFTEN}:pause"), &[], Body::empty()).await;
    assert_eq!((put.status.as_u16(), put.header("allow")), (405, "POST"));
    let figures = api.post(&format!("{OFTEN}:pause"), "[]").await;
    assert_eq!(figures.status, 400);
}

#[tokio::test]
async fn who_and_why_are_lines_of_text() {
    let api = Api::new().await;
    for (body, field) in [
        (r#"{"by": ""}"#.to_owned(), "by"),
        (r#"{"by": "a\nb"}"#.to_owned(), "by"),
        (r#"{"by": 7}"#.to_owned(), "by"),
        (format!(r#"{{"by": "{}"}}"#, "x".repeat(101)), "by"),
        (format!(r#"{{"reason": "{}"}}"#, "x".repeat(501)), "reason"),
        (r#"{"why": "x"}"#.to_owned(), "why"),
    ] {
        for verb in ["pause", "resume"] {
            let answer = api.post(&format!("{OFTEN}:{verb}"), &body).await;
            assert_eq!((answer.status.as_u16(), answer.wrong()), (422, vec![field]), "{verb} {body}");
        }
    }
    let answer = api.post(&format!("{OFTEN}:trigger"), r#"{"by": "", "why": "x"}"#).await;
    assert_eq!((answer.status.as_u16(), answer.wrong()), (422, vec!["by", "why"]));
    assert!(api.get(OFTEN).await.json.get("paused").is_none());
    let text = api.call(Method::POST, &format!("{OFTEN}:pause"), &["content-type: text/plain"], "x").await;
    assert_eq!(text.status, 415);
    let long = format!(r#"{{"by": "{}"}}"#, "\u{e9}".repeat(100));
    assert_eq!(api.post(&format!("{OFTEN}:pause"), &long).await.status, 200);
}

#[tokio::test]
async fn lists_find_names_by_a_part_of_them() {
    let api = Api::new().await;
    let names = async |path: &str| -> Vec<String> {
        items(&api.get(path).await).iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/v1/schedules?search=fte").await, ["often"]);
    assert_eq!(names("/v1/schedules?search=").await, ["daily", "often"]);
    assert_eq!(names("/v1/schedules?search=%25").await, Vec::<String>::new());
    assert_eq!(names("/v1/jobs?search=ll").await, ["call", "hello"]);
    let first = api.get("/v1/jobs?search=ll&limit=1").await;
    let token = first.header("opc-next-page").to_owned();
    assert_eq!(names(&format!("/v1/jobs?search=ll&limit=1&page={token}")).await, ["hello"]);
    assert_eq!(api.get(&format!("/v1/jobs?search=l&limit=1&page={token}")).await.wrong(), ["page"]);
    for bad in ["%00".to_owned(), "x".repeat(65)] {
        let answer = api.get(&format!("/v1/schedules?search={bad}")).await;
        assert_eq!((answer.status.as_u16(), answer.wrong()), (400, vec!["search"]));
    }
}

#[tokio::test]
async fn a_history_says_what_was_changed_and_hides_what_is_secret() {
    let api = Api::new().await;
    let texts = super::DEFINITIONS.replace("hunter2", "hunter3").replace("every: 30s", "every: 45s");
    let changed = reveille_shared::definition::read_texts(&[("test.yaml".into(), texts)]).unwrap();
    api.post(&format!("{OFTEN}:pause"), r#"{"reason": "x"}"#).await;
    api.store.apply_definitions(api.leader, &changed, &changed.digest(), "test").await.unwrap();
    let history = api.get(&format!("{OFTEN}/history?limit=1")).await;
    let change = &items(&history)[0];
    assert_eq!((&change["action"], &change["version"]), (&json!("changed"), &json!(2)));
    assert_eq!(change["changes"], json!([{"member": "every", "from": "30s", "to": "45s"}]));
    let rest = api.get(&format!("{OFTEN}/history?page={}", history.header("opc-next-page"))).await;
    let actions: Vec<_> = items(&rest).iter().map(|change| &change["action"]).collect();
    assert_eq!(actions, ["paused", "created"]);

    let job = api.get("/v1/jobs/call/history").await;
    assert_eq!(items(&job)[0]["changes"][0]["member"], "handler");
    assert!(job.text.contains("another value") && !job.text.contains("hunter"), "{}", job.text);

    let nothing = reveille_shared::definition::Definitions::default();
    api.store.apply_definitions(api.leader, &nothing, "none", "bob").await.unwrap();
    assert_eq!(api.get(OFTEN).await.status, 404);
    assert_eq!(items(&api.get(&format!("{OFTEN}/history")).await)[0]["action"], "removed");
    let gone = api.get(&format!("{OFTEN}/explain")).await;
    assert_eq!(gone.status, 404);
    assert!(gone.json["message"].as_str().unwrap().contains("bob removed it at 20"), "{}", gone.text);
    for path in ["/v1/schedules/x/history", "/v1/jobs/x/history", "/v1/jobs/%00/history", "/v1/schedules/x/explain"] {
        assert_eq!(told(&api.get(path).await), (404, "NotFound"), "{path}");
    }
}

#[tokio::test]
async fn an_instant_is_explained() {
    let api = Api::new().await;
    let now = api.get(&format!("{DAILY}/explain")).await;
    assert_eq!((now.status.as_u16(), &now.json["verdict"]), (200, &json!("not_due")), "{}", now.text);
    assert_eq!(now.json["nextDue"].as_array().unwrap().len(), 3);
    let next = now.json["nextDue"][0].as_str().unwrap();
    let coming = api.get(&format!("{DAILY}/explain?at={next}")).await.json;
    assert_eq!((&coming["verdict"], &coming["at"]), (&json!("will_trigger"), &json!(next)));
    let before = api.get(&format!("{DAILY}/explain?at=2020-01-01T00:00:00Z")).await.json;
    assert_eq!(before["verdict"], "not_due");
    assert!(before["explanation"].as_str().unwrap().contains("did not exist then: test created it at"), "{before}");

    let fired = api.post(&format!("{DAILY}:trigger"), "").await.json;
    let at = fired["fire"]["dueAt"].as_str().unwrap();
    let answer = api.get(&format!("{DAILY}/explain?at={at}")).await.json;
    assert_eq!(answer["alsoFired"], json!([fired["fire"]]));
    let words = answer["explanation"].as_str().unwrap();
    assert!(words.contains("Beside that: Fired by hand at") && words.contains("Job hello ("), "{words}");
    api.post(&format!("{DAILY}:pause"), r#"{"by": "alice"}"#).await;
    let paused = api.get(&format!("{DAILY}/explain?at={next}")).await.json;
    assert!(paused["explanation"].as_str().unwrap().contains("paused by alice"), "{paused}");
    for query in ["at=now", "at=", "when=2020-01-01T00:00:00Z"] {
        assert_eq!(api.get(&format!("{DAILY}/explain?{query}")).await.status, 400, "{query}");
    }
    for query in ["at=-009999-01-02T01:59:59Z", "at=9999-12-30T22:00:00Z"] {
        assert_eq!(api.get(&format!("{DAILY}/explain?{query}")).await.status, 200, "{query}");
        assert_eq!(api.get(&format!("/v1/schedules/often/explain?{query}")).await.status, 200, "{query}");
    }
}

#[tokio::test]
async fn a_schedule_shows_what_is_not_its_default() {
    let api = Api::new().await;
    let plain = api.get(OFTEN).await.json;
    for member in [
        "dst",
        "queueMax",
        "countManual",
        "jitter",
        "startsAt",
        "endsAt",
        "maxFires",
        "fired",
        "except",
        "only",
        "pauseAfterFailures",
        "failuresInARow",
        "paused",
    ] {
        assert!(plain.get(member).is_none(), "{member}");
    }
    assert_eq!(plain["catchUp"], json!({"policy": "latest", "window": "1h"}));
    let mut rich = reveille_shared::definition::read_texts(&[("t.yaml".into(), super::DEFINITIONS.into())]).unwrap();
    let stored = json!({
        "namespace": "default", "name": "often", "cron": "0 2 * * *", "timezone": "Europe/Berlin",
        "dst": {"gap": "skip", "fold": "both"}, "trigger": ["hello"], "overlap": "queue_all", "queueMax": 7,
        "countManual": true, "catchUp": {"policy": "all", "window": "2h", "max": 9}, "jitter": "30s",
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "maxFires": 5,
        "except": [{"dates": {"from": "2026-12-24", "to": "2026-12-26"}},
            {"calendar": {"name": "de-holidays", "days": [{"dates": {"from": "2026-10-03", "to": "2026-10-03"}}]}}],
        "only": [{"weekdays": {"from": "MON", "to": "FRI"}}, {"weekdays": {"from": "SAT", "to": "SAT"}}],
        "pauseAfterFailures": 3,
    });
    rich.schedules[1] = serde_json::from_value(stored).unwrap();
    rich.jobs[1]
        .on_success
        .push(serde_json::from_value(json!({"job": "call", "input": {"a": "{{ output }}"}})).unwrap());
    api.store.apply_definitions(api.leader, &rich, "rich", "test").await.unwrap();
    let shown = api.get(OFTEN).await.json;
    for (member, value) in [
        ("dst", json!({"gap": "skip", "fold": "both"})),
        ("queueMax", json!(7)),
        ("countManual", json!(true)),
        ("catchUp", json!({"policy": "all", "window": "2h", "max": 9})),
        ("jitter", json!("30s")),
        ("startsAt", json!("2026-01-01T00:00:00.000Z")),
        ("endsAt", json!("2099-01-01T00:00:00.000Z")),
        ("maxFires", json!(5)),
        ("fired", json!(0)),
        ("except", json!(["2026-12-24/2026-12-26", "de-holidays"])),
        ("only", json!(["MON-FRI", "SAT"])),
        ("pauseAfterFailures", json!(3)),
    ] {
        assert_eq!(shown[member], value, "{member}");
    }
    let job = api.get("/v1/jobs/hello").await.json;
    assert_eq!(job["onSuccess"], json!([{"job": "call", "input": {"a": "{{ output }}"}}]));
    assert!(job.get("onFailure").is_none());
}
