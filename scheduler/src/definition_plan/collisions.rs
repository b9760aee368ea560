//! Seconds at which many schedules are due.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::definition::Schedule;
use reveille_shared::due::{DueTimes, InvalidTiming};
use reveille_shared::store::{ScheduleKey, ScheduleRow, just_before};

use super::{Budget, Current, Merged};

/// So far ahead is looked.
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Fewer schedules at one second are no collision.
const LEAST: usize = 10;
/// The fullest seconds that are told.
const TOLD: usize = 10;
/// Schedules that are named for each.
const NAMED: usize = 5;

/// A second at which many schedules are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collision {
    /// The second.
    pub at: Timestamp,
    /// How many schedules are due in it.
    pub count: usize,
    /// Some of them.
    pub schedules: Vec<ScheduleKey>,
}

/// The fullest seconds of the next day, as it would be with the changes.
pub(super) fn find(
    current: &Current,
    merged: &Merged,
    now: Timestamp,
    budget: &mut Budget,
) -> Result<Vec<Collision>, InvalidTiming> {
    let rows: HashMap<ScheduleKey, &ScheduleRow> = current.schedules.iter().map(|row| (row.key(), row)).collect();
    let until = now.saturating_add(DAY).unwrap_or(Timestamp::MAX);
    let mut compiled = Vec::new();
    for schedule in &merged.definitions.schedules {
        let row = rows.get(&ScheduleKey::of(schedule));
        if row.is_none_or(|row| row.pause.is_none() && !row.is_exhausted()) {
            compiled.push((schedule, DueTimes::of(schedule)?));
        }
    }
    if compiled.len() < LEAST {
        return Ok(Vec::new());
    }
    // Rare ones first: what is due each second collides with everything, and must not use up the budget of the others.
    let often = |due: &DueTimes| due.stretch(now, until).map_or(0, |stretch| stretch.count);
    compiled.sort_by_cached_key(|(_, due)| often(due));
    let mut counts: HashMap<i64, usize> = HashMap::new();
    'all: for (schedule, due) in &compiled {
        let mut last = None;
        for due_at in dues(schedule, due, now, until) {
            if !budget.take() {
                break 'all;
            }
            let second = due_at.as_second();
            if last.replace(second) != Some(second) && due.exclusion(schedule, due_at).is_none() {
                *counts.entry(second).or_default() += 1;
            }
        }
    }
    let mut full: Vec<(usize, i64)> =
        counts.into_iter().filter(|(_, count)| *count >= LEAST).map(|(second, count)| (count, second)).collect();
    full.sort_unstable_by_key(|(count, second)| (std::cmp::Reverse(*count), *second));
    full.truncate(TOLD);
    let name = |(count, second): (usize, i64)| {
        let at = Timestamp::from_second(second).ok()?;
        let end = just_before(at.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX));
        let due_then = compiled.iter().filter(|(schedule, due)| {
            let first = dues(schedule, due, just_before(at), end).next();
            first.is_some_and(|due_at| due.exclusion(schedule, due_at).is_none())
        });
        let schedules = due_then.take(NAMED).map(|(schedule, _)| ScheduleKey::of(schedule)).collect();
        Some(Collision { at, count, schedules })
    };
    Ok(full.into_iter().filter_map(name).collect())
}

fn dues<'a>(
    schedule: &Schedule,
    due: &'a DueTimes,
    from: Timestamp,
    until: Timestamp,
) -> impl Iterator<Item = Timestamp> + 'a {
    let from = schedule.starts_at.map_or(from, |starts_at| from.max(just_before(starts_at)));
    due.between(from, schedule.ends_at.map_or(until, |ends_at| ends_at.min(until)))
}
