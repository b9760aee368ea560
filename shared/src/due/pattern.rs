//! A cron text as sets of numbers, matched on a calendar without any time zone.
//!
//! Local time is counted in seconds as if the local clock were UTC; `zone` maps it to real time.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

/// First year that a year field can name.
pub(super) const FIRST_YEAR: i16 = 1970;
/// Last year that a year field can name.
pub(super) const LAST_YEAR: i16 = 2099;

pub(super) const DAY: i64 = 86_400;
/// The first second of the year 1: earlier cron times are of no use to anybody.
pub(super) const BEGINNING: i64 = -62_135_596_800;
/// 9999-12-30T22:00:00, the last second of `Timestamp` and so the last that local time is counted to.
pub(super) const END: i64 = 253_402_207_200;
/// The calendar repeats itself after so many years: what has no match in them never has one.
pub(super) const CALENDAR_CYCLE: i16 = 400;

/// When the local clock shows a due time. Bit n of a set stands for the value n.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) seconds: u64,
    pub(super) minutes: u64,
    pub(super) hours: u64,
    pub(super) days: Days,
    pub(super) months: u64,
    pub(super) years: Option<Years>,
    /// The minute or the hour field begins with `*`: due at each real instant that matches.
    pub(super) elapsed: bool,
}

/// Which days of a month are due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Days {
    /// Days of the month, 1 to 31.
    pub(super) of_month: u64,
    /// `15W`: the working day nearest to these days, within the month.
    pub(super) nearest_workday: u64,
    /// `L`: the last day of the month.
    pub(super) last: bool,
    /// `LW`: the last working day of the month.
    pub(super) last_workday: bool,
    /// Days of the week, 0 (Sunday) to 6.
    pub(super) of_week: u64,
    /// For each day of the week, which occurrences in the month: 1 to 5, and bit 0 for the last.
    pub(super) nth_of_week: [u8; 7],
    /// Both day fields are given, so that a match of either is enough.
    pub(super) either: bool,
}

/// The years that a year field names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Years([u64; 3]);

impl Years {
    pub(super) fn insert(&mut self, year: u16) {
        let bit = usize::from(year.saturating_sub(FIRST_YEAR.unsigned_abs()));
        self.0[bit / 64] |= 1 << (bit % 64);
    }

    pub(super) fn contains(&self, year: i16) -> bool {
        usize::try_from(year - FIRST_YEAR)
            .is_ok_and(|bit| self.0.get(bit / 64).is_some_and(|word| has(*word, bit % 64)))
    }
}

impl Pattern {
    /// The first matching local second at or after `local`.
    pub(super) fn first_from(&self, local: i64) -> Option<i64> {
        let start = local_datetime(local.max(BEGINNING))?;
        let (first_year, last_year) = match self.years {
            Some(_) => (start.year().max(FIRST_YEAR), LAST_YEAR),
            None => (start.year(), start.year().saturating_add(CALENDAR_CYCLE).min(Date::MAX.year())),
        };
        for year in first_year..=last_year {
            if self.years.as_ref().is_some_and(|years| !years.contains(year)) {
                continue;
            }
            for month in members(self.months) {
                let first = Date::new(year, i8::try_from(month).ok()?, 1).ok()?;
                if let Some(found) = self.first_in_month(first, start) {
                    return (found <= END).then_some(found);
                }
            }
        }
        None
    }

    /// The first matching second at or after `start` in the month that begins on `first`.
    fn first_in_month(&self, first: Date, start: DateTime) -> Option<i64> {
        if first.last_of_month() < start.date() {
            return None;
        }
        let mut days = self.days.in_month(first);
        let second_of = |day: usize, time: i64| Some(midnight(first)? + (day as i64 - 1) * DAY + time);
        if first <= start.date() {
            let today = usize::from(start.day().unsigned_abs());
            if has(days, today)
                && let Some(time) = self.time_from(start.time())
            {
                return second_of(today, time);
            }
            days &= !upto(today);
        }
        (days != 0).then(|| second_of(lowest(days), self.time_from(Time::midnight())?)).flatten()
    }

    /// The first matching second of a day at or after `time`.
    fn time_from(&self, time: Time) -> Option<i64> {
        let [hour, minute, second] =
            [time.hour(), time.minute(), time.second()].map(|part| usize::from(part.unsigned_abs()));
        let first_second = lowest(self.seconds);
        let at = |hour, minute, second| Some((hour * 3600 + minute * 60 + second) as i64);
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = at_or_above(self.seconds, second)
            {
                return at(hour, minute, second);
            }
            if let Some(minute) = at_or_above(self.minutes, minute + 1) {
                return at(hour, minute, first_second);
            }
        }
        at(at_or_above(self.hours, hour + 1)?, lowest(self.minutes), first_second)
    }
}

impl Days {
    /// The due days of the month that begins on `first`.
    pub(super) fn in_month(&self, first: Date) -> u64 {
        let (of_month, of_week) = self.by_field(first);
        if self.either { of_month | of_week } else { of_month & of_week }
    }

    /// The days of that month that match the day-of-month field, and those that match the day-of-week field.
    pub(super) fn by_field(&self, first: Date) -> (u64, u64) {
        let length = usize::from(first.days_in_month().unsigned_abs());
        let weekday_of_first = usize::from(first.weekday().to_sunday_zero_offset().unsigned_abs());
        let weekday = |day: usize| (weekday_of_first + day - 1) % 7;
        let all = upto(length) & !1;

        let mut of_month = self.of_month & all;
        if self.last {
            of_month |= 1 << length;
        }
        if self.last_workday {
            of_month |= 1 << nearest_workday(length, length, weekday(length));
        }
        for day in members(self.nearest_workday & all) {
            of_month |= 1 << nearest_workday(day, length, weekday(day));
        }

        let mut of_week = 0;
        for index in 0..7 {
            let first_such = 1 + (index + 7 - weekday_of_first) % 7;
            let such = EVERY_SEVENTH << first_such & all;
            if has(self.of_week, index) {
                of_week |= such;
            }
            let nth = u64::from(self.nth_of_week[index]);
            for n in members(nth & !1) {
                of_week |= 1 << (first_such + 7 * (n - 1)) & all;
            }
            if has(nth, 0) {
                of_week |= 1 << such.ilog2();
            }
        }
        (of_month, of_week)
    }
}

/// Bits 0, 7, 14, 21 and 28.
const EVERY_SEVENTH: u64 = 1 | 1 << 7 | 1 << 14 | 1 << 21 | 1 << 28;

/// The Monday-to-Friday day nearest to `day`, without leaving the month.
fn nearest_workday(day: usize, length: usize, weekday: usize) -> usize {
    const SATURDAY: usize = 6;
    const SUNDAY: usize = 0;
    match weekday {
        SATURDAY if day == 1 => 3,
        SATURDAY => day - 1,
        SUNDAY if day == length => day - 2,
        SUNDAY => day + 1,
        _ => day,
    }
}

/// What the local clock shows.
pub(super) fn local_datetime(local: i64) -> Option<DateTime> {
    Some(Offset::UTC.to_datetime(Timestamp::from_second(local).ok()?))
}

pub(super) fn midnight(date: Date) -> Option<i64> {
    Offset::UTC.to_timestamp(date.to_datetime(Time::midnight())).ok().map(Timestamp::as_second)
}

pub(super) fn has(set: u64, bit: usize) -> bool {
    set >> bit & 1 == 1
}

/// The set of 0 to `bit`, which is below 63.
fn upto(bit: usize) -> u64 {
    (2 << bit) - 1
}

fn lowest(set: u64) -> usize {
    set.trailing_zeros() as usize
}

fn at_or_above(set: u64, bit: usize) -> Option<usize> {
    let rest = set >> bit << bit;
    (rest != 0).then(|| lowest(rest))
}

pub(super) fn members(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (set != 0).then(|| lowest(set))?;
        set &= set - 1;
        Some(bit)
    })
}
