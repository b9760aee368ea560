//! The beat: says that this worker lives, and compares the leases in the store with the runs in memory.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reveille_shared::crash::{self, Act};
use reveille_shared::store::{HeldLease, NewWorker, Outcome, Report, Store};
use reveille_shared::telemetry::chain;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::lease::Ttl;
use crate::report::Reporter;
use crate::runs::{Runs, Why};

/// Under which name this process claims at present. A worker that was found dead goes on under a new one.
#[derive(Debug)]
pub(crate) struct Incarnation(Mutex<Uuid>);

impl Incarnation {
    pub(crate) fn new(name: Uuid) -> Self {
        Self(Mutex::new(name))
    }

    pub(crate) fn get(&self) -> Uuid {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, name: Uuid) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }
}

/// When all was last well with this worker's leases, and what hangs on that.
#[derive(Debug, Clone)]
pub(crate) struct LastBeat {
    state: Arc<Mutex<State>>,
    allowed: Arc<watch::Sender<Instant>>,
    is_cut_off: Arc<watch::Sender<bool>>,
    ttl: Ttl,
}

#[derive(Debug)]
struct State {
    /// When the last good beat was sent.
    sent: Instant,
    /// No lease ends before this instant and the time-to-live after it.
    safe: Instant,
}

impl LastBeat {
    /// To be called when the worker is about to register.
    pub(crate) fn new(ttl: Ttl) -> Self {
        let now = Instant::now();
        Self {
            state: Arc::new(Mutex::new(State { sent: now, safe: now })),
            allowed: Arc::new(watch::Sender::new(now + ttl.allowed())),
            is_cut_off: Arc::default(),
            ttl,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store has answered to a beat that was sent then.
    fn is_good(&self, sent: Instant) {
        self.state().sent = sent;
        self.is_safe(sent);
        self.is_cut_off.send_if_modified(std::mem::take);
    }

    /// Nobody can have been about to end leases at this instant.
    pub(crate) fn nobody_is_heard(&self, at: Instant) {
        self.is_safe(at);
    }

    fn is_safe(&self, at: Instant) {
        let safe = {
            let mut state = self.state();
            state.safe = state.safe.max(at);
            state.safe
        };
        self.allowed.send_replace(safe + self.ttl.allowed());
    }

    /// How long ago all was well.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.state().safe)
    }

    /// The worker's leases may end soon: it is to take no deliveries until a beat is good. Answers whether that is news.
    pub(crate) fn cut_off(&self) -> bool {
        self.is_cut_off.send_if_modified(|is_cut_off| !std::mem::replace(is_cut_off, true))
    }

    /// Whether the worker is to take no deliveries.
    pub(crate) fn is_cut_off(&self) -> watch::Receiver<bool> {
        self.is_cut_off.subscribe()
    }

    /// Until when programs may live.
    pub(crate) fn allowed(&self) -> watch::Receiver<Instant> {
        self.allowed.subscribe()
    }

    /// For how long the store has heard nothing of this worker, if that is worth mentioning.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let silence = self.state().sent.elapsed();
        (silence > self.ttl.fresh()).then_some(silence)
    }
}

/// The beat and what it looks at.
pub(crate) struct Heart {
    pub(crate) store: Store,
    pub(crate) worker: NewWorker,
    pub(crate) incarnation: Arc<Incarnation>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) reporter: Reporter,
    pub(crate) ttl: Ttl,
    pub(crate) last: LastBeat,
    pub(crate) suspects: Suspects,
}

impl Heart {
    /// Beats until `stop`. What becomes of the runs while the store can't be reached, `isolation` decides.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(self.ttl.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        let longest = metrics::gauge!("reveille_slot_held_longest_seconds", "worker" => self.worker.name.clone());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            longest.set(self.runs.longest());
            let sent = Instant::now();
            let patience = self.ttl.patience();
            let beat = tokio::select! {
                () = stop.cancelled() => return,
                beat = tokio::time::timeout(patience, self.beat()) => beat,
            };
            match beat {
                Ok(Ok(())) => {
                    self.last.is_good(sent);
                    if std::mem::take(&mut failing) {
                        tracing::info!("the store hears this worker again");
                    }
                }
                other => {
                    if !std::mem::replace(&mut failing, true) {
                        let error = match other {
                            Ok(Err(error)) => chain(&error),
                            _ => format!("no answer within {patience:?}"),
                        };
                        tracing::warn!(error, "the store does not hear this worker; its runs go on for now");
                    }
                }
            }
        }
    }

    async fn beat(&mut self) -> reveille_shared::store::Result<()> {
        match self.store.beat(self.incarnation.get()).await? {
            Some(leases) => {
                self.compare(&leases);
                Ok(())
            }
            None => self.revive().await,
        }
    }

    fn compare(&mut self, leases: &[HeldLease]) {
        for lease in leases.iter().filter(|lease| lease.canceling) {
            if let Some(handle) = self.runs.get(lease.token) {
                handle.stop(Why::Asked);
            }
        }
        let running = self.runs.running();
        let found = self.suspects.compare(leases, &running, |token| self.runs.contains(token));
        for lease in found.orphans {
            tracing::warn!(work_request = %lease.id, "a lease without a run is released");
            self.reporter.try_end(Report::new(lease.id, lease.token, Outcome::Released { doubt: false }));
        }
        for token in found.lost {
            if let Some(handle) = self.runs.get(token) {
                tracing::warn!(work_request = %handle.id, "a run has lost its lease and is stopped");
                handle.stop(Why::LeaseLost);
            }
        }
    }

    /// The worker was found dead and has lost its leases: it stops its runs and goes on under a new name.
    async fn revive(&mut self) -> reveille_shared::store::Result<()> {
        tracing::warn!("this worker was found dead, perhaps after a long freeze; its runs are stopped");
        self.runs.stop_all(Why::LeaseLost);
        crash::at(Act::Reviving);
        let worker = NewWorker { incarnation: Uuid::new_v4(), ..self.worker.clone() };
        self.store.register_worker(&worker).await?;
        self.incarnation.set(worker.incarnation);
        self.worker = worker;
        self.suspects = Suspects::default();
        Ok(())
    }
}

/// What looked wrong at the last beat. Claims and reports are under way all the time, so that only what
/// looks wrong twice in a row is.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    orphans: HashSet<Uuid>,
    lost: HashSet<Uuid>,
}

/// What is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found<'a> {
    /// Leases without a run.
    orphans: Vec<&'a HeldLease>,
    /// Running without a lease.
    lost: Vec<Uuid>,
}

impl Suspects {
    fn compare<'a>(&mut self, leases: &'a [HeldLease], running: &[Uuid], has_run: impl Fn(Uuid) -> bool) -> Found<'a> {
        let held: HashSet<Uuid> = leases.iter().map(|lease| lease.token).collect();
        let orphans: Vec<_> = leases.iter().filter(|lease| !has_run(lease.token)).collect();
        let lost: Vec<_> = running.iter().copied().filter(|token| !held.contains(token)).collect();
        let earlier = std::mem::replace(
            self,
            Self { orphans: orphans.iter().map(|lease| lease.token).collect(), lost: lost.iter().copied().collect() },
        );
        Found {
            orphans: orphans.into_iter().filter(|lease| earlier.orphans.contains(&lease.token)).collect(),
            lost: lost.into_iter().filter(|token| earlier.lost.contains(token)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use reveille_shared::work_request::WorkRequestId;

    use super::*;

    fn lease(token: u128) -> HeldLease {
        HeldLease {
            id: WorkRequestId(Uuid::from_u128(token)),
            token: Uuid::from_u128(token),
            worker: None,
            canceling: false,
            namespace: String::new(),
            job: String::new(),
            job_version: 1,
            failures: 0,
            silence: None,
            is_silent: false,
        }
    }

    #[test]
    fn only_what_looks_wrong_twice_is_wrong() {
        let (a, b, c) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let leases = [lease(1), lease(2)];
        let mut suspects = Suspects::default();
        // 1 has a run, 2 has none; 3 runs without a lease.
        assert_eq!(suspects.compare(&leases, &[a, c], |token| token == a), Found::default());
        let found = suspects.compare(&leases, &[a, c], |token| token == a);
        assert_eq!((found.orphans, found.lost), (vec![&leases[1]], vec![c]));
        // Both have settled meanwhile; other ones look wrong for the first time.
        assert_eq!(suspects.compare(&leases, &[a, b], |token| token != a), Found::default());
        assert_eq!(suspects.compare(&leases, &[a, b], |_| true), Found::default());
    }
}
