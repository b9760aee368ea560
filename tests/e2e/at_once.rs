//! The scenario that made us: long jobs that are due at the same second, and a scheduler that is free again
//! as soon as it has sounded the call.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::stack::{Builder, Stack};
use jiff::{SignedDuration, Timestamp};
use sqlx::Connection as _;

use crate::scenario::{all_at_once, latest_after, metric, replace_schedules, soon};

/// One job and one schedule for each number, all due at the same instant.
fn due_at_once(count: usize, seconds: u32, due: Timestamp) -> String {
    let mut yaml = "version: 1\njobs:\n".to_owned();
    for n in 0..count {
        writeln!(yaml, "  sleep-{n}: {{ command: [sleep, '{seconds}'] }}").unwrap();
    }
    yaml.push_str("schedules:\n");
    for n in 0..count {
        writeln!(yaml, "  once-{n}: {{ at: {due}, trigger: sleep-{n} }}").unwrap();
    }
    yaml
}

/// Nine jobs of 30 s each at the same second: all confirmed within a second, all running at once.
async fn nine_long_jobs(builder: Builder) -> Result<Stack> {
    let stack = builder.slots(9).start().await?;
    let due = soon(6);
    replace_schedules(&stack, &due_at_once(9, 30, due))?;
    let running = all_at_once(&stack, "IN_PROGRESS", 9, Duration::from_secs(60)).await?;
    ensure!(running.len() == 9, "more runs than jobs: {running:?}");
    // Broker confirms, by the scheduler's own measure.
    let confirmed = metric(&stack, "reveille_fire_lateness_seconds_bucket{le=\"1\"}").await?;
    ensure!(
        (confirmed - 9.0).abs() < 0.5,
        "only {confirmed} of 9 triggers were confirmed within 1 s of their due time"
    );
    let started = latest_after(&running, "timeStarted", due)?;
    ensure!(started < SignedDuration::from_secs(5), "the last of nine started {started:#} late");
    Ok(stack)
}

async fn all_nine_end_well(stack: &Stack) -> Result<()> {
    let done = all_at_once(stack, "SUCCEEDED", 9, Duration::from_secs(90)).await?;
    ensure!(done.len() == 9, "a fire ran twice: {done:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_jobs_of_thirty_seconds_run_at_once_while_the_scheduler_holds_nothing() -> Result<()> {
    let stack = nine_long_jobs(Stack::postgres_rabbit()).await?;
    // While all nine run and no slot is free, the scheduler holds neither a transaction nor a lock (I5) …
    let database = stack.database.as_ref().context("a database")?;
    let mut connection = sqlx::PgConnection::connect(database.url()).await?;
    let held: Vec<(String, String)> = sqlx::query_as(
        "SELECT state, query FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'reveille-scheduler'
           AND xact_start < now() - interval '1 second'",
    )
    .fetch_all(&mut connection)
    .await?;
    ensure!(held.is_empty(), "the scheduler holds transactions while jobs run: {held:?}");
    // … and a tenth call is sounded at once, though nobody is there to answer it yet.
    let before = metric(&stack, "reveille_dispatched_total").await?;
    let tenth = stack.api.trigger("sleep-0", serde_json::json!({})).await?;
    harness::wait::eventually("the tenth trigger to be confirmed", Duration::from_secs(5), async || {
        let now = metric(&stack, "reveille_dispatched_total").await.map_err(|error| error.to_string())?;
        if now > before { Ok(()) } else { Err(format!("{now} confirmed")) }
    })
    .await?;
    ensure!(stack.api.get(&tenth).await?["status"] == "ACCEPTED");
    stack.api.cancel(&tenth).await?;
    all_nine_end_well(&stack).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nine_jobs_of_thirty_seconds_run_at_once_embedded() -> Result<()> {
    let stack = nine_long_jobs(Stack::embedded()).await?;
    all_nine_end_well(&stack).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_jobs_at_once_over_three_workers() -> Result<()> {
    let stack = Stack::postgres_rabbit().workers(3).slots(20).start().await?;
    let due = soon(15);
    replace_schedules(&stack, &due_at_once(50, 20, due))?;
    // One worker takes at most twenty: to run at once they must be spread over all three.
    let running = all_at_once(&stack, "IN_PROGRESS", 50, Duration::from_secs(60)).await?;
    ensure!(running.len() == 50, "more runs than jobs: {running:?}");
    let workers = stack.api.get_path("/v1/workers").await?;
    let busy =
        workers["items"].as_array().context("workers")?.iter().filter(|w| w["running"].as_i64() > Some(0)).count();
    ensure!(busy == 3, "not all three workers run something: {workers}");
    ensure!(all_at_once(&stack, "SUCCEEDED", 50, Duration::from_secs(90)).await?.len() == 50);
    Ok(())
}

/// A parent schedule sounds ten calls with one fire, in order, waiting for none.
async fn ten_calls(builder: Builder) -> Result<()> {
    let stack = builder.slots(10).start().await?;
    let due = soon(12);
    let jobs: String = (0..10).map(|n| format!("  call-{n}: {{ command: [sleep, '3'] }}\n")).collect();
    let names = (0..10).map(|n| format!("call-{n}")).collect::<Vec<_>>().join(", ");
    let schedule = format!("  parent: {{ at: {due}, trigger: [{names}] }}\n");
    replace_schedules(&stack, &format!("version: 1\njobs:\n{jobs}schedules:\n{schedule}"))?;
    let done = all_at_once(&stack, "SUCCEEDED", 10, Duration::from_secs(60)).await?;
    let fires = stack.api.get_path("/v1/schedules/parent/fires").await?;
    let [fire] = fires["items"].as_array().context("fires")?.as_slice() else { anyhow::bail!("one fire: {fires}") };
    let called = fire["workRequests"].as_array().context("work requests")?;
    let mut jobs = Vec::new();
    for id in called {
        let run = done.iter().find(|run| run["id"] == *id).with_context(|| format!("{id} among {done:?}"))?;
        jobs.push(run["job"].as_str().unwrap_or_default().to_owned());
    }
    ensure!(jobs == (0..10).map(|n| format!("call-{n}")).collect::<Vec<_>>(), "in the list's order: {jobs:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_schedule_sounds_ten_calls() -> Result<()> {
    ten_calls(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_schedule_sounds_ten_calls_embedded() -> Result<()> {
    ten_calls(Stack::embedded()).await
}
