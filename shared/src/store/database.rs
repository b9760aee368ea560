//! The seam beneath [`super::Store`]: what a database must do, implemented by PostgreSQL and SQLite.
//!
//! Everything that writes goes through one [`Tx`]: lock, decide (above the seam), save, commit. Batches
//! are slices, so that each database can use what it is good at.

mod feed;
mod keys;
mod webhooks;

use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::accept::NewWorkRequest;
use super::backfills::{Backfill, BackfillStep, NewBackfill};
use super::backlog::Seen;
use super::changes::{Change, DefinitionKind, NamedChange, RecordedChange};
use super::definitions::{InForce, Versioned};
use super::events_in::{RefusedRecord, SeenKey};
use super::external::ExternalRow;
use super::fair::{DueLane, Lane, Position, Share};
use super::fan_outs::{FanOut, InputChunk, NewFanOut, OpenFanOut, UnfinishedChild};
use super::fires::{CursorMove, Fire};
use super::follow::EndedRun;
use super::idempotency::IdempotencyKey;
use super::leader::Generation;
use super::leases::HeldLease;
use super::limits::{Limit, LimitRow};
use super::markers::Marker;
use super::reports::{LateReport, Progress, Report};
use super::requests::{ListFilter, QueueDepth, Standing};
use super::rows::{Claimable, InOutbox};
use super::schedules::{ScheduleKey, ScheduleRow};
use super::transition::{Locked, Looked, RowVersion};
use super::waits::{Took, WaitFacts};
use super::workers::{NewWorker, Worker};
use super::{Hint, Kind, Result};
use crate::broker::Route;
use crate::cloud_event::RefusedEvent;
use crate::definition::Job;
use crate::state::{Hold, Status};
use crate::work_request::{HistoryEvent, LogLine, WorkRequest, WorkRequestId};

pub(crate) use self::feed::{Feed, ReadFeed};
pub(crate) use self::keys::{Keys, ReadKeys};
pub(crate) use self::webhooks::{Deliveries, ReadWebhooks, Webhooks};

/// The runs that were replaced, and the new version of each that goes on.
pub(crate) type Replaced = HashMap<Uuid, Option<RowVersion>>;

/// The way to write, and what else differs.
#[async_trait]
pub(crate) trait Database:
    ReadPlans + ReadRuns + ReadAnswers + ReadFanOuts + ReadKeys + ReadWebhooks + ReadFeed + Send + Sync + 'static
{
    fn kind(&self) -> Kind;
    /// Ends all connections.
    async fn close(&self);
    async fn now(&self) -> Result<Timestamp>;
    async fn begin(&self) -> Result<Box<dyn Tx>>;
    /// These work requests, those that there are, in any order.
    async fn work_requests_of(&self, ids: &[Uuid]) -> Result<Vec<WorkRequest>>;
    /// Runs as they are, not locked, those of these that there are, with their inputs if these are wanted. `None` from a
    /// database that gains nothing by it.
    async fn look(&self, ids: &[Uuid], inputs: bool) -> Result<Option<Vec<Looked>>>;
    /// Keeps the new state and events, as of `at` or of now, of those runs that nobody has changed or locked since they were
    /// looked at; answers which, and the versions of those that go on. With a worker that was taken for dead: of none that goes
    /// on. All of it in a transaction of its own, which passes over what others have locked.
    async fn replace(&self, runs: &[&Locked], at: Option<Timestamp>, worker: Option<Uuid>) -> Result<Replaced>;
    /// Inserts work requests that are [`NewWorkRequest::is_plain`], in a transaction of their own; answers when they were accepted.
    /// `None` if an id's clock and the database's are too far apart, and from a database that gains nothing by it.
    async fn accept(&self, requests: &[NewWorkRequest]) -> Result<Option<Timestamp>>;
    /// The same runs as [`Which::Due`] at `now`, and none is locked; also such as others have locked. Of this and the next two: nothing
    /// in a database where nobody holds a backlog.
    async fn see(&self, _shares: &[Share], _now: Timestamp) -> Result<Vec<Seen>> {
        Ok(Vec::new())
    }
    /// What is due in lanes, up to a position in each: of which of them, and which run; in any order.
    async fn due_until(&self, _lines: &[(&Lane, Position)]) -> Result<Vec<(usize, WorkRequestId)>> {
        Ok(Vec::new())
    }
    /// How many these are.
    async fn count_due_until(&self, _lines: &[(&Lane, Position)]) -> Result<i64> {
        Ok(0)
    }
    /// What workers are told of these work requests, those that there are, in any order. It never changes.
    async fn claimable(&self, ids: &[Uuid]) -> Result<Vec<Claimable>>;
    /// Transactions that have written to histories and whose commits may not be visible yet, by their names.
    async fn writers(&self) -> Result<HashSet<String>>;
    /// Passes a hint on to other processes.
    fn hint(&self, hint: Hint);
    /// Waits for a hint of any process; never returns where there are no others.
    async fn hinted(&self) -> Result<Hint>;
}

/// Reads of definitions, fires and what follows, the same text in both databases.
#[async_trait]
pub(crate) trait ReadPlans {
    async fn in_force(&self) -> Result<Option<InForce>>;
    async fn was_in_force(&self, digest: &str) -> Result<bool>;
    async fn job_version(&self, namespace: &str, name: &str, version: i64) -> Result<Option<Job>>;
    async fn jobs(&self, namespace: &str, from: NamePage<'_>) -> Result<Vec<Versioned<Job>>>;
    async fn schedules(&self, namespace: &str, from: NamePage<'_>) -> Result<Vec<ScheduleRow>>;
    async fn every_job(&self) -> Result<Vec<Versioned<Job>>>;
    async fn every_schedule(&self) -> Result<Vec<ScheduleRow>>;
    async fn due_schedules(&self, until: Timestamp, limit: i64) -> Result<Vec<ScheduleRow>>;
    async fn queues(&self) -> Result<Vec<String>>;
    async fn external_queues(&self) -> Result<Vec<String>>;
    /// The generation whose lease has not ended, if there is one.
    async fn leader(&self, now: Timestamp) -> Result<Option<Generation>>;
    /// When the lease of the leader before the present one ended, if there was one.
    async fn leader_before_ended(&self) -> Result<Option<Timestamp>>;
    async fn changes(
        &self,
        kind: DefinitionKind,
        key: &ScheduleKey,
        before: i64,
        limit: i64,
    ) -> Result<Vec<RecordedChange>>;

    async fn changes_of_namespace(&self, namespace: &str, before: i64, limit: i64) -> Result<Vec<NamedChange>>;

    /// Schedules with held fires and no other unended run of a fire.
    async fn held_schedules(&self) -> Result<Vec<ScheduleKey>>;
    async fn ended_runs(&self, limit: i64) -> Result<Vec<EndedRun>>;
    async fn backfill(&self, key: &ScheduleKey, id: &str) -> Result<Option<Backfill>>;
    async fn backfills(&self, key: &ScheduleKey, after: &str, limit: i64) -> Result<Vec<Backfill>>;
    async fn running_backfills(&self) -> Result<Vec<Backfill>>;

    async fn fires_at(&self, key: &ScheduleKey, at: Timestamp) -> Result<Vec<Fire>>;
    async fn fires(&self, key: &ScheduleKey, before: Timestamp, limit: i64) -> Result<Vec<Fire>>;
}

/// The fields of the request that a key was taken for, and what it has come to.
pub(crate) type TakenKey = (BTreeMap<String, String>, String);

/// Reads of runs and workers, likewise.
#[async_trait]
pub(crate) trait ReadRuns {
    async fn next_due(&self) -> Result<Option<Timestamp>>;
    async fn due_lanes(&self) -> Result<Vec<DueLane>>;
    /// Of each namespace how many runs wait for their first start.
    async fn queued(&self) -> Result<Vec<(String, i64)>>;
    /// How many triggers are sent on this route and not claimed.
    async fn unclaimed_on(&self, route: &Route) -> Result<i64>;
    /// Up to `limit` due runs of a run's lane that go out before it, counted.
    async fn ahead_in_lane(&self, run: WorkRequestId, limit: i64) -> Result<i64>;
    async fn work_request(&self, namespace: &str, id: WorkRequestId) -> Result<Option<WorkRequest>>;
    async fn work_requests(&self, filter: &ListFilter, limit: i64) -> Result<Vec<WorkRequest>>;
    async fn events(&self, id: WorkRequestId, after: i32, limit: i64) -> Result<Vec<HistoryEvent>>;
    async fn logs(&self, id: WorkRequestId, after: (i32, i32), limit: i64) -> Result<Vec<LogLine>>;
    async fn depths(&self) -> Result<Vec<QueueDepth>>;

    async fn workers(&self) -> Result<Vec<Worker>>;
    async fn leases_of(&self, worker: Uuid) -> Result<Vec<HeldLease>>;
    /// Up to `limit` unended work requests that the filter lets through, the first accepted first.
    async fn unended(&self, filter: &ListFilter, limit: i64) -> Result<Vec<WorkRequestId>>;
    /// What is known of the limit that holds a run.
    async fn wait_facts(&self, run: &WorkRequest, hold: Hold) -> Result<Option<WaitFacts>>;
    /// How long up to `sample` of a job's last runs that succeeded took, if they are among the last `among` of all, or of those
    /// that came before whatever workers have or may take.
    async fn durations(&self, namespace: &str, job: &str, sample: i64, among: i64, now: Timestamp)
    -> Result<Vec<Took>>;
    /// Up to `limit` refused events before this number, the newest first.
    async fn refused_events(&self, before: i64, limit: i64) -> Result<Vec<RefusedRecord>>;
    async fn late_reports(&self, id: WorkRequestId) -> Result<Vec<LateReport>>;
    async fn markers(&self) -> Result<Vec<Marker>>;
    /// The first route behind this one with a trigger that is sent and not claimed, and when the oldest was.
    async fn next_sent(&self, after: Option<&Route>) -> Result<Option<(Route, Timestamp)>>;
    async fn overdue_leases(&self, now: Timestamp, limit: i64) -> Result<Vec<HeldLease>>;
    async fn abandoned(&self, now: Timestamp, limit: i64) -> Result<Vec<HeldLease>>;
    async fn tells_transitions(&self) -> Result<bool>;
    async fn untold(&self, besides: &[i64], limit: i64) -> Result<Vec<InOutbox>>;
}

/// Reads for those who wait for an answer, likewise.
#[async_trait]
pub(crate) trait ReadAnswers {
    async fn standings(&self, ids: &[WorkRequestId]) -> Result<Vec<(WorkRequestId, Standing)>>;
    async fn outputs(&self, ids: &[WorkRequestId]) -> Result<Vec<(WorkRequestId, Value)>>;
    /// Up to `limit` entries of a history before a number, the last one first.
    async fn events_before(&self, id: WorkRequestId, before: i32, limit: i64) -> Result<Vec<HistoryEvent>>;
    async fn taken_key(&self, key: &IdempotencyKey) -> Result<Option<TakenKey>>;
}

/// Reads of runs with children, likewise.
#[async_trait]
pub(crate) trait ReadFanOuts {
    async fn open_fan_outs(&self, after: Uuid, limit: i64) -> Result<Vec<OpenFanOut>>;
    async fn fan_out(&self, parent: WorkRequestId) -> Result<Option<FanOut>>;
    async fn next_chunk(&self, batch: Uuid, after: i32) -> Result<Option<InputChunk>>;
    async fn unfinished_children(&self, parent: WorkRequestId, after: Uuid, limit: i64)
    -> Result<Vec<UnfinishedChild>>;
}

/// Where a page of names starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NamePage<'a> {
    /// Only this name.
    Only(&'a str),
    /// At most `limit` names behind this one that hold `part`.
    After { name: &'a str, part: &'a str, limit: i64 },
}

/// Which runs to lock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    /// These, waiting for whoever has them. Ids in ascending order.
    Ids(&'a [Uuid]),
    /// The same, those of them that are due, passing over those that others have locked.
    Free(&'a [Uuid]),
    /// Those that fires of these schedules have called for, whatever the origin, waiting for whoever has them.
    OfSchedules(&'a [ScheduleKey]),
    /// Some whose trigger is due at `now`, of each lane those that are due first, passing over those that others have locked.
    Due { shares: &'a [Share] },
    /// Some whose attempt has begun something elsewhere that is to be asked after now; likewise.
    Parked { limit: i64 },
    /// Some that are held for a slot of this limit, the first to go first; likewise.
    Held { key: &'a str, hold: Hold, limit: i64 },
    /// Some that have not started by the time at which they expire; likewise.
    Expired { limit: i64 },
    /// Some whose trigger was sent on this route after `from` and not after `until`, and longer ago than `patience`, doubled
    /// with each time that it was sent again, and is not claimed; likewise.
    Sent { route: &'a Route, from: Timestamp, until: Timestamp, patience: SignedDuration, limit: i64 },
}

/// One open write transaction. Dropping it rolls back.
///
/// [`Plain`] statements are the same text in both databases; [`Runs`] and [`Plans`] are the batches, in which
/// each does what it is good at.
#[async_trait]
pub(crate) trait Tx:
    Plain + PlainEvents + Events + Runs + Plans + Limits + FanOuts + Keys + Webhooks + Deliveries + Feed + Send
{
    /// The database's clock when the transaction began.
    fn now(&self) -> Timestamp;
    async fn commit(self: Box<Self>) -> Result<()>;
}

/// Batches of runs.
#[async_trait]
pub(crate) trait Runs {
    async fn lock(&mut self, which: Which<'_>) -> Result<Vec<Locked>>;
    /// Keeps the rows' new state and events.
    async fn save(&mut self, rows: &[&Locked]) -> Result<()>;
    async fn insert_requests(&mut self, requests: &[NewWorkRequest]) -> Result<()>;
    /// Of these (work request, token) pairs, the ones under which an attempt has been ended.
    async fn ended_under(&mut self, pairs: &[(Uuid, Uuid)]) -> Result<HashSet<(Uuid, Uuid)>>;
    async fn save_progress(&mut self, progress: &[Progress]) -> Result<()>;
    async fn append_logs(&mut self, lines: &[(WorkRequestId, LogLine)]) -> Result<()>;
    /// Of these schedules, the ones with held fires.
    async fn holding(&mut self, keys: &[ScheduleKey]) -> Result<Vec<ScheduleKey>>;
    /// Takes entries out of the outbox.
    async fn take_out(&mut self, numbers: &[i64]) -> Result<()>;
    /// Deletes follow-ups; answers which of them were there.
    async fn take_follow_ups(&mut self, ids: &[Uuid]) -> Result<HashSet<Uuid>>;
}

/// Batches of what workers in other languages tell.
#[async_trait]
pub(crate) trait Events {
    /// All leases that such workers have had of these runs, locked after whoever has them.
    async fn lock_external(&mut self, runs: &[Uuid]) -> Result<Vec<ExternalRow>>;
    /// Of these events, those that were taken.
    async fn seen(&mut self, keys: &[SeenKey]) -> Result<HashSet<SeenKey>>;
    async fn keep_seen(&mut self, keys: &[SeenKey]) -> Result<()>;
}

/// Single statements about them.
#[async_trait]
pub(crate) trait PlainEvents {
    async fn put_external(&mut self, lease: &ExternalRow) -> Result<()>;
    /// Keeps what has changed of a lease that is locked.
    async fn save_external(&mut self, lease: &ExternalRow) -> Result<()>;
    /// Makes a worker in another language known, or counts a beat of it; it lives from now on.
    async fn put_external_worker(&mut self, worker: Uuid, name: &str, queue: &str) -> Result<()>;
    async fn namespace_of(&mut self, run: Uuid) -> Result<Option<String>>;
    /// Keeps how far a run is at least, and the last words on it.
    async fn set_words(&mut self, run: Uuid, percent: f32, message: Option<&str>) -> Result<()>;
    async fn set_output(&mut self, run: Uuid, output: &Value) -> Result<()>;
    /// Records what was refused so many times for the same reason.
    async fn keep_refused(&mut self, fingerprint: &str, via: &str, event: &RefusedEvent, count: i64) -> Result<()>;
    /// Forgets refused events that came last before this instant, and the oldest where there are more than `most`.
    async fn purge_refused(&mut self, before: Timestamp, most: i64) -> Result<u64>;
    /// Forgets events that were taken before this instant.
    async fn purge_seen(&mut self, before: Timestamp, limit: i64) -> Result<u64>;
}

/// What to do about rows that are read to be counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locking {
    /// Nothing: they may change.
    No,
    /// Lock them until the end of the transaction, after whoever has them.
    Wait,
    /// The same, those of them that are due, passing over those that others have locked.
    PassOver,
}

/// Batches of limits. Keys come in ascending order, in which all lock them.
#[async_trait]
pub(crate) trait Limits {
    /// Those that are known.
    async fn limits(&mut self, keys: &[String], locking: Locking) -> Result<Vec<LimitRow>>;
    /// Makes limits known as they are now, and wakes those that were others.
    async fn put_limits(&mut self, limits: &[&Limit]) -> Result<()>;
    /// How many runs have a slot of each.
    async fn under_way(&mut self, keys: &[String]) -> Result<HashMap<String, i64>>;
    /// How many starts of each there were after an instant, and when the first of them was.
    async fn starts(&mut self, spans: &[(String, Timestamp)]) -> Result<HashMap<String, (i64, Timestamp)>>;
    /// Keeps starts, and forgets those at the given instants or before.
    async fn record_starts(&mut self, starts: &[(String, WorkRequestId)], forget: &[(String, Timestamp)])
    -> Result<()>;
    /// When each is to be woken, if it is.
    async fn wake_limits(&mut self, wakes: &[(String, Option<Timestamp>)]) -> Result<()>;
    /// Marks those of these to be woken now for whose slots runs are held.
    async fn wake_holding(&mut self, keys: &[String]) -> Result<()>;
    /// Forgets limits that no run has used since this instant.
    async fn purge_limits(&mut self, before: Timestamp, limit: i64) -> Result<u64>;
}

/// Batches of schedules, fires and definitions.
#[async_trait]
pub(crate) trait Plans {
    /// The generation that leads: it does until the transaction ends, and its own writes wait for that.
    async fn leading(&mut self) -> Result<Generation>;
    /// These schedules' rows, in the order of their names, waiting for whoever has them.
    async fn lock_schedules(&mut self, keys: &[ScheduleKey]) -> Result<Vec<ScheduleRow>>;
    /// The jobs of these names that are in force.
    async fn jobs_in_force(&mut self, keys: &[ScheduleKey]) -> Result<Vec<Versioned<Job>>>;
    /// Moves cursors that are where the move says, under the version that it says, if not paused; answers which were.
    async fn move_cursors(&mut self, moves: &[CursorMove]) -> Result<HashSet<ScheduleKey>>;
    /// Keeps how many due times of schedules have triggered; the flag says that these were all that may.
    async fn count_fired(&mut self, counts: &[(ScheduleKey, u64, bool)]) -> Result<()>;
    /// One unended run of each of these schedules' fires, where there is one; the flag says whether runs by hand count.
    async fn running(&mut self, keys: &[(ScheduleKey, bool)]) -> Result<HashMap<ScheduleKey, WorkRequestId>>;
    /// Of these due times, the ones that the ledger has a decision on, be it as part of a stretch.
    async fn decided(&mut self, dues: &[(&ScheduleKey, Timestamp)]) -> Result<HashSet<(ScheduleKey, Timestamp)>>;
    /// Makes the last entry before each of these skips longer, where it is a skip by the same version for the same
    /// reason; answers which.
    async fn extend_fires(&mut self, skips: &[Fire]) -> Result<HashSet<(ScheduleKey, Timestamp)>>;
    /// Records decisions; answers how many no earlier decision has forbidden.
    async fn insert_fires(&mut self, fires: &[Fire]) -> Result<usize>;
    async fn insert_changes(&mut self, changes: &[Change<'_>]) -> Result<()>;
    /// The highest version that a job of each of these names ever had, where there was one.
    async fn last_job_versions(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, i64>>;
    /// The highest version that a schedule of each of these names ever had, where there was one.
    async fn last_schedule_versions(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, i64>>;
    async fn put_jobs(&mut self, jobs: &[Versioned<&Job>]) -> Result<()>;
    async fn remove_jobs(&mut self, keys: &[ScheduleKey]) -> Result<()>;
    async fn put_schedules(&mut self, rows: &[ScheduleRow]) -> Result<()>;
    async fn remove_schedules(&mut self, keys: &[ScheduleKey]) -> Result<()>;
}

/// Single statements about runs with children.
#[async_trait]
pub(crate) trait FanOuts {
    async fn stage_inputs(&mut self, batch: Uuid, chunk: i32, inputs: &[Value]) -> Result<()>;
    /// Forgets some chunks of a batch; answers how many.
    async fn discard_inputs(&mut self, batch: Uuid, limit: i64) -> Result<u64>;
    /// Forgets chunks staged before an instant for no run, and those of runs that ended before another one.
    async fn purge_inputs(&mut self, staged: Timestamp, ended: Timestamp, limit: i64) -> Result<u64>;
    /// How many inputs of a batch there are.
    async fn staged(&mut self, batch: Uuid) -> Result<i64>;
    /// Deletes a chunk; answers whether it was there.
    async fn take_chunk(&mut self, batch: Uuid, chunk: i32) -> Result<bool>;
    async fn insert_fan_out(
        &mut self,
        parent: WorkRequestId,
        namespace: &str,
        new: &NewFanOut,
        depth: i32,
    ) -> Result<()>;
    async fn lock_fan_out(&mut self, parent: WorkRequestId) -> Result<Option<FanOut>>;
    async fn save_fan_out(&mut self, row: &FanOut) -> Result<()>;
    /// Keeps how much of a run is over, unless that is less than what is known.
    async fn raise_percent(&mut self, id: WorkRequestId, percent: f64) -> Result<()>;
    /// How many runs with children a run is within.
    async fn depth_of(&mut self, id: WorkRequestId) -> Result<i32>;
    async fn output_of(&mut self, id: WorkRequestId) -> Result<Option<Value>>;
    /// Whether any run stands for another one's children.
    async fn any_shared(&mut self) -> Result<bool>;
    /// For children of which runs this one stands.
    async fn parents_sharing(&mut self, id: WorkRequestId) -> Result<Vec<WorkRequestId>>;
    /// It stands no more for those of one of them; answers for how many it has.
    async fn take_shared(&mut self, id: WorkRequestId, parent: WorkRequestId) -> Result<u32>;
    /// Nothing stands for a run's children any more; answers for how many something has.
    async fn leave_shared(&mut self, parent: WorkRequestId) -> Result<u32>;
    async fn put_shared(&mut self, id: WorkRequestId, parent: WorkRequestId, children: u32) -> Result<()>;
    /// Whether any child of a run is under way, or its end to be followed up.
    async fn awaited(&mut self, parent: WorkRequestId) -> Result<bool>;
    /// How many children have SUCCEEDED, FAILED, and were CANCELED, by their own rows.
    async fn count_children(&mut self, parent: WorkRequestId) -> Result<[u32; 3]>;
}

/// Single statements.
#[async_trait]
pub(crate) trait Plain {
    /// Takes those keys that are not taken, each for its answer; says which, by [`IdempotencyKey::names`].
    async fn take_keys(&mut self, asked: &[&(IdempotencyKey, String)]) -> Result<HashSet<[String; 4]>>;
    /// For what the key was taken: the request's fields, and what it has come to.
    async fn taken_for(&mut self, key: &IdempotencyKey) -> Result<TakenKey>;
    async fn purge_keys(&mut self, before: Timestamp, limit: i64) -> Result<u64>;
    async fn lead(&mut self, holder: Uuid, ttl: std::time::Duration) -> Result<Option<Generation>>;
    async fn resign(&mut self, holder: Uuid) -> Result<()>;
    async fn all_jobs(&mut self) -> Result<Vec<Versioned<Job>>>;
    async fn all_schedules(&mut self) -> Result<Vec<ScheduleRow>>;
    /// Takes the backfill's id; false when it is taken.
    async fn insert_backfill(&mut self, new: &NewBackfill) -> Result<bool>;
    /// Moves a running backfill's cursor from where the step saw it and adds what triggered and what was skipped.
    async fn move_backfill(&mut self, step: &BackfillStep, counts: [i64; 2]) -> Result<bool>;
    /// Cancels a backfill that runs.
    async fn end_backfill(&mut self, key: &ScheduleKey, id: &str, by: &str) -> Result<bool>;
    /// The version of the definitions in force.
    async fn version_in_force(&mut self) -> Result<Option<i64>>;
    /// Records a set of definitions; answers its version.
    async fn put_in_force(&mut self, digest: &str, revision: Option<u64>, by: &str) -> Result<i64>;
    /// Takes or keeps the backlog for so long; false while another dispatcher has it.
    async fn hold_backlog(&mut self, holder: Uuid, ttl: std::time::Duration) -> Result<bool>;
    async fn leave_backlog(&mut self, holder: Uuid) -> Result<()>;
    /// Whether another dispatcher than this one has the backlog.
    async fn is_backlog_held(&mut self, besides: Uuid) -> Result<bool>;
    /// The limits that are to be woken by now.
    async fn limits_to_wake(&mut self, limit: i64) -> Result<Vec<String>>;
    /// Marks all limits to be woken now for which runs are held and that are not to be woken at any time.
    async fn wake_stranded(&mut self) -> Result<u64>;
    /// Keeps a report under a lease that had ended, of a run that there is.
    async fn keep_late(&mut self, report: &Report) -> Result<()>;
    /// Takes a unique key for `id` unless it is taken; answers who has it and until when, with its row locked.
    async fn take_unique(
        &mut self,
        key: &str,
        id: WorkRequestId,
        ends_at: Option<Timestamp>,
    ) -> Result<Option<(WorkRequestId, Option<Timestamp>)>>;
    async fn replace_unique(&mut self, key: &str, id: WorkRequestId, ends_at: Option<Timestamp>) -> Result<()>;
    /// Forgets keys of ended runs that were accepted before this instant.
    async fn purge_unique(&mut self, before: Timestamp, limit: i64) -> Result<u64>;
    async fn status_of(&mut self, id: WorkRequestId) -> Result<Option<Status>>;
    /// The last entries of a history, the latest first.
    async fn latest(&mut self, id: WorkRequestId, limit: i64) -> Result<Vec<HistoryEvent>>;
    async fn tell_transitions(&mut self, wanted: bool) -> Result<()>;
    async fn put_marker(&mut self, id: Uuid, route: &Route) -> Result<()>;
    async fn marker_back(&mut self, id: Uuid) -> Result<()>;
    async fn purge_markers(&mut self, sent_before: Timestamp) -> Result<()>;
    async fn put_worker(&mut self, worker: &NewWorker) -> Result<()>;
    /// Counts a beat; false when the worker is not, or no longer, known to be alive.
    async fn beat(&mut self, worker: Uuid) -> Result<bool>;
    /// Whether a worker is not known to have ended; that stays so until the transaction ends.
    async fn lives(&mut self, worker: Uuid) -> Result<bool>;
    async fn retire_worker(&mut self, worker: Uuid) -> Result<()>;
    /// The same, unless it has beaten since; answers whether it had not.
    async fn retire_silent(&mut self, worker: Uuid, beat: i64) -> Result<bool>;
    async fn purge_workers(&mut self, before: Timestamp) -> Result<u64>;
}
