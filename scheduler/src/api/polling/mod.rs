//! What makes it cheap to ask after a run again and again: [`pace`] says when it is worth while, [`usual`] remembers how
//! long jobs take, [`changes`] waits for many runs with one query, [`feed`] hears of all, [`looks`] reads single ones
//! together, and [`tag`] tells what the caller has seen already.

mod changes;
mod feed;
mod looks;
mod pace;
mod tag;
mod usual;

use std::time::Duration;

use reveille_shared::store::{Result, Store};
use reveille_shared::work_request::{WorkRequest, WorkRequestId};
use tokio_util::sync::CancellationToken;

use self::changes::Changes;
pub(crate) use self::changes::Seen;
use self::feed::Feeds;
pub(crate) use self::feed::{Batch, Listening};
use self::looks::Looks;
pub(crate) use self::pace::poll_after;
pub(crate) use self::tag::Tagged;
use self::usual::Usual;

/// The longest wait for a change.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What one process remembers for those who poll. All of it can be lost.
#[derive(Debug, Default)]
pub struct Polling {
    usual: Usual,
    changes: Changes,
    feeds: Feeds,
    looks: Looks,
    stop: CancellationToken,
}

impl Polling {
    /// Nobody polls yet. Whoever waits is answered as soon as `stop` is canceled.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// A run of any namespace, if there is one of this id.
    ///
    /// # Errors
    /// [`reveille_shared::store::StoreError::Query`].
    pub(crate) async fn look(&self, store: &Store, id: WorkRequestId) -> Result<Option<WorkRequest>> {
        self.looks.at(store, id).await
    }

    /// How long a run of a job usually takes, as it was known within the last half minute.
    pub(crate) async fn usual_duration(&self, store: &Store, namespace: &str, job: &str) -> Result<Option<Duration>> {
        self.usual.duration(store, namespace, job).await
    }

    /// Returns when there is more to see of a run than `seen`, or it is gone; or after `limit`, or when the process stops, and
    /// then it answers false.
    ///
    /// # Errors
    /// [`reveille_shared::store::StoreError::Query`].
    pub(crate) async fn change(&self, store: &Store, id: WorkRequestId, seen: Seen, limit: Duration) -> Result<bool> {
        let change = tokio::time::timeout(limit.min(LONGEST_WAIT), self.changes.from(store, id, seen));
        tokio::select! {
            changed = change => changed.map_or(Ok(false), |changed| changed.map(|()| true)),
            () = self.stop.cancelled() => Ok(false),
        }
    }

    /// Begins to hear what happens to all runs.
    ///
    /// # Errors
    /// [`reveille_shared::store::StoreError::Query`].
    pub(crate) async fn listen(&self, store: &Store) -> Result<Listening> {
        self.feeds.listen(store).await
    }

    /// Returns when the process stops.
    pub(crate) async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether the process stops, so that nobody should wait any longer.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}
