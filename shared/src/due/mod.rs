//! Pure: a schedule's timing → its due times.

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
use crate::definition::Timing;

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
    /// Reads a timing. `timezone` is an IANA name and matters to cron texts only, but is checked
    /// always.
    ///
    /// # Errors
    ///
    /// When the cron text is malformed or never fires from 1970 on, when the interval is shorter
    /// than a second, or when there is no such time zone.
    pub fn new(timing: &Timing, timezone: &str) -> Result<Self, InvalidTiming> {
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
                "cron text {} never fires: no date from 1970 on matches all its fields",
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
