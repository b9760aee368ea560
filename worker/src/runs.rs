//! The runs in this process's memory: what the beat compares with the store's leases, and how runs are told to stop.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use reveille_shared::work_request::WorkRequestId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a handler may take to heed its token.
const GRACE: Duration = Duration::from_secs(10);
/// The same, when the worker stops or another worker may have the run already.
const HASTE: Duration = Duration::from_millis(500);

/// Why a run is to stop. A later one outweighs an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// Its time is over.
    TimedOut = 1,
    /// Someone asked for it.
    Asked,
    /// The worker ends.
    Drained,
    /// The store no longer knows its lease.
    LeaseLost,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its lease is being asked for.
    Claiming = 0,
    /// Its handler runs under the lease.
    Running,
    /// Its end is being reported.
    Reporting,
}

/// One run, shared by who executes it and who may stop it.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: WorkRequestId,
    /// The fencing token, which is also the key.
    pub(crate) token: Uuid,
    /// What the handler sees.
    pub(crate) stop: CancellationToken,
    stage: AtomicU8,
    /// When its handler began, if it has.
    begun: OnceLock<Instant>,
    why: AtomicU8,
    hurry: Notify,
}

impl Handle {
    pub(crate) fn new(id: WorkRequestId) -> Self {
        Self {
            id,
            token: Uuid::new_v4(),
            stop: CancellationToken::new(),
            stage: AtomicU8::new(Stage::Claiming as u8),
            begun: OnceLock::new(),
            why: AtomicU8::new(0),
            hurry: Notify::new(),
        }
    }

    pub(crate) fn enter(&self, stage: Stage) {
        if stage == Stage::Running {
            self.begun.get_or_init(Instant::now);
        }
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    fn is_running(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == Stage::Running as u8
    }

    /// Tells the handler to stop.
    pub(crate) fn stop(&self, why: Why) {
        self.why.fetch_max(why as u8, Ordering::AcqRel);
        self.stop.cancel();
        if why >= Why::Drained {
            self.hurry.notify_one();
        }
    }

    /// Why it was told to stop, if it was.
    pub(crate) fn why(&self) -> Option<Why> {
        [Why::TimedOut, Why::Asked, Why::Drained, Why::LeaseLost]
            .into_iter()
            .find(|why| *why as u8 == self.why.load(Ordering::Acquire))
    }

    /// Waits until the handler's time is over or it was told to stop, and then for as long as it may take to heed that.
    pub(crate) async fn out_of_patience(&self, timeout: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep(timeout) => self.stop(Why::TimedOut),
        }
        tokio::select! {
            () = sleep(GRACE) => {}
            () = self.hurry.notified() => sleep(HASTE).await,
        }
    }
}

/// All runs of this worker, by token.
#[derive(Debug, Default)]
pub(crate) struct Runs(Mutex<HashMap<Uuid, Arc<Handle>>>);

impl Runs {
    pub(crate) fn insert<'a>(&self, handles: impl Iterator<Item = &'a Arc<Handle>>) {
        self.lock().extend(handles.map(|handle| (handle.token, Arc::clone(handle))));
    }

    pub(crate) fn remove(&self, tokens: impl Iterator<Item = Uuid>) {
        let mut runs = self.lock();
        for token in tokens {
            runs.remove(&token);
        }
    }

    pub(crate) fn get(&self, token: Uuid) -> Option<Arc<Handle>> {
        self.lock().get(&token).cloned()
    }

    /// Tells all of them to stop.
    pub(crate) fn stop_all(&self, why: Why) {
        for handle in self.lock().values() {
            handle.stop(why);
        }
    }

    /// Whether there is a run, in whatever stage, under this token.
    pub(crate) fn contains(&self, token: Uuid) -> bool {
        self.lock().contains_key(&token)
    }

    /// Those whose handler runs now.
    pub(crate) fn running(&self) -> Vec<Uuid> {
        self.lock().values().filter(|handle| handle.is_running()).map(|handle| handle.token).collect()
    }

    /// For how long the slot has been held that is held longest; no time if none is.
    pub(crate) fn longest(&self) -> Duration {
        let runs = self.lock();
        let begun = runs.values().filter(|handle| handle.is_running()).filter_map(|handle| handle.begun.get());
        begun.min().map_or(Duration::ZERO, Instant::elapsed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Handle>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> Handle {
        Handle::new(WorkRequestId::new(jiff::Timestamp::UNIX_EPOCH))
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancel_has_its_grace_and_a_drain_cuts_it_short() {
        let asked = handle();
        asked.stop(Why::Asked);
        let start = Instant::now();
        asked.out_of_patience(Duration::from_secs(60)).await;
        assert_eq!((start.elapsed(), asked.why()), (GRACE, Some(Why::Asked)));

        let drained = handle();
        drained.stop(Why::Asked);
        let start = Instant::now();
        tokio::join!(drained.out_of_patience(Duration::from_secs(60)), async {
            sleep(Duration::from_secs(1)).await;
            drained.stop(Why::Drained);
            drained.stop(Why::TimedOut);
        });
        assert_eq!((start.elapsed(), drained.why()), (Duration::from_secs(1) + HASTE, Some(Why::Drained)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_run_is_the_one_that_began_first_and_still_runs() {
        let runs = Runs::default();
        let [first, second, waiting] = [handle(), handle(), handle()].map(Arc::new);
        runs.insert([&first, &second, &waiting].into_iter());
        assert_eq!(runs.longest(), Duration::ZERO);
        first.enter(Stage::Running);
        sleep(Duration::from_secs(60)).await;
        second.enter(Stage::Running);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(runs.longest(), Duration::from_secs(65));
        first.enter(Stage::Reporting);
        assert_eq!(runs.longest(), Duration::from_secs(5));
        runs.remove([first.token, second.token].into_iter());
        assert_eq!(runs.longest(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn time_runs_out_and_the_handler_is_told() {
        let handle = handle();
        let start = Instant::now();
        tokio::join!(handle.out_of_patience(Duration::from_secs(3)), async {
            handle.stop.cancelled().await;
            assert_eq!(start.elapsed(), Duration::from_secs(3));
        });
        assert_eq!((start.elapsed(), handle.why()), (Duration::from_secs(3) + GRACE, Some(Why::TimedOut)));
    }
}
