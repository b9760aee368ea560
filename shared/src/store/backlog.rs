//! A backlog goes out unmarked: where many short runs wait, to mark each as sent would cost as much as to claim it.
//!
//! A first trigger that arrives shows by itself that it was sent (see [`crate::state`]). So whoever publishes it needs to know only
//! for itself which ones are out; should that be forgotten, they go out once more, and whoever claims first has the run (I7). One
//! dispatcher at a time does so, lest each run goes out from all of them.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::fair::{self, DueLane, InLane, Lane, LaneKey, Position};
use super::transition::Batch;
use super::{Kind, Outgoing, Result, Store};
use crate::broker::Route;
use crate::crash::{self, Commit};
use crate::state::Input;
use crate::work_request::WorkRequestId;

/// A run that is due.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its first trigger, as it is published without a mark.
    pub outgoing: Outgoing,
    /// Whether it may: no trigger was sent before, and nothing is to be counted or decided first.
    pub is_free: bool,
}

/// Runs that are due.
#[derive(Debug)]
pub struct Seeing {
    /// By priority, tenants in turns and of each the earliest first.
    pub due: Vec<Seen>,
    /// Some that are due wait until there is room on their route.
    pub held_back: bool,
    /// When they were seen, by the database's clock.
    pub at: Timestamp,
}

impl Seen {
    /// Its lane.
    #[must_use]
    pub fn lane(&self) -> Lane {
        Lane { route: self.outgoing.route.clone(), namespace: self.outgoing.trigger.namespace.clone() }
    }

    /// Its position in that.
    #[must_use]
    pub fn position(&self) -> Position {
        (self.outgoing.due_at, self.outgoing.trigger.id)
    }
}

impl InLane for Seen {
    fn key(&self) -> LaneKey<'_> {
        let Outgoing { route, trigger, .. } = &self.outgoing;
        (route.priority, &route.queue, &trigger.namespace)
    }

    fn position(&self) -> Position {
        self.position()
    }
}

impl Store {
    /// Takes or keeps the backlog for `ttl` by the database's clock: no other dispatcher takes what is due meanwhile. False: another
    /// one has it, or the database is one where nothing is gained by it.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn hold_backlog(&self, dispatcher: Uuid, ttl: Duration) -> Result<bool> {
        if self.kind() == Kind::Sqlite {
            return Ok(false);
        }
        let mut tx = self.begin().await?;
        let is_held = tx.hold_backlog(dispatcher, ttl).await?;
        crash::around(Commit::HoldBacklog, tx.commit()).await?;
        Ok(is_held)
    }

    /// Lets others take what is due again.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: they do when its time is over.
    pub async fn leave_backlog(&self, dispatcher: Uuid) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.leave_backlog(dispatcher).await?;
        crash::around(Commit::LeaveBacklog, tx.commit()).await
    }

    /// Where something is due, now or later.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn due_lanes(&self) -> Result<Vec<DueLane>> {
        self.db.due_lanes().await
    }

    /// Up to `limit` runs that are due in these lanes, behind a position in each, and on each route no more than there is room for.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn see_due(
        &self,
        lanes: &[DueLane],
        limit: i64,
        room: &(dyn Fn(&Route) -> i64 + Send + Sync),
        behind: &(dyn Fn(&Lane) -> Option<Position> + Send + Sync),
    ) -> Result<Seeing> {
        let at = self.now().await?;
        let (due, held_back) = fair::see_due(&*self.db, lanes, at, limit, room, behind).await?;
        Ok(Seeing { due, held_back, at })
    }

    /// What is due in lanes, up to a position in each: of which of them, by its place in the list, and which run; in any order.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn due_until(&self, lines: &[(&Lane, Position)]) -> Result<Vec<(usize, WorkRequestId)>> {
        if lines.is_empty() { Ok(Vec::new()) } else { self.db.due_until(lines).await }
    }

    /// How many these are.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn count_due_until(&self, lines: &[(&Lane, Position)]) -> Result<i64> {
        if lines.is_empty() { Ok(0) } else { self.db.count_due_until(lines).await }
    }

    /// Marks first triggers that were lost as sent again, those that nobody has claimed. They are to be published after this
    /// returns.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn resend_unmarked(&self, runs: impl Iterator<Item = WorkRequestId>) -> Result<Vec<Outgoing>> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock_ids(&mut *tx, runs).await?;
        let mut outgoing = Vec::new();
        for id in batch.names() {
            let is_first = batch.get(id).is_some_and(|row| row.run.sends == 0 && !row.is_limited());
            if is_first && batch.apply(id, &Input::Send).is_ok() {
                batch.resend(id, true);
                outgoing.extend(batch.get(id).map(Outgoing::of));
            }
        }
        batch.save(&mut *tx).await?;
        crash::around(Commit::ResendLost, tx.commit()).await?;
        Ok(outgoing)
    }
}
