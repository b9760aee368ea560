//! The views that dashboards read in the database: their columns are a promise.

use anyhow::{Context as _, Result, ensure};
use harness::stack::Stack;
use serde_json::json;
use sqlx::Connection as _;

const RUN_HISTORY: &[&str] = &[
    "id",
    "namespace",
    "job",
    "job_version",
    "queue",
    "schedule",
    "scheduled_for",
    "status",
    "attempts",
    "percent_complete",
    "error_code",
    "error_message",
    "accepted_at",
    "started_at",
    "finished_at",
    "wait_seconds",
    "run_seconds",
];

const FIRE_HISTORY: &[&str] = &[
    "namespace",
    "schedule",
    "origin",
    "due_at",
    "last_due_at",
    "due_times",
    "outcome",
    "reason",
    "detail",
    "work_requests",
    "schedule_version",
    "decided_at",
    "lateness_seconds",
];

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_find_runs_and_fires_in_stable_views() -> Result<()> {
    let yaml = "version: 1\njobs:\n  ping: { command: ['true'] }\nschedules:\n  often: { every: 1s, trigger: ping }\n";
    let stack = Stack::postgres_rabbit().schedules(yaml).start().await?;
    let id = stack.api.trigger("ping", json!({})).await?;
    stack.api.wait_status(&id, "SUCCEEDED").await?;
    let url = stack.database.as_ref().context("a database")?.url();
    let mut connection = sqlx::PgConnection::connect(url).await?;
    for (view, promised) in [("run_history", RUN_HISTORY), ("fire_history", FIRE_HISTORY)] {
        let columns: Vec<String> = sqlx::query_scalar(
            "SELECT column_name::text FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position",
        )
        .bind(view)
        .fetch_all(&mut connection)
        .await?;
        // Further ones may follow; these stay, in this order.
        ensure!(
            columns.iter().map(String::as_str).zip(promised).all(|(there, promised)| there == *promised),
            "{view}: {columns:?}"
        );
        ensure!(columns.len() >= promised.len(), "{view} lacks columns: {columns:?}");
    }
    let ended: (String, bool) =
        sqlx::query_as("SELECT status, run_seconds >= 0 AND wait_seconds >= 0 FROM run_history WHERE id = $1::uuid")
            .bind(&id)
            .fetch_one(&mut connection)
            .await?;
    ensure!(ended == ("SUCCEEDED".to_owned(), true), "{ended:?}");
    let fired: i64 = harness::wait::eventually("a fire in the view", std::time::Duration::from_secs(20), async || {
        let fired = sqlx::query_scalar("SELECT count(*) FROM fire_history WHERE outcome = 'triggered'")
            .fetch_one(&mut connection)
            .await
            .map_err(|error| error.to_string())?;
        if fired > 0 { Ok(fired) } else { Err("none".to_owned()) }
    })
    .await?;
    ensure!(fired > 0);
    Ok(())
}
