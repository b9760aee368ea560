//! Runs with children: how these are born, once each, and how the run ends with them.
//!
//! Inputs are kept in chunks, in short transactions, before the run that they belong to is accepted: in the transaction
//! that accepts it stands no more than their number. Whoever deletes a chunk makes its children in the same transaction.
//! Their ends are counted by whoever follows them up (`follow`), many in one update. Locks are taken in this order: the
//! fan-out's row, runs, limits.

mod counting;

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) use self::counting::count_ends;
use self::counting::share;
use super::accept::{self, Acceptance, Admits, NewWorkRequest};
use super::database::Tx;
use super::dispatch::Outgoing;
use super::idempotency::{self, IdempotencyKey};
use super::schedules::ScheduleKey;
use super::transition::{Batch, Hints};
use super::{Hint, Result, Store, unique};
use crate::crash::{self, Commit};
use crate::fan_out::{Counts, End, FailPolicy, MAX_CHILDREN, MAX_DEPTH, Stop, Verdict, judge};
use crate::state::{Input, Joined, Status};
use crate::work_request::{RunError, WorkRequestId};

/// How long inputs are kept for which no run was accepted; a worker that streams them keeps its lease meanwhile.
pub const STAGED: SignedDuration = SignedDuration::from_hours(1);
/// Chunks that are forgotten in one transaction.
const FORGOTTEN: i64 = 20;

/// A run with children, and how far these are.
#[derive(Debug, Clone, PartialEq)]
pub struct FanOut {
    /// The run.
    pub parent: WorkRequestId,
    /// The tenant.
    pub namespace: String,
    /// What the children run, and at which version.
    pub job: String,
    /// The version.
    pub job_version: i64,
    /// What failed children mean.
    pub policy: FailPolicy,
    /// How many runs it is within, itself included.
    pub depth: i32,
    /// Under which name the inputs of children that are not made yet are kept.
    pub batch: Uuid,
    /// How far they are.
    pub counts: Counts,
    /// The first child that FAILED.
    pub first_failed: Option<WorkRequestId>,
    /// Why no more children are made, if so.
    pub stopped: Option<Stop>,
    /// When the run ended.
    pub ended_at: Option<Timestamp>,
}

/// A run with children that has not ended, and how it stands itself.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenFanOut {
    /// Its children.
    pub fan_out: FanOut,
    /// The run's own state.
    pub status: Status,
}

impl OpenFanOut {
    /// What is to be done about it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.fan_out.verdict(self.status == Status::Canceling)
    }

    /// Children may be made.
    #[must_use]
    pub fn is_to_grow(&self) -> bool {
        let may = matches!(self.status, Status::Accepted | Status::InProgress);
        may && self.fan_out.stopped.is_none() && self.fan_out.counts.unborn() > 0
    }
}

impl FanOut {
    fn verdict(&self, canceling: bool) -> Verdict {
        judge(self.policy, &self.counts, self.stopped, canceling)
    }

    fn joined(&self, end: End) -> Joined {
        match end {
            End::Succeeded => Joined::Succeeded,
            End::Canceled => Joined::Canceled,
            End::Failed => {
                let Counts { total, failed, .. } = self.counts;
                let tolerated = self.policy.tolerated(total);
                let first = self.first_failed.map(|id| format!("; the first was {id}")).unwrap_or_default();
                let message = format!("{failed} of {total} children failed, and {tolerated} may{first}");
                Joined::Failed(RunError::new("ChildFailed", message))
            }
        }
    }

    /// What a run that has ended with its children answers.
    fn summary(&self) -> Value {
        let Counts { total, succeeded, failed, canceled, .. } = self.counts;
        let canceled = canceled + self.counts.unborn();
        json!({ "total": total, "succeeded": succeeded, "failed": failed, "canceled": canceled })
    }
}

/// The children that a run is to have.
#[derive(Debug, Clone, PartialEq)]
pub struct NewFanOut {
    /// What they run.
    pub job: String,
    /// At which version.
    pub job_version: i64,
    /// What failed ones mean.
    pub policy: FailPolicy,
    /// Where their inputs are kept, see [`super::Staging`].
    pub batch: Uuid,
    /// How many they are.
    pub total: u32,
}

/// Inputs that become children together.
#[derive(Debug, Clone, PartialEq)]
pub struct InputChunk {
    /// Which of the batch.
    pub number: i32,
    /// One for each child.
    pub inputs: Vec<Value>,
}

/// Children to be made of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Births {
    /// Their parent.
    pub parent: WorkRequestId,
    /// The chunk's number.
    pub chunk: i32,
    /// One for each of its inputs.
    pub requests: Vec<NewWorkRequest>,
}

/// What became of births.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Born {
    /// Children that were made, or found in another run that is the same.
    pub count: usize,
    /// Their triggers that count as sent: to be published.
    pub sent: Vec<Outgoing>,
}

/// What a run needs to be another one's child.
#[derive(Debug, Clone, PartialEq)]
pub struct UnfinishedChild {
    /// The child.
    pub id: WorkRequestId,
    /// What it was given.
    pub input: Value,
}

/// Why a report can't make children of what its run has handed over; the run FAILS for it.
pub(crate) enum NoSplit {
    /// Nothing to make: it has ended well.
    Empty,
    Failed(RunError),
}

/// The children that a report's run is to have.
pub(crate) async fn split(
    tx: &mut dyn Tx,
    namespace: &str,
    id: WorkRequestId,
    (job, policy, batch, total): (&str, FailPolicy, Uuid, u32),
) -> Result<std::result::Result<(NewFanOut, i32), NoSplit>> {
    let failed = |code: &str, message: String| Ok(Err(NoSplit::Failed(RunError::new(code, message))));
    if total == 0 {
        return Ok(Err(NoSplit::Empty));
    }
    if total > MAX_CHILDREN {
        return failed("TooManyChildren", format!("{total} children; {MAX_CHILDREN} are allowed"));
    }
    let depth = tx.depth_of(id).await? + 1;
    if depth > MAX_DEPTH {
        return failed(
            "TooDeep",
            format!("children of children are allowed {MAX_DEPTH} deep, and it is {MAX_DEPTH} deep"),
        );
    }
    let key = ScheduleKey { namespace: namespace.to_owned(), name: job.to_owned() };
    let Some(known) = tx.jobs_in_force(std::slice::from_ref(&key)).await?.pop() else {
        return failed("UnknownJob", format!("its children run job {job}, which is not in force any more"));
    };
    let kept = tx.staged(batch).await?;
    if kept != i64::from(total) {
        return failed("InputsLost", format!("of the inputs of {total} children {kept} are there"));
    }
    Ok(Ok((NewFanOut { job: job.to_owned(), job_version: known.version, policy, batch, total }, depth)))
}

impl Store {
    /// Forgets the inputs of a batch that no run has.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn discard_inputs(&self, batch: Uuid) -> Result<()> {
        loop {
            let mut tx = self.begin().await?;
            let gone = tx.discard_inputs(batch, FORGOTTEN).await?;
            crash::around(Commit::DiscardInputs, tx.commit()).await?;
            if gone == 0 {
                return Ok(());
            }
        }
    }

    /// Accepts a work request that is to have children, of inputs that are staged.
    ///
    /// # Errors
    /// As those of [`Store::accept`].
    pub async fn accept_fan_out(
        &self,
        request: NewWorkRequest,
        fan_out: &NewFanOut,
        key: Option<&IdempotencyKey>,
    ) -> Result<Acceptance> {
        let mut tx = self.begin().await?;
        let id = request.id;
        if let Some(key) = key
            && let Some(earlier) = idempotency::take(&mut *tx, key, &id.to_string()).await?
        {
            return Acceptance::of(earlier);
        }
        let namespace = request.namespace.clone();
        accept::insert(&mut *tx, &[NewWorkRequest { has_children: true, ..request }]).await?;
        tx.insert_fan_out(id, &namespace, fan_out, 1).await?;
        crash::around(Commit::AcceptFanOut, tx.commit()).await?;
        self.hint(Hint::Ended);
        Ok(Acceptance::New(id))
    }

    /// Up to `limit` runs with children that have not ended, behind `after`, the first accepted first.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn open_fan_outs(&self, after: Option<WorkRequestId>, limit: i64) -> Result<Vec<OpenFanOut>> {
        self.db.open_fan_outs(after.map_or(Uuid::nil(), |id| id.0), limit).await
    }

    /// The children of a run, if it has any.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn fan_out(&self, parent: WorkRequestId) -> Result<Option<FanOut>> {
        self.db.fan_out(parent).await
    }

    /// The first chunk of a batch behind this number.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn next_chunk(&self, batch: Uuid, after: i32) -> Result<Option<InputChunk>> {
        self.db.next_chunk(batch, after).await
    }

    /// Makes the children of a chunk, unless someone else has, or the run is to have no more. Those that go out at once, on
    /// routes that admit them, count as sent.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: none was made, or the answer was lost; look at the next chunk again.
    pub async fn bear(&self, births: Births, admits: &Admits<'_>) -> Result<Born> {
        let Births { parent, chunk, mut requests } = births;
        let mut tx = self.begin().await?;
        let Some(mut row) = tx.lock_fan_out(parent).await?.filter(|row| row.stopped.is_none()) else {
            return Ok(Born::default());
        };
        let mut batch = Batch::lock_ids(&mut *tx, std::iter::once(parent)).await?;
        let status = batch.get(parent).map(|run| run.run.status);
        let Some(status) = status.filter(|status| *status != Status::Canceling) else {
            return Ok(Born::default());
        };
        if !tx.take_chunk(row.batch, chunk).await? {
            return Ok(Born::default());
        }
        if status == Status::Accepted {
            let split = Input::Split { token: None, children: row.counts.total };
            let _refused = batch.apply(parent, &split).is_err();
            batch.save(&mut *tx).await?;
        }
        let count = requests.len();
        row.counts.born += u32::try_from(count).unwrap_or(u32::MAX);
        let joined = unique::join(&mut *tx, &mut requests).await?;
        accept::send_at_birth(&mut requests, admits);
        accept::insert(&mut *tx, &requests).await?;
        let mut holders: HashMap<WorkRequestId, u32> = HashMap::new();
        joined.into_values().for_each(|holder| *holders.entry(holder).or_default() += 1);
        share(&mut *tx, &mut row, &holders).await?;
        tx.save_fan_out(&row).await?;
        let now = tx.now();
        crash::around(Commit::Bear, tx.commit()).await?;
        Ok(Born { count, sent: self.after_births(&requests, now) })
    }

    /// Does what is to be done about a run with children, as it stands now: makes no more of them, or ends it. Answers
    /// what that was.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn settle(&self, parent: WorkRequestId) -> Result<Verdict> {
        let mut tx = self.begin().await?;
        let Some(mut row) = tx.lock_fan_out(parent).await?.filter(|row| row.ended_at.is_none()) else {
            return Ok(Verdict::GoOn);
        };
        let mut batch = Batch::lock_ids(&mut *tx, std::iter::once(parent)).await?;
        let mut hints = Hints::default();
        let verdict = match batch.get(parent) {
            // It was canceled before it had any.
            None => {
                row.stopped.get_or_insert(Stop::Canceled);
                row.ended_at = Some(tx.now());
                Verdict::End(End::Canceled)
            }
            Some(run) => row.verdict(run.run.status == Status::Canceling),
        };
        match verdict {
            Verdict::GoOn => return Ok(verdict),
            Verdict::Stop(why) => {
                row.stopped = Some(why);
                // What goes on for others as well is not stopped, and not waited for.
                row.counts.canceled += tx.leave_shared(parent).await?;
            }
            Verdict::End(end) => {
                row.ended_at = Some(tx.now());
                let mut output = json!({ "children": row.summary() });
                if let Some(own) = tx.output_of(parent).await?.filter(|own| !own.is_null()) {
                    output["output"] = own;
                }
                if let Ok(run) = batch.apply(parent, &Input::Join { end: row.joined(end) }) {
                    run.output = Some(output);
                    hints.after(run);
                }
            }
        }
        batch.save(&mut *tx).await?;
        tx.save_fan_out(&row).await?;
        crash::around(Commit::Settle, tx.commit()).await?;
        hints.give(self);
        Ok(verdict)
    }

    /// Counts the children of a run anew, if none of them is under way and yet some ends were not counted. That should
    /// not happen. Answers whether it had.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn recount(&self, parent: WorkRequestId) -> Result<bool> {
        let mut tx = self.begin().await?;
        let open = tx.lock_fan_out(parent).await?.filter(|row| row.ended_at.is_none());
        let Some(mut row) = open.filter(|row| row.counts.under_way() > 0) else { return Ok(false) };
        if tx.awaited(parent).await? {
            return Ok(false);
        }
        let [succeeded, failed, canceled] = tx.count_children(parent).await?;
        let counts = &mut row.counts;
        counts.succeeded = counts.succeeded.max(succeeded);
        counts.canceled = counts.canceled.max(canceled);
        // One of which nothing is known any more has not succeeded.
        let unknown = counts.born.saturating_sub(counts.succeeded + counts.canceled);
        counts.failed = counts.failed.max(failed).max(unknown);
        tx.save_fan_out(&row).await?;
        tx.raise_percent(parent, row.counts.percent()).await?;
        crash::around(Commit::Recount, tx.commit()).await?;
        self.hint(Hint::Ended);
        Ok(true)
    }

    /// Up to `limit` children of a run that did not succeed, behind `after`, the first accepted first.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn unfinished_children(
        &self,
        parent: WorkRequestId,
        after: Option<WorkRequestId>,
        limit: i64,
    ) -> Result<Vec<UnfinishedChild>> {
        self.db.unfinished_children(parent, after.map_or(Uuid::nil(), |id| id.0), limit).await
    }

    /// Forgets inputs, at most `limit` chunks: those staged before `staged` for no run, and those of children that were
    /// not made of runs that ended before `ended`.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn purge_inputs(&self, staged: Timestamp, ended: Timestamp, limit: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let purged = tx.purge_inputs(staged, ended, limit).await?;
        crash::around(Commit::PurgeInputs, tx.commit()).await?;
        Ok(purged)
    }
}
