//! Schedules with policies, as operators meet them: chains, fires that wait, pauses, backfills, and the answer to "why?".

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::scenario::instant;

const FILE: &str = r#"
version: 1
jobs:
  copy:
    command: [sh, -c, 'echo "copied for $0"', "{{ input.day }}"]
    on_success: [{ job: report, input: { day: "{{ input.day }}", from: "{{ parent.workRequestId }}" } }]
    on_finish: tidy
  report: { command: ['true'] }
  tidy: { command: ['true'] }
  slow: { command: [sleep, '2'] }
  broken: { command: ['false'], retry: { max_attempts: 1 } }
schedules:
  once-a-day:
    cron: "30 2 * * *"
    timezone: Europe/Berlin
    trigger: copy
    input: { day: "{{ scheduled_for | timezone('Europe/Berlin') | date }}" }
    except: [2026-01-03]
  queued: { every: 1s, trigger: slow, overlap: queue_one }
  brittle: { every: 1s, trigger: broken, pause_after_failures: 2 }
"#;

async fn post(stack: &Stack, path: &str, body: Value) -> Result<(StatusCode, Value)> {
    let answer = stack.api.request(Method::POST, path).json(&body).send().await?;
    Ok((answer.status(), answer.json().await?))
}

/// Runs of one job, oldest first.
async fn runs(stack: &Stack, job: &str) -> Result<Vec<Value>> {
    let mut runs = stack.api.list(&format!("job={job}&limit=1000")).await?;
    runs.reverse();
    Ok(runs)
}

async fn operate(builder: Builder) -> Result<()> {
    let stack = builder.schedules(FILE).start().await?;
    backfill_and_chain(&stack).await?;
    queue(&stack).await?;
    pause_after_failures(&stack).await?;
    pause_and_ask_why(&stack).await
}

/// A backfill of a week makes each run once, without the excluded day, and each run's end calls two others.
async fn backfill_and_chain(stack: &Stack) -> Result<()> {
    let week = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-07T23:00:00Z", "maxParallel": 3, "id": "week"});
    for _ in 0..2 {
        let (status, answer) = post(stack, "/v1/schedules/once-a-day:backfill", week.clone()).await?;
        ensure!(status == StatusCode::ACCEPTED && answer["total"] == 7, "{status} {answer}");
    }
    let done = eventually("the backfill", Duration::from_secs(30), async || {
        let path = "/v1/schedules/once-a-day/backfills/week";
        let backfill = stack.api.get_path(path).await.map_err(|error| error.to_string())?;
        if backfill["status"] == "done" { Ok(backfill) } else { Err(backfill.to_string()) }
    })
    .await?;
    ensure!(done["triggered"] == 6 && done["skipped"] == 1 && done["percentComplete"] == 100.0, "{done}");
    eventually("the chains", Duration::from_secs(20), async || {
        let (reports, tidies) = (runs(stack, "report").await, runs(stack, "tidy").await);
        let counts = (reports.map_err(|e| e.to_string())?.len(), tidies.map_err(|e| e.to_string())?.len());
        if counts == (6, 6) { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await?;
    let mut days: Vec<_> = runs(stack, "copy").await?.iter().map(|run| run["input"]["day"].to_string()).collect();
    days.sort();
    let expected = ["01", "02", "04", "05", "06", "07"].map(|day| format!("\"2026-01-{day}\""));
    ensure!(days == expected, "{days:?}");
    let report = &runs(stack, "report").await?[0];
    let parent = stack.api.get(report["input"]["from"].as_str().context("an id")?).await?;
    ensure!(report["input"]["day"] == parent["input"]["day"] && report["chainedFrom"] == parent["id"], "{report}");
    let latency = instant(report, "timeAccepted")?.duration_since(instant(&parent, "timeFinished")?);
    ensure!(latency.as_secs() < 5, "the chain took {latency:#}");
    Ok(())
}

/// A run of two seconds under a schedule of one: never two at once, and each waiting fire goes when the one before ends.
async fn queue(stack: &Stack) -> Result<()> {
    let ended = eventually("three queued runs to end", Duration::from_secs(40), async || {
        let runs = runs(stack, "slow").await.map_err(|error| error.to_string())?;
        let ended: Vec<_> = runs.into_iter().filter(|run| run["status"] == "SUCCEEDED").collect();
        if ended.len() >= 3 { Ok(ended) } else { Err(format!("{} have", ended.len())) }
    })
    .await?;
    for pair in ended.windows(2) {
        let (end, start) = (instant(&pair[0], "timeFinished")?, instant(&pair[1], "timeStarted")?);
        ensure!(start >= end, "two at once: {} and {}", pair[0], pair[1]);
        ensure!(start.duration_since(end).as_secs() < 5, "the next one waited {:#}", start.duration_since(end));
    }
    let fires = stack.api.get_path("/v1/schedules/queued/fires?limit=1000").await?;
    let skipped = fires["items"].as_array().context("items")?.iter().any(|fire| fire["reason"] == "overlap");
    ensure!(skipped, "of those that found one waiting some were skipped: {fires}");
    Ok(())
}

async fn pause_after_failures(stack: &Stack) -> Result<()> {
    let schedule = eventually("the brittle schedule to be paused", Duration::from_secs(30), async || {
        let schedule = stack.api.get_path("/v1/schedules/brittle").await.map_err(|error| error.to_string())?;
        if schedule["paused"].is_object() { Ok(schedule) } else { Err(schedule.to_string()) }
    })
    .await?;
    ensure!(schedule["paused"]["by"] == "reveille", "{schedule}");
    Ok(())
}

async fn pause_and_ask_why(stack: &Stack) -> Result<()> {
    let why = json!({"reason": "the disk is full", "by": "ann"});
    let (status, paused) = post(stack, "/v1/schedules/queued:pause", why.clone()).await?;
    ensure!(status == StatusCode::OK && paused["paused"]["reason"] == "the disk is full", "{status} {paused}");
    let (status, again) = post(stack, "/v1/schedules/queued:pause", json!({"by": "bob"})).await?;
    ensure!(status == StatusCode::CONFLICT && again.to_string().contains("ann"), "{status} {again}");
    let since = instant(&paused["paused"], "since")?;
    eventually("two due times to pass", Duration::from_secs(20), async || {
        let now = stack.api.get_path("/v1/schedules/queued/explain").await.map_err(|error| error.to_string())?;
        let at: jiff::Timestamp = now["at"].as_str().unwrap_or_default().parse().map_err(|_| now.to_string())?;
        if at.duration_since(since).as_secs() >= 3 { Ok(()) } else { Err(now.to_string()) }
    })
    .await?;
    let (status, resumed) = post(stack, "/v1/schedules/queued:resume", json!({"by": "bob"})).await?;
    ensure!(status == StatusCode::OK && resumed["paused"].is_null(), "{status} {resumed}");
    let at = jiff::Timestamp::from_second(since.as_second() + 2)?;
    let told = stack.api.get_path(&format!("/v1/schedules/queued/explain?at={at}")).await?;
    let words = told["explanation"].as_str().unwrap_or_default();
    ensure!(told["verdict"] == "skipped" && words.contains("ann") && words.contains("disk is full"), "{told}");
    let told = stack.api.get_path("/v1/schedules/once-a-day/explain?at=2027-01-05T08:15:00Z").await?;
    let words = told["explanation"].as_str().unwrap_or_default();
    ensure!(told["verdict"] == "not_due" && words.contains("hour"), "{told}");
    let history = stack.api.get_path("/v1/schedules/queued/history").await?;
    let actions: Vec<_> = history["items"].as_array().context("items")?.iter().map(|item| &item["action"]).collect();
    ensure!(actions == ["resumed", "paused", "created"], "{history}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_with_policies() -> Result<()> {
    operate(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_with_policies_embedded() -> Result<()> {
    operate(Stack::embedded()).await
}
