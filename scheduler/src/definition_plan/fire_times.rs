//! The next fires of schedules that come, change or go, before and after.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use reveille_shared::definition::Schedule;
use reveille_shared::due::{DueTimes, InvalidTiming};
use reveille_shared::store::{ScheduleKey, ScheduleRow, just_before};

use super::{Budget, Current, Merged};

/// Fires of a schedule that are compared.
const COMPARED: usize = 100;
/// Of the fires that differ, so many are listed.
const LISTED: usize = 5;
/// The most due times of one schedule that are visited, should most of them be excluded.
const MOST_VISITED: usize = 20_000;

/// How the next fires of a schedule would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FireTimes {
    /// The schedule.
    pub key: ScheduleKey,
    /// How many there are as things stand.
    pub before: usize,
    /// How many there would be.
    pub after: usize,
    /// How many are at the same instants.
    pub same: usize,
    /// The first instant at which only one of the two fires.
    pub first_difference: Option<Timestamp>,
    /// Instants at which it would not fire any more; the first few.
    pub removed: Vec<Timestamp>,
    /// Instants at which it would fire then; the first few.
    pub added: Vec<Timestamp>,
    /// What else there is to know.
    pub note: Option<String>,
}

/// Compares all schedules that differ.
pub(super) fn compare(
    current: &Current,
    merged: &Merged,
    now: Timestamp,
    budget: &mut Budget,
) -> Result<Vec<FireTimes>, InvalidTiming> {
    let old: HashMap<ScheduleKey, &ScheduleRow> = current.schedules.iter().map(|row| (row.key(), row)).collect();
    let new = merged.set.put_schedules.iter().map(|schedule| (ScheduleKey::of(schedule), Some(schedule)));
    let gone = merged.set.remove_schedules.iter().map(|key| (key.clone(), None));
    let mut compared = Vec::new();
    for (key, new) in new.chain(gone) {
        let row = old.get(&key).copied();
        let before = match row {
            Some(row) => Next::of(&row.schedule, row.fired, now, budget)?,
            None => Next::default(),
        };
        let fired = row.filter(|row| row.schedule.max_fires.is_some()).map_or(0, |row| row.fired);
        let after = match new {
            Some(schedule) => Next::of(schedule, fired, now, budget)?,
            None => Next::default(),
        };
        let paused = row.filter(|_| new.is_some()).and_then(|row| row.pause.as_ref());
        compared.push(difference(key, &before, &after, paused.map(|pause| format!("it is {pause}, and stays so"))));
    }
    Ok(compared)
}

fn difference(key: ScheduleKey, before: &Next, after: &Next, mut note: Option<String>) -> FireTimes {
    // Beyond the last one of a list that was cut, the other list has nothing to be compared with.
    let until = before.known_until.min(after.known_until);
    let within = |next: &Next| next.times.iter().copied().filter(|at| *at <= until).collect::<BTreeSet<_>>();
    let (before, after) = (within(before), within(after));
    let (removed, added) = (before.difference(&after), after.difference(&before));
    let first_difference = before.symmetric_difference(&after).next().copied();
    if until < Timestamp::MAX && first_difference.is_some() {
        let compared = format!("compared up to {until:.0}");
        note = Some(note.map_or(compared.clone(), |note| format!("{note}; {compared}")));
    }
    FireTimes {
        key,
        before: before.len(),
        after: after.len(),
        same: before.intersection(&after).count(),
        first_difference,
        removed: removed.copied().take(LISTED).collect(),
        added: added.copied().take(LISTED).collect(),
        note,
    }
}

/// The next fires of a schedule.
struct Next {
    times: Vec<Timestamp>,
    /// There is no other one up to here.
    known_until: Timestamp,
}

impl Default for Next {
    fn default() -> Self {
        Self { times: Vec::new(), known_until: Timestamp::MAX }
    }
}

impl Next {
    fn of(schedule: &Schedule, fired: u64, now: Timestamp, budget: &mut Budget) -> Result<Self, InvalidTiming> {
        let due = DueTimes::of(schedule)?;
        let left = schedule.max_fires.map_or(u64::MAX, |max| max.saturating_sub(fired));
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let from = schedule.starts_at.map_or(now, |starts_at| now.max(just_before(starts_at)));
        let mut next = Self::default();
        for (visited, due_at) in due.between(from, schedule.ends_at.unwrap_or(Timestamp::MAX)).enumerate() {
            if next.times.len() == left {
                break;
            }
            if next.times.len() == COMPARED || visited == MOST_VISITED || !budget.take() {
                next.known_until = just_before(due_at);
                budget.cut |= visited == MOST_VISITED;
                break;
            }
            if due.exclusion(schedule, due_at).is_none() {
                next.times.push(due_at);
            }
        }
        Ok(next)
    }
}
