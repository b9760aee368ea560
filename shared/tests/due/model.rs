//! The naive model: it looks at the local clock at every tick and remembers what it has shown.
//!
//! Shares no code with the crate: texts are made together with the values that they stand for.

use fastrand::Rng;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use reveille_shared::definition::{Fold, Gap};

/// A cron field: its text and the values that it stands for.
pub(crate) struct Field {
    pub(crate) text: String,
    values: Vec<i64>,
}

impl Field {
    pub(crate) fn fixed(text: &str, values: &[i64]) -> Self {
        Self { text: text.to_owned(), values: values.to_vec() }
    }

    /// A random field for the values `low..=high`, that likes values close to `near`.
    pub(crate) fn random(rng: &mut Rng, low: i64, high: i64, near: i64) -> Self {
        let value = |rng: &mut Rng| match rng.bool() {
            true => (near + rng.i64(-2..=2)).clamp(low, high),
            false => rng.i64(low..=high),
        };
        let (one, other, step) = (value(rng), value(rng), rng.i64(1..=(high - low).min(20)));
        let (first, last) = (one.min(other), one.max(other));
        let all = low..=high;
        let (text, values): (_, Vec<i64>) = match rng.u8(0..9) {
            0 | 1 => ("*".to_owned(), all.collect()),
            2 => (format!("*/{step}"), all.filter(|v| (v - low) % step == 0).collect()),
            3 | 4 => (one.to_string(), vec![one]),
            5 => (format!("{one},{other}"), vec![one, other]),
            6 => (format!("{first}-{last}"), all.filter(|v| first <= *v && *v <= last).collect()),
            7 => (format!("{first}-{last}/{step}"), (first..=last).filter(|v| (v - first) % step == 0).collect()),
            _ => (format!("{one}/{step}"), (one..=high).filter(|v| (v - one) % step == 0).collect()),
        };
        Self { text, values }
    }

    fn has(&self, value: impl Into<i64>) -> bool {
        self.values.contains(&value.into())
    }

    fn starts_with_star(&self) -> bool {
        self.text.starts_with('*')
    }
}

/// A cron text of six fields with the values of each.
pub(crate) struct Fields {
    pub(crate) second: Field,
    pub(crate) minute: Field,
    pub(crate) hour: Field,
    pub(crate) day_of_month: Field,
    pub(crate) month: Field,
    pub(crate) day_of_week: Field,
}

impl Fields {
    pub(crate) fn text(&self) -> String {
        let Self { second, minute, hour, day_of_month, month, day_of_week } = self;
        let rest = [minute, hour, day_of_month, month, day_of_week].map(|field| field.text.as_str()).join(" ");
        if second.text == "0" { rest } else { format!("{} {rest}", second.text) }
    }

    fn matches(&self, local: DateTime) -> bool {
        self.second.has(local.second())
            && self.minute.has(local.minute())
            && self.hour.has(local.hour())
            && self.month.has(local.month())
            && self.matches_day(local.date())
    }

    fn matches_day(&self, date: Date) -> bool {
        let month = self.day_of_month.has(date.day());
        let week = self.day_of_week.has(date.weekday().to_sunday_zero_offset());
        if self.day_of_month.starts_with_star() || self.day_of_week.starts_with_star() {
            month && week
        } else {
            month || week
        }
    }

    fn follows_elapsed_time(&self) -> bool {
        self.minute.starts_with_star() || self.hour.starts_with_star()
    }
}

/// What becomes of local times that the clock skips, and of those that it shows twice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    pub(crate) gap: Gap,
    pub(crate) fold: Fold,
}

impl Rule {
    pub(crate) const ALL: [Self; 6] = [
        Self { gap: Gap::RunAfter, fold: Fold::First },
        Self { gap: Gap::RunAfter, fold: Fold::Second },
        Self { gap: Gap::RunAfter, fold: Fold::Both },
        Self { gap: Gap::Skip, fold: Fold::First },
        Self { gap: Gap::Skip, fold: Fold::Second },
        Self { gap: Gap::Skip, fold: Fold::Both },
    ];

    /// The rule of a text for which none is declared.
    pub(crate) fn of(fields: &Fields) -> Self {
        match fields.follows_elapsed_time() {
            true => Self { gap: Gap::Skip, fold: Fold::Both },
            false => Self { gap: Gap::RunAfter, fold: Fold::First },
        }
    }
}

/// What a local clock shows, tick by tick.
pub(crate) struct Readings {
    /// Every local time from the earliest that is shown to the latest.
    face: Vec<DateTime>,
    /// At each tick, which of them is shown.
    shown: Vec<(Timestamp, usize)>,
    /// Which of them are ever shown.
    ever: Vec<bool>,
}

impl Readings {
    /// Reads the clock of `zone` every `tick` seconds.
    pub(crate) fn new(zone: &TimeZone, from: Timestamp, until: Timestamp, tick: i64) -> Self {
        let seconds = from.as_second()..=until.as_second();
        let step = usize::try_from(tick).expect("a positive tick");
        let read: Vec<_> = seconds
            .step_by(step)
            .map(|second| Timestamp::from_second(second).expect("in range"))
            .map(|instant| (instant, zone.to_datetime(instant)))
            .collect();
        let locals = || read.iter().map(|(_, local)| *local);
        let (earliest, latest) = (locals().min().expect("a reading"), locals().max().expect("a reading"));
        let face: Vec<_> = earliest.series(tick.seconds()).take_while(|local| *local <= latest).collect();
        let place = |local| face.binary_search(&local).expect("it is on the face");
        let shown: Vec<_> = read.iter().map(|(instant, local)| (*instant, place(*local))).collect();
        let mut ever = vec![false; face.len()];
        shown.iter().for_each(|(_, place)| ever[*place] = true);
        Self { face, shown, ever }
    }

    /// Which times of the face match.
    pub(crate) fn matches(&self, fields: &Fields) -> Vec<bool> {
        self.face.iter().map(|local| fields.matches(*local)).collect()
    }

    /// The due times after `after` and up to `until`.
    pub(crate) fn due_times(&self, matches: &[bool], rule: Rule, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
        let skipped_is_due = |place| rule.gap == Gap::RunAfter && matches[place];
        let mut due = match rule.fold {
            Fold::First => self.first_passes(matches, skipped_is_due),
            Fold::Second => self.last_passes(matches, skipped_is_due),
            Fold::Both => self.each_pass(matches, skipped_is_due),
        };
        due.retain(|instant| after < *instant && *instant <= until);
        due.sort();
        due.dedup();
        due
    }

    /// A local time counts when the clock has never shown a later one, or jumps past it then.
    fn first_passes(&self, matches: &[bool], skipped_is_due: impl Fn(usize) -> bool) -> Vec<Timestamp> {
        let mut latest = self.shown[0].1;
        let mut due = Vec::new();
        for &(instant, place) in &self.shown {
            if place > latest {
                if (latest + 1..place).any(&skipped_is_due) || matches[place] {
                    due.push(instant);
                }
                latest = place;
            }
        }
        due
    }

    /// The same, watched backwards: it counts when the clock never shows an earlier one again.
    fn last_passes(&self, matches: &[bool], skipped_is_due: impl Fn(usize) -> bool) -> Vec<Timestamp> {
        let (mut next, mut earliest) = self.shown[self.shown.len() - 1];
        let mut due = Vec::new();
        for &(instant, place) in self.shown.iter().rev() {
            if place < earliest {
                if (place + 1..earliest).any(&skipped_is_due) {
                    due.push(next);
                }
                if matches[place] {
                    due.push(instant);
                }
                earliest = place;
            }
            next = instant;
        }
        due
    }

    /// It counts whenever the clock shows it, or jumps past it without ever showing it.
    fn each_pass(&self, matches: &[bool], skipped_is_due: impl Fn(usize) -> bool) -> Vec<Timestamp> {
        let mut last = self.shown[0].1;
        let mut due = Vec::new();
        for &(instant, place) in &self.shown {
            let never_shown = (last + 1..place).any(|skipped| !self.ever[skipped] && skipped_is_due(skipped));
            if never_shown || matches[place] {
                due.push(instant);
            }
            last = place;
        }
        due
    }
}
