//! Single statements whose text is the same in both databases, written once.
//!
//! sqlx's types are bound to one database each, so a macro stands in for what a generic function can't say.

mod answers;
mod events;
mod fan_outs;
mod feed;
mod keys;
mod plain;
mod plans;
mod runs;
mod webhooks;

pub(crate) use self::answers::impl_read_answers;
pub(crate) use self::events::impl_plain_events;
pub(crate) use self::fan_outs::{impl_fan_outs, impl_read_fan_outs};
pub(crate) use self::feed::{impl_feed, impl_read_feed};
pub(crate) use self::keys::{impl_keys, impl_read_keys};
pub(crate) use self::plain::impl_plain;
pub(crate) use self::plans::impl_read_plans;
pub(crate) use self::runs::{impl_read_runs, let_through};
pub(crate) use self::webhooks::{impl_read_webhooks, impl_webhooks};

use super::accept::MOST_APART;

/// What is read of work requests `w`; where they are read follows.
macro_rules! work_request_columns {
    () => {
        "SELECT w.id, w.namespace, w.job, w.job_version, w.queue, w.schedule, w.due_at, w.origin, w.chained_from, w.parent,
                w.retry_of, w.status, d.phase, d.phase_at, d.hold, d.token, d.worker, d.attempt_until, w.attempt, w.input,
                w.resource, w.percent, w.message, w.error_code, w.error_message, d.expires_at, w.accepted_at,
                w.started_at, w.finished_at, f.total AS children_total, f.born AS children_born,
                f.succeeded AS children_succeeded, f.failed AS children_failed, f.canceled AS children_canceled,
                f.stopped AS children_stopped, f.policy AS children_policy, f.job AS children_job
         FROM "
    };
}
pub(crate) use work_request_columns;

/// What belongs to work requests `w` beside their rows: the delivery phase, and the count of children.
macro_rules! work_request_parts {
    () => {
        " LEFT JOIN deliveries d ON d.id = w.id LEFT JOIN fan_outs f ON f.parent = w.id"
    };
}
pub(crate) use work_request_parts;

/// A work request; conditions follow.
pub(crate) const WORK_REQUEST: &str = concat!(work_request_columns!(), "work_requests w", work_request_parts!());

/// A backfill with the number of its fires whose runs have not ended.
pub(crate) const BACKFILL: &str =
    "SELECT b.namespace, b.schedule, b.id, b.version, b.spec, b.from_at, b.to_at, b.cursor,
       b.total, b.triggered, b.skipped, b.max_parallel, b.status, b.created_at, b.created_by, b.reason, b.ended_at,
       b.ended_by,
       (SELECT count(DISTINCT w.due_at) FROM deliveries d JOIN work_requests w ON w.id = d.id
        WHERE d.namespace = b.namespace AND d.schedule = b.schedule AND d.origin = 'backfill:' || b.id) AS unended
FROM backfills b";

/// What a transition looks at, of the delivery `d` and its work request `w`.
macro_rules! locked_columns {
    () => {
        "SELECT w.id, w.namespace, w.job, w.job_version, w.queue, w.schedule, w.due_at, w.origin, w.status,
       d.phase, d.phase_at, d.hold, d.token, d.worker, d.attempt_until, d.sends, d.resends, d.attempt, d.failures, d.timeout_ms, d.seq,
       d.follow, d.priority, d.concurrency_key, d.rate_key, d.expires_at, d.doubt, d.operation_token, d.operation "
    };
}

/// The same of all of them; conditions follow.
pub(crate) const LOCKED: &str = concat!(locked_columns!(), "FROM deliveries d JOIN work_requests w USING (id) ");

/// Where something is due, now or later, and when first: `first` has a row of each lane. The index has a lane's rows side by side;
/// this goes from the first one of each lane to the first one of the next, however many it has.
macro_rules! due_lanes {
    () => {
        "WITH RECURSIVE lanes AS (
             SELECT f.id, f.priority, f.queue, f.namespace
             FROM (SELECT id, priority, queue, namespace FROM deliveries WHERE phase = 'due'
                   ORDER BY priority, queue, namespace LIMIT 1) AS f
             UNION ALL
             SELECT n.id, n.priority, n.queue, n.namespace
             FROM lanes l JOIN deliveries n ON n.id =
                  (SELECT d.id FROM deliveries d
                   WHERE d.phase = 'due' AND (d.priority, d.queue, d.namespace) > (l.priority, l.queue, l.namespace)
                   ORDER BY d.priority, d.queue, d.namespace LIMIT 1)
         ), first AS (
             SELECT l.priority, l.queue, l.namespace,
                    (SELECT min(d.phase_at) FROM deliveries d
                     WHERE d.phase = 'due' AND d.priority = l.priority AND d.queue = l.queue
                           AND d.namespace = l.namespace) AS at
             FROM lanes l
         ) "
    };
}

/// What a key was taken for.
pub(crate) const TAKEN_KEY: &str = "SELECT fields, answer FROM idempotent_requests
WHERE namespace = $1 AND caller = $2 AND operation = $3 AND key = $4";

/// A live lease, of the delivery `d` and its work request `w`; conditions follow.
pub(crate) const LEASE: &str =
    "SELECT d.id, d.token, d.worker, w.status, d.namespace, w.job, w.job_version, d.failures, e.lease_ms,
       d.phase_at < coalesce(d.attempt_until, d.phase_at) AS is_silent
FROM deliveries d JOIN work_requests w USING (id)
LEFT JOIN external_leases e ON e.work_request_id = d.id AND e.token = d.token
WHERE d.phase = 'leased'";

/// The run `w`, or the entry `e` of its history, that a row `o` names, on PostgreSQL: looked up for each row, of which there are few.
/// Nothing of what is within is known to whoever plans what is around it, who would read whole tables instead.
macro_rules! beside_in_postgres {
    (run) => {
        " LEFT JOIN LATERAL (SELECT * FROM work_requests x WHERE x.id = o.work_request_id OFFSET 0) AS w ON true"
    };
    (entry) => {
        " LEFT JOIN LATERAL (SELECT * FROM events x WHERE x.work_request_id = o.work_request_id AND x.seq = o.seq OFFSET 0)
          AS e ON true"
    };
}

/// The same on SQLite, which does nothing else.
macro_rules! beside_in_sqlite {
    (run) => {
        " LEFT JOIN work_requests w ON w.id = o.work_request_id"
    };
    (entry) => {
        " LEFT JOIN events e ON e.work_request_id = o.work_request_id AND e.seq = o.seq"
    };
}

/// Up to `$1` entries of an outbox, in the order of their numbers; which ones, says the condition.
macro_rules! in_outbox {
    ($outbox:literal, $which:literal, $beside:ident) => {
        concat!(
            "SELECT o.number, o.work_request_id AS id, o.seq, w.namespace, w.job, w.schedule, e.at, e.what
             FROM (SELECT number, work_request_id, seq FROM ",
            $outbox,
            " WHERE ",
            $which,
            " ORDER BY number LIMIT $1) AS o",
            $crate::store::reads::$beside!(entry),
            $crate::store::reads::$beside!(run),
            " ORDER BY o.number"
        )
    };
}

/// Webhooks; conditions follow.
pub(crate) const WEBHOOK: &str =
    "SELECT id, namespace, url, description, filter, secret, old_secret, old_until, version, created_at,
       failing_since, disabled_at, disabled_reason
FROM webhooks WHERE deleted_at IS NULL";

/// Columns of a delivery `d`.
macro_rules! delivery_columns {
    () => {
        "d.webhook_id, d.id, d.work_request_id, d.seq, d.state, d.created_at, d.queued_at, d.due_at, d.claim, d.tries,
         d.attempts, d.ended_at"
    };
}

/// Columns of what is needed to try it, beside these: of the webhook `h`, the work request `w` and the entry `e`.
macro_rules! claimed_columns {
    () => {
        "h.url, h.secret, h.old_secret, h.old_until, h.failing_since, w.namespace, w.job, w.schedule, e.at, e.what"
    };
}

/// Leases `e` of workers in other languages; conditions follow.
macro_rules! external_leases {
    () => {
        "SELECT e.work_request_id, e.token, w.namespace, e.worker, e.attempt, e.lease_ms, e.retry, e.ended, e.words_at,
                e.words_id, e.output, e.output_at, e.output_id, e.has_own
         FROM external_leases e JOIN work_requests w ON w.id = e.work_request_id "
    };
}

/// A lower bound of the ids made at an instant: it lets a list filtered by time use the index by id.
pub(crate) fn id_floor(at: jiff::Timestamp) -> uuid::Uuid {
    let millis = at.as_millisecond().clamp(0, (1 << 48) - 1);
    uuid::Uuid::from_u128(u128::from(millis.unsigned_abs()) << 80)
}

/// A lower bound of the ids of runs accepted at an instant or later: whatever has a lower one was accepted before.
pub(crate) fn lowest_accepted(from: jiff::Timestamp) -> uuid::Uuid {
    id_floor(from.saturating_sub(MOST_APART).unwrap_or(jiff::Timestamp::MIN))
}

/// What the ids of runs accepted before an instant are below of.
pub(crate) fn beyond_accepted(before: jiff::Timestamp) -> uuid::Uuid {
    // The time in an id is cut to milliseconds.
    let above = MOST_APART.saturating_add(jiff::SignedDuration::from_millis(1));
    id_floor(before.saturating_add(above).unwrap_or(jiff::Timestamp::MAX))
}

/// API keys; conditions follow.
macro_rules! api_keys {
    ($conditions:literal) => {
        concat!(
            "SELECT prefix, name, access, hash, previous_hash, previous_until, version, created_at, created_by, expires_at,
                    revoked_at, last_used_at FROM api_keys ",
            $conditions
        )
    };
}

pub(crate) use {
    api_keys, beside_in_postgres, beside_in_sqlite, claimed_columns, delivery_columns, due_lanes, external_leases,
    in_outbox, locked_columns,
};

/// The imports that both macros' expansions need.
pub(crate) mod prelude {
    pub(crate) use jiff::Timestamp;
    pub(crate) use serde_json::Value;
    pub(crate) use sqlx::types::Json;
    pub(crate) use uuid::Uuid;

    pub(crate) use super::super::backfills::{Backfill, BackfillStep, NewBackfill};
    pub(crate) use super::super::changes::{DefinitionKind, NamedChange, RecordedChange};
    pub(crate) use super::super::database::{NamePage, TakenKey};
    pub(crate) use super::super::definitions::{InForce, Versioned};
    pub(crate) use super::super::events_in::{RefusedRecord, SeenKey};
    pub(crate) use super::super::external::ExternalRow;
    pub(crate) use super::super::fair::{DueLane, Lane};
    pub(crate) use super::super::fan_outs::{FanOut, InputChunk, NewFanOut, OpenFanOut, UnfinishedChild};
    pub(crate) use super::super::feed::FeedPage;
    pub(crate) use super::super::fires::Fire;
    pub(crate) use super::super::follow::EndedRun;
    pub(crate) use super::super::idempotency::IdempotencyKey;
    pub(crate) use super::super::keys::ApiKey;
    pub(crate) use super::super::leader::Generation;
    pub(crate) use super::super::leases::HeldLease;
    pub(crate) use super::super::markers::Marker;
    pub(crate) use super::super::reports::{LateReport, Report};
    pub(crate) use super::super::requests::{ListFilter, Order, Place, QueueDepth, SortBy, Standing};
    pub(crate) use super::super::rows::{
        At, BackfillRow, ChangeRow, ChunkRow, DeliveryRow, DepthRow, EndedRow, EventRow, ExternalDbRow, FanOutRow,
        FeedRow, FireRow, InForceRow, InOutbox, KeyRow, LateRow, LeaseRow, LogRow, MarkerRow, NamedChangeRow,
        OpenFanOutRow, RefusedRow, ScheduleDbRow, UnfinishedRow, UntoldRow, VersionedJobRow, WebhookRow,
        WorkRequestRow, WorkerRow, all, millis, number, priority, priority_column, status_column,
    };
    pub(crate) use super::super::schedules::{ScheduleKey, ScheduleRow, just_before};
    pub(crate) use super::super::texts::clean;
    pub(crate) use super::super::waits::{Took, WaitFacts};
    pub(crate) use super::super::webhook_deliveries::{DeliveryState, WebhookCounts, WebhookDelivery};
    pub(crate) use super::super::webhooks::Webhook;
    pub(crate) use super::super::workers::{NewWorker, Worker};
    pub(crate) use super::super::{Result, step};
    pub(crate) use super::feed::without_status;
    pub(crate) use super::{
        BACKFILL, LEASE, TAKEN_KEY, WEBHOOK, WORK_REQUEST, api_keys, beyond_accepted, delivery_columns,
        external_leases, id_floor, in_outbox, lowest_accepted,
    };
    pub(crate) use crate::broker::Route;
    pub(crate) use crate::cloud_event::RefusedEvent;
    pub(crate) use crate::definition::Job;
    pub(crate) use crate::state::{Hold, Status};
    pub(crate) use crate::work_request::{HistoryEvent, LogLine, WorkRequest, WorkRequestId};
}
