//! Schedules as they are in force: validated, with all defaults filled in.
//!
//! The JSON form of these types is what the store keeps and the API shows. Members that came later are left out where
//! they say what was always so: a definition that an earlier build has stored is equal to the same one read today.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::duration::HumanDuration;

/// When to sound the call, and for which jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// The tenant that the schedule belongs to.
    pub namespace: String,
    /// Unique within the namespace.
    pub name: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it is due.
    #[serde(flatten)]
    pub timing: Timing,
    /// IANA name of the zone in which `cron`, `except` and `only` are read.
    pub timezone: String,
    /// What becomes of cron times when clocks are changed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dst: Dst,
    /// Jobs of the same namespace, called in order, none waited for; at least one.
    pub trigger: Vec<String>,
    /// Given to each run; texts may hold templates that know `scheduled_for`, `fired_at`, `schedule` and `namespace`.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// What happens to a fire while runs of an earlier fire go on.
    pub overlap: Overlap,
    /// With [`Overlap::QueueAll`], the most fires that wait; a fire beyond them is skipped.
    #[serde(default = "queue_max", skip_serializing_if = "is_queue_max")]
    pub queue_max: u32,
    /// Whether runs by hand of this schedule count as runs of an earlier fire.
    #[serde(default, skip_serializing_if = "is_default")]
    pub count_manual: bool,
    /// What happens to due times that nobody saw in time.
    pub catch_up: CatchUp,
    /// Triggers go out up to this long after the due time: always the same for a due time, and different for others.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jitter: HumanDuration,
    /// Due times before this instant are skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// It is not due after this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// It is not due any more once so many of its due times have triggered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fires: Option<u64>,
    /// Due times on these days, by the local calendar, are skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<DayRule>,
    /// Due times on other days than these are skipped, unless this is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<DayRule>,
    /// Paused when so many runs of its fires in a row have FAILED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_after_failures: Option<u32>,
}

/// When a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Timing {
    /// A cron text of five, six (seconds first) or seven (year last) fields, or `@daily` and kin.
    Cron(String),
    /// A fixed interval, counted from the Unix epoch so that replicas and restarts agree.
    Every(HumanDuration),
    /// Once.
    At(Timestamp),
}

/// What becomes of cron times when clocks are changed. Where nothing is declared, the text itself decides: one whose
/// minute or hour field begins with `*` follows elapsed time (`gap: skip, fold: both`), all others are due once
/// (`gap: run_after, fold: first`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Dst {
    /// For local times that the clock skips.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Gap>,
    /// For local times that the clock shows twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
}

/// What becomes of a local time that the clock skips in spring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// It is due at the first instant after the gap, once for all skipped times.
    RunAfter,
    /// It is not due on that day.
    Skip,
}

/// What becomes of a local time that the clock shows twice in autumn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// It is due in the first pass.
    First,
    /// It is due in the second pass.
    Second,
    /// It is due in both.
    Both,
}

/// Days of the local calendar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DayRule {
    /// From one date to another, both included; a single day is both.
    Dates {
        /// The first day.
        from: Date,
        /// The last day.
        to: Date,
    },
    /// From one day of the week to another, both included, over the week's end if need be.
    Weekdays {
        /// The first day.
        from: Day,
        /// The last day.
        to: Day,
    },
    /// A calendar of the same namespace, with the days that it had when this definition was read.
    Calendar {
        /// Its name.
        name: String,
        /// Its days; holds no calendar. Shared by the schedules that were read together.
        #[serde(with = "shared_days")]
        days: Arc<[DayRule]>,
    },
}

mod shared_days {
    use super::*;

    pub(super) fn serialize<S: Serializer>(days: &[DayRule], serializer: S) -> Result<S::Ok, S::Error> {
        days.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[DayRule]>, D::Error> {
        Vec::deserialize(deserializer).map(Arc::from)
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// What happens to a fire while runs of an earlier fire of the schedule have not ended. Retries that wait and runs that are
/// being canceled have not ended; runs that a chain has called do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The fire is recorded as skipped.
    #[default]
    Skip,
    /// The fire triggers all the same.
    Allow,
    /// The fire's runs wait until the earlier ones have ended. One fire may wait; a later one is skipped.
    QueueOne,
    /// The same for up to `queue_max` fires, which run one after the other.
    QueueAll,
    /// The earlier runs are canceled, waiting ones included, and the fire's runs wait until they have ended.
    CancelRunning,
}

impl Overlap {
    /// Whether a fire's runs may wait for those of an earlier one.
    #[must_use]
    pub const fn holds(self) -> bool {
        matches!(self, Self::QueueOne | Self::QueueAll | Self::CancelRunning)
    }
}

/// What happens to due times that passed while no scheduler decided them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CatchUp {
    /// Which of the missed due times are made up for.
    pub policy: CatchUpPolicy,
    /// How late a missed due time may be to be made up for.
    pub window: HumanDuration,
    /// With [`CatchUpPolicy::All`], the most that are made up for: the latest ones.
    #[serde(default = "catch_up_max", skip_serializing_if = "is_catch_up_max")]
    pub max: u32,
}

/// Which missed due times are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUpPolicy {
    /// None.
    None,
    /// Only the latest.
    Latest,
    /// Every one.
    All,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self { policy: CatchUpPolicy::Latest, window: HumanDuration::from_secs(3600), max: catch_up_max() }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

const fn queue_max() -> u32 {
    Schedule::QUEUE_MAX
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_queue_max(max: &u32) -> bool {
    *max == Schedule::QUEUE_MAX
}

const fn catch_up_max() -> u32 {
    CatchUp::MAX
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_catch_up_max(max: &u32) -> bool {
    *max == CatchUp::MAX
}

impl Schedule {
    /// The default of `queue_max`.
    pub const QUEUE_MAX: u32 = 100;

    /// A schedule in UTC that calls one job, with the defaults of everything else.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, timing: Timing, job: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            description: None,
            timing,
            timezone: "UTC".to_owned(),
            dst: Dst::default(),
            trigger: vec![job.into()],
            input: Value::Null,
            overlap: Overlap::default(),
            queue_max: Self::QUEUE_MAX,
            count_manual: false,
            catch_up: CatchUp::default(),
            jitter: HumanDuration::ZERO,
            starts_at: None,
            ends_at: None,
            max_fires: None,
            except: Vec::new(),
            only: Vec::new(),
            pause_after_failures: None,
        }
    }
}

impl CatchUp {
    /// The default of `max`.
    pub const MAX: u32 = 100;
}
