//! Waits for runs to change, any number of them with one query at a time.
//!
//! There is no task of its own: one of those who wait has the turn and looks for all. When it has what it waited for, or
//! its caller has gone, the next one takes the turn.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reveille_shared::state::Status;
use reveille_shared::store::{Result, Standing, Store};
use reveille_shared::work_request::WorkRequestId;
use tokio::sync::Notify;

/// Between two looks, when something has just happened …
const SOON: Duration = Duration::from_millis(10);
/// … and when nothing has for a while.
const LATER: Duration = Duration::from_millis(100);
/// Runs that one query looks at.
const MOST_AT_ONCE: usize = 500;

/// Who waits, by number.
type Waiting = HashMap<u64, Waiter>;

#[derive(Debug, Default)]
pub(super) struct Changes {
    waiting: Mutex<(u64, Waiting)>,
    turn: tokio::sync::Mutex<()>,
}

/// What a caller has seen of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seen {
    /// That it has this status.
    Status(Status),
    /// Its history up to the entry of this number.
    Entry(i32),
}

impl Seen {
    /// Whether there is more to see.
    fn is_outdated(self, now: Standing) -> bool {
        match self {
            Self::Status(status) => now.status != status,
            Self::Entry(number) => now.last.is_none_or(|last| last > number),
        }
    }
}

#[derive(Debug, Clone)]
struct Waiter {
    id: WorkRequestId,
    seen: Seen,
    changed: Arc<Notify>,
}

/// Waits no more when it is dropped.
struct Place<'a>(&'a Changes, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting().1.remove(&self.1);
    }
}

impl Changes {
    /// Returns when there is more to see of a run than `seen`, or it is gone.
    pub(super) async fn from(&self, store: &Store, id: WorkRequestId, seen: Seen) -> Result<()> {
        let changed = Arc::new(Notify::new());
        let _place = self.enter(Waiter { id, seen, changed: Arc::clone(&changed) });
        tokio::select! {
            () = changed.notified() => Ok(()),
            failed = self.look_for_all(store) => failed.map(|never| match never {}),
        }
    }

    fn enter(&self, waiter: Waiter) -> Place<'_> {
        let mut waiting = self.waiting();
        let (last, all) = &mut *waiting;
        *last += 1;
        all.insert(*last, waiter);
        Place(self, *last)
    }

    fn waiting(&self) -> MutexGuard<'_, (u64, Waiting)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks as long as it has the turn, that is until it is dropped.
    async fn look_for_all(&self, store: &Store) -> Result<Infallible> {
        let _turn = self.turn.lock().await;
        let mut pause = SOON;
        loop {
            pause = if self.look(store).await? { SOON } else { (pause * 2).min(LATER) };
            tokio::time::sleep(pause).await;
        }
    }

    /// Wakes those whose runs have changed; answers whether there were any.
    async fn look(&self, store: &Store) -> Result<bool> {
        let all: Vec<_> = self.waiting().1.values().cloned().collect();
        let mut any = false;
        for some in all.chunks(MOST_AT_ONCE) {
            let mut ids: Vec<_> = some.iter().map(|waiter| waiter.id).collect();
            ids.sort_unstable();
            ids.dedup();
            let now: HashMap<_, _> = store.standings(&ids).await?.into_iter().collect();
            let is_outdated =
                |waiter: &&Waiter| now.get(&waiter.id).is_none_or(|standing| waiter.seen.is_outdated(*standing));
            for waiter in some.iter().filter(is_outdated) {
                waiter.changed.notify_one();
                any = true;
            }
        }
        Ok(any)
    }
}
