//! Fires as JSON.

use reveille_shared::store::{Fire, FireOutcome};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::time::Instant;
use crate::explain;

/// What was decided for a due time of a schedule, or for a stretch of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Fire)]
pub(crate) struct FireView {
    /// Who decided: `schedule`, `manual` or `backfill:ID`.
    origin: String,
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
    /// Why it was skipped, for programs: `overlap`, `late`, `cap`, `excluded`, `paused`, `superseded`, `before_start` or
    /// `after_end`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Why it was skipped, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// What became of it and why, for people.
    explanation: String,
    /// The version of the schedule that it was decided by.
    schedule_version: i64,
    /// When it was decided.
    decided_at: Instant,
}

impl From<Fire> for FireView {
    fn from(fire: Fire) -> Self {
        let explanation = explain::decision(&fire);
        let (outcome, work_requests, reason, message) = match fire.outcome {
            FireOutcome::Triggered(ids) => ("triggered", ids.iter().map(ToString::to_string).collect(), None, None),
            FireOutcome::Skipped(reason, detail) => ("skipped", Vec::new(), Some(reason.as_str()), Some(detail)),
        };
        Self {
            origin: fire.origin.to_string(),
            due_at: fire.due_at.into(),
            last_due_at: fire.last_due_at.into(),
            count: fire.count,
            outcome,
            work_requests,
            reason,
            message,
            explanation,
            schedule_version: fire.version,
            decided_at: fire.decided_at.into(),
        }
    }
}
