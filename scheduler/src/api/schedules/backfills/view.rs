//! Backfills as JSON.

use reveille_shared::store::{Backfill, BackfillStatus};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::time::Instant;

/// Fires of a past range.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Backfill)]
pub(crate) struct View {
    /// Its name, unique for the schedule.
    id: String,
    /// The schedule whose due times are made up for.
    schedule: String,
    /// Due times from this instant on …
    from: Instant,
    /// … up to and including this one.
    to: Instant,
    /// The most fires whose runs have not ended at one time.
    #[schema(minimum = 1, maximum = 1000)]
    max_parallel: u32,
    /// `running`, `done` or `canceled`.
    #[schema(value_type = String)]
    status: BackfillStatus,
    /// Due times that are decided and whose runs have ended, of all: 0 to 100.
    #[schema(minimum = 0, maximum = 100)]
    percent_complete: f64,
    /// Due times in the range.
    total: i64,
    /// How many have triggered.
    triggered: i64,
    /// How many were skipped, on excluded days for example.
    skipped: i64,
    /// Fires whose runs have not all ended.
    unended: i64,
    /// When it was asked for.
    time_created: Instant,
    /// Who asked.
    by: String,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// When it was done or canceled.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ended: Option<Instant>,
    /// Who canceled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<String>,
    /// The version of the schedule that it is made by; later changes do not touch it.
    schedule_version: i64,
}

impl From<Backfill> for View {
    fn from(backfill: Backfill) -> Self {
        let percent = backfill.percent();
        let asked = backfill.asked;
        Self {
            id: asked.id,
            schedule: asked.key.name,
            from: asked.from.into(),
            to: asked.to.into(),
            max_parallel: asked.max_parallel,
            status: backfill.status,
            percent_complete: (percent * 10.0).floor() / 10.0,
            total: asked.total,
            triggered: backfill.triggered,
            skipped: backfill.skipped,
            unended: backfill.unended,
            time_created: backfill.created_at.into(),
            by: asked.by,
            reason: asked.reason,
            time_ended: backfill.ended_at.map(Instant),
            ended_by: backfill.ended_by,
            schedule_version: asked.version,
        }
    }
}
