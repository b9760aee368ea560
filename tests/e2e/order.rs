//! Which runs go first when many wait, and until when one is worth starting.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::scenario::{all_at_once, instant};

const LONG: Duration = Duration::from_secs(90);
/// Of the one worker.
const SLOTS: usize = 2;
/// A worker gives back within half a second what it can't start; by then it has.
const GIVEN_BACK: Duration = Duration::from_secs(2);

/// Both slots are taken until there is a file `go`.
const JOBS: &str = r#"
version: 1
defaults: { retry: { max_attempts: 1 } }
jobs:
  gate: { command: [sh, -c, 'until [ -e FOLDER/go ]; do sleep 0.02; done'] }
  normal: { command: [sleep, 'SECONDS'] }
  high: { command: [sleep, 'SECONDS'], priority: high }
  low: { command: [sleep, 'SECONDS'], priority: low }
  alert: { command: ['true'], expires: 5s, on_failure: missed }
  in-time: { command: ['true'], expires: 60s }
  missed: { command: ['true'] }
"#;

/// A worker whose slots are all taken.
async fn saturated(builder: Builder, slots: usize, seconds: &str) -> Result<(Stack, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let yaml = JOBS.replace("FOLDER", &folder.path().to_string_lossy()).replace("SECONDS", seconds);
    let stack = builder.schedules(yaml).slots(u32::try_from(slots)?).start().await?;
    trigger(&stack, "gate", slots).await?;
    all_at_once(&stack, "IN_PROGRESS", slots, LONG).await?;
    Ok((stack, folder))
}

async fn trigger(stack: &Stack, job: &str, count: usize) -> Result<Vec<String>> {
    try_join_all((0..count).map(|_| stack.api.trigger(job, json!({})))).await
}

/// When the runs of a job started, once all have ended.
async fn starts(stack: &Stack, job: &str, count: usize) -> Result<Vec<Timestamp>> {
    let runs = eventually(&format!("all runs of {job} to end"), LONG, async || {
        let query = format!("job={job}&status=SUCCEEDED&limit=1000");
        let runs = stack.api.list(&query).await.map_err(|error| format!("{error:#}"))?;
        if runs.len() == count { Ok(runs) } else { Err(format!("{} have", runs.len())) }
    })
    .await?;
    let mut starts = runs.iter().map(|run| instant(run, "timeStarted")).collect::<Result<Vec<_>>>()?;
    starts.sort_unstable();
    Ok(starts)
}

/// With a backlog of normal runs wait a few low ones and come a few high ones. These overtake most: all but those normal ones that
/// the worker takes meanwhile, at first, and again while it has no high one in its hands. In order they would overtake none. The low
/// ones come last, but for those that a worker which was slow itself was handed: no more than it has slots.
async fn backlog(builder: Builder, normal: usize, seconds: &str) -> Result<()> {
    let (stack, folder) = saturated(builder, SLOTS, seconds).await?;
    trigger(&stack, "normal", normal).await?;
    trigger(&stack, "low", 5).await?;
    tokio::time::sleep(GIVEN_BACK).await;
    for id in trigger(&stack, "high", 5).await? {
        // It stays there, as no slot is free.
        stack.api.wait_in_queue(&id).await?;
    }
    std::fs::write(folder.path().join("go"), "")?;
    let (normals, highs) = (starts(&stack, "normal", normal).await?, starts(&stack, "high", 5).await?);
    let lows = starts(&stack, "low", 5).await?;
    let overtaken = normals.iter().filter(|start| **start < highs[4]).count();
    let early = lows.iter().filter(|start| **start < normals[normal - 1]).count();
    ensure!(overtaken <= normal / 2, "{overtaken} normal runs before the last high one: {normals:?}, {highs:?}");
    ensure!(early <= SLOTS, "{early} low runs before the last normal one: {normals:?}, {lows:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn high_runs_go_before_a_backlog_and_low_ones_after_it() -> Result<()> {
    backlog(Stack::postgres_rabbit(), 60, "0.05").await
}

#[tokio::test(flavor = "multi_thread")]
async fn high_runs_go_before_a_backlog_and_low_ones_after_it_embedded() -> Result<()> {
    backlog(Stack::embedded(), 60, "0.05").await
}

#[tokio::test(flavor = "multi_thread")]
async fn high_runs_go_before_long_ones_and_low_ones_after_them() -> Result<()> {
    backlog(Stack::postgres_rabbit(), 8, "1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn high_runs_go_before_long_ones_and_low_ones_after_them_embedded() -> Result<()> {
    backlog(Stack::embedded(), 8, "1").await
}

/// What the one worker can't start in time ends, and is never started; what it can is.
async fn expiry(builder: Builder) -> Result<()> {
    let (stack, folder) = saturated(builder, 1, "0").await?;
    let (alert, in_time) = (trigger(&stack, "alert", 1).await?, trigger(&stack, "in-time", 1).await?);
    let run = stack.api.wait_status(&alert[0], "FAILED").await?;
    expired(&run)?;
    std::fs::write(folder.path().join("go"), "")?;
    stack.api.wait_status(&in_time[0], "SUCCEEDED").await?;
    // Its end is one like others, and with a slot that is free another one starts in time.
    starts(&stack, "missed", 1).await?;
    let soon = trigger(&stack, "alert", 1).await?;
    stack.api.wait_status(&soon[0], "SUCCEEDED").await?;
    let events = stack.api.part(&alert[0], "events").await?;
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
    ensure!(types == ["accepted", "failed"], "{events:?}");
    Ok(())
}

/// Not before its time, and within some seconds after it.
fn expired(run: &Value) -> Result<()> {
    ensure!(run["error"]["code"] == "Expired" && run["attempt"] == 0, "{run}");
    let age = instant(run, "timeFinished")?.duration_since(instant(run, "timeAccepted")?);
    let (early, late) = (SignedDuration::from_secs(5), SignedDuration::from_secs(5 + 6));
    ensure!(age >= early && age < late, "expired after {age:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finds_no_slot_in_time_expires() -> Result<()> {
    expiry(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finds_no_slot_in_time_expires_embedded() -> Result<()> {
    expiry(Stack::embedded()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_worker_comes_too_late_expires() -> Result<()> {
    let mut stack = Stack::postgres_rabbit().schedules(JOBS).start().await?;
    stack.workers[0].kill9()?;
    let (alert, in_time) = (trigger(&stack, "alert", 1).await?, trigger(&stack, "in-time", 1).await?);
    expired(&stack.api.wait_status(&alert[0], "FAILED").await?)?;
    stack.workers[0].restart().await?;
    stack.api.wait_status(&in_time[0], "SUCCEEDED").await?;
    let alert = stack.api.get(&alert[0]).await.context("the run that has expired")?;
    ensure!(alert["attempt"] == 0 && alert["status"] == "FAILED", "started all the same: {alert}");
    Ok(())
}
