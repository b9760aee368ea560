//! Which triggers go out now.

use std::time::Duration;

use jiff::Timestamp;

use super::accept::NewWorkRequest;
use super::database::Which;
use super::texts::{error_without_nul, without_nul};
use super::transition::{Batch, Hints, Locked};
use super::{Hint, Result, Store};
use crate::crash::{self, Commit};
use crate::state::{Input, Phase};
use crate::trigger::{self, Trigger};
use crate::work_request::{FireRef, RunError};

/// A trigger to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The work queue.
    pub queue: String,
    /// The message.
    pub trigger: Trigger,
    /// When it was to go out.
    pub due_at: Timestamp,
    /// The fire that called for it, if any.
    pub fire: Option<FireRef>,
}

impl Outgoing {
    /// The first trigger of one that counts as sent from its birth, at `now`.
    pub(crate) fn at_birth(request: &NewWorkRequest, now: Timestamp) -> Self {
        let trigger = Trigger {
            v: trigger::VERSION,
            id: request.id,
            n: 1,
            namespace: request.namespace.clone(),
            job: request.job.clone(),
        };
        Self { queue: request.queue.clone(), trigger, due_at: now, fire: request.fire.clone() }
    }

    fn of(row: &Locked) -> Self {
        let due_at = match row.before.phase {
            Phase::Due { at } | Phase::Sent { at } => at,
            Phase::Held { .. } | Phase::Leased(_) | Phase::Done => Timestamp::UNIX_EPOCH,
        };
        Self {
            queue: row.queue.clone(),
            trigger: Trigger {
                v: trigger::VERSION,
                id: row.id,
                n: row.run.sends,
                namespace: row.namespace.clone(),
                job: row.job.clone(),
            },
            due_at,
            fire: row.fire.clone(),
        }
    }
}

impl Store {
    /// Marks up to `limit` due triggers as sent and returns them, earliest first, to be published after
    /// this returns. Several dispatchers may call it at once; none gets another's.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: none was marked, or (lost commit) they are sent again by
    /// [`Store::resend_lost`].
    pub async fn take_due(&self, limit: i64) -> Result<Vec<Outgoing>> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock(&mut *tx, Which::Due { limit }).await?;
        let mut outgoing = Vec::new();
        for id in batch.names() {
            if let Ok(row) = batch.apply(id, &Input::Send) {
                outgoing.push(Outgoing::of(row));
            }
        }
        batch.save(&mut *tx).await?;
        crash::around(Commit::TakeDue, tx.commit()).await?;
        Ok(outgoing)
    }

    /// The instant at which the earliest trigger that is not sent yet is due.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn next_due(&self) -> Result<Option<Timestamp>> {
        self.db.next_due().await
    }

    /// Takes back triggers that the broker did not confirm: they are due again after the delay. With a reason
    /// the history says so.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]; they are sent again by [`Store::resend_lost`] all the same.
    pub async fn unsend(&self, returned: &[(Trigger, Duration, Option<String>)]) -> Result<()> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock_ids(&mut *tx, returned.iter().map(|(trigger, ..)| trigger.id)).await?;
        for (trigger, after, reason) in returned {
            let reason = reason.clone().map(without_nul);
            // A refusal means that a worker has it after all, or it was canceled: nothing to take back.
            let _refused = batch.apply(trigger.id, &Input::Unsend { n: trigger.n, after: *after, reason }).is_err();
        }
        batch.save(&mut *tx).await?;
        crash::around(Commit::Unsend, tx.commit()).await?;
        self.hint(Hint::Due);
        Ok(())
    }

    /// Ends a run whose trigger can't be delivered, unless it has moved on since.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn give_up(&self, trigger: &Trigger, error: RunError) -> Result<bool> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock_ids(&mut *tx, std::iter::once(trigger.id)).await?;
        let mut hints = Hints::default();
        let given_up = Input::GiveUp { n: trigger.n, error: error_without_nul(error) };
        let ended = batch.apply(trigger.id, &given_up).map(|row| hints.after(row)).is_ok();
        batch.save(&mut *tx).await?;
        crash::around(Commit::GiveUp, tx.commit()).await?;
        hints.give(self);
        Ok(ended)
    }

    /// Marks as sent again, under the same number, up to `limit` triggers that were sent after `from` and not after
    /// `until` and that nobody has claimed: their dispatcher died, maybe before it published them. They are to be
    /// published after this returns.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn resend_between(&self, from: Timestamp, until: Timestamp, limit: i64) -> Result<Vec<Outgoing>> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock(&mut *tx, Which::SentBetween { from, until, limit }).await?;
        let outgoing = batch.names().into_iter().filter_map(|id| {
            let out = batch.get(id).map(Outgoing::of);
            batch.resend(id);
            out
        });
        let outgoing = outgoing.collect();
        batch.save(&mut *tx).await?;
        crash::around(Commit::ResendUnpublished, tx.commit()).await?;
        Ok(outgoing)
    }

    /// Marks as sent again, under the same number, up to `limit` triggers that nobody has claimed `patience`
    /// after they were sent, doubled with each time, and that `lost` holds to be lost: it is given the queue and
    /// the age. A queue whose oldest trigger is not lost has none that is. They are to be published after this returns.
    ///
    /// Sending one that was not lost after all is harmless: whoever claims first has it (I3).
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn resend_lost(
        &self,
        patience: Duration,
        limit: i64,
        lost: impl Fn(&str, Duration) -> bool + Send,
    ) -> Result<Vec<Outgoing>> {
        let mut tx = self.begin().await?;
        let patience = jiff::SignedDuration::try_from(patience).unwrap_or(jiff::SignedDuration::MAX);
        let until = tx.now().saturating_sub(patience).unwrap_or(Timestamp::MIN);
        // Asked queue by queue first: the backlog of one that is only slow must not fill the limit.
        let mut queues = tx.sent_queues(until).await?;
        let now = tx.now();
        queues.retain(|(queue, oldest)| lost(queue, now.duration_since(*oldest).unsigned_abs()));
        let queues: Vec<_> = queues.into_iter().map(|(queue, _)| queue).collect();
        if queues.is_empty() {
            return Ok(Vec::new());
        }
        let mut batch = Batch::lock(&mut *tx, Which::Lost { patience, queues: &queues, limit }).await?;
        let mut outgoing = Vec::new();
        for id in batch.names() {
            let Some(row) = batch.get(id) else { continue };
            let Phase::Sent { at } = row.run.phase else { continue };
            let age = batch.now.duration_since(at);
            let wait = patience.saturating_mul(1 << row.resends.clamp(0, 10));
            if age >= wait && lost(&row.queue, age.unsigned_abs()) {
                outgoing.push(Outgoing::of(row));
                batch.resend(id);
            }
        }
        batch.save(&mut *tx).await?;
        crash::around(Commit::ResendLost, tx.commit()).await?;
        Ok(outgoing)
    }
}
