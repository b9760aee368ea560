//! Deliveries of webhooks: born of entries of histories, tried until they are taken or given up, and kept for a while.
//!
//! Of one run, a webhook is sent an entry only when the earlier ones have ended: of these a delivery is pending, and only the
//! first pending one is ever due. That holds as whoever changes the order locks the webhook.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::changes::Action;
use super::webhooks::{Sealed, Webhook};
use super::{Generation, Result, Store, StoreError, Untold};
use crate::crash::{self, Commit};
use crate::work_request::WorkRequestId;

/// Who disables a webhook that takes nothing.
const REVEILLE: &str = "reveille";
/// The attempts that a delivery remembers.
const REMEMBERED: usize = 30;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// It is to be tried, or waits for an earlier entry of its run.
    Pending,
    /// It was taken.
    Delivered,
    /// It was given up.
    Failed,
}

impl DeliveryState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for DeliveryState {
    type Err = UnknownDeliveryState;

    fn from_str(text: &str) -> std::result::Result<Self, UnknownDeliveryState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownDeliveryState)
    }
}

/// A text that names no state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of pending, delivered, failed")]
pub struct UnknownDeliveryState;

/// What came of one attempt to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryAttempt {
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub ms: u32,
    /// The status of the answer, if one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One entry of a history for one webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookDelivery {
    /// The webhook.
    pub webhook: Uuid,
    /// Its own name.
    pub id: Uuid,
    /// The run.
    pub run: WorkRequestId,
    /// The entry's number in the run's history.
    pub seq: i32,
    /// Where it stands.
    pub state: DeliveryState,
    /// When it was born.
    pub created_at: Timestamp,
    /// From when on it counts when to give up.
    pub queued_at: Timestamp,
    /// When it is tried next; none if it has ended, or waits for an earlier one.
    pub due_at: Option<Timestamp>,
    /// Under which claim it is being tried, if it is.
    pub claim: Option<Uuid>,
    /// Attempts that have begun since it was queued.
    pub tries: u32,
    /// What came of the last ones.
    pub attempts: Vec<DeliveryAttempt>,
    /// When it was taken or given up.
    pub ended_at: Option<Timestamp>,
}

/// A delivery to be tried now by whoever has claimed it.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedDelivery {
    /// The delivery; its number of tries counts this one.
    pub delivery: WebhookDelivery,
    /// The claim, which what comes of it must name.
    pub claim: Uuid,
    /// Where it goes.
    pub url: String,
    /// Signs it.
    pub secret: Sealed,
    /// Signs it too, until that instant.
    pub old_secret: Option<(Sealed, Timestamp)>,
    /// Whether the last attempts of the webhook have failed.
    pub is_failing: bool,
    /// What it tells; none if that was deleted.
    pub entry: Option<Untold>,
}

/// What a webhook is being sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The webhook.
    pub webhook: Uuid,
    /// How many more of its deliveries may be claimed.
    pub left: i64,
}

/// What came of a claimed delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// The webhook.
    pub webhook: Uuid,
    /// The delivery.
    pub id: Uuid,
    /// The claim under which it was tried.
    pub claim: Uuid,
    /// All attempts that are to be remembered, this one last.
    pub attempts: Vec<DeliveryAttempt>,
    /// What follows.
    pub next: Next,
}

/// What follows an attempt to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it was taken.
    Taken,
    /// Another attempt at this time.
    Again(Timestamp),
    /// Nothing: it is given up.
    GivenUp,
    /// Nothing, and nothing more is to be sent at all: nobody is there any more.
    Gone,
    /// Nothing: there was nothing left to send.
    Void,
}

impl Next {
    const fn state(self) -> DeliveryState {
        match self {
            Self::Taken => DeliveryState::Delivered,
            Self::Again(_) => DeliveryState::Pending,
            Self::GivenUp | Self::Gone | Self::Void => DeliveryState::Failed,
        }
    }

    const fn due_at(self) -> Option<Timestamp> {
        match self {
            Self::Again(at) => Some(at),
            Self::Taken | Self::GivenUp | Self::Gone | Self::Void => None,
        }
    }
}

impl Tried {
    pub(super) const fn state(&self) -> DeliveryState {
        self.next.state()
    }

    pub(super) const fn due_at(&self) -> Option<Timestamp> {
        self.next.due_at()
    }

    /// The attempts to remember after one more.
    #[must_use]
    pub fn remember(mut attempts: Vec<DeliveryAttempt>, last: DeliveryAttempt) -> Vec<DeliveryAttempt> {
        attempts.push(last);
        let forgotten = attempts.len().saturating_sub(REMEMBERED);
        attempts.split_off(forgotten)
    }
}

/// A delivery to be, of an entry for a webhook.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewDelivery {
    pub(crate) webhook: Uuid,
    pub(crate) id: Uuid,
    pub(crate) run: WorkRequestId,
    pub(crate) seq: i32,
    /// No earlier entry of the run for the webhook is in the same batch.
    pub(crate) is_first: bool,
}

/// What came of entries that subscribers may want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Matched {
    /// Entries that were looked at.
    pub entries: usize,
    /// Deliveries that were born of them.
    pub deliveries: usize,
}

/// What came of the wish to send a delivery again.
#[derive(Debug, Clone, PartialEq)]
pub enum Redelivery {
    /// It will be, at once.
    Queued(Box<WebhookDelivery>),
    /// It is being sent.
    UnderWay,
    /// It waits for an earlier entry of its run.
    Waits,
    /// There is none of this id.
    Unknown,
}

/// How many deliveries are pending, and how many webhooks are disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebhookCounts {
    /// Pending deliveries.
    pub pending: i64,
    /// Disabled webhooks.
    pub disabled: i64,
}

impl Store {
    /// Decides on up to `limit` entries who is told them: `wants` says whether a webhook is. Only for the leader of this
    /// generation: of one run, entries are to be looked at in their order.
    ///
    /// # Errors
    /// [`StoreError::Deposed`] if another one leads: nothing was written. [`StoreError::Query`].
    pub async fn match_webhooks(
        &self,
        generation: Generation,
        limit: i64,
        wants: impl Fn(&Webhook, &Untold) -> bool + Send,
    ) -> Result<Matched> {
        // Mostly there is nothing, and to look costs less than a transaction.
        if !self.db.any_webhook_entries().await? {
            return Ok(Matched::default());
        }
        let mut tx = self.begin().await?;
        if tx.leading().await? != generation {
            return Err(StoreError::Deposed);
        }
        let taken = tx.webhook_entries(limit).await?;
        if taken.is_empty() {
            return Ok(Matched::default());
        }
        let numbers: Vec<i64> =
            taken.iter().map(|entry| entry.as_ref().map_or_else(|gone| *gone, |e| e.number)).collect();
        let entries: Vec<Untold> = taken.into_iter().filter_map(std::result::Result::ok).collect();
        let mut wanted: Vec<(Uuid, &Untold)> = Vec::new();
        for webhook in tx.enabled_webhooks().await? {
            let of_its = entries.iter().filter(|entry| wants(&webhook, entry));
            wanted.extend(of_its.map(|entry| (webhook.id, entry)));
        }
        // In the order in which all lock them.
        let ids: BTreeSet<Uuid> = wanted.iter().map(|(webhook, _)| *webhook).collect();
        let locked = tx.lock_webhooks(&Vec::from_iter(ids)).await?;
        let enabled: HashSet<Uuid> =
            locked.iter().filter(|known| known.disabled.is_none()).map(|known| known.id).collect();
        let (now, mut seen) = (tx.now(), HashSet::new());
        let wanted = wanted.into_iter().filter(|(webhook, _)| enabled.contains(webhook));
        let new: Vec<NewDelivery> = wanted
            .map(|(webhook, Untold { id: run, event, .. })| {
                let is_first = seen.insert((webhook, *run));
                NewDelivery { webhook, id: WorkRequestId::new(now).0, run: *run, seq: event.seq, is_first }
            })
            .collect();
        tx.insert_deliveries(&new).await?;
        tx.take_webhook_entries(&numbers).await?;
        crash::around(Commit::MatchWebhooks, tx.commit()).await?;
        Ok(Matched { entries: numbers.len(), deliveries: new.len() })
    }

    /// Claims deliveries that are due: of each enabled webhook as many as `rooms` says, `most` where it says nothing. Nobody else
    /// tries them before `patience` is over.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn claim_deliveries(
        &self,
        rooms: &[Room],
        most: i64,
        patience: Duration,
    ) -> Result<Vec<ClaimedDelivery>> {
        if !self.db.any_due_deliveries(self.now().await?).await? {
            return Ok(Vec::new());
        }
        let mut tx = self.begin().await?;
        let until = tx.now().saturating_add(SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX));
        let claimed = tx.claim_deliveries(rooms, most, Uuid::new_v4(), until.unwrap_or(Timestamp::MAX)).await?;
        if !claimed.is_empty() {
            crash::around(Commit::ClaimDeliveries, tx.commit()).await?;
        }
        Ok(claimed)
    }

    /// Keeps what came of claimed deliveries; under a claim that is not the last one nothing is kept. A webhook that has taken
    /// nothing for `patience` is disabled: answers which were.
    ///
    /// # Errors
    /// [`StoreError::Query`]: repeat it.
    pub async fn keep_tried(&self, tried: &[Tried], patience: SignedDuration) -> Result<Vec<Webhook>> {
        let mut by_webhook: BTreeMap<Uuid, Vec<&Tried>> = BTreeMap::new();
        for one in tried {
            by_webhook.entry(one.webhook).or_default().push(one);
        }
        let mut tx = self.begin().await?;
        let now = tx.now();
        let ids: Vec<Uuid> = by_webhook.keys().copied().collect();
        let mut disabled = Vec::new();
        let locked = tx.lock_webhooks(&ids).await?;
        let ended = tx.save_tried(tried).await?;
        for mut webhook in locked {
            let (before, was_disabled) = (webhook.clone(), webhook.disabled.is_some());
            for one in by_webhook.get(&webhook.id).into_iter().flatten() {
                webhook.learn(one, now, patience);
            }
            let disabled_for = webhook.disabled.as_ref().filter(|_| !was_disabled).map(|(_, reason)| reason.clone());
            if let Some(reason) = &disabled_for {
                webhook.version += 1;
                webhook.record(&mut *tx, Action::Changed, (REVEILLE, Some(reason))).await?;
            }
            if webhook != before {
                tx.save_webhook(&webhook).await?;
            }
            disabled.extend(disabled_for.map(|_| webhook));
        }
        tx.wake_next(&ended).await?;
        crash::around(Commit::KeepTried, tx.commit()).await?;
        Ok(disabled)
    }

    /// Up to `limit` deliveries of a webhook before this one, the latest first.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn webhook_deliveries(
        &self,
        webhook: Uuid,
        state: Option<DeliveryState>,
        before: Uuid,
        limit: i64,
    ) -> Result<Vec<WebhookDelivery>> {
        self.db.webhook_deliveries(webhook, state, before, limit).await
    }

    /// One delivery.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn webhook_delivery(&self, webhook: Uuid, id: Uuid) -> Result<Option<WebhookDelivery>> {
        self.db.webhook_delivery(webhook, id).await
    }

    /// Has a delivery sent once more at once, whatever came of it before; later entries of its run that were not
    /// sent yet wait for it.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn redeliver(&self, webhook: Uuid, id: Uuid) -> Result<Redelivery> {
        let mut tx = self.begin().await?;
        if tx.lock_webhooks(&[webhook]).await?.is_empty() {
            return Ok(Redelivery::Unknown);
        }
        let Some(mut delivery) = tx.lock_delivery(webhook, id).await? else { return Ok(Redelivery::Unknown) };
        if delivery.claim.is_some() {
            return Ok(Redelivery::UnderWay);
        }
        if delivery.state == DeliveryState::Pending && delivery.due_at.is_none() {
            return Ok(Redelivery::Waits);
        }
        let now = tx.now();
        (delivery.state, delivery.due_at, delivery.ended_at) = (DeliveryState::Pending, Some(now), None);
        (delivery.queued_at, delivery.tries) = (now, 0);
        tx.queue_again(&delivery).await?;
        crash::around(Commit::Redeliver, tx.commit()).await?;
        Ok(Redelivery::Queued(Box::new(delivery)))
    }

    /// Forgets deliveries born before this instant, but for those that are still to be sent, and all of deleted webhooks: up to
    /// `limit` of each webhook. Answers how many.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn purge_deliveries(&self, before: Timestamp, limit: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let purged = tx.purge_deliveries(before, limit).await? + tx.purge_webhooks().await?;
        crash::around(Commit::PurgeDeliveries, tx.commit()).await?;
        Ok(purged)
    }

    /// How many deliveries are pending, and how many webhooks are disabled.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn webhook_counts(&self) -> Result<WebhookCounts> {
        self.db.webhook_counts().await
    }
}

impl Webhook {
    /// What an attempt means for the webhook as a whole.
    fn learn(&mut self, tried: &Tried, now: Timestamp, patience: SignedDuration) {
        let began = tried.attempts.last().map_or(now, |attempt| attempt.at);
        match tried.next {
            Next::Taken => self.failing_since = None,
            Next::Void => {}
            Next::Gone => self.disable(now, "its URL answered 410 Gone: nobody is there any more"),
            Next::Again(_) | Next::GivenUp => {
                let since = *self.failing_since.get_or_insert(began);
                if now.duration_since(since) >= patience {
                    self.disable(now, "every delivery has failed for as long as deliveries are tried");
                }
            }
        }
    }
}
