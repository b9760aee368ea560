//! Rows of delivery: workers, leases, limits, markers, queues.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{At, count, fire_ref, malformed, priority};
use crate::broker::Route;
use crate::duration::HumanDuration;
use crate::state::Status;
use crate::store::backlog::Seen;
use crate::store::dispatch::Outgoing;
use crate::store::leases::HeldLease;
use crate::store::limits::LimitRow;
use crate::store::markers::Marker;
use crate::store::reports::LateReport;
use crate::store::requests::QueueDepth;
use crate::store::workers::{NewWorker, Worker};
use crate::store::{Result, StoreError};
use crate::trigger::{Trigger, UNMARKED};
use crate::work_request::WorkRequestId;

pub(super) fn millis(what: &'static str, value: i64) -> Result<HumanDuration> {
    u64::try_from(value).map(HumanDuration::from_millis).map_err(malformed(what))
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
    lease_ttl_ms: i64,
    is_external: bool,
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
                lease_ttl: millis("lease's time-to-live", row.lease_ttl_ms)?.get(),
            },
            is_external: row.is_external,
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
    worker: Option<Uuid>,
    status: String,
    namespace: String,
    job: String,
    job_version: i64,
    failures: i32,
    lease_ms: Option<i64>,
    is_silent: bool,
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
            silence: row.lease_ms.map(|ms| Ok(millis("lease", ms)?.get())).transpose()?,
            is_silent: row.is_silent,
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

#[derive(FromRow)]
pub(crate) struct LimitDbRow {
    key: String,
    most: i64,
    period_ms: Option<i64>,
    used_at: At,
}

impl TryFrom<LimitDbRow> for LimitRow {
    type Error = StoreError;

    fn try_from(row: LimitDbRow) -> Result<Self> {
        let per = row.period_ms.map(|ms| millis("limit", ms)).transpose()?;
        Ok(Self { key: row.key, most: row.most, per, used_at: row.used_at.0 })
    }
}

#[derive(FromRow)]
pub(crate) struct LateRow {
    token: Uuid,
    at: At,
    outcome: Json<Value>,
}

impl TryFrom<LateRow> for LateReport {
    type Error = StoreError;

    fn try_from(row: LateRow) -> Result<Self> {
        let outcome = serde_json::from_value(row.outcome.0).map_err(malformed("late report"))?;
        Ok(Self { token: row.token, at: row.at.0, outcome })
    }
}

#[derive(FromRow)]
pub(crate) struct MarkerRow {
    id: Uuid,
    queue: String,
    priority: i16,
    sent_at: At,
    back_at: Option<At>,
}

impl TryFrom<MarkerRow> for Marker {
    type Error = StoreError;

    fn try_from(row: MarkerRow) -> Result<Self> {
        let route = Route { queue: row.queue, priority: priority(row.priority)? };
        Ok(Self { id: row.id, route, sent_at: row.sent_at.0, back_at: row.back_at.map(|at| at.0) })
    }
}

/// What is to be known of a due run to publish its first trigger.
#[derive(FromRow)]
pub(crate) struct SeenRow {
    id: Uuid,
    namespace: String,
    queue: String,
    priority: i16,
    phase_at: At,
    sends: i32,
    is_limited: bool,
    expires_at: Option<At>,
    job: String,
    schedule: Option<String>,
    due_at: Option<At>,
    origin: Option<String>,
}

impl SeenRow {
    /// As it is at `now`.
    pub(crate) fn seen(self, now: Timestamp) -> Result<Seen> {
        let has_expired = self.expires_at.is_some_and(|at| at.0 <= now);
        Ok(Seen {
            is_free: self.sends == 0 && !self.is_limited && !has_expired,
            outgoing: Outgoing {
                route: Route { queue: self.queue, priority: priority(self.priority)? },
                trigger: Trigger {
                    v: UNMARKED,
                    id: WorkRequestId(self.id),
                    n: 1,
                    namespace: self.namespace,
                    job: self.job,
                },
                due_at: self.phase_at.0,
                fire: fire_ref(self.schedule, self.due_at, self.origin.as_deref())?,
            },
        })
    }
}
