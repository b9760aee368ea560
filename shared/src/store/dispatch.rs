//! Which triggers go out now.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::accept::NewWorkRequest;
use super::database::{Tx, Which};
use super::fair::{self, InLane as _};
use super::limits::Gate;
use super::markers::Marker;
use super::texts::{error_without_nul, without_nul};
use super::transition::{Batch, Hints, Locked};
use super::{Hint, Result, Store, ids};
use crate::broker::Route;
use crate::crash::{self, Commit};
use crate::state::{Input, Phase};
use crate::trigger::{self, Trigger};
use crate::work_request::{FireRef, RunError, WorkRequestId};

/// A trigger to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// Where it goes.
    pub route: Route,
    /// The message.
    pub trigger: Trigger,
    /// When it was to go out.
    pub due_at: Timestamp,
    /// The fire that called for it, if any.
    pub fire: Option<FireRef>,
}

/// What goes out now.
#[derive(Debug, Default)]
pub struct Taken {
    /// To be published.
    pub outgoing: Vec<Outgoing>,
    /// Some that are due wait until there is room on their route.
    pub held_back: bool,
    /// Where something is due that is another dispatcher's, which holds the backlog.
    pub elsewhere: Vec<Route>,
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
        Self { route: request.route(), trigger, due_at: now, fire: request.fire.clone() }
    }

    pub(super) fn of(row: &Locked) -> Self {
        let due_at = match row.before.phase {
            Phase::Due { at } | Phase::Sent { at } | Phase::Parked { at } | Phase::Held { since: at, .. } => at,
            Phase::Leased(_) | Phase::Children | Phase::Done => Timestamp::UNIX_EPOCH,
        };
        Self {
            route: Route { queue: row.queue.clone(), priority: row.priority },
            trigger: Trigger {
                v: if row.run.operation.is_some() { trigger::ONWARD } else { trigger::VERSION },
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

/// It is too late to start it.
pub(crate) fn expire(row: &Locked) -> Input {
    let by = row.expires_at.unwrap_or_default();
    Input::Expire { error: RunError::new("Expired", format!("had not started by {by:.0}, when it expired")) }
}

impl Store {
    /// Marks up to `limit` due triggers as sent and returns them, by priority, tenants in turns and of each the earliest
    /// first, to be published after this returns; before them those that were held and have a slot now. What has no slot
    /// is held, and what has expired ends. Several dispatchers may call it at once; none gets another's.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: none was marked, or (lost commit) they are sent again by
    /// [`Store::resend_lost`].
    pub async fn take_due(&self, limit: i64) -> Result<Vec<Outgoing>> {
        Ok(self.take_due_within(limit, &|_| i64::MAX, Uuid::nil()).await?.outgoing)
    }

    /// The same for one dispatcher, and on each route no more than there is room for: nothing while another one holds the backlog,
    /// but for what was held by a limit and parked, which needs no room either.
    ///
    /// # Errors
    /// As [`Store::take_due`].
    pub async fn take_due_within(
        &self,
        limit: i64,
        room: &(dyn Fn(&Route) -> i64 + Send + Sync),
        dispatcher: Uuid,
    ) -> Result<Taken> {
        let lanes = self.db.due_lanes().await?;
        let mut tx = self.begin().await?;
        let (mut elsewhere, mut rows, mut held_back) = (Vec::new(), Vec::new(), false);
        if tx.is_backlog_held(dispatcher).await? {
            elsewhere = fair::due_by(&lanes, tx.now()).map(|lane| lane.route.clone()).collect();
        } else {
            (rows, held_back) = fair::lock_due(&mut *tx, &lanes, limit, room).await?;
        }
        Ok(Taken { outgoing: self.send(tx, rows, limit).await?, held_back, elsewhere })
    }

    /// The same of these runs, those of them that are due and that nobody else has locked. `limit` is for what is parked.
    ///
    /// # Errors
    /// As [`Store::take_due`].
    pub async fn take_due_among(&self, runs: &[WorkRequestId], limit: i64) -> Result<Vec<Outgoing>> {
        let mut tx = self.begin().await?;
        let now = tx.now();
        let ids = ids(runs.iter().copied());
        let mut rows = if ids.is_empty() { Vec::new() } else { tx.lock(Which::Free(&ids)).await? };
        rows.retain(|row| matches!(row.run.phase, Phase::Due { at } if at <= now));
        rows.sort_by_key(|row| row.position());
        self.send(tx, rows, limit).await
    }

    /// Marks locked runs that are due as sent, or what else becomes of them, and up to `limit` that are parked.
    async fn send(&self, mut tx: Box<dyn Tx>, due: Vec<Locked>, limit: i64) -> Result<Vec<Outgoing>> {
        let mut due = Batch::of(due, tx.now());
        let mut gate = Gate::look(&mut *tx, &due).await?;
        let mut outgoing = Vec::new();
        for let_go in gate.let_go(&mut *tx).await? {
            let sent = |row: &&Locked| matches!(row.run.phase, Phase::Sent { .. });
            outgoing.extend(let_go.names().into_iter().filter_map(|id| let_go.get(id)).filter(sent).map(Outgoing::of));
            let_go.save(&mut *tx).await?;
        }
        let mut hints = Hints::default();
        for id in due.names() {
            let Some(row) = due.get(id) else { continue };
            let input = if row.has_expired(due.now) {
                expire(row)
            } else {
                gate.admit(row).map_or_else(|hold| Input::Hold { hold }, |()| Input::Send)
            };
            match due.apply(id, &input) {
                Ok(row) if row.is_done() => hints.after(row),
                Ok(row) if input == Input::Send => outgoing.push(Outgoing::of(row)),
                _ => {}
            }
        }
        due.save(&mut *tx).await?;
        gate.save(&mut *tx).await?;
        // What goes on elsewhere has its slot already.
        let mut parked = Batch::lock(&mut *tx, Which::Parked { limit }).await?;
        for id in parked.names() {
            if let Ok(row) = parked.apply(id, &Input::Send) {
                outgoing.push(Outgoing::of(row));
            }
        }
        parked.save(&mut *tx).await?;
        crash::around(Commit::TakeDue, tx.commit()).await?;
        hints.give(self);
        Ok(outgoing)
    }

    /// How many runs of each namespace wait for their first start. It reads all deliveries that have not ended.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn queued(&self) -> Result<Vec<(String, i64)>> {
        self.db.queued().await
    }

    /// How many triggers were sent on a route and are not claimed.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn unclaimed_on(&self, route: &Route) -> Result<i64> {
        self.db.unclaimed_on(route).await
    }

    /// Ends up to `limit` runs that have not started by the time at which they expire. Answers how many.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn expire(&self, limit: i64) -> Result<usize> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock(&mut *tx, Which::Expired { limit }).await?;
        let mut hints = Hints::default();
        let mut expired = 0;
        for id in batch.names() {
            let Some(input) = batch.get(id).map(expire) else { continue };
            if let Ok(row) = batch.apply(id, &input) {
                hints.after(row);
                expired += 1;
            }
        }
        batch.save(&mut *tx).await?;
        crash::around(Commit::Expire, tx.commit()).await?;
        hints.give(self);
        Ok(expired)
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
        let routes = self.unclaimed(until).await?;
        let spans: Vec<_> = routes.into_iter().map(|route| (route, from, until)).collect();
        self.resend(&spans, None, limit).await
    }

    /// Marks as sent again, under the same number, up to `limit` triggers that nobody has claimed though a marker that was
    /// sent after them has come back, and `patience` has passed since they were sent, doubled with each time. They are to be
    /// published after this returns.
    ///
    /// Sending one that was not lost after all is harmless: whoever claims first has it (I3).
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn resend_lost(&self, back: &[Marker], patience: Duration, limit: i64) -> Result<Vec<Outgoing>> {
        // Only what was certainly before it.
        let before = |at: Timestamp| at.saturating_sub(SignedDuration::from_micros(1)).unwrap_or(at);
        let spans = back.iter().map(|marker| (marker.route.clone(), Timestamp::UNIX_EPOCH, before(marker.sent_at)));
        let spans: Vec<_> = spans.collect();
        self.resend(&spans, Some(SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX)), limit).await
    }

    async fn resend(
        &self,
        spans: &[(Route, Timestamp, Timestamp)],
        lost: Option<SignedDuration>,
        limit: i64,
    ) -> Result<Vec<Outgoing>> {
        let patience = lost.unwrap_or_default();
        let mut outgoing = Vec::new();
        if spans.is_empty() {
            return Ok(outgoing);
        }
        let mut tx = self.begin().await?;
        for (route, from, until) in spans {
            let limit = limit - i64::try_from(outgoing.len()).unwrap_or(limit);
            let which = Which::Sent { route, from: *from, until: *until, patience, limit };
            let mut batch = Batch::lock(&mut *tx, which).await?;
            for id in batch.names() {
                outgoing.extend(batch.get(id).map(Outgoing::of));
                batch.resend(id, lost.is_some());
            }
            batch.save(&mut *tx).await?;
        }
        crash::around(if lost.is_some() { Commit::ResendLost } else { Commit::ResendUnpublished }, tx.commit()).await?;
        Ok(outgoing)
    }

    /// The routes with triggers that were sent at this instant or earlier and that nobody has claimed.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn unclaimed(&self, until: Timestamp) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        let mut last = None;
        while let Some((route, oldest)) = self.db.next_sent(last.as_ref()).await? {
            if oldest <= until {
                routes.push(route.clone());
            }
            last = Some(route);
        }
        Ok(routes)
    }
}
