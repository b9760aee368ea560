//! The seam beneath [`super::Store`]: what a database must do, implemented by PostgreSQL and SQLite.
//!
//! Everything that writes goes through one [`Tx`]: lock, decide (above the seam), save, commit. Batches
//! are slices, so that each database can use what it is good at.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::accept::{IdempotencyKey, NewWorkRequest};
use super::definitions::{InForce, Versioned};
use super::fires::{CursorMove, Fire, ScheduleKey, ScheduleRow};
use super::leader::Generation;
use super::leases::{HeldLease, Progress};
use super::requests::{ListFilter, QueueDepth};
use super::rows::Claimable;
use super::transition::Locked;
use super::workers::{NewWorker, Worker};
use super::{Kind, Result};
use crate::definition::Job;
use crate::work_request::{HistoryEvent, LogLine, WorkRequest, WorkRequestId};

/// The way to write, and what else differs.
#[async_trait]
pub(crate) trait Database: Reads + Send + Sync + 'static {
    fn kind(&self) -> Kind;
    async fn now(&self) -> Result<Timestamp>;
    async fn begin(&self) -> Result<Box<dyn Tx>>;
    /// Tells other processes, as a hint, that triggers have become due.
    fn announce_due(&self);
    /// Waits for such a hint from another process; never returns where there are none.
    async fn due_announced(&self) -> Result<()>;
}

/// Single reads, the same text in both databases.
#[async_trait]
pub(crate) trait Reads {
    async fn in_force(&self) -> Result<Option<InForce>>;
    async fn was_in_force(&self, digest: &str) -> Result<bool>;
    async fn job_version(&self, namespace: &str, name: &str, version: i64) -> Result<Option<Job>>;
    async fn jobs(&self, namespace: &str, from: Page<'_>) -> Result<Vec<Versioned<Job>>>;
    async fn schedules(&self, namespace: &str, from: Page<'_>) -> Result<Vec<ScheduleRow>>;
    async fn due_schedules(&self, until: Timestamp, limit: i64) -> Result<Vec<ScheduleRow>>;
    async fn queues(&self) -> Result<Vec<String>>;

    async fn fires(&self, key: &ScheduleKey, before: Timestamp, limit: i64) -> Result<Vec<Fire>>;
    async fn next_due(&self) -> Result<Option<Timestamp>>;

    async fn work_request(&self, namespace: &str, id: WorkRequestId) -> Result<Option<WorkRequest>>;
    async fn work_requests(&self, filter: &ListFilter, limit: i64) -> Result<Vec<WorkRequest>>;
    async fn output(&self, id: WorkRequestId) -> Result<Option<Value>>;
    async fn events(&self, id: WorkRequestId, after: i32, limit: i64) -> Result<Vec<HistoryEvent>>;
    async fn logs(&self, id: WorkRequestId, after: (i32, i32), limit: i64) -> Result<Vec<LogLine>>;
    async fn depths(&self) -> Result<Vec<QueueDepth>>;

    async fn workers(&self) -> Result<Vec<Worker>>;
    async fn leases_of(&self, worker: Uuid) -> Result<Vec<HeldLease>>;
    async fn overdue_leases(&self, now: Timestamp, limit: i64) -> Result<Vec<HeldLease>>;
}

/// Where a page of names starts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Page<'a> {
    /// Only this name.
    Only(&'a str),
    /// At most so many names behind this one.
    After(&'a str, i64),
}

/// Which runs to lock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    /// These, waiting for whoever has them. Ids in ascending order.
    Ids(&'a [Uuid]),
    /// Some whose trigger is due at `now`, earliest first, passing over those that others have locked.
    Due { limit: i64 },
    /// Some in these queues whose trigger was sent longer ago than this, doubled with each time that it was sent again;
    /// likewise.
    Lost { patience: SignedDuration, queues: &'a [String], limit: i64 },
}

/// One open write transaction. Dropping it rolls back.
///
/// [`Plain`] statements are the same text in both databases; [`Runs`] and [`Plans`] are the batches, in which
/// each does what it is good at.
#[async_trait]
pub(crate) trait Tx: Plain + Runs + Plans + Send {
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
    async fn claimable(&mut self, ids: &[Uuid]) -> Result<Vec<Claimable>>;
    /// Of these (work request, token) pairs, the ones under which an attempt has been ended.
    async fn ended_under(&mut self, pairs: &[(Uuid, Uuid)]) -> Result<HashSet<(Uuid, Uuid)>>;
    async fn save_progress(&mut self, progress: &[Progress]) -> Result<()>;
    async fn append_logs(&mut self, lines: &[(WorkRequestId, LogLine)]) -> Result<()>;
}

/// Batches of schedules, fires and definitions.
#[async_trait]
pub(crate) trait Plans {
    /// Whether this generation still leads; if so it does until the transaction ends.
    async fn hold(&mut self, generation: Generation) -> Result<bool>;
    /// Moves cursors that are where the move says, under the version that it says; answers which were.
    async fn move_cursors(&mut self, moves: &[CursorMove]) -> Result<HashSet<ScheduleKey>>;
    /// One unended run of each of these schedules' fires, where there is one.
    async fn running(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, WorkRequestId>>;
    /// Of these due times, the ones that the ledger has a decision on, be it as part of a stretch.
    async fn decided(&mut self, dues: &[(&ScheduleKey, Timestamp)]) -> Result<HashSet<(ScheduleKey, Timestamp)>>;
    /// Records decisions; answers the indices of those that no earlier decision forbids.
    async fn insert_fires(&mut self, fires: &[Fire]) -> Result<Vec<usize>>;
    /// The highest version that a job of each of these names ever had, where there was one.
    async fn last_job_versions(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, i64>>;
    /// The highest version of each of these schedules that the ledger knows, where it does.
    async fn last_schedule_versions(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, i64>>;
    async fn put_jobs(&mut self, jobs: &[Versioned<&Job>]) -> Result<()>;
    async fn remove_jobs(&mut self, keys: &[ScheduleKey]) -> Result<()>;
    async fn put_schedules(&mut self, rows: &[ScheduleRow]) -> Result<()>;
    async fn remove_schedules(&mut self, keys: &[ScheduleKey]) -> Result<()>;
}

/// Single statements.
#[async_trait]
pub(crate) trait Plain {
    /// Takes the key for `id` unless it is taken; answers who has it: the id and the request's hash.
    async fn take_key(&mut self, key: &IdempotencyKey, id: WorkRequestId) -> Result<Option<(WorkRequestId, String)>>;
    async fn purge_keys(&mut self, before: Timestamp, limit: i64) -> Result<u64>;
    async fn lead(&mut self, holder: Uuid, ttl: std::time::Duration) -> Result<Option<Generation>>;
    async fn resign(&mut self, holder: Uuid) -> Result<()>;
    async fn all_jobs(&mut self) -> Result<Vec<Versioned<Job>>>;
    async fn all_schedules(&mut self) -> Result<Vec<ScheduleRow>>;
    /// The queues with triggers sent at this instant or earlier and not claimed, and when the first of each was.
    async fn sent_queues(&mut self, until: Timestamp) -> Result<Vec<(String, Timestamp)>>;
    async fn put_in_force(&mut self, digest: &str, revision: Option<u64>, by: &str) -> Result<()>;
    async fn put_worker(&mut self, worker: &NewWorker) -> Result<()>;
    /// Counts a beat; false when the worker is not, or no longer, known to be alive.
    async fn beat(&mut self, worker: Uuid) -> Result<bool>;
    async fn retire_worker(&mut self, worker: Uuid) -> Result<()>;
    async fn purge_workers(&mut self, before: Timestamp) -> Result<u64>;
}
