//! The naive model: it looks at the local clock at every tick and remembers what it has shown.
//!
//! Shares no code with the crate: texts are made together with the values that they stand for.

use fastrand::Rng;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

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

/// What a local clock shows, tick by tick.
pub(crate) struct Readings {
    tick: i64,
    shown: Vec<(Timestamp, DateTime)>,
}

impl Readings {
    /// Reads the clock of `zone` every `tick` seconds.
    pub(crate) fn new(zone: &TimeZone, from: Timestamp, until: Timestamp, tick: i64) -> Self {
        let seconds = from.as_second()..=until.as_second();
        let step = usize::try_from(tick).expect("a positive tick");
        let shown = seconds
            .step_by(step)
            .map(|second| Timestamp::from_second(second).expect("in range"))
            .map(|instant| (instant, zone.to_datetime(instant)))
            .collect();
        Self { tick, shown }
    }

    /// The due times after `after`.
    pub(crate) fn due_times(&self, fields: &Fields, after: Timestamp) -> Vec<Timestamp> {
        let mut latest = self.shown[0].1;
        let mut due = Vec::new();
        for &(instant, local) in &self.shown {
            let is_due = if fields.follows_elapsed_time() {
                fields.matches(local)
            } else {
                let mut any = false;
                while latest < local {
                    latest = latest.saturating_add(self.tick.seconds());
                    any |= instant > after && fields.matches(latest);
                }
                any
            };
            if is_due && instant > after {
                due.push(instant);
            }
        }
        due
    }
}
