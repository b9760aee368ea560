//! How many local times of a range match, and which is the last, without a look at each.
//!
//! Every due day has the same times, so that whole days count as (times of a day) × (due days), and the parts of days at
//! both ends as sets.

use std::ops::Range;

use jiff::civil::Date;

use super::pattern::{BEGINNING, CALENDAR_CYCLE, DAY, END, Pattern, has, local_datetime, members, midnight};

impl Pattern {
    /// How many local seconds of a range match.
    pub(super) fn count(&self, local: Range<i64>) -> i64 {
        let (Some((first_day, begin)), Some((last_day, end))) = (day_and_time(local.start), day_and_time(local.end))
        else {
            return 0;
        };
        if local.is_empty() {
            return 0;
        }
        let whole = self.days_within(first_day..last_day) * self.times_before(DAY);
        let part = |day, time| if self.has_day(day) { self.times_before(time) } else { 0 };
        whole + part(last_day, end) - part(first_day, begin)
    }

    /// The last matching local second before `local`.
    pub(super) fn last_before(&self, local: i64) -> Option<i64> {
        let (today, time) = day_and_time(local)?;
        if self.has_day(today)
            && let Some(time) = self.time_before(time)
        {
            return Some(midnight(today)? + time);
        }
        let first_year = today.year().saturating_sub(CALENDAR_CYCLE).max(1);
        for year in (first_year..=today.year()).rev().filter(|year| self.has_year(*year)) {
            for month in (1..=12_u8).rev().filter(|month| has(self.months, (*month).into())) {
                let first = Date::new(year, month.cast_signed(), 1).ok()?;
                let days = self.days.in_month(first) & days_of_month_before(first, today);
                if days != 0 {
                    return Some(midnight(first)? + (i64::from(days.ilog2()) - 1) * DAY + self.time_before(DAY)?);
                }
            }
        }
        None
    }

    fn has_year(&self, year: i16) -> bool {
        self.years.as_ref().is_none_or(|years| years.contains(year))
    }

    pub(super) fn has_day(&self, day: Date) -> bool {
        let bit = |value: i8| usize::from(value.unsigned_abs());
        self.has_year(day.year())
            && has(self.months, bit(day.month()))
            && has(self.days.in_month(day.first_of_month()), bit(day.day()))
    }

    /// How many days match from one on and before another.
    fn days_within(&self, days: Range<Date>) -> i64 {
        let mut count = 0;
        for year in (days.start.year()..=days.end.year()).filter(|year| self.has_year(*year)) {
            for month in members(self.months) {
                let Ok(first) = Date::new(year, month as i8, 1) else { continue };
                let within = days_of_month_before(first, days.end) & !days_of_month_before(first, days.start);
                if within != 0 {
                    count += i64::from((self.days.in_month(first) & within).count_ones());
                }
            }
        }
        count
    }

    /// How many times of a due day match before the second `time` of it.
    fn times_before(&self, time: i64) -> i64 {
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        let below = |set: u64, value: i64| i64::from((set & ((1 << value) - 1)).count_ones());
        let all = |set: u64| i64::from(set.count_ones());
        let mut count = below(self.hours, hour) * all(self.minutes) * all(self.seconds);
        if has(self.hours, hour as usize) {
            count += below(self.minutes, minute) * all(self.seconds);
            if has(self.minutes, minute as usize) {
                count += below(self.seconds, second);
            }
        }
        count
    }

    /// The last second of a due day that matches before the second `time` of it.
    fn time_before(&self, time: i64) -> Option<i64> {
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        let last_below = |set: u64, value: i64| (set & ((1 << value) - 1)).checked_ilog2().map(i64::from);
        let last = |set: u64| i64::from(set.ilog2());
        if has(self.hours, hour as usize) {
            if has(self.minutes, minute as usize)
                && let Some(second) = last_below(self.seconds, second)
            {
                return Some(hour * 3600 + minute * 60 + second);
            }
            if let Some(minute) = last_below(self.minutes, minute) {
                return Some(hour * 3600 + minute * 60 + last(self.seconds));
            }
        }
        Some(last_below(self.hours, hour)? * 3600 + last(self.minutes) * 60 + last(self.seconds))
    }
}

/// The day of a local second and the second of that day; the second after the last one for all that is later.
fn day_and_time(local: i64) -> Option<(Date, i64)> {
    let within = local.clamp(BEGINNING, END);
    Some((local_datetime(within)?.date(), within.rem_euclid(DAY) + i64::from(local > END)))
}

/// The days of the month that begins on `first` that come before `end`.
fn days_of_month_before(first: Date, end: Date) -> u64 {
    if end <= first {
        0
    } else if end > first.last_of_month() {
        u64::MAX
    } else {
        (1 << end.day()) - 1
    }
}
