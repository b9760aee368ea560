//! Rows as both databases give them, and their way into the public types.

mod delivery;
mod events;
mod fan_outs;
mod feed;
mod keys;
mod plans;
mod webhooks;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::types::Json;
use sqlx::{Decode, Encode, FromRow, Postgres, Sqlite, Type};
use uuid::Uuid;

use super::outbox::Untold;
use super::transition::{Locked, Looked, RowVersion};
use super::{Result, StoreError};
use crate::definition::Priority;
use crate::state::{Hold, Lease, Operation, Phase, Run, Status};
use crate::work_request::{
    FireRef, Happening, HistoryEvent, LogLine, Origin, RunError, Stream, WorkRequest, WorkRequestId,
};

pub(crate) use self::delivery::{DepthRow, LateRow, LeaseRow, LimitDbRow, MarkerRow, SeenRow, WorkerRow};
pub(crate) use self::events::{ExternalDbRow, RefusedRow};
pub(crate) use self::fan_outs::{ChildrenColumns, ChunkRow, FanOutRow, OpenFanOutRow, UnfinishedRow};
pub(crate) use self::feed::FeedRow;
pub(crate) use self::keys::KeyRow;
pub(crate) use self::plans::{
    BackfillRow, ChangeRow, EndedRow, FireRow, InForceRow, NamedChangeRow, ScheduleDbRow, VersionedJobRow,
};
pub(crate) use self::webhooks::{ClaimedRow, DeliveryRow, WebhookRow};

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
    /// Left for whoever needs it.
    pub(crate) questions: u32,
}

#[derive(FromRow)]
pub(crate) struct ClaimableRow {
    id: Uuid,
    input: Json<Value>,
    accepted_at: At,
}

impl From<ClaimableRow> for Claimable {
    fn from(row: ClaimableRow) -> Self {
        Self { id: WorkRequestId(row.id), input: row.input.0, accepted_at: row.accepted_at.0, questions: 0 }
    }
}

/// Turns what a column holds and none of ours has written into an error.
pub(crate) fn malformed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    what: &'static str,
) -> impl Fn(E) -> StoreError {
    move |source| StoreError::Malformed { what, source: source.into() }
}

fn count(what: &'static str, value: i32) -> Result<u32> {
    u32::try_from(value).map_err(malformed(what))
}

/// A status in its column.
pub(crate) fn status_column(text: &str) -> Result<Status> {
    text.parse().map_err(malformed("status"))
}

/// A count in its column.
pub(crate) fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// A duration in its column.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
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
    hold: Option<String>,
    token: Option<Uuid>,
    worker: Option<Uuid>,
    attempt_until: Option<At>,
}

impl PhaseColumns {
    fn phase(&self) -> Result<Phase> {
        let missing = || malformed("delivery phase")("a column is NULL");
        let at = || self.phase_at.map(|at| at.0).ok_or_else(missing);
        match self.phase.as_deref() {
            None => Ok(Phase::Done),
            Some("held") => Ok(Phase::Held { since: at()?, hold: self.hold()? }),
            Some("due") => Ok(Phase::Due { at: at()? }),
            Some("sent") => Ok(Phase::Sent { at: at()? }),
            Some("leased") => {
                let (ends_at, until) = (at()?, self.attempt_until.map(|at| at.0));
                Ok(Phase::Leased(Lease {
                    token: self.token.ok_or_else(missing)?,
                    worker: self.worker.ok_or_else(missing)?,
                    deadline: until.unwrap_or(ends_at),
                    silent_until: until.and_then(|until| (ends_at < until).then_some(ends_at)),
                }))
            }
            Some("parked") => Ok(Phase::Parked { at: at()? }),
            Some("children") => Ok(Phase::Children),
            Some(other) => Err(malformed("delivery phase")(other)),
        }
    }

    /// Builds before limits wrote none.
    fn hold(&self) -> Result<Hold> {
        let Some(text) = self.hold.as_deref() else { return Ok(Hold::Overlap) };
        Hold::ALL.into_iter().find(|hold| hold.as_str() == text).ok_or_else(|| malformed("hold")(text))
    }
}

/// A phase as its columns are written.
pub(crate) struct PhaseParts {
    pub(crate) phase: &'static str,
    pub(crate) at: Option<At>,
    pub(crate) hold: Option<&'static str>,
    pub(crate) token: Option<Uuid>,
    pub(crate) worker: Option<Uuid>,
    /// When the attempt is past its time-out and grace.
    pub(crate) attempt_until: Option<At>,
}

/// The columns of a run's phase.
pub(crate) fn phase_columns(run: &Run) -> PhaseParts {
    let attempt_until = run.operation.map(|operation| At(operation.until));
    let plain =
        |phase, at| PhaseParts { phase, at: Some(At(at)), hold: None, token: None, worker: None, attempt_until };
    match run.phase {
        Phase::Held { since, hold } => PhaseParts { hold: Some(hold.as_str()), ..plain("held", since) },
        Phase::Due { at } => plain("due", at),
        Phase::Sent { at } => plain("sent", at),
        Phase::Leased(lease) => PhaseParts {
            token: Some(lease.token),
            worker: Some(lease.worker),
            attempt_until: Some(At(lease.deadline)),
            ..plain("leased", lease.ends_at())
        },
        Phase::Parked { at } => plain("parked", at),
        Phase::Children => plain("children", Timestamp::UNIX_EPOCH),
        Phase::Done => PhaseParts { at: None, ..plain("done", Timestamp::UNIX_EPOCH) },
    }
}

/// A priority in its column: the lowest number goes first.
pub(crate) const fn priority_column(priority: Priority) -> i16 {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

pub(crate) fn priority(column: i16) -> Result<Priority> {
    let found = Priority::ALL.into_iter().find(|priority| priority_column(*priority) == column);
    found.ok_or_else(|| malformed("priority")(column.to_string()))
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
    priority: i16,
    concurrency_key: Option<String>,
    rate_key: Option<String>,
    expires_at: Option<At>,
    doubt: bool,
    operation_token: Option<Uuid>,
    operation: Option<Json<Value>>,
}

/// A run that is not locked, when it was read, and what a worker is told of it.
#[derive(FromRow)]
pub(crate) struct LookedRow {
    #[sqlx(flatten)]
    run: LockedRow,
    /// None if somebody has locked it since it was written.
    version: Option<i64>,
    place: String,
    at: At,
    accepted_at: At,
    input: Option<Json<Value>>,
}

/// The version and place of a row.
pub(crate) fn row_version((number, place): (i64, String)) -> Result<RowVersion> {
    Ok(RowVersion { number: number.try_into().map_err(malformed("version of a row"))?, place })
}

impl TryFrom<LookedRow> for Looked {
    type Error = StoreError;

    fn try_from(row: LookedRow) -> Result<Self> {
        let version = row.version.map(|number| row_version((number, row.place))).transpose()?;
        let run = Locked { version, ..Locked::try_from(row.run)? };
        let input = row.input.map_or(Value::Null, |json| json.0);
        let facts = Claimable { id: run.id, input, accepted_at: row.accepted_at.0, questions: 0 };
        Ok(Self { run, at: row.at.0, facts })
    }
}

impl TryFrom<LockedRow> for Locked {
    type Error = StoreError;

    fn try_from(row: LockedRow) -> Result<Self> {
        let operation = match (row.operation_token, row.phase.attempt_until) {
            (Some(token), Some(until)) => Some(Operation { token, until: until.0 }),
            _ => None,
        };
        let run = Run {
            status: status_column(&row.status)?,
            phase: row.phase.phase()?,
            sends: count("number of sends", row.sends)?,
            attempt: count("attempt", row.attempt)?,
            failures: count("number of failures", row.failures)?,
            doubt: row.doubt,
            operation,
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
            notes: row.operation.map(|json| json.0),
            error: None,
            took: None,
            follow: row.follow,
            priority: priority(row.priority)?,
            concurrency_key: row.concurrency_key,
            rate_key: row.rate_key,
            expires_at: row.expires_at.map(|at| at.0),
            version: None,
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
    parent: Option<Uuid>,
    retry_of: Option<Uuid>,
    #[sqlx(flatten)]
    children: ChildrenColumns,
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
    expires_at: Option<At>,
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
            parent: row.parent.map(WorkRequestId),
            retry_of: row.retry_of.map(WorkRequestId),
            children: row.children.children()?,
            status: row.status.parse::<Status>().map_err(malformed("status"))?,
            phase: row.phase.phase()?,
            attempt: count("attempt", row.attempt)?,
            input: row.input.0,
            resource: row.resource.map(|json| json.0),
            percent,
            message: row.message,
            error: row.error_code.map(|code| RunError { code, message: row.error_message.unwrap_or_default() }),
            expires_at: row.expires_at.filter(|_| row.attempt == 0).map(|at| at.0),
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
pub(crate) struct UntoldRow {
    number: i64,
    id: Uuid,
    seq: i32,
    namespace: Option<String>,
    job: Option<String>,
    schedule: Option<String>,
    at: Option<At>,
    what: Option<Json<Value>>,
}

/// An entry in the outbox; its number alone if there is no such entry, or run, any more.
pub(crate) type InOutbox = std::result::Result<Untold, i64>;

impl TryFrom<UntoldRow> for InOutbox {
    type Error = StoreError;

    fn try_from(row: UntoldRow) -> Result<Self> {
        let UntoldRow { number, id, seq, namespace, job, schedule, at, what } = row;
        let (Some(namespace), Some(job), Some(at), Some(what)) = (namespace, job, at, what) else {
            return Ok(Err(number));
        };
        let event = EventRow { seq, at, what }.try_into()?;
        Ok(Ok(Untold { number, id: WorkRequestId(id), namespace, job, schedule, event }))
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

/// Turns rows into public types, or says which is malformed.
pub(crate) fn all<R, T: TryFrom<R, Error = StoreError>>(rows: Vec<R>) -> Result<Vec<T>> {
    rows.into_iter().map(T::try_from).collect()
}
