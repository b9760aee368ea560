//! Schedules and their fires as JSON.

use reveille_shared::definition::{CatchUpPolicy, Overlap, Timing};
use reveille_shared::store::{Fire, FireOutcome, ScheduleRow};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::time::Instant;

/// When to sound the call, and for which jobs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Schedule)]
pub(crate) struct View {
    /// The tenant.
    namespace: String,
    /// Unique within the namespace.
    name: String,
    /// Counts the definitions that this name has had.
    version: i64,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// A cron text; one of `cron`, `every` and `at` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    /// An interval like `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<String>,
    /// The one due time.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Instant>,
    /// IANA name of the zone in which `cron` is read.
    timezone: String,
    /// The jobs that are called, in order.
    trigger: Vec<String>,
    /// Given to each run.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(required = false)]
    input: Value,
    /// What happens to a fire while runs of an earlier one go on: `skip` or `allow`.
    #[schema(value_type = String)]
    overlap: Overlap,
    /// What happens to due times that nobody saw in time.
    catch_up: CatchUpView,
    /// The next due time; absent when it will never be due again.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_due: Option<Instant>,
    /// Every due time up to and including this instant is decided.
    decided_until: Instant,
}

/// What happens to due times that nobody saw in time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CatchUp)]
struct CatchUpView {
    /// Which of them are made up for: `none`, `latest` or `all`.
    #[schema(value_type = String)]
    policy: CatchUpPolicy,
    /// How late they may be, like `1h`.
    window: String,
}

impl From<ScheduleRow> for View {
    fn from(row: ScheduleRow) -> Self {
        let schedule = row.schedule;
        let (mut cron, mut every, mut at) = (None, None, None);
        match schedule.timing {
            Timing::Cron(text) => cron = Some(text),
            Timing::Every(interval) => every = Some(interval.to_string()),
            Timing::At(instant) => at = Some(Instant(instant)),
        }
        Self {
            namespace: schedule.namespace,
            name: schedule.name,
            version: row.version,
            description: schedule.description,
            cron,
            every,
            at,
            timezone: schedule.timezone,
            trigger: schedule.trigger,
            input: schedule.input,
            overlap: schedule.overlap,
            catch_up: CatchUpView { policy: schedule.catch_up.policy, window: schedule.catch_up.window.to_string() },
            next_due: row.next_due_at.map(Instant),
            decided_until: row.cursor.into(),
        }
    }
}

/// What was decided for a due time of a schedule, or for a stretch of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Fire)]
pub(crate) struct FireView {
    /// The due time; of a stretch of skips, the first.
    due_at: Instant,
    /// Of a stretch of skips, the last; else the same.
    last_due_at: Instant,
    /// How many due times it stands for.
    #[schema(minimum = 1)]
    count: i64,
    /// `triggered` or `skipped`.
    outcome: &'static str,
    /// The work requests that were called for, in the order of the schedule's list.
    work_requests: Vec<String>,
    /// Why it was skipped, for programs: `overlap`, `late` or `superseded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Why it was skipped, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// The version of the schedule that it was decided by.
    schedule_version: i64,
    /// When it was decided.
    decided_at: Instant,
}

impl From<Fire> for FireView {
    fn from(fire: Fire) -> Self {
        let (outcome, work_requests, reason, message) = match fire.outcome {
            FireOutcome::Triggered(ids) => ("triggered", ids.iter().map(ToString::to_string).collect(), None, None),
            FireOutcome::Skipped(reason, detail) => ("skipped", Vec::new(), Some(reason.as_str()), Some(detail)),
        };
        Self {
            due_at: fire.due_at.into(),
            last_due_at: fire.last_due_at.into(),
            count: fire.count,
            outcome,
            work_requests,
            reason,
            message,
            schedule_version: fire.version,
            decided_at: fire.decided_at.into(),
        }
    }
}
