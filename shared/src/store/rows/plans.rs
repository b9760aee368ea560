//! Rows of definitions, fires, backfills and what follows.

use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{At, count, fire_ref, malformed, parse_origin};
use crate::definition::{Job, Schedule};
use crate::store::backfills::{Backfill, NewBackfill};
use crate::store::changes::{NamedChange, RecordedChange};
use crate::store::definitions::{InForce, Versioned};
use crate::store::fires::{Fire, FireOutcome, SkipReason};
use crate::store::follow::EndedRun;
use crate::store::schedules::{Pause, ScheduleKey, ScheduleRow};
use crate::store::{Result, StoreError};
use crate::work_request::{RunError, WorkRequestId};

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
pub(crate) struct NamedChangeRow {
    kind: String,
    name: String,
    #[sqlx(flatten)]
    change: ChangeRow,
}

impl TryFrom<NamedChangeRow> for NamedChange {
    type Error = StoreError;

    fn try_from(row: NamedChangeRow) -> Result<Self> {
        let kind = row.kind.parse().map_err(malformed("kind of change"))?;
        Ok(Self { kind, name: row.name, change: row.change.try_into()? })
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
    parent: Option<Uuid>,
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
            parent: row.parent.map(WorkRequestId),
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
