//! Lock, decide, save: the one way in which a run's state changes. Where nobody else is likely to want the same run, locking is
//! left out: look, decide, and replace what has not changed since; what has is decided anew under a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::database::{Database, Replaced, Tx, Which};
use super::rows::Claimable;
use super::schedules::ScheduleKey;
use super::{Hint, Result, Store, ids, limits};
use crate::crash::{self, Commit};
use crate::definition::Priority;
use crate::state::{Input, Lease, Phase, Refusal, Run, apply};
use crate::work_request::{FireRef, Happening, RunError, WorkRequestId};

/// A run whose row is locked, or is replaced only if it is as it was looked at, and what happens to it.
#[derive(Debug, Clone)]
pub(crate) struct Locked {
    pub(crate) id: WorkRequestId,
    pub(crate) namespace: String,
    pub(crate) job: String,
    pub(crate) job_version: i64,
    pub(crate) queue: String,
    pub(crate) fire: Option<FireRef>,
    /// As it was read.
    pub(crate) before: Run,
    /// As it is to be.
    pub(crate) run: Run,
    /// How often the present trigger was sent again.
    pub(crate) resends: i32,
    /// How long an attempt may take, in milliseconds.
    pub(crate) timeout_ms: i64,
    /// The number of the last event.
    pub(crate) seq: i32,
    /// Events to append, numbered.
    pub(crate) events: Vec<(i32, Happening)>,
    /// The output to keep.
    pub(crate) output: Option<Value>,
    /// What a worker has noted on what its attempt has begun elsewhere, for whoever goes on with it.
    pub(crate) notes: Option<Value>,
    /// The error to show.
    pub(crate) error: Option<RunError>,
    /// How long the attempt took that ends now, if that is told.
    pub(crate) took: Option<Duration>,
    /// Something waits for its end.
    pub(crate) follow: bool,
    /// Which goes first when many wait.
    pub(crate) priority: Priority,
    /// The limit of runs under way that it counts against, if any.
    pub(crate) concurrency_key: Option<String>,
    /// The rate that its start counts against, if any.
    pub(crate) rate_key: Option<String>,
    /// Not started by then, it FAILS.
    pub(crate) expires_at: Option<Timestamp>,
    /// The row's version, if it is locked neither here nor, as far as is known, by anybody else.
    pub(crate) version: Option<RowVersion>,
    /// Something changed.
    pub(crate) dirty: bool,
}

/// By which a row is known to be as it was.
#[derive(Debug, Clone)]
pub(crate) struct RowVersion {
    /// The transaction that wrote it.
    pub(crate) number: u32,
    /// Where it lies, in the database's own words.
    pub(crate) place: String,
}

/// A run as its claim has left it: if nobody changes it, what follows need not read it again. It says nothing of the lease that
/// is to be known, so that all are equal.
#[derive(Debug, Clone, Default)]
pub struct Known(pub(crate) Option<Arc<Locked>>);

impl PartialEq for Known {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A run that is not locked.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) run: Locked,
    /// When it was read, by the database's clock.
    pub(crate) at: Timestamp,
    pub(crate) facts: Claimable,
}

impl Locked {
    /// The schedule whose fire called for it, if one did.
    pub(crate) fn schedule_key(&self) -> Option<ScheduleKey> {
        let fire = self.fire.as_ref()?;
        Some(ScheduleKey { namespace: self.namespace.clone(), name: fire.schedule.clone() })
    }

    /// The work request's public row changes, not only its delivery.
    pub(crate) fn is_public(&self) -> bool {
        self.before.status != self.run.status
            || self.before.attempt != self.run.attempt
            || self.error.is_some()
            || self.output.is_some()
    }

    /// As it is once it has been replaced.
    pub(crate) fn replaced(&self, version: RowVersion) -> Self {
        let (before, version) = (self.run, Some(version));
        Self {
            before,
            version,
            dirty: false,
            events: Vec::new(),
            output: None,
            error: None,
            took: None,
            ..self.clone()
        }
    }

    /// Its start counts against a limit, so that it is to be decided under a lock.
    pub(crate) fn is_limited(&self) -> bool {
        self.concurrency_key.is_some() || self.rate_key.is_some()
    }

    /// The lease, if a worker has one.
    pub(crate) fn lease(&self) -> Option<Lease> {
        lease(self.run.phase)
    }

    /// The token of the lease that a worker had when this was read.
    pub(crate) fn token_before(&self) -> Option<Uuid> {
        lease(self.before.phase).map(|lease| lease.token)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.run.phase == Phase::Done
    }

    /// Whether it is too late to start it.
    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.run.attempt == 0 && self.expires_at.is_some_and(|at| at <= now)
    }

    /// What is noted on what goes on elsewhere, if something does.
    pub(crate) fn operation(&self) -> Option<(Uuid, Option<&Value>)> {
        self.run.operation.map(|operation| (operation.token, self.notes.as_ref()))
    }

    /// The limit of runs under way in which it has had a slot until now.
    pub(crate) fn freed(&self) -> Option<&str> {
        let has_slot = |phase| matches!(phase, Phase::Sent { .. } | Phase::Leased(_) | Phase::Parked { .. });
        self.concurrency_key.as_deref().filter(|_| has_slot(self.before.phase) && !has_slot(self.run.phase))
    }
}

const fn lease(phase: Phase) -> Option<Lease> {
    match phase {
        Phase::Leased(lease) => Some(lease),
        _ => None,
    }
}

/// Whom to wake after the commit of a transaction that has moved runs.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    due: bool,
    ended: bool,
}

impl Hints {
    /// Takes note of what became of a run.
    pub(crate) fn after(&mut self, row: &Locked) {
        self.due |= matches!(row.run.phase, Phase::Due { .. } | Phase::Parked { .. }) || row.freed().is_some();
        self.ended |= row.is_done() && row.follow;
    }

    /// Takes note of a run that is to have children.
    pub(crate) fn grow(&mut self) {
        self.ended = true;
    }

    /// Wakes those who may want to look.
    pub(crate) fn give(&self, store: &Store) {
        let wanted = [(self.due, Hint::Due), (self.ended, Hint::Ended)];
        wanted.into_iter().filter(|(wanted, _)| *wanted).for_each(|(_, hint)| store.hint(hint));
    }
}

/// The runs that one transaction has locked, or that are to be replaced together.
pub(crate) struct Batch {
    pub(crate) now: Timestamp,
    rows: HashMap<WorkRequestId, Locked>,
    /// In the order in which the database gave them.
    order: Vec<WorkRequestId>,
}

impl Batch {
    /// Locks the selected runs.
    pub(crate) async fn lock(tx: &mut dyn Tx, which: Which<'_>) -> Result<Self> {
        let rows = tx.lock(which).await?;
        Ok(Self::of(rows, tx.now()))
    }

    /// Runs that were read at this instant.
    pub(crate) fn of(rows: Vec<Locked>, now: Timestamp) -> Self {
        let order = rows.iter().map(|row| row.id).collect();
        Self { now, rows: rows.into_iter().map(|row| (row.id, row)).collect(), order }
    }

    /// Locks runs by name.
    pub(crate) async fn lock_ids(tx: &mut dyn Tx, names: impl Iterator<Item = WorkRequestId>) -> Result<Self> {
        Self::lock(tx, Which::Ids(&ids(names))).await
    }

    /// Runs that are not locked, by name, and what workers are told of them; none where the database gains nothing by that.
    pub(crate) async fn look(
        db: &dyn Database,
        names: impl Iterator<Item = WorkRequestId>,
        inputs: bool,
    ) -> Result<Option<(Self, HashMap<WorkRequestId, Claimable>)>> {
        let Some(looked) = db.look(&ids(names), inputs).await? else { return Ok(None) };
        let now = looked.iter().map(|looked| looked.at).max().unwrap_or_default();
        let (rows, facts) = looked.into_iter().map(|Looked { run, facts, .. }| (run, (facts.id, facts))).unzip();
        Ok(Some((Self::of(rows, now), facts)))
    }

    /// The runs' names.
    pub(crate) fn names(&self) -> Vec<WorkRequestId> {
        self.order.clone()
    }

    /// One of the runs.
    pub(crate) fn get(&self, id: WorkRequestId) -> Option<&Locked> {
        self.rows.get(&id)
    }

    /// Lets `input` happen to run `id`; a run that is not there has ended.
    pub(crate) fn apply(&mut self, id: WorkRequestId, input: &Input) -> std::result::Result<&mut Locked, Refusal> {
        let row = self.rows.get_mut(&id).ok_or(Refusal::Ended)?;
        let transition = apply(&row.run, input, self.now)?;
        if let Some(event) = transition.event {
            if let Happening::AttemptFailed { error, .. } | Happening::Failed { error, .. } = &event {
                row.error = Some(error.clone());
            }
            row.seq += 1;
            row.events.push((row.seq, event));
        }
        if matches!(input, Input::Send) {
            row.resends = 0;
        }
        row.run = transition.run;
        row.dirty = true;
        Ok(row)
    }

    /// Keeps what has changed.
    pub(crate) async fn save(&self, tx: &mut dyn Tx) -> Result<()> {
        let changed = self.changed();
        if changed.is_empty() {
            return Ok(());
        }
        tx.save(&changed).await?;
        limits::wake_freed(tx, &changed).await
    }

    /// Keeps what has changed of runs that nobody has changed or locked before, as of `at` or of now; answers which. A run that frees a slot, which may be another one's to take, needs a lock: it stays as it was.
    pub(crate) async fn replace(
        &self,
        db: &dyn Database,
        commit: Commit,
        at: Option<Timestamp>,
        worker: Option<Uuid>,
    ) -> Result<Replaced> {
        let mut changed = self.changed();
        changed.retain(|row| row.version.is_some() && row.freed().is_none());
        if changed.is_empty() {
            return Ok(Replaced::new());
        }
        crash::around(commit, db.replace(&changed, at, worker)).await
    }

    fn changed(&self) -> Vec<&Locked> {
        self.order.iter().map(|id| &self.rows[id]).filter(|row| row.dirty).collect()
    }

    /// The runs.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Locked> {
        self.rows.values()
    }

    /// Sends a run that was held, as it has its slot now.
    pub(crate) fn let_go(&mut self, id: WorkRequestId) {
        let sent = self.apply(id, &Input::Admit).is_ok() && self.apply(id, &Input::Send).is_ok();
        debug_assert!(sent, "what is held and locked can be let go");
    }

    /// Marks a run: its end is to be followed up.
    pub(crate) fn follow(&mut self, id: WorkRequestId) {
        if let Some(row) = self.rows.get_mut(&id)
            && !row.follow
        {
            row.follow = true;
            row.dirty = true;
        }
    }

    /// Marks a run's trigger as sent once more, under the same number; the history tells of one that was lost.
    pub(crate) fn resend(&mut self, id: WorkRequestId, lost: bool) {
        if let Some(row) = self.rows.get_mut(&id)
            && let Phase::Sent { .. } = row.run.phase
        {
            row.run.phase = Phase::Sent { at: self.now };
            row.resends += 1;
            if lost {
                row.seq += 1;
                row.events.push((row.seq, Happening::Resent));
            }
            row.dirty = true;
        }
    }
}
