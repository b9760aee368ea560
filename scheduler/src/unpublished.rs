//! What is marked as sent and may never have been published: its dispatcher died in between, or an answer was lost.

use jiff::{SignedDuration, Timestamp};
use reveille_shared::store::{Generation, Outgoing, Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::leader;

/// What was sent this long before its dispatcher died may not have been published.
const CONFIRM: SignedDuration = SignedDuration::from_secs(15);

/// The spans of time in which something may have been sent and not published.
pub(crate) struct Unpublished {
    /// Changes when this process leads after another one: what that has sent last may be lost with it.
    takeovers: Option<watch::Receiver<Option<Generation>>>,
    /// It has, and the store has not been asked yet.
    taken_over: bool,
    /// Whatever was sent before this process was there is lost, and the store has not been asked yet.
    all: bool,
    /// Since when something of this process may be lost; by the monotonic clock, as the database may be away.
    lost: Option<Instant>,
    /// What was sent in it is sent again, unless claimed.
    span: Option<(Timestamp, Timestamp)>,
}

impl Unpublished {
    /// Of a process that is told when it leads after another one. One that is alone is not: what was sent before it was lost with
    /// its broker.
    pub(crate) fn new(takeovers: Option<watch::Receiver<Option<Generation>>>) -> Self {
        Self { all: takeovers.is_none(), takeovers, taken_over: false, lost: None, span: None }
    }

    /// Something that was sent about now may not have been published.
    pub(crate) fn lost(&mut self) {
        self.lost.get_or_insert(Instant::now());
    }

    /// Returns when another span has begun.
    pub(crate) async fn begun(&mut self) {
        if let Some(takeovers) = &mut self.takeovers
            && takeovers.changed().await.is_ok()
        {
            takeovers.mark_changed();
        } else {
            // Nobody in this process ever leads, or nobody else does.
            std::future::pending().await
        }
    }

    /// Marks up to `limit` triggers as sent again, to be published; none when all of them are.
    ///
    /// # Errors
    /// [`StoreError::Query`]: nothing of it is forgotten.
    pub(crate) async fn next(&mut self, store: &Store, limit: i64) -> Result<Vec<Outgoing>, StoreError> {
        if self.all {
            self.widen(store, Timestamp::UNIX_EPOCH).await?;
            self.all = false;
        }
        if let Some(takeovers) = &mut self.takeovers
            && takeovers.has_changed().unwrap_or(false)
        {
            takeovers.mark_unchanged();
            self.taken_over = true;
        }
        if self.taken_over {
            if let Some(ended) = store.leader_before_ended().await? {
                self.widen(store, ended.saturating_sub(leader::TTL).unwrap_or(Timestamp::MIN)).await?;
            }
            self.taken_over = false;
        }
        if let Some(lost) = self.lost {
            let ago = SignedDuration::try_from(lost.elapsed()).unwrap_or(SignedDuration::MAX);
            self.widen(store, store.now().await?.saturating_sub(ago).unwrap_or(Timestamp::MIN)).await?;
            self.lost = None;
        }
        let Some((from, until)) = self.span else { return Ok(Vec::new()) };
        let batch = store.resend_between(from, until, limit).await?;
        if batch.is_empty() {
            self.span = None;
        }
        Ok(batch)
    }

    /// Up to now, from shortly before `since` on or from where the span began already. What is sent again lies behind it.
    async fn widen(&mut self, store: &Store, since: Timestamp) -> Result<(), StoreError> {
        let since = since.saturating_sub(CONFIRM).unwrap_or(Timestamp::MIN);
        let from = self.span.map_or(since, |(from, _)| from.min(since));
        self.span = Some((from, store.now().await?));
        Ok(())
    }
}
