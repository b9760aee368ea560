//! What changes of clocks do to a schedule, for people who plan.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::cron::Cron;
use super::pattern::local_datetime;
use super::walk::{ClockRule, REACH, Steady};
use super::why_not::{time_of, whole_date};
use super::{DueTimes, Rule, whole_second};
use crate::definition::{Fold, Gap};

/// So many local times of one change are listed one by one.
const LISTED: i64 = 10;

/// A change of clocks that touches a schedule: the clock skips or repeats local times at which it would be due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClockChange {
    /// When the clock changes.
    pub at: Timestamp,
    /// What the local clock would show then without the change.
    pub before: DateTime,
    /// What it shows instead.
    pub after: DateTime,
    /// What becomes of the local times, in their order.
    pub effects: Vec<ClockEffect>,
    /// The same as one clause for people.
    pub words: String,
}

/// What becomes of a local time that a clock skips or repeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ClockEffect {
    /// It is skipped and due after the gap, together with all others that are.
    Moved {
        /// The skipped local time.
        local: DateTime,
        /// When it is due instead.
        to: Timestamp,
    },
    /// It is skipped and not due.
    Dropped {
        /// The skipped local time.
        local: DateTime,
    },
    /// It is shown more than once and due each time.
    Repeated {
        /// The repeated local time.
        local: DateTime,
        /// When it is due.
        times: Vec<Timestamp>,
    },
    /// It is shown more than once and due in one pass only.
    Once {
        /// The repeated local time.
        local: DateTime,
        /// When it is due.
        at: Timestamp,
    },
    /// So many local times that they are not listed.
    Many {
        /// The first of them.
        first: DateTime,
        /// The last of them.
        last: DateTime,
        /// How many they are.
        count: i64,
    },
}

impl DueTimes {
    /// What changes of clocks after `from` and up to `until` do to the schedule: the first `limit` changes that touch it.
    /// For one that is due hourly or more often in that time only the first, as an example for all.
    #[must_use]
    pub fn clock_changes(&self, from: Timestamp, until: Timestamp, limit: usize) -> Vec<ClockChange> {
        let Rule::Cron(cron) = &self.0.rule else { return Vec::new() };
        let zone = &self.0.zone;
        let (from, until) = (whole_second(from), whole_second(until));
        let changes = Steady::walk(zone, from)
            .skip_while(|steady| steady.begin <= from)
            .take_while(|steady| steady.begin <= until)
            .filter_map(|steady| cron.effect_of(zone, &steady));
        let due = cron.stretch(zone, from, until).map_or(0, |(_, _, count)| count);
        if due < (until - from) / 3600 {
            return changes.take(limit).collect();
        }
        let example = changes.take(limit.min(1));
        example.map(|change| ClockChange { words: cron.rule.in_words(), ..change }).collect()
    }
}

impl Cron {
    /// What the change at the begin of a stretch does; none when it touches no due time.
    fn effect_of(&self, zone: &TimeZone, steady: &Steady) -> Option<ClockChange> {
        let (expected, begin) = (steady.expected, steady.local_begin());
        let skips = expected < begin;
        let touched = match skips {
            // Whether or not they are due then.
            true => steady.skipped(zone, ClockRule { gap: Gap::RunAfter, ..self.rule }),
            false => begin..expected,
        };
        let count = self.pattern.count(touched.clone());
        let (before, after) = (local_datetime(expected)?, local_datetime(begin)?);
        let at = Timestamp::from_second(steady.begin).ok()?;
        let first = self.first_match(touched.clone())?;
        let effects: Vec<_> = if count > LISTED {
            let last = self.pattern.last_before(touched.end)?;
            vec![ClockEffect::Many { first: local_datetime(first)?, last: local_datetime(last)?, count }]
        } else {
            let next = |local: &i64| self.first_match(local + 1..touched.end);
            std::iter::successors(Some(first), next)
                .filter_map(|local| match (skips, self.rule.gap) {
                    (true, Gap::RunAfter) => Some(ClockEffect::Moved { local: local_datetime(local)?, to: at }),
                    (true, Gap::Skip) => Some(ClockEffect::Dropped { local: local_datetime(local)? }),
                    (false, _) => self.passes(zone, steady.begin, local),
                })
                .collect()
        };
        let mut change = ClockChange { at, before, after, effects, words: String::new() };
        change.words = self.words(&change);
        Some(change)
    }

    /// In which of the passes round a change a repeated local time is due.
    fn passes(&self, zone: &TimeZone, change: i64, local: i64) -> Option<ClockEffect> {
        let times: Vec<_> = Steady::walk(zone, change)
            .take_while(|steady| steady.begin < change + REACH)
            .filter(|steady| steady.shown(zone, self.rule).contains(&local))
            .filter_map(|steady| Timestamp::from_second(local - steady.offset).ok())
            .collect();
        let local = local_datetime(local)?;
        match &times[..] {
            [] => None,
            [at] => Some(ClockEffect::Once { local, at: *at }),
            _ => Some(ClockEffect::Repeated { local, times }),
        }
    }

    fn words(&self, change: &ClockChange) -> String {
        let ClockChange { before, after, effects, .. } = change;
        let one_day = before.date() == after.date();
        let text = |local: DateTime| match one_day {
            true => time_of(local),
            false => format!("{} {}", local.date(), time_of(local)),
        };
        let mut times = Vec::new();
        for effect in effects {
            times.push(match effect {
                ClockEffect::Many { first, last, count } => {
                    format!("{count} times from {} to {}", text(*first), text(*last))
                }
                ClockEffect::Moved { local, .. }
                | ClockEffect::Dropped { local }
                | ClockEffect::Repeated { local, .. }
                | ClockEffect::Once { local, .. } => text(*local),
            });
        }
        let are = if matches!(effects[..], [ClockEffect::Many { .. }] | [_, _, ..]) { "are" } else { "is" };
        let times = match times.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            _ => times.concat(),
        };
        let (how, what) = match before < after {
            true if self.rule.gap == Gap::RunAfter => ("skip", format!("due at {}", text(*after))),
            true => ("skip", "not due".to_owned()),
            false => ("go back", format!("due in {}", self.rule.passes_in_words())),
        };
        let (from, to) = (text(*before), text(*after));
        format!("{}: clocks {how} from {from} to {to}; {times} {are} {what}", whole_date(*after))
    }
}

impl ClockRule {
    fn passes_in_words(self) -> &'static str {
        match self.fold {
            Fold::First => "the first pass only",
            Fold::Second => "the second pass only",
            Fold::Both => "both passes",
        }
    }

    fn in_words(self) -> String {
        let skipped = match self.gap {
            Gap::RunAfter => "due once, right after the gap",
            Gap::Skip => "not due",
        };
        let repeated = self.passes_in_words();
        format!(
            "due hourly or more often: when clocks change, skipped times are {skipped}, and repeated times are due in {repeated}"
        )
    }
}
