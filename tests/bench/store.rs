//! What a run costs the store, step by step, without a broker: an upper bound of the whole.
//!
//! `cargo run --release -p reveille-tests --bin bench-store [RUNS] [BATCH]`

#![allow(clippy::print_stdout, reason = "figures for people")]

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use harness::services::Database;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::definition::{Handler, Job};
use reveille_shared::store::{Claim, NewWorkRequest, Outcome, Report, Store};
use reveille_shared::trigger::Trigger;
use reveille_shared::work_request::WorkRequestId;
use uuid::Uuid;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let runs = args.next().transpose()?.unwrap_or(20_000);
    let batch = args.next().transpose()?.unwrap_or(256);
    let database = Database::private().await?;
    measure("PostgreSQL", &Store::connect(database.url(), "bench", Arc::new(SystemClock)).await?, runs, batch).await?;
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite://{}", folder.path().display());
    measure("SQLite", &Store::connect(&url, "bench", Arc::new(SystemClock)).await?, runs, batch).await
}

async fn measure(name: &str, store: &Store, runs: usize, batch: usize) -> Result<()> {
    println!("{name}: {runs} runs in batches of {batch}, one connection at a time");
    let all = Instant::now();
    let requests: Vec<_> = (0..runs).map(|_| request()).collect();
    let start = Instant::now();
    for requests in requests.chunks(batch) {
        store.accept_all(requests).await?;
    }
    figure("accept", runs, start);

    let start = Instant::now();
    let mut triggers: Vec<Trigger> = Vec::new();
    while triggers.len() < runs {
        let limit = i64::try_from(batch)?;
        triggers.extend(store.take_due(limit).await?.into_iter().map(|outgoing| outgoing.trigger));
    }
    figure("send", runs, start);

    let start = Instant::now();
    let worker = Uuid::new_v4();
    let mut leases = Vec::new();
    for triggers in triggers.chunks(batch) {
        let claims: Vec<_> = triggers.iter().map(|t| Claim { id: t.id, n: t.n, token: Uuid::new_v4() }).collect();
        for claimed in store.claim(worker, &claims).await? {
            leases.push(claimed.context("a claim was refused")?);
        }
    }
    figure("claim", runs, start);

    let start = Instant::now();
    for leases in leases.chunks(batch) {
        let report = leases
            .iter()
            .map(|lease| Report {
                id: lease.id,
                token: lease.token,
                outcome: Outcome::Succeeded { output: serde_json::Value::Null },
                took: None,
                known: lease.known.clone(),
            })
            .collect();
        for verdict in store.report(report).await? {
            verdict.context("a report was refused")?;
        }
    }
    figure("report", runs, start);
    figure("all", runs, all);
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn figure(step: &str, runs: usize, since: Instant) {
    let seconds = since.elapsed().as_secs_f64();
    println!("  {step:7} {:>9.0}/s  {:>6.1} us each", runs as f64 / seconds, seconds * 1e6 / runs as f64);
}

fn request() -> NewWorkRequest {
    let noop = Job::new("default", "noop", Handler::Function("noop".into()));
    NewWorkRequest::new(WorkRequestId::new(SystemClock.now()), &noop, 1, "bench")
}
