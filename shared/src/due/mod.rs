//! Pure: a schedule's timing → its due times.
//!
//! `every` counts from the Unix epoch and `at` is one instant: neither knows of local time. A cron
//! text is read on the local calendar of the schedule's time zone: 5 fields (minute, hour, day of
//! month, month, day of week), 6 with seconds first, 7 with a year (1970 to 2099) last, or a
//! nickname such as `@daily`.
//!
//! - Fields hold `*`, values, names (`JAN`, `FRI`), lists, ranges, and steps (`*/15`, `8-18/2`;
//!   `5/15` means from 5 to the end of the field). 0 and 7 are Sunday, in every form.
//! - Days of the month: `L` the last, `LW` the last working day, `15W` the working day nearest to
//!   the 15th within the month. Days of the week: `FRI#2` the second Friday, `FRIL` the last one.
//!   `?` is `*`.
//! - When both day fields are given, a day that matches **either** is due, as in Vixie cron. A
//!   field that begins with `*` (also `*/2`) counts as not given: then a day has to match both.
//!
//! # When clocks are changed
//!
//! A text whose minute or hour field begins with `*` follows **elapsed time**: it is due at every
//! real instant at which the local clock shows a match. All other texts name **fixed times**: each
//! is due once, at the first instant at which the local clock shows it or a later time. The seconds
//! field has no say in which of the two a text is.
//!
//! | text | zone and night | due | why |
//! |---|---|---|---|
//! | `30 2 * * *` | Europe/Berlin, 29 March 2026, 02:00 → 03:00 | 03:00 | skipped: due once, right after the gap |
//! | `47-52 2 * * *` | the same | 03:00 | six skipped times make one due time |
//! | `0,30 2,3 * * *` | the same | 03:00, 03:30 | skipped 02:00 and 02:30 fall together with 03:00 |
//! | `0 * * * *` | the same | …, 01:00, 03:00, 04:00, … | elapsed time: one hour apart |
//! | `*/15 2 * * *` | the same | none | elapsed time: the clock never shows 02:xx |
//! | `*/20 30 2 * * *` | the same | 03:00 | fixed, whatever the seconds are |
//! | `30 2 * * *` | Europe/Berlin, 25 October 2026, 03:00 → 02:00 | 02:30 +02:00 | repeated: due in the first pass only |
//! | `*/30 2 * * *` | the same | 02:00, 02:30 +02:00; 02:00, 02:30 +01:00 | elapsed time: both passes |
//! | `27,34 1 * * *` | Europe/London, 25 October 2026, 02:00 → 01:00 | 01:27, 01:34 +01:00 | repeated: first pass only |
//! | `15 2 * * *` | Australia/Lord_Howe, 4 October 2026, 02:00 → 02:30 | 02:30 | gaps of half an hour too |
//! | `0 0 * * *` | Africa/Cairo, 24 April 2026, 00:00 → 01:00 | 01:00 | midnight is skipped |
//! | `0 0 * * *` | America/Havana, 1 November 2026, 01:00 → 00:00 | 00:00 -04:00 | midnight is repeated |
//! | `0 9 * * *` | Pacific/Apia, 30 December 2011, a day left out | 31st, 00:00 and 09:00 | the 30th's call is due right after the gap |

mod compiler;
mod parse;
mod pattern;
mod zone;

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use self::compiler::Compiler;
pub use self::zone::{nearest_timezone, timezone};
use crate::definition::{Dst, Schedule, Timing};

/// The due times of a schedule: a pure function of its timing and its time zone.
///
/// Cheap to clone. Knows no clock: each call says from where to look.
#[derive(Debug, Clone)]
pub struct DueTimes(Arc<Rule>);

#[derive(Debug)]
enum Rule {
    Cron {
        pattern: pattern::Pattern,
        zone: TimeZone,
    },
    /// Nanoseconds.
    Every(i128),
    At(Timestamp),
}

/// Why a timing or a time zone cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidTiming {
    /// What is wrong, with the text at fault and what is allowed.
    pub message: String,
    /// The bytes of the cron text that are at fault, when it is a single field.
    pub field: Option<Range<usize>>,
}

impl DueTimes {
    /// The due times of a schedule, before its exclusions and its pauses.
    ///
    /// # Errors
    ///
    /// The same as those of [`DueTimes::new`].
    pub fn of(schedule: &Schedule) -> Result<Self, InvalidTiming> {
        Self::new(&schedule.timing, &schedule.timezone, schedule.dst)
    }

    /// Reads a timing. `timezone` is an IANA name and matters to cron texts only, but is checked
    /// always.
    ///
    /// # Errors
    ///
    /// When the cron text is malformed or never fires from 1970 on, when the interval is shorter
    /// than a second, or when there is no such time zone.
    pub fn new(timing: &Timing, timezone: &str, _dst: Dst) -> Result<Self, InvalidTiming> {
        let zone = zone::timezone(timezone)?;
        let fault = |message| InvalidTiming { message, field: None };
        let rule = match timing {
            Timing::Cron(text) => Rule::Cron { pattern: parse::parse(text)?, zone },
            Timing::Every(interval) if interval.as_millis() < 1000 => {
                return Err(fault(format!("the interval {interval} is too short: the shortest is 1s")));
            }
            Timing::Every(interval) => Rule::Every(interval.signed().as_nanos()),
            Timing::At(instant) => Rule::At(whole_micros(*instant)),
        };
        let due_times = Self(Arc::new(rule));
        if let Timing::Cron(text) = timing
            && due_times.next_after(before_1970()).is_none()
        {
            return Err(fault(format!(
                "cron text {} never fires: no time in {timezone} from 1970 on matches all its fields",
                quoted(text)
            )));
        }
        Ok(due_times)
    }

    /// The first due time strictly after `after`; none when there is none any more.
    ///
    /// Cron times are whole seconds, multiples of an interval whole milliseconds, and a single time
    /// whole microseconds (what is finer is cut off).
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match &*self.0 {
            Rule::Cron { pattern, zone } => {
                let second = after.as_nanosecond().div_euclid(1_000_000_000);
                let due = zone::next_after(pattern, zone, i64::try_from(second).ok()?)?;
                Timestamp::from_second(due).ok()
            }
            Rule::Every(interval) => {
                let passed = after.as_nanosecond().div_euclid(*interval);
                Timestamp::from_nanosecond((passed + 1) * interval).ok()
            }
            Rule::At(instant) => (*instant > after).then_some(*instant),
        }
    }

    /// The due times after `after` and up to and including `until`, found as they are asked for.
    pub fn between(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let next = move |after| self.next_after(after).filter(|due| *due <= until);
        std::iter::successors(next(after), move |due| next(*due))
    }
}

/// Due times one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// How many.
    pub count: i64,
}

impl DueTimes {
    pub fn exclusion(&self, _: &Schedule, _: Timestamp) -> Option<String> {
        None
    }
    /// The due times after `after` and up to and including `until`.
    #[must_use]
    pub fn stretch(&self, after: Timestamp, until: Timestamp) -> Option<Stretch> {
        let mut stretch: Option<Stretch> = None;
        for due in self.between(after, until) {
            let found = stretch.get_or_insert(Stretch { first: due, last: due, count: 0 });
            found.last = due;
            found.count += 1;
        }
        stretch
    }
}

/// Early enough to find what is due in the first hours of 1970 in any zone.
fn before_1970() -> Timestamp {
    Timestamp::UNIX_EPOCH - jiff::SignedDuration::from_hours(48)
}

fn whole_micros(instant: Timestamp) -> Timestamp {
    let micros = instant.as_nanosecond().div_euclid(1000);
    i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok()).unwrap_or(instant)
}

/// A text for a message, in quotes and cut to a readable length.
fn quoted(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
        None => format!("{text:?}"),
    }
}
