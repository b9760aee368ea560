//! Schedules as JSON.

use reveille_shared::definition::{CatchUp, CatchUpPolicy, Dst, Fold, Gap, Overlap, Schedule, Timing};
use reveille_shared::due::written;
use reveille_shared::store::{Pause, ScheduleRow};
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
    /// What becomes of `cron` times when clocks are changed, where it is declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    dst: Option<DstView>,
    /// The jobs that are called, in order.
    trigger: Vec<String>,
    /// Given to each run.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(required = false)]
    input: Value,
    /// What happens to a fire while runs of an earlier one go on: `skip`, `allow`, `queue_one`, `queue_all` or
    /// `cancel_running`.
    #[schema(value_type = String)]
    overlap: Overlap,
    /// With `queue_all`, the most fires that wait; absent when it is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_max: Option<u32>,
    /// Runs by hand of this schedule count as runs of an earlier fire.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    count_manual: bool,
    /// What happens to due times that nobody saw in time.
    catch_up: CatchUpView,
    /// Triggers go out up to this long after the due time.
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<String>,
    /// Due times before this instant are skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<Instant>,
    /// It is not due after this instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_at: Option<Instant>,
    /// It is not due any more once so many of its due times have triggered.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_fires: Option<u64>,
    /// How many have, of `maxFires`.
    #[serde(skip_serializing_if = "Option::is_none")]
    fired: Option<u64>,
    /// Days on which due times are skipped, as they are written: `2026-12-24/2026-12-26`, `SAT`, or a calendar's name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    except: Vec<String>,
    /// Due times on other days than these are skipped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    only: Vec<String>,
    /// It is paused when so many runs in a row have FAILED.
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_after_failures: Option<u32>,
    /// How many runs in a row have FAILED up to now.
    #[serde(skip_serializing_if = "Option::is_none")]
    failures_in_a_row: Option<u32>,
    /// It is paused: not due until it is resumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<PauseView>,
    /// The next due time; absent while it is paused, and when it will never be due again.
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
    /// With `all`, the most that are made up for; absent when it is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u32>,
}

/// What becomes of cron times when clocks are changed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Dst)]
struct DstView {
    /// Of local times that the clock skips: `run_after` or `skip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    gap: Option<Gap>,
    /// Of local times that the clock shows twice: `first`, `second` or `both`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    fold: Option<Fold>,
}

/// Since when a schedule is paused, and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pause)]
struct PauseView {
    /// Since when.
    since: Instant,
    /// Who did it.
    by: String,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<Pause> for PauseView {
    fn from(pause: Pause) -> Self {
        Self { since: pause.at.into(), by: pause.by, reason: pause.reason }
    }
}

impl From<CatchUp> for CatchUpView {
    fn from(catch_up: CatchUp) -> Self {
        let max = (catch_up.max != CatchUp::MAX).then_some(catch_up.max);
        Self { policy: catch_up.policy, window: catch_up.window.to_string(), max }
    }
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
            dst: (schedule.dst != Dst::default()).then_some(DstView { gap: schedule.dst.gap, fold: schedule.dst.fold }),
            trigger: schedule.trigger,
            input: schedule.input,
            overlap: schedule.overlap,
            queue_max: (schedule.queue_max != Schedule::QUEUE_MAX).then_some(schedule.queue_max),
            count_manual: schedule.count_manual,
            catch_up: schedule.catch_up.into(),
            jitter: (schedule.jitter.as_millis() > 0).then(|| schedule.jitter.to_string()),
            starts_at: schedule.starts_at.map(Instant),
            ends_at: schedule.ends_at.map(Instant),
            max_fires: schedule.max_fires,
            fired: schedule.max_fires.map(|_| row.fired),
            except: schedule.except.iter().map(written).collect(),
            only: schedule.only.iter().map(written).collect(),
            pause_after_failures: schedule.pause_after_failures,
            failures_in_a_row: (row.failures > 0).then_some(row.failures),
            paused: row.pause.map(PauseView::from),
            next_due: row.next_due_at.map(Instant),
            decided_until: row.cursor.into(),
        }
    }
}
