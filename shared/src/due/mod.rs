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
//! A rule has two halves. `gap` is for local times that the clock skips: `run_after` makes them due once, right after the
//! gap, `skip` not at all. `fold` is for local times that the clock shows twice: due in the `first` pass, in the `second`
//! or in `both`. What is not declared the text decides, by Debian cron's rule: one whose minute or hour field begins with
//! `*` follows **elapsed time** (`skip`, `both`), all others name **fixed times** (`run_after`, `first`). The seconds field
//! has no say in this. `docs/time.md` has the table of cases.

mod calendar;
mod changes;
mod compiler;
mod count;
mod cron;
mod parse;
mod pattern;
mod tzdata;
mod walk;
mod why_not;
mod zone;

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use self::calendar::{exclusion, written};
pub use self::changes::{ClockChange, ClockEffect};
pub use self::compiler::Compiler;
pub use self::tzdata::{TimezoneData, timezone_data};
pub use self::zone::{nearest_timezone, timezone};
use self::{cron::Cron, walk::ClockRule};
use crate::definition::{Dst, Schedule, Timing};
use crate::duration::HumanDuration;

/// The due times of a schedule: a pure function of its timing and its time zone.
///
/// Cheap to clone. Knows no clock: each call says from where to look.
#[derive(Debug, Clone)]
pub struct DueTimes(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    zone: TimeZone,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Cron(cron::Cron),
    Every(HumanDuration),
    At(Timestamp),
}

/// What is due in a range of time, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The first due time.
    pub first: Timestamp,
    /// The last due time; the first one when there is only one.
    pub last: Timestamp,
    /// How many there are; at least one.
    pub count: i64,
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

    /// Reads a timing. `timezone` is an IANA name; it and `dst` matter to cron texts only, but the name is checked always.
    ///
    /// # Errors
    ///
    /// When the cron text is malformed or never fires from 1970 on, when the interval is shorter
    /// than a second, or when there is no such time zone.
    pub fn new(timing: &Timing, timezone: &str, dst: Dst) -> Result<Self, InvalidTiming> {
        let zone = zone::timezone(timezone)?;
        let fault = |message| InvalidTiming { message, field: None };
        let rule = match timing {
            Timing::Cron(text) => {
                let pattern = parse::parse(text)?;
                Rule::Cron(Cron { text: text.as_str().into(), rule: ClockRule::new(pattern.elapsed, dst), pattern })
            }
            Timing::Every(interval) if interval.as_millis() < 1000 => {
                return Err(fault(format!("the interval {interval} is too short: the shortest is 1s")));
            }
            Timing::Every(interval) => Rule::Every(*interval),
            Timing::At(instant) => Rule::At(whole_micros(*instant)),
        };
        let due_times = Self(Arc::new(Compiled { zone, rule }));
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

    /// The time zone on whose local calendar the schedule is read.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.0.zone
    }

    /// The first due time strictly after `after`; none when there is none any more.
    ///
    /// Cron times are whole seconds, multiples of an interval whole milliseconds, and a single time
    /// whole microseconds (what is finer is cut off).
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.0.rule {
            Rule::Cron(cron) => {
                let due = cron.next_after(&self.0.zone, whole_second(after))?;
                Timestamp::from_second(due).ok()
            }
            Rule::Every(interval) => {
                let nanos = interval.signed().as_nanos();
                Timestamp::from_nanosecond((intervals(after, nanos) + 1) * nanos).ok()
            }
            Rule::At(instant) => (*instant > after).then_some(*instant),
        }
    }

    /// Why `except` or `only` of the schedule excludes a due time, see [`exclusion`]; none when it is not excluded.
    #[must_use]
    pub fn exclusion(&self, schedule: &Schedule, due_at: Timestamp) -> Option<String> {
        exclusion(schedule, &self.0.zone, due_at)
    }

    /// The due times after `after` and up to and including `until`, found as they are asked for.
    pub fn between(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        let next = move |after| self.next_after(after).filter(|due| *due <= until);
        std::iter::successors(next(after), move |due| next(*due))
    }

    /// The first and the last due time after `after` and up to and including `until`, and how many there are; none when
    /// nothing is due. Visits changes of clocks and months, not due times: an every-second text costs no more than a
    /// daily one.
    #[must_use]
    pub fn stretch(&self, after: Timestamp, until: Timestamp) -> Option<Stretch> {
        match &self.0.rule {
            Rule::Cron(cron) => {
                let (first, last, count) = cron.stretch(&self.0.zone, whole_second(after), whole_second(until))?;
                let instant = |second| Timestamp::from_second(second).ok();
                Some(Stretch { first: instant(first)?, last: instant(last)?, count })
            }
            Rule::Every(interval) => {
                let nanos = interval.signed().as_nanos();
                let (before, reached) = (intervals(after, nanos), intervals(until, nanos));
                let instant = |number| Timestamp::from_nanosecond(number * nanos).ok();
                let count = i64::try_from(reached - before).ok().filter(|count| *count > 0)?;
                Some(Stretch { first: instant(before + 1)?, last: instant(reached)?, count })
            }
            Rule::At(at) => (after < *at && *at <= until).then_some(Stretch { first: *at, last: *at, count: 1 }),
        }
    }
}

/// How many whole intervals have passed since 1970.
fn intervals(instant: Timestamp, nanos: i128) -> i128 {
    instant.as_nanosecond().div_euclid(nanos)
}

/// Early enough to find what is due in the first hours of 1970 in any zone.
fn before_1970() -> Timestamp {
    Timestamp::UNIX_EPOCH - jiff::SignedDuration::from_hours(48)
}

/// The second that an instant is in; `Timestamp::as_second` rounds towards 1970.
fn whole_second(instant: Timestamp) -> i64 {
    instant.as_second() - i64::from(instant.subsec_nanosecond() < 0)
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
