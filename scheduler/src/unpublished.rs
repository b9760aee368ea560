//! What is marked as sent and may never have been published: its dispatcher died in between, or an answer was lost.

use jiff::{SignedDuration, Timestamp};
use reveille_shared::store::{Generation, Outgoing, Store, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::leader;

/// What was sent this long before its dispatcher died may not have been published.
const CONFIRM: SignedDuration = SignedDuration::from_secs(15);

/// What may be lost of what others have sent.
#[derive(Debug, Clone)]
pub enum Others {
    /// Whatever was sent before this process was there was lost with its broker.
    Gone,
    /// What a leader has sent last may be lost with it: changes when this process leads.
    Leaders(watch::Receiver<Option<Generation>>),
}

/// The spans of time in which something may have been sent and not published.
pub(crate) struct Unpublished {
    others: Others,
    /// The store is to be asked who led before.
    asks: bool,
    /// When the last leader whose triggers were sent again ended.
    ended: Option<Timestamp>,
    /// Since when something of this process may be lost; by the monotonic clock, as the database may be away.
    lost: Option<Instant>,
    /// What was sent in it is sent again, unless claimed.
    span: Option<(Timestamp, Timestamp)>,
}

impl Unpublished {
    pub(crate) fn new(others: Others) -> Self {
        Self { asks: matches!(others, Others::Gone), others, ended: None, lost: None, span: None }
    }

    /// Something that was sent about now may not have been published.
    pub(crate) fn lost(&mut self) {
        self.lost.get_or_insert(Instant::now());
    }

    /// Returns when another span has begun.
    pub(crate) async fn begun(&mut self) {
        if let Others::Leaders(leads) = &mut self.others
            && leads.changed().await.is_ok()
        {
            leads.mark_changed();
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
        if let Others::Leaders(leads) = &mut self.others
            && leads.has_changed().unwrap_or(false)
        {
            self.asks |= leads.borrow_and_update().is_some();
        }
        if self.asks {
            self.ask(store).await?;
            self.asks = false;
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

    /// Who leads once more after itself has lost nothing by that.
    async fn ask(&mut self, store: &Store) -> Result<(), StoreError> {
        if matches!(self.others, Others::Gone) {
            return self.widen(store, Timestamp::UNIX_EPOCH).await;
        }
        let ended = store.leader_before_ended().await?;
        if let Some(at) = ended.filter(|_| ended != self.ended) {
            self.widen(store, at.saturating_sub(leader::TTL).unwrap_or(Timestamp::MIN)).await?;
        }
        self.ended = ended;
        Ok(())
    }

    /// Up to now, from shortly before `since` on or from where the span began already. What is sent again lies behind it.
    async fn widen(&mut self, store: &Store, since: Timestamp) -> Result<(), StoreError> {
        let since = since.saturating_sub(CONFIRM).unwrap_or(Timestamp::MIN);
        let from = self.span.map_or(since, |(from, _)| from.min(since));
        self.span = Some((from, store.now().await?));
        Ok(())
    }
}
