//! What every test starts from: a private store, a broker, and a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reveille_scheduler::leader::Leadership;
use reveille_scheduler::planner::Planner;
use reveille_scheduler::probe::{Probe, Skew};
use reveille_scheduler::status::Status;
use reveille_shared::broker::{self, Broker};
use reveille_shared::clock::{Clock, SystemClock, TestClock};
use reveille_shared::definition::{Definitions, read_texts};
use reveille_shared::periodic::Pass as _;
use reveille_shared::store::{Fire, FireOutcome, Generation, ScheduleKey, Store};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Store,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) status: Arc<Status>,
    pub(crate) stop: CancellationToken,
    _stopped_at_the_end: DropGuard,
}

impl World {
    /// With a clock that stands still.
    pub(crate) async fn at(now: &str) -> (Self, Arc<TestClock>) {
        let clock = Arc::new(TestClock::at(now.parse().unwrap()));
        (Self::with(Arc::clone(&clock) as Arc<dyn Clock>).await, clock)
    }

    /// With the machine's clock.
    pub(crate) async fn now() -> Self {
        Self::with(Arc::new(SystemClock)).await
    }

    async fn with(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("data").display());
        let store = Store::connect(&url, "test", Arc::clone(&clock)).await.unwrap();
        let stop = CancellationToken::new();
        let broker = broker::connect("embedded", "test", stop.clone()).unwrap();
        let status = Arc::new(Status::new(Arc::clone(&clock), Arc::clone(&broker)));
        let _stopped_at_the_end = stop.clone().drop_guard();
        Self { folder, clock, store, broker, status, stop, _stopped_at_the_end }
    }

    /// Takes the lead for a day.
    pub(crate) async fn lead(&self) -> Generation {
        self.store.lead(Uuid::new_v4(), Duration::from_secs(86_400)).await.unwrap().expect("someone else leads")
    }

    /// Puts definitions in force under `generation`.
    pub(crate) async fn apply(&self, generation: Generation, yaml: &str) {
        let definitions = definitions(yaml);
        let digest = definitions.digest();
        self.store.apply_definitions(generation, &definitions, &digest, "test").await.unwrap();
    }

    /// A planner that leads under `generation`, and its leadership.
    pub(crate) async fn planner(&self, generation: Generation) -> (Planner, Arc<Leadership>) {
        let (skew, leadership) = (Arc::new(Skew::default()), Arc::new(Leadership::default()));
        let mut probe = Probe {
            store: self.store.clone(),
            clock: Arc::clone(&self.clock),
            skew: Arc::clone(&skew),
            status: Arc::clone(&self.status),
        };
        probe.run_once().await.unwrap();
        leadership.set(Some(generation));
        let definitions = watch::Sender::new(0).subscribe();
        let clock = Arc::clone(&self.clock);
        (
            Planner::new(
                self.store.clone(),
                clock,
                Arc::clone(&leadership),
                skew,
                definitions,
                Arc::clone(&self.status),
            ),
            leadership,
        )
    }

    /// The ledger of schedule `s`, oldest first.
    pub(crate) async fn ledger(&self) -> Vec<Fire> {
        let key = ScheduleKey { namespace: "default".into(), name: "s".into() };
        let mut fires = self.store.fires(&key, Timestamp::MAX, 10_000).await.unwrap();
        fires.reverse();
        fires
    }

    /// The due times of schedule `s` that triggered, and for each stretch of skips the first with its count.
    pub(crate) async fn decided(&self) -> Vec<String> {
        let ledger = self.ledger().await;
        let line = |fire: Fire| match fire.outcome {
            FireOutcome::Triggered(_) => format!("{} triggered", fire.due_at),
            FireOutcome::Skipped(reason, _) => format!("{} skipped {}: {}", fire.due_at, fire.count, reason.as_str()),
        };
        ledger.into_iter().map(line).collect()
    }
}

pub(crate) fn definitions(yaml: &str) -> Definitions {
    read_texts(&[("test.yaml".into(), yaml.into())]).unwrap_or_else(|faults| panic!("{faults}"))
}

/// One job `j`, and a schedule `s` of it with these further lines.
pub(crate) fn one(lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    format!(
        "version: 1\njobs:\n  j:\n    command: [\"true\"]\nschedules:\n  s:\n    trigger: j\n    overlap: allow\n{lines}"
    )
}

/// Waits until `ready` answers something; gives up after ten seconds.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut ready: impl FnMut() -> F) -> T {
    let patience = async {
        loop {
            if let Some(done) = ready().await {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), patience).await.unwrap_or_else(|_| panic!("never came: {what}"))
}
