//! Lists: filters, pages, schedules and their due times.

use std::time::Duration;

use reveille_shared::store::{Decision, FirePlan, OverlapRule, Planned, SkipReason};
use serde_json::json;

use super::{Answer, Api};

fn ids(answer: &Answer) -> Vec<String> {
    let items = answer.json["items"].as_array().unwrap_or_else(|| panic!("{}", answer.text));
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.json["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn pages_have_no_gaps_while_new_runs_come_in() {
    let api = Api::new().await;
    let mut there = Vec::new();
    for _ in 0..10 {
        there.push(api.trigger("hello").await);
    }
    there.reverse();
    let (mut seen, mut path) = (Vec::new(), "/v1/workRequests?limit=3".to_owned());
    loop {
        let answer = api.get(&path).await;
        seen.extend(ids(&answer));
        api.trigger("hello").await;
        let Some(token) = answer.json["nextPage"].as_str() else { break };
        assert_eq!(answer.header("opc-next-page"), token);
        path = format!("/v1/workRequests?limit=3&page={token}");
        assert_eq!(answer.header("link"), format!("<{path}>; rel=\"next\""));
    }
    assert_eq!(seen, there);
}

#[tokio::test]
async fn filters_combine() {
    let api = Api::new().await;
    let (old, web) = (api.trigger("hello").await, api.trigger("call").await);
    let canceled = api.trigger("hello").await;
    let path = format!("/v1/workRequests/{canceled}");
    api.call(axum::http::Method::DELETE, &path, &[], axum::body::Body::empty()).await;
    let of = async |query: &str| ids(&api.get(&format!("/v1/workRequests?{query}")).await);
    assert_eq!(of("job=call").await, [web.as_str()]);
    assert_eq!(of("job=hello&status=ACCEPTED").await, [old.as_str()]);
    assert_eq!(of("status=CANCELED").await, [canceled.as_str()]);
    let all = [canceled.as_str(), web.as_str(), old.as_str()];
    assert_eq!(of("status=ACCEPTED,CANCELED").await, all);
    assert_eq!(of("status=ACCEPTED&status=CANCELED").await, all);
    assert_eq!(of("schedule=often").await, Vec::<String>::new());
    assert_eq!(of("job=unheard-of").await, Vec::<String>::new());
    assert_eq!(of("acceptedAfter=2020-01-01T00:00:00Z").await, all);
    assert_eq!(of("acceptedBefore=2020-01-01T00:00:00%2B01:00").await, Vec::<String>::new());
    assert_eq!(of("acceptedAfter=-009999-01-02T01:59:59Z").await, all);
}

#[tokio::test]
async fn a_page_is_good_only_for_its_own_filter() {
    let api = Api::new().await;
    for _ in 0..3 {
        api.trigger("hello").await;
    }
    let token = api.get("/v1/workRequests?limit=1").await.json["nextPage"].as_str().unwrap().to_owned();
    for path in [
        format!("/v1/workRequests?limit=1&job=hello&page={token}"),
        format!("/v1/jobs?page={token}"),
        format!("/v1/workRequests?page={}", &token[2..]),
        "/v1/workRequests?page=garbage".to_owned(),
        "/v1/workRequests?page=".to_owned(),
    ] {
        let answer = api.get(&path).await;
        assert_eq!((answer.status.as_u16(), answer.wrong()), (400, vec!["page"]), "{path}");
    }
}

#[tokio::test]
async fn every_wrong_parameter_is_named_at_once() {
    let api = Api::new().await;
    let query = "job=A%20b&status=ACCEPTED,DONE&acceptedAfter=yesterday&limit=0&state=FAILED&schedule=a&schedule=b";
    let answer = api.get(&format!("/v1/workRequests?{query}")).await;
    assert_eq!(answer.status, 400);
    let mut wrong = answer.wrong();
    wrong.sort_unstable();
    assert_eq!(wrong, ["acceptedAfter", "job", "limit", "schedule", "state", "status"]);
    for limit in ["0", "1001", "-1", "x", "1.5", "", "99999999999999999999", "-99999999999999999999"] {
        let answer = api.get(&format!("/v1/workRequests?limit={limit}")).await;
        assert_eq!((answer.status.as_u16(), answer.wrong()), (400, vec!["limit"]), "{limit:?}");
    }
    assert_eq!(api.get("/v1/workRequests?limit=1000").await.status, 200);
}

#[tokio::test]
async fn jobs_show_no_values_of_headers() {
    let api = Api::new().await;
    let all = api.get("/v1/jobs").await;
    assert_eq!(names(&all), ["call", "hello"]);
    let first = api.get("/v1/jobs?limit=1").await;
    let rest = api.get(&format!("/v1/jobs?limit=1&page={}", first.header("opc-next-page"))).await;
    assert_eq!((names(&first), names(&rest), rest.json.get("nextPage")), (vec!["call"], vec!["hello"], None));
    let job = api.get("/v1/jobs/call").await;
    assert_eq!(job.json["handler"]["headers"], json!(["Authorization"]));
    assert!(!job.text.contains("hunter2") && !all.text.contains("hunter2"));
    let hello = api.get("/v1/jobs/hello").await.json;
    assert_eq!((&hello["handler"]["type"], &hello["timeout"].is_string()), (&json!("command"), &true));
}

#[tokio::test]
async fn schedules_tell_when_they_are_due() {
    let api = Api::new().await;
    let all = api.get("/v1/schedules").await;
    assert_eq!(names(&all), ["daily", "often"]);
    let daily = api.get("/v1/schedules/daily").await.json;
    assert_eq!((&daily["cron"], &daily["timezone"]), (&json!("0 2 * * *"), &json!("Europe/Berlin")));
    assert_eq!((&daily["trigger"], &daily["overlap"]), (&json!(["hello", "call"]), &json!("skip")));
    let next = api.get("/v1/schedules/daily/next?from=2026-03-28T01:00:00Z&count=2").await.json;
    // 02:00 does not exist on the 29th in Berlin: the fire comes right after the gap.
    assert_eq!(next, json!({"items": ["2026-03-29T01:00:00.000Z", "2026-03-30T00:00:00.000Z"]}));
    let soon = api.get("/v1/schedules/often/next").await.json;
    assert_eq!(soon["items"].as_array().unwrap().len(), 10);
    for query in ["count=0", "count=1001", "from=now", "to=x"] {
        assert_eq!(api.get(&format!("/v1/schedules/often/next?{query}")).await.status, 400, "{query}");
    }
    let far = api.get("/v1/schedules/daily/next?from=9999-12-30T00:00:00Z&count=1000").await;
    assert_eq!(far.status, 200, "{}", far.text);
}

#[tokio::test]
async fn the_ledger_says_what_became_of_due_times() {
    let api = Api::new().await;
    let key = reveille_shared::store::ScheduleKey { namespace: "default".into(), name: "often".into() };
    let row = api.store.schedule(&key).await.unwrap().unwrap();
    let first = row.next_due_at.unwrap();
    let second = first + Duration::from_secs(30);
    let third = second + Duration::from_secs(30);
    let job = api.store.job("default", "hello").await.unwrap().unwrap();
    let ask = crate::plan::Ask {
        fire: Some(reveille_shared::work_request::FireRef {
            schedule: "often".into(),
            due_at: third,
            origin: reveille_shared::work_request::Origin::Schedule,
        }),
        by: "schedule".into(),
        ..Default::default()
    };
    let request = crate::plan::request(&job, ask, third);
    let id = request.id.to_string();
    let plan = FirePlan {
        key,
        version: row.version,
        cursor: row.cursor,
        planned_at: jiff::Timestamp::UNIX_EPOCH,
        overlap: OverlapRule::of(&row.schedule),
        fired: None,
        decisions: vec![
            Decision {
                due_at: first,
                last_due_at: second,
                count: 2,
                planned: Planned::Skip(SkipReason::Late, "nobody was there".into()),
            },
            Decision { due_at: third, last_due_at: third, count: 1, planned: Planned::Trigger(vec![request]) },
        ],
        next_cursor: third,
        next_due_at: Some(third + Duration::from_secs(30)),
    };
    api.store.record_fires(api.leader, vec![plan]).await.unwrap();

    let fires = api.get("/v1/schedules/often/fires").await.json;
    assert_eq!(fires["items"][0]["outcome"], "triggered");
    assert_eq!(fires["items"][0]["workRequests"], json!([id]));
    assert_eq!(fires["items"][1]["outcome"], "skipped");
    assert_eq!((&fires["items"][1]["reason"], &fires["items"][1]["count"]), (&json!("late"), &json!(2)));
    let page = api.get("/v1/schedules/often/fires?limit=1").await;
    let rest = api.get(&format!("/v1/schedules/often/fires?limit=1&page={}", page.header("opc-next-page"))).await;
    assert_eq!(rest.json["items"], json!([fires["items"][1]]));
    let before = api.get(&format!("/v1/schedules/often/fires?before={first}")).await;
    assert_eq!(before.json, json!({"items": []}));

    let run = api.get(&format!("/v1/workRequests/{id}")).await.json;
    assert_eq!(run["schedule"], "often");
    assert_eq!(run["scheduledFor"], fires["items"][0]["dueAt"]);
    assert_eq!(ids(&api.get("/v1/workRequests?schedule=often").await), [id]);
}
