//! Pass: workers that are dead and attempts that are overdue → their runs go on elsewhere, or end.

mod beats;
mod losses;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use reveille_shared::broker::Broker;
use reveille_shared::periodic::Pass;
use reveille_shared::store::{STAGED, Store, StoreError};
use reveille_shared::telemetry::chain;
use reveille_shared::work_request::RunError;
use tokio::time::Instant;

use self::beats::{Beats, Look, Steadiness};
use self::losses::{BATCH, lose, lose_leases_of, losses, silence};
use crate::leader::Leadership;

/// How long an idempotency key is remembered.
const KEYS: SignedDuration = SignedDuration::from_hours(24);
/// How long a worker that ended is listed.
const WORKERS: SignedDuration = SignedDuration::from_hours(24);
/// How long a unique key is kept whose run has ended; longer than any window.
const UNIQUE: SignedDuration = SignedDuration::from_hours(8 * 24);
/// How long a limit is kept that no run has used.
const LIMITS: SignedDuration = SignedDuration::from_hours(48);
/// How long inputs of children that were not made are kept after the end of their parent, for those who retry it.
const INPUTS: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long deliveries of webhooks are kept.
const DELIVERIES: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Transactions in which they are forgotten before anything else is done: there may be a thousand a second.
const ROUNDS: u32 = 20;
/// Chunks of inputs that are forgotten in one transaction.
const CHUNKS: i64 = 20;
/// How often limits are looked after for which runs are held.
const SWEEP: Duration = Duration::from_secs(10);
/// How often to look for dead workers and the like at least.
pub const PERIOD: Duration = Duration::from_secs(2);
/// How often all these are purged.
const PURGE: Duration = Duration::from_secs(60);
/// The most keys purged in one transaction.
const PURGED: i64 = 1_000;

/// How long a worker in another language is listed as alive that holds nothing and has said nothing.
const IDLE: Duration = Duration::from_secs(3600);
/// How far back streams of all runs can be taken up: what happens is numbered for that long after the last of their readers.
const FEED: SignedDuration = SignedDuration::from_hours(1);
/// Transactions of one pass that forget what is older: many, as each run has several entries.
const FEED_ROUNDS: usize = 60;
/// How long events are remembered that were taken, and those that were refused.
const EVENTS: SignedDuration = SignedDuration::from_hours(48);

/// What a reconciling pass found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReconcileReport {
    /// Workers whose beat stood still.
    pub dead_workers: usize,
    /// Leases of dead or departed workers.
    pub lost_leases: usize,
    /// Leases whose attempt was past its time-out and grace.
    pub overdue_leases: usize,
    /// Operations past their time that no worker looked after.
    pub abandoned: usize,
    /// Leases of workers in other languages that were silent for too long.
    pub silent_leases: usize,
    /// Runs that had not started by the time at which they expire.
    pub expired: usize,
    /// Idempotency keys, workers and the like that were forgotten.
    pub purged: u64,
}

impl fmt::Display for ReconcileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dead_workers, lost_leases, overdue_leases, silent_leases, abandoned, expired, purged: _ } = self;
        write!(
            f,
            "{dead_workers} dead workers, {lost_leases} lost, {overdue_leases} overdue and {silent_leases} silent leases, \
             {abandoned} abandoned operations, {expired} expired runs in the last round"
        )
    }
}

/// Looks after runs whose worker does not, while this process leads.
///
/// - Reads: workers and their beats, leases and operations past their deadline.
/// - Writes: a pulse that tells workers so; ends of lost leases and abandoned operations, dead workers; forgets old keys
///   and workers.
/// - Repeating is safe: a lease ends once, and a report or a release that came first stands.
/// - A crash here leaves a dead worker with leases, which the next pass ends.
pub struct Reconciler {
    store: Store,
    broker: Arc<dyn Broker>,
    leadership: Arc<Leadership>,
    beats: Beats,
    steadiness: Steadiness,
    /// How often to look, for the shortest time-to-live of a worker.
    period: Duration,
    /// The last pulse could not be sent.
    is_mute: bool,
    purge_at: Instant,
    sweep_at: Instant,
}

impl Reconciler {
    /// A reconciler that acts while this process leads.
    #[must_use]
    pub fn new(store: Store, broker: Arc<dyn Broker>, leadership: Arc<Leadership>) -> Self {
        Self {
            store,
            broker,
            leadership,
            beats: Beats::default(),
            steadiness: Steadiness::default(),
            period: PERIOD,
            is_mute: false,
            purge_at: Instant::now(),
            sweep_at: Instant::now(),
        }
    }

    async fn reconcile(&mut self) -> Result<ReconcileReport, StoreError> {
        let mut report = ReconcileReport::default();
        let workers = self.store.workers().await?;
        let alive = workers.iter().filter(|worker| worker.ended_at.is_none() && !worker.is_external);
        let looks: Vec<Look> = alive.map(|w| (w.worker.incarnation, w.beat, w.worker.lease_ttl)).collect();
        let shortest = looks.iter().map(|(_, _, ttl)| *ttl).min();
        self.period = shortest.map_or(PERIOD, |ttl| (ttl / 8).clamp(Duration::from_millis(50), PERIOD));
        let mut steady = Duration::ZERO;
        let dead = if self.pulse().await {
            steady = self.steadiness.look(Instant::now());
            self.beats.dead(looks.into_iter(), Instant::now())
        } else {
            self.forget();
            Vec::new()
        };
        for worker in &workers {
            let id = worker.worker.incarnation;
            if dead.contains(&id) {
                tracing::warn!(worker = worker.worker.name, incarnation = %id, "gave no sign of life: taken for dead");
                // We may have been frozen since the look.
                if !self.store.retire_silent(id, worker.beat).await? {
                    continue;
                }
                report.dead_workers += 1;
            } else if worker.ended_at.is_none() || worker.leases == 0 {
                continue;
            }
            report.lost_leases += lose_leases_of(&self.store, worker).await?;
        }
        let overdue = self.store.overdue_leases(1_000).await?;
        let (silent, overdue): (Vec<_>, Vec<_>) = overdue.into_iter().partition(|lease| lease.is_silent);
        let late = RunError::new("Timeout", "the attempt was past its time-out, and its worker had not ended it");
        report.overdue_leases = lose(&self.store, overdue, true, |_| late.clone()).await?;
        let silent =
            silent.into_iter().filter(|lease| lease.silence.is_some_and(|silence| steady >= silence)).collect();
        report.silent_leases = lose(&self.store, silent, true, |lease| silence(lease, &workers)).await?;
        let abandoned = self.store.abandoned(1_000).await?;
        let error = RunError::new("Timeout", "what it had begun was past its time-out, and no worker asked after it");
        let abandoned = losses(&self.store, abandoned, false, |_| error.clone()).await?;
        for batch in abandoned.chunks(BATCH) {
            report.abandoned += self.store.abandon(batch.to_vec()).await?;
        }
        report.expired = self.store.expire(1_000).await?;
        if Instant::now() >= self.sweep_at {
            self.store.wake_stranded_limits().await?;
            self.store.retire_idle(IDLE).await?;
            self.sweep_at = Instant::now() + SWEEP;
        }
        if Instant::now() >= self.purge_at {
            report.purged = self.purge().await?;
        }
        for (what, count) in [
            ("worker", report.dead_workers),
            ("lease", report.lost_leases),
            ("overdue", report.overdue_leases),
            ("operation", report.abandoned),
            ("silent", report.silent_leases),
            ("expired", report.expired),
        ] {
            metrics::counter!("reveille_reconciled_total", "what" => what).increment(count as u64);
        }
        Ok(report)
    }

    /// Tells all workers that a look was good. Unless that is certain, nobody may be taken for dead: a worker that hears
    /// no pulses and does not reach the store lets its runs go on.
    async fn pulse(&mut self) -> bool {
        let patience = self.period;
        let error = match tokio::time::timeout(patience, self.broker.pulse()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some(format!("no confirm within {patience:?}")),
        };
        let was_mute = std::mem::replace(&mut self.is_mute, error.is_some());
        match error {
            None if was_mute => tracing::info!("workers can be told again that the store is read"),
            None => {}
            Some(_) if was_mute => {}
            Some(error) => {
                tracing::warn!(
                    error,
                    "workers can't be told that the store is read; until they can, none is taken for dead"
                );
            }
        }
        !self.is_mute
    }

    /// To be called when we can't say for sure how workers are.
    fn forget(&mut self) {
        self.beats.forget();
        self.steadiness.forget();
    }

    /// Forgets what has served its time.
    async fn purge(&mut self) -> Result<u64, StoreError> {
        let now = self.store.now().await?;
        let before = |age| now.saturating_sub(age).unwrap_or(jiff::Timestamp::MIN);
        let keys = self.store.purge_keys(before(KEYS), PURGED).await?;
        let unique = self.store.purge_unique_keys(before(UNIQUE), PURGED).await?;
        let others =
            self.store.purge_limits(before(LIMITS), PURGED).await? + self.store.purge_workers(before(WORKERS)).await?;
        let inputs = self.store.purge_inputs(before(STAGED), before(INPUTS), CHUNKS).await?;
        let events = self.store.purge_events(before(EVENTS), PURGED).await?;
        let mut feed = 0;
        for _ in 0..FEED_ROUNDS {
            feed = self.store.trim_feed(before(FEED), PURGED).await?;
            if i64::try_from(feed).is_ok_and(|trimmed| trimmed < PURGED) {
                break;
            }
        }
        let (mut deliveries, mut last) = (0, 0);
        for _ in 0..ROUNDS {
            last = self.store.purge_deliveries(before(DELIVERIES), PURGED).await?;
            deliveries += last;
            if last == 0 {
                break;
            }
        }
        let most = [(keys, PURGED), (unique, PURGED), (events, PURGED), (inputs, CHUNKS), (last, 1), (feed, PURGED)];
        let more = most.into_iter().any(|(purged, most)| i64::try_from(purged).is_ok_and(|purged| purged >= most));
        self.purge_at = Instant::now() + if more { Duration::ZERO } else { PURGE };
        Ok(keys + unique + inputs + events + deliveries + others)
    }
}

#[async_trait]
impl Pass for Reconciler {
    const NAME: &'static str = "reconciler";
    type Report = ReconcileReport;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(ReconcileReport, Option<Duration>), StoreError> {
        if self.leadership.current().is_none() {
            self.forget();
            return Ok((ReconcileReport::default(), None));
        }
        match self.reconcile().await {
            Ok(report) => Ok((report, Some(self.period))),
            Err(error) => {
                self.forget();
                Err(error)
            }
        }
    }
}

/// Ends what an earlier incarnation of this very process has left, where there can be no other worker. To be called
/// before the process's own worker starts.
///
/// # Errors
/// [`StoreError::Query`].
pub async fn end_earlier_incarnation(store: &Store) -> Result<usize, StoreError> {
    let mut ended = 0;
    for worker in store.workers().await?.into_iter().filter(|worker| !worker.is_external) {
        if worker.ended_at.is_none() {
            store.retire_worker(worker.worker.incarnation).await?;
        }
        if worker.leases > 0 {
            ended += lose_leases_of(store, &worker).await?;
        }
    }
    Ok(ended)
}
