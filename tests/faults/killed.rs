//! kill -9 of each part in turn, under a schedule that fires every second.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Fires each second, whatever is still running, and makes up for every second that was missed.
const EVERY_SECOND: &str = r#"
version: 1
defaults: { retry: { max_attempts: 10, initial: 200ms, max: 1s } }
jobs:
  work: { command: [sleep, '0.4'] }
  more: { command: [sleep, '0.1'] }
schedules:
  second:
    every: 1s
    trigger: [work, more]
    overlap: allow
    catch_up: { policy: all, window: 1h }
"#;

async fn start(builder: Builder) -> Result<Stack> {
    let stack = builder.schedules(EVERY_SECOND).env("REVEILLE_LEASE_TTL", "4s").start().await?;
    some_more_succeed(&stack, 4).await?;
    Ok(stack)
}

async fn succeeded(stack: &Stack) -> Result<usize, String> {
    let runs = stack.api.list("status=SUCCEEDED&limit=1000").await;
    runs.map(|runs| runs.len()).map_err(|error| format!("{error:#}"))
}

/// Life goes on: that many more runs succeed than had when this was called.
async fn some_more_succeed(stack: &Stack, more: usize) -> Result<()> {
    let limit = Duration::from_secs(90);
    let before = eventually("an answer", limit, async || succeeded(stack).await).await?;
    eventually(&format!("{more} more runs to succeed"), limit, async || {
        let now = succeeded(stack).await?;
        if now >= before + more { Ok(()) } else { Err(format!("{now} have, {before} had")) }
    })
    .await
}

/// Stops the schedule, waits until every run has ended, and checks the ledger second by second.
async fn nothing_is_lost_or_doubled(stack: &Stack) -> Result<()> {
    let jobs_only = EVERY_SECOND.split("schedules:").next().context("jobs")?;
    // The last fires are read while the schedule is there; after it has gone nothing new begins.
    let fires = eventually("the ledger", Duration::from_secs(60), async || {
        let ledger = stack.api.get_path("/v1/schedules/second/fires?limit=1000").await;
        ledger.map(|ledger| ledger["items"].clone()).map_err(|error| format!("{error:#}"))
    })
    .await?;
    let folder = stack.schedules_folder();
    std::fs::write(folder.join("next"), jobs_only)?;
    std::fs::rename(folder.join("next"), folder.join("test.yaml"))?;
    let runs = eventually("every run to end", Duration::from_secs(120), async || {
        let runs = stack.api.list("schedule=second&limit=1000").await.map_err(|error| format!("{error:#}"))?;
        let going: Vec<_> = runs.iter().filter(|run| run["timeFinished"].is_null()).collect();
        let gone = stack.api.get_path("/v1/schedules/second").await.is_err();
        if going.is_empty() && gone {
            Ok(runs)
        } else {
            Err(format!("{} go on, such as {:?}", going.len(), going.first()))
        }
    })
    .await?;
    let mut by_fire: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
    for run in &runs {
        ensure!(run["status"] == "SUCCEEDED", "a run did not succeed: {run}");
        let key = (run["scheduledFor"].as_str().unwrap_or_default(), run["job"].as_str().unwrap_or_default());
        by_fire.entry(key).or_default().push(run);
    }
    let twice: Vec<_> = by_fire.iter().filter(|(_, runs)| runs.len() != 1).collect();
    ensure!(twice.is_empty(), "fires with more than one run of a job: {twice:?}");

    let fires = fires.as_array().context("fires")?;
    ensure!(fires.len() > 4, "too few fires to speak of: {fires:?}");
    let mut expected: Option<Timestamp> = None;
    for fire in fires {
        let due: Timestamp = fire["dueAt"].as_str().context("dueAt")?.parse()?;
        ensure!(fire["outcome"] == "triggered", "not triggered: {fire}");
        ensure!(expected.is_none_or(|expected| expected == due), "a second is missing before {due}: {expected:?}");
        expected = Some(due - SignedDuration::from_secs(1));
        for job in ["work", "more"] {
            let text = fire["dueAt"].as_str().unwrap_or_default();
            ensure!(by_fire.contains_key(&(text, job)), "no run of {job} for {text}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_loses_no_run() -> Result<()> {
    let mut stack = start(Stack::postgres_rabbit().workers(2)).await?;
    stack.workers[0].kill9()?;
    some_more_succeed(&stack, 6).await?;
    stack.workers[0].restart().await?;
    some_more_succeed(&stack, 4).await?;
    nothing_is_lost_or_doubled(&stack).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_scheduler_misses_no_fire() -> Result<()> {
    let mut stack = start(Stack::postgres_rabbit()).await?;
    for _ in 0..2 {
        stack.schedulers[0].kill9()?;
        stack.schedulers[0].restart().await?;
        some_more_succeed(&stack, 4).await?;
    }
    nothing_is_lost_or_doubled(&stack).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_is_followed_by_another_scheduler() -> Result<()> {
    let mut stack = start(Stack::postgres_rabbit().schedulers(2)).await?;
    stack.schedulers[0].kill9()?;
    stack.api = stack.schedulers[1].api.clone();
    some_more_succeed(&stack, 6).await?;
    nothing_is_lost_or_doubled(&stack).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_loses_no_run() -> Result<()> {
    let mut stack = start(Stack::postgres_rabbit().private_services()).await?;
    let broker = stack.broker.as_mut().context("a broker")?.server()?;
    broker.kill().await?;
    broker.restart().await?;
    some_more_succeed(&stack, 6).await?;
    nothing_is_lost_or_doubled(&stack).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_database_loses_no_run() -> Result<()> {
    let mut stack = start(Stack::postgres_rabbit().private_services()).await?;
    let database = stack.database.as_mut().context("a database")?.server()?;
    database.kill()?;
    database.restart().await?;
    some_more_succeed(&stack, 6).await?;
    nothing_is_lost_or_doubled(&stack).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_killed_at_once_embedded() -> Result<()> {
    let mut stack = start(Stack::embedded()).await?;
    for _ in 0..2 {
        stack.schedulers[0].kill9()?;
        stack.schedulers[0].restart().await?;
        some_more_succeed(&stack, 4).await?;
    }
    nothing_is_lost_or_doubled(&stack).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_loses_every_message_loses_no_run() -> Result<()> {
    let mut stack = start(Stack::postgres_rabbit().private_services().workers(1)).await?;
    // With nobody to consume them, triggers pile up; then the broker forgets them all.
    stack.workers[0].kill9()?;
    let queue = "reveille.q.default";
    let url = stack.broker.as_ref().context("a broker")?.url().to_owned();
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let purged = eventually("messages to lose", Duration::from_secs(30), async || {
        let options = lapin::options::QueuePurgeOptions::default();
        let lost = channel.queue_purge(queue.into(), options).await.map_err(|error| error.to_string())?;
        if lost > 2 { Ok(lost) } else { Err(format!("{lost} purged")) }
    })
    .await?;
    ensure!(purged > 2);
    stack.workers[0].restart().await?;
    some_more_succeed(&stack, 6).await?;
    nothing_is_lost_or_doubled(&stack).await
}
