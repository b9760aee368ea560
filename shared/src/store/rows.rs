//! Rows as both databases give them, and their way into the public types.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::types::Json;
use sqlx::{Decode, Encode, FromRow, Postgres, Sqlite, Type};
use uuid::Uuid;

use super::backfills::{Backfill, NewBackfill};
use super::changes::RecordedChange;
use super::definitions::{InForce, Versioned};
use super::fires::{Fire, FireOutcome, SkipReason};
use super::follow::EndedRun;
use super::leases::HeldLease;
use super::requests::QueueDepth;
use super::schedules::{Pause, ScheduleKey, ScheduleRow};
use super::transition::Locked;
use super::workers::{NewWorker, Worker};
use super::{Result, StoreError};
use crate::definition::{Job, Schedule};
use crate::state::{Lease, Phase, Run, Status};
use crate::work_request::{
    FireRef, Happening, HistoryEvent, LogLine, Origin, RunError, Stream, WorkRequest, WorkRequestId,
};

/// An instant in a column: `timestamptz` in PostgreSQL, whole microseconds since 1970 in SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(pub(crate) Timestamp);

impl Type<Postgres> for At {
    fn type_info() -> PgTypeInfo {
        <jiff_sqlx::Timestamp as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for At {
    fn array_type_info() -> PgTypeInfo {
        <jiff_sqlx::Timestamp as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for At {
    fn encode_by_ref(&self, buf: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&jiff_sqlx::Timestamp::from(self.0), buf)
    }
}

impl<'r> Decode<'r, Postgres> for At {
    fn decode(value: PgValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        <jiff_sqlx::Timestamp as Decode<Postgres>>::decode(value).map(|at| Self(at.to_jiff()))
    }
}

impl Type<Sqlite> for At {
    fn type_info() -> SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for At {
    fn encode_by_ref(&self, buf: &mut SqliteArgumentsBuffer) -> std::result::Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode_by_ref(&self.0.as_microsecond(), buf)
    }
}

impl<'r> Decode<'r, Sqlite> for At {
    fn decode(value: SqliteValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        Ok(Self(Timestamp::from_microsecond(<i64 as Decode<Sqlite>>::decode(value)?)?))
    }
}

/// What a claim needs beside the locked row.
#[derive(Debug, Clone)]
pub(crate) struct Claimable {
    pub(crate) id: WorkRequestId,
    pub(crate) input: Value,
    pub(crate) accepted_at: Timestamp,
}

#[derive(FromRow)]
pub(crate) struct ClaimableRow {
    id: Uuid,
    input: Json<Value>,
    accepted_at: At,
}

impl From<ClaimableRow> for Claimable {
    fn from(row: ClaimableRow) -> Self {
        Self { id: WorkRequestId(row.id), input: row.input.0, accepted_at: row.accepted_at.0 }
    }
}

fn malformed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(what: &'static str) -> impl Fn(E) -> StoreError {
    move |source| StoreError::Malformed { what, source: source.into() }
}

fn count(what: &'static str, value: i32) -> Result<u32> {
    u32::try_from(value).map_err(malformed(what))
}

/// A count in its column.
pub(crate) fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The number of a history's last entry in its column.
pub(crate) fn seq(entries: usize) -> i32 {
    i32::try_from(entries).unwrap_or(i32::MAX)
}

/// A run's delivery phase in columns. The row of a run that is done does not exist.
#[derive(FromRow)]
pub(crate) struct PhaseColumns {
    phase: Option<String>,
    phase_at: Option<At>,
    token: Option<Uuid>,
    worker: Option<Uuid>,
}

impl PhaseColumns {
    fn phase(&self) -> Result<Phase> {
        let missing = || malformed("delivery phase")("a column is NULL");
        let at = || self.phase_at.map(|at| at.0).ok_or_else(missing);
        match self.phase.as_deref() {
            None => Ok(Phase::Done),
            Some("held") => Ok(Phase::Held { since: at()? }),
            Some("due") => Ok(Phase::Due { at: at()? }),
            Some("sent") => Ok(Phase::Sent { at: at()? }),
            Some("leased") => Ok(Phase::Leased(Lease {
                token: self.token.ok_or_else(missing)?,
                worker: self.worker.ok_or_else(missing)?,
                deadline: at()?,
            })),
            Some(other) => Err(malformed("delivery phase")(other)),
        }
    }
}

/// The columns of a phase: name, instant, token, worker.
pub(crate) fn phase_columns(phase: Phase) -> (&'static str, Option<At>, Option<Uuid>, Option<Uuid>) {
    match phase {
        Phase::Held { since } => ("held", Some(At(since)), None, None),
        Phase::Due { at } => ("due", Some(At(at)), None, None),
        Phase::Sent { at } => ("sent", Some(At(at)), None, None),
        Phase::Leased(lease) => ("leased", Some(At(lease.deadline)), Some(lease.token), Some(lease.worker)),
        Phase::Done => ("done", None, None, None),
    }
}

fn fire_ref(schedule: Option<String>, due_at: Option<At>, origin: Option<&str>) -> Result<Option<FireRef>> {
    match (schedule, due_at, origin) {
        (Some(schedule), Some(due_at), Some(origin)) => {
            Ok(Some(FireRef { schedule, due_at: due_at.0, origin: parse_origin(origin)? }))
        }
        _ => Ok(None),
    }
}

fn parse_origin(text: &str) -> Result<Origin> {
    text.parse().map_err(malformed("origin"))
}

#[derive(FromRow)]
pub(crate) struct LockedRow {
    id: Uuid,
    namespace: String,
    job: String,
    job_version: i64,
    queue: String,
    schedule: Option<String>,
    due_at: Option<At>,
    origin: Option<String>,
    status: String,
    #[sqlx(flatten)]
    phase: PhaseColumns,
    sends: i32,
    resends: i32,
    attempt: i32,
    failures: i32,
    timeout_ms: i64,
    seq: i32,
    follow: bool,
}

impl TryFrom<LockedRow> for Locked {
    type Error = StoreError;

    fn try_from(row: LockedRow) -> Result<Self> {
        let run = Run {
            status: row.status.parse().map_err(malformed("status"))?,
            phase: row.phase.phase()?,
            sends: count("number of sends", row.sends)?,
            attempt: count("attempt", row.attempt)?,
            failures: count("number of failures", row.failures)?,
        };
        Ok(Self {
            id: WorkRequestId(row.id),
            namespace: row.namespace,
            job: row.job,
            job_version: row.job_version,
            queue: row.queue,
            fire: fire_ref(row.schedule, row.due_at, row.origin.as_deref())?,
            before: run,
            run,
            resends: row.resends,
            timeout_ms: row.timeout_ms,
            seq: row.seq,
            events: Vec::new(),
            output: None,
            error: None,
            follow: row.follow,
            dirty: false,
        })
    }
}

#[derive(FromRow)]
pub(crate) struct WorkRequestRow {
    id: Uuid,
    namespace: String,
    job: String,
    job_version: i64,
    queue: String,
    schedule: Option<String>,
    due_at: Option<At>,
    origin: Option<String>,
    chained_from: Option<Uuid>,
    status: String,
    #[sqlx(flatten)]
    phase: PhaseColumns,
    attempt: i32,
    input: Json<Value>,
    resource: Option<Json<Value>>,
    percent: f64,
    message: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
    accepted_at: At,
    started_at: Option<At>,
    finished_at: Option<At>,
}

impl TryFrom<WorkRequestRow> for WorkRequest {
    type Error = StoreError;

    fn try_from(row: WorkRequestRow) -> Result<Self> {
        #[allow(clippy::cast_possible_truncation, reason = "a percentage")]
        let percent = row.percent as f32;
        Ok(Self {
            id: WorkRequestId(row.id),
            namespace: row.namespace,
            job: row.job,
            job_version: row.job_version,
            queue: row.queue,
            fire: fire_ref(row.schedule, row.due_at, row.origin.as_deref())?,
            chained_from: row.chained_from.map(WorkRequestId),
            status: row.status.parse::<Status>().map_err(malformed("status"))?,
            phase: row.phase.phase()?,
            attempt: count("attempt", row.attempt)?,
            input: row.input.0,
            resource: row.resource.map(|json| json.0),
            percent,
            message: row.message,
            error: row.error_code.map(|code| RunError { code, message: row.error_message.unwrap_or_default() }),
            accepted_at: row.accepted_at.0,
            started_at: row.started_at.map(|at| at.0),
            finished_at: row.finished_at.map(|at| at.0),
        })
    }
}

#[derive(FromRow)]
pub(crate) struct EventRow {
    seq: i32,
    at: At,
    what: Json<Value>,
}

impl TryFrom<EventRow> for HistoryEvent {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self> {
        let what: Happening = serde_json::from_value(row.what.0).map_err(malformed("event"))?;
        Ok(Self { seq: row.seq, at: row.at.0, what })
    }
}

#[derive(FromRow)]
pub(crate) struct LogRow {
    attempt: i32,
    seq: i32,
    at: At,
    stream: String,
    text: String,
}

impl TryFrom<LogRow> for LogLine {
    type Error = StoreError;

    fn try_from(row: LogRow) -> Result<Self> {
        let stream = match row.stream.as_str() {
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => Stream::System,
        };
        Ok(Self { attempt: count("attempt", row.attempt)?, seq: row.seq, at: row.at.0, stream, text: row.text })
    }
}

/// The text of a stream in its column.
pub(crate) const fn stream_column(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
        Stream::System => "system",
    }
}

#[derive(FromRow)]
pub(crate) struct VersionedJobRow {
    version: i64,
    spec: Json<Value>,
}

impl TryFrom<VersionedJobRow> for Versioned<Job> {
    type Error = StoreError;

    fn try_from(row: VersionedJobRow) -> Result<Self> {
        Ok(Self { version: row.version, item: serde_json::from_value(row.spec.0).map_err(malformed("job"))? })
    }
}

#[derive(FromRow)]
pub(crate) struct ScheduleDbRow {
    spec: Json<Value>,
    version: i64,
    cursor: At,
    next_due_at: Option<At>,
    fired: i64,
    failures: i32,
    paused_at: Option<At>,
    paused_by: Option<String>,
    pause_reason: Option<String>,
}

impl TryFrom<ScheduleDbRow> for ScheduleRow {
    type Error = StoreError;

    fn try_from(row: ScheduleDbRow) -> Result<Self> {
        let schedule: Schedule = serde_json::from_value(row.spec.0).map_err(malformed("schedule"))?;
        let (by, reason) = (row.paused_by.unwrap_or_default(), row.pause_reason);
        Ok(Self {
            schedule,
            version: row.version,
            cursor: row.cursor.0,
            next_due_at: row.next_due_at.map(|at| at.0),
            fired: u64::try_from(row.fired).map_err(malformed("number of fires"))?,
            failures: count("number of failures", row.failures)?,
            pause: row.paused_at.map(|at| Pause { at: at.0, by, reason }),
        })
    }
}

#[derive(FromRow)]
pub(crate) struct FireRow {
    namespace: String,
    schedule: String,
    origin: String,
    due_at: At,
    last_due_at: At,
    count: i64,
    reason: Option<String>,
    detail: Option<String>,
    work_requests: Json<Vec<Uuid>>,
    version: i64,
    decided_at: At,
}

impl TryFrom<FireRow> for Fire {
    type Error = StoreError;

    fn try_from(row: FireRow) -> Result<Self> {
        let outcome = match row.reason {
            None => FireOutcome::Triggered(row.work_requests.0.into_iter().map(WorkRequestId).collect()),
            Some(text) => {
                let reason = SkipReason::ALL.into_iter().find(|reason| reason.as_str() == text);
                let reason = reason.ok_or_else(|| malformed("skip reason")(text))?;
                FireOutcome::Skipped(reason, row.detail.unwrap_or_default())
            }
        };
        Ok(Self {
            key: ScheduleKey { namespace: row.namespace, name: row.schedule },
            origin: parse_origin(&row.origin)?,
            due_at: row.due_at.0,
            last_due_at: row.last_due_at.0,
            count: row.count,
            outcome,
            version: row.version,
            decided_at: row.decided_at.0,
        })
    }
}

#[derive(FromRow)]
pub(crate) struct ChangeRow {
    seq: i64,
    version: i64,
    action: String,
    at: At,
    actor: String,
    reason: Option<String>,
    spec: Option<Json<Value>>,
}

impl TryFrom<ChangeRow> for RecordedChange {
    type Error = StoreError;

    fn try_from(row: ChangeRow) -> Result<Self> {
        Ok(Self {
            seq: row.seq,
            version: row.version,
            action: row.action.parse().map_err(malformed("change"))?,
            at: row.at.0,
            actor: row.actor,
            reason: row.reason,
            spec: row.spec.map(|json| json.0),
        })
    }
}

#[derive(FromRow)]
pub(crate) struct EndedRow {
    id: Uuid,
    namespace: String,
    job: String,
    job_version: i64,
    schedule: Option<String>,
    due_at: Option<At>,
    origin: Option<String>,
    status: String,
    input: Json<Value>,
    output: Option<Json<Value>>,
    error_code: Option<String>,
    error_message: Option<String>,
    finished_at: At,
}

impl TryFrom<EndedRow> for EndedRun {
    type Error = StoreError;

    fn try_from(row: EndedRow) -> Result<Self> {
        Ok(Self {
            id: WorkRequestId(row.id),
            namespace: row.namespace,
            job: row.job,
            job_version: row.job_version,
            status: row.status.parse().map_err(malformed("status"))?,
            input: row.input.0,
            output: row.output.map(|json| json.0),
            error: row.error_code.map(|code| RunError { code, message: row.error_message.unwrap_or_default() }),
            fire: fire_ref(row.schedule, row.due_at, row.origin.as_deref())?,
            finished_at: row.finished_at.0,
        })
    }
}

#[derive(FromRow)]
pub(crate) struct BackfillRow {
    namespace: String,
    schedule: String,
    id: String,
    version: i64,
    spec: Json<Value>,
    from_at: At,
    to_at: At,
    cursor: At,
    total: i64,
    triggered: i64,
    skipped: i64,
    max_parallel: i32,
    status: String,
    created_at: At,
    created_by: String,
    reason: Option<String>,
    ended_at: Option<At>,
    ended_by: Option<String>,
    unended: i64,
}

impl TryFrom<BackfillRow> for Backfill {
    type Error = StoreError;

    fn try_from(row: BackfillRow) -> Result<Self> {
        Ok(Self {
            asked: NewBackfill {
                key: ScheduleKey { namespace: row.namespace, name: row.schedule },
                id: row.id,
                schedule: serde_json::from_value(row.spec.0).map_err(malformed("schedule"))?,
                version: row.version,
                from: row.from_at.0,
                to: row.to_at.0,
                total: row.total,
                max_parallel: count("limit of a backfill", row.max_parallel)?,
                by: row.created_by,
                reason: row.reason,
            },
            status: row.status.parse().map_err(malformed("status of a backfill"))?,
            cursor: row.cursor.0,
            triggered: row.triggered,
            skipped: row.skipped,
            unended: row.unended,
            created_at: row.created_at.0,
            ended_at: row.ended_at.map(|at| at.0),
            ended_by: row.ended_by,
        })
    }
}

#[derive(FromRow)]
pub(crate) struct InForceRow {
    version: i64,
    digest: String,
    revision: Option<i64>,
    applied_at: At,
    applied_by: String,
}

impl TryFrom<InForceRow> for InForce {
    type Error = StoreError;

    fn try_from(row: InForceRow) -> Result<Self> {
        let revision = row.revision.map(u64::try_from).transpose().map_err(malformed("revision"))?;
        Ok(Self {
            version: row.version,
            digest: row.digest,
            revision,
            applied_at: row.applied_at.0,
            applied_by: row.applied_by,
        })
    }
}

#[derive(FromRow)]
pub(crate) struct WorkerRow {
    incarnation: Uuid,
    name: String,
    queues: Json<Vec<String>>,
    slots: i32,
    version: String,
    started_at: At,
    beat: i64,
    beat_at: At,
    ended_at: Option<At>,
    leases: i64,
}

impl TryFrom<WorkerRow> for Worker {
    type Error = StoreError;

    fn try_from(row: WorkerRow) -> Result<Self> {
        Ok(Self {
            worker: NewWorker {
                incarnation: row.incarnation,
                name: row.name,
                queues: row.queues.0,
                slots: count("number of slots", row.slots)?,
                version: row.version,
            },
            started_at: row.started_at.0,
            beat: row.beat,
            beat_at: row.beat_at.0,
            ended_at: row.ended_at.map(|at| at.0),
            leases: row.leases,
        })
    }
}

#[derive(FromRow)]
pub(crate) struct LeaseRow {
    id: Uuid,
    token: Uuid,
    worker: Uuid,
    status: String,
    namespace: String,
    job: String,
    job_version: i64,
    failures: i32,
}

impl TryFrom<LeaseRow> for HeldLease {
    type Error = StoreError;

    fn try_from(row: LeaseRow) -> Result<Self> {
        Ok(Self {
            id: WorkRequestId(row.id),
            token: row.token,
            worker: row.worker,
            canceling: row.status == Status::Canceling.as_str(),
            namespace: row.namespace,
            job: row.job,
            job_version: row.job_version,
            failures: count("number of failures", row.failures)?,
        })
    }
}

#[derive(FromRow)]
pub(crate) struct DepthRow {
    queue: String,
    phase: String,
    count: i64,
}

impl TryFrom<DepthRow> for QueueDepth {
    type Error = StoreError;

    fn try_from(row: DepthRow) -> Result<Self> {
        Ok(Self { queue: row.queue, phase: row.phase, count: row.count })
    }
}

/// Turns rows into public types, or says which is malformed.
pub(crate) fn all<R, T: TryFrom<R, Error = StoreError>>(rows: Vec<R>) -> Result<Vec<T>> {
    rows.into_iter().map(T::try_from).collect()
}
