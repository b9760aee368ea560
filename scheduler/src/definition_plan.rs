//! Files of definitions → what they would change, before anyone changes it.
//!
//! Pure. [`merge`] puts files over what is in force and refuses what would not be sound as a whole; [`outlook`] says what
//! that means for due times. The API does the reading and the writing.

mod collisions;
mod fire_times;
mod merge;
mod pace;
mod sound;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::definition::{ChangedMember, Definitions, Job, Schedule};
use reveille_shared::due::{ClockChange, DueTimes, InvalidTiming};
use reveille_shared::store::{ChangeSet, InForce, ScheduleKey, ScheduleRow, Versioned};

pub use self::collisions::Collision;
pub use self::fire_times::FireTimes;
pub use self::merge::merge;
pub use self::pace::{Interval, Overrun, overruns};
pub use self::sound::Unsound;

/// The most due times that are visited for one plan.
const MOST_DUE_TIMES: usize = 1_000_000;
/// Changes of clocks are looked for so far ahead.
const YEAR: SignedDuration = SignedDuration::from_hours(366 * 24);
/// Changes of clocks of one schedule.
const MOST_CLOCK_CHANGES: usize = 4;
/// Changes of clocks in all.
const MOST_CLOCK_CHANGES_IN_ALL: usize = 1_000;

/// What is in force, in all namespaces.
#[derive(Debug, Clone, Default)]
pub struct Current {
    /// The whole; none if nothing was ever put in force.
    pub in_force: Option<InForce>,
    /// All jobs.
    pub jobs: Vec<Versioned<Job>>,
    /// All schedules.
    pub schedules: Vec<ScheduleRow>,
}

/// What files change of what is in force.
#[derive(Debug, Clone)]
pub struct Merged {
    /// What would be in force then, in all namespaces.
    pub definitions: Definitions,
    /// How to get there.
    pub set: ChangeSet,
    /// Jobs that differ.
    pub jobs: Differences,
    /// Schedules that differ.
    pub schedules: Differences,
    /// In force, of the files' namespaces, in no file, and kept.
    pub kept_jobs: Vec<ScheduleKey>,
    /// Likewise.
    pub kept_schedules: Vec<ScheduleKey>,
    /// The namespaces of the files.
    pub namespaces: BTreeSet<String>,
}

/// Definitions that come, change and go, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Differences {
    /// Not in force yet.
    pub added: Vec<ScheduleKey>,
    /// Other than what is in force.
    pub changed: Vec<(ScheduleKey, Vec<ChangedMember>)>,
    /// Out of force then.
    pub removed: Vec<ScheduleKey>,
}

impl Differences {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl Merged {
    /// Whether the files have this schedule of the whole.
    fn is_in_files(&self, schedule: &Schedule) -> bool {
        self.namespaces.contains(&schedule.namespace)
            && self.kept_schedules.binary_search(&ScheduleKey::of(schedule)).is_err()
    }

    /// Whether putting it in force would change anything.
    #[must_use]
    pub fn is_change(&self, current: &Current) -> bool {
        let revision = current.in_force.as_ref().and_then(|in_force| in_force.revision);
        !(self.jobs.is_empty() && self.schedules.is_empty()) || self.definitions.revision != revision
    }
}

/// What a change means for due times.
#[derive(Debug, Clone, Default)]
pub struct Outlook {
    /// Of each schedule that differs, its next fires before and after.
    pub fire_times: Vec<FireTimes>,
    /// Seconds of the next day at which many schedules are due, the fullest first.
    pub collisions: Vec<Collision>,
    /// What changes of clocks do within a year to schedules that are new or changed.
    pub clock_changes: Vec<(ScheduleKey, ClockChange)>,
    /// How soon the files' schedules come round.
    pub intervals: Vec<Interval>,
    /// Not everything could be looked at: the figures are lower bounds.
    pub cut: bool,
}

/// Due times that may still be visited.
#[derive(Debug)]
struct Budget {
    left: usize,
    cut: bool,
}

impl Budget {
    /// Takes one; false when none is left.
    fn take(&mut self) -> bool {
        let there = self.left > 0;
        self.left = self.left.saturating_sub(1);
        self.cut |= !there;
        there
    }
}

/// Looks ahead from `now`.
///
/// # Errors
/// A schedule in force that this build can't read.
pub fn outlook(current: &Current, merged: &Merged, now: Timestamp) -> Result<Outlook, InvalidTiming> {
    let mut budget = Budget { left: MOST_DUE_TIMES, cut: false };
    let fire_times = fire_times::compare(current, merged, now, &mut budget)?;
    let collisions = collisions::find(current, merged, now, &mut budget)?;
    let intervals = pace::intervals(merged, now, &mut budget)?;
    let mut clock_changes = Vec::new();
    let until = now.saturating_add(YEAR).unwrap_or(Timestamp::MAX);
    for schedule in &merged.set.put_schedules {
        let due = DueTimes::of(schedule)?;
        let found = due.clock_changes(now, until, MOST_CLOCK_CHANGES);
        clock_changes.extend(found.into_iter().map(|change| (ScheduleKey::of(schedule), change)));
    }
    let cut = budget.cut || clock_changes.len() > MOST_CLOCK_CHANGES_IN_ALL;
    clock_changes.truncate(MOST_CLOCK_CHANGES_IN_ALL);
    Ok(Outlook { fire_times, collisions, clock_changes, intervals, cut })
}

#[cfg(test)]
mod tests;
