//! Runs from end to end: from the first stored trigger to the last stored end, told to the broker if that is wanted.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::wait::eventually;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::definition::{Handler, Job};
use reveille_shared::store::{NewWorkRequest, Store};
use reveille_shared::work_request::WorkRequestId;
use sqlx::Connection as _;
use uuid::Uuid;

/// Runs stored in one transaction.
const ACCEPTED_AT_ONCE: usize = 500;

/// A job that does nothing, `noop`, which a worker with this function runs.
pub(crate) const NOOP: &str = "version: 1\njobs:\n  noop: { function: noop }\n";

/// Runs of [`NOOP`]'s job per second; nothing else may be under way.
pub(crate) async fn end_to_end(database: &str, runs: usize) -> Result<f64> {
    let store = Store::connect(database, "bench", Arc::new(SystemClock)).await?;
    let job = store.job("default", "noop").await?.context("the job is not in force")?;
    let mut watcher = sqlx::PgConnection::connect(database).await?;
    let mut ids: Vec<Uuid> = Vec::with_capacity(runs);
    let start = Instant::now();
    while ids.len() < runs {
        let batch = (runs - ids.len()).min(ACCEPTED_AT_ONCE);
        let requests: Vec<_> = (0..batch).map(|_| request(job.version)).collect();
        store.accept_all(&requests).await?;
        ids.extend(requests.iter().map(|request| request.id.0));
    }
    // To count what is left reads all of it: not before the last one has ended.
    eventually("the last run to end", Duration::from_secs(300), async || {
        let is_open: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM deliveries WHERE id = $1)")
            .bind(ids.last())
            .fetch_one(&mut watcher)
            .await
            .map_err(|error| error.to_string())?;
        if is_open { Err("it has not ended".into()) } else { Ok(()) }
    })
    .await?;
    eventually("all runs to end", Duration::from_secs(300), async || {
        let open: i64 = sqlx::query_scalar("SELECT (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM outbox)")
            .fetch_one(&mut watcher)
            .await
            .map_err(|error| error.to_string())?;
        if open == 0 { Ok(()) } else { Err(format!("{open} have not ended or are not told")) }
    })
    .await?;
    let elapsed = start.elapsed();
    let failed: i64 =
        sqlx::query_scalar("SELECT count(*) FROM work_requests WHERE id = ANY($1) AND status <> 'SUCCEEDED'")
            .bind(&ids)
            .fetch_one(&mut watcher)
            .await?;
    ensure!(failed == 0, "{failed} runs did not succeed");
    Ok(per_second(runs, elapsed))
}

fn request(job_version: i64) -> NewWorkRequest {
    let noop = Job::new("default", "noop", Handler::Function("noop".into()));
    NewWorkRequest::new(WorkRequestId::new(SystemClock.now()), &noop, job_version, "bench")
}

pub(crate) fn per_second(count: usize, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64()
}

pub(crate) fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
