//! A storm of repeated events: what it costs the store, beside the same number of events that are new.
//!
//! `cargo run --release -p reveille-tests --bin bench-events [EVENTS]`

#![allow(clippy::print_stdout, reason = "figures for people")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::services::Database;
use jiff::Timestamp;
use reveille_shared::clock::SystemClock;
use reveille_shared::definition::{ExternalWork, Handler, Job};
use reveille_shared::run_event::{RunEvent, Told};
use reveille_shared::store::{Claim, EventVerdict, ExternalClaim, Incoming, NewWorkRequest, Store, Via};
use reveille_shared::work_request::WorkRequestId;
use uuid::Uuid;

/// Events of one transaction, as the scheduler takes them.
const BATCH: usize = 200;

#[tokio::main]
async fn main() -> Result<()> {
    let events = std::env::args().nth(1).map(|arg| arg.parse()).transpose()?.unwrap_or(100_000);
    let database = Database::private().await?;
    let store = Store::connect(database.url(), "bench", Arc::new(SystemClock)).await?;
    measure("PostgreSQL", &store, events).await?;
    let folder = tempfile::tempdir()?;
    let store =
        Store::connect(&format!("sqlite://{}", folder.path().display()), "bench", Arc::new(SystemClock)).await?;
    measure("SQLite", &store, events).await
}

async fn measure(name: &str, store: &Store, events: usize) -> Result<()> {
    let lease = lease(store).await?;
    let event = |number: usize| -> Incoming {
        Ok(RunEvent {
            id: number.to_string(),
            at: Timestamp::from_second(i64::try_from(number).unwrap_or(0)).unwrap_or_default(),
            ..lease.clone()
        })
    };
    println!("{name}: {events} events of one run in batches of {BATCH}");
    let fresh = take(store, (0..events).map(event), EventVerdict::Taken).await?;
    figure("new ones", events, fresh);
    let repeated = take(store, (0..events).map(|number| event(number % 10)), EventVerdict::Repeated).await?;
    figure("repetitions of ten", events, repeated);
    let stale: Vec<Incoming> = vec![Ok(RunEvent { token: Uuid::new_v4(), id: "stale".into(), ..lease.clone() }); BATCH];
    let start = Instant::now();
    for _ in 0..events / BATCH {
        store.take_events(Via::Broker, stale.clone(), fastrand::f64).await?;
    }
    figure("refused, the same again and again", events, start.elapsed());
    let kept = store.refused_events(None, 10).await?;
    ensure!(kept.len() == 1, "{} refused events are kept", kept.len());
    println!("  repetitions cost {:.2} of new ones", repeated.as_secs_f64() / fresh.as_secs_f64());
    Ok(())
}

async fn lease(store: &Store) -> Result<RunEvent> {
    let job = Job { queue: "q".into(), ..Job::new("default", "j", Handler::External(ExternalWork::default())) };
    let request = NewWorkRequest::new(WorkRequestId::new(store.now().await?), &job, 1, "bench");
    let run = request.id;
    store.accept(request, None).await?;
    store.take_due(10).await?;
    let claim = Claim { id: run, n: 1, token: Uuid::new_v4() };
    let (worker, queue) = ("bench".to_owned(), "q".to_owned());
    let lease = reveille_shared::duration::HumanDuration::from_secs(3600);
    let claimed = store.claim_external(&ExternalClaim { claim, worker, queue, lease, retry: job.retry }).await?;
    ensure!(claimed.is_ok(), "{claimed:?}");
    let what = Told::Progress { percent: Some(50.0), message: Some("half".into()) };
    let (source, id) = ("/bench".to_owned(), String::new());
    Ok(RunEvent { namespace: "default".into(), run, token: claim.token, source, id, at: Timestamp::UNIX_EPOCH, what })
}

async fn take(store: &Store, events: impl Iterator<Item = Incoming>, expected: EventVerdict) -> Result<Duration> {
    let events: Vec<Incoming> = events.collect();
    let start = Instant::now();
    for batch in events.chunks(BATCH) {
        let verdicts = store.take_events(Via::Broker, batch.to_vec(), fastrand::f64).await?;
        ensure!(verdicts.iter().all(|verdict| *verdict == expected), "{:?}", verdicts.first());
    }
    Ok(start.elapsed())
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn figure(what: &str, events: usize, took: Duration) {
    println!("  {what}: {:.0}/s, {:.1?} in all", events as f64 / took.as_secs_f64(), took);
}
