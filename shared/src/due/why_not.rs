//! Why a schedule is not due at an instant, in words.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::cron::Cron;
use super::parse::{Source, nickname, sources};
use super::pattern::{Days, has, local_datetime};
use super::walk::{REACH, Steady};
use super::{DueTimes, Rule, whole_second};
use crate::definition::{Fold, Gap};

impl DueTimes {
    /// Why the schedule is not due at an instant, as one clause for people; none when it is due then. Knows only its
    /// timing: exclusions, pauses and decisions are told elsewhere.
    #[must_use]
    pub fn why_not(&self, at: Timestamp) -> Option<String> {
        let just_before = at.checked_sub(SignedDuration::from_nanos(1)).ok();
        if just_before.and_then(|before| self.next_after(before)) == Some(at) {
            return None;
        }
        Some(match &self.0.rule {
            Rule::Cron(cron) => cron.why_not(&self.0.zone, at),
            Rule::Every(interval) => {
                let nanos = interval.signed().as_nanos();
                let before = Timestamp::from_nanosecond(super::intervals(at, nanos) * nanos);
                let times =
                    before.into_iter().chain(self.next_after(at)).map(|time| time.to_string()).collect::<Vec<_>>();
                format!("it is due every {interval}, counted from 1970: at {}", times.join(" and then at "))
            }
            Rule::At(instant) => format!("it is due once, at {instant}"),
        })
    }
}

impl Cron {
    fn why_not(&self, zone: &TimeZone, at: Timestamp) -> String {
        let local = zone.to_datetime(at);
        let place = zone.iana_name().unwrap_or("its time zone");
        if at.subsec_nanosecond() != 0 {
            return format!("it is due at whole seconds, and it is {} in {place}", local.time());
        }
        let second = whole_second(at);
        if let Some(steady) = Steady::at(zone, second)
            && let Some(reason) = self.in_gap(&steady, second)
        {
            return reason;
        }
        match self.mismatch(local) {
            Some((field, shown)) => {
                let nickname = nickname(&self.text).map(|fields| format!("{} is {fields}: ", self.text.trim()));
                format!("{}{field}, and it is {shown} in {place}", nickname.unwrap_or_default())
            }
            None => self.other_pass(zone, second, local),
        }
    }

    /// When the clock has just skipped a time that matches, and would show that time now had it not been changed.
    fn in_gap(&self, steady: &Steady, second: i64) -> Option<String> {
        let skipped = second - steady.begin + steady.expected;
        if skipped >= steady.local_begin() || self.mismatch(local_datetime(skipped)?).is_some() {
            return None;
        }
        let (from, to) = (local_datetime(steady.expected)?, local_datetime(steady.local_begin())?);
        let one_day = from.date() == to.date();
        let text = |local: DateTime| match one_day {
            true => time_of(local),
            false => format!("{} {}", local.date(), time_of(local)),
        };
        let (from, to, skipped) = (text(from), text(to), text(local_datetime(skipped)?));
        Some(format!(
            "local time {skipped} does not exist{}: clocks skip from {from} to {to}; {}",
            if one_day { " on that day" } else { "" },
            match self.rule.gap {
                Gap::RunAfter => format!("it is due at {to}"),
                Gap::Skip => "such times are not due".to_owned(),
            }
        ))
    }

    /// Every field matches, but the clock shows this time more than once.
    fn other_pass(&self, zone: &TimeZone, second: i64, local: DateTime) -> String {
        let shown = time_of(local);
        let (this, due) = match self.rule.fold {
            Fold::Second => ("first", "second"),
            Fold::First | Fold::Both => ("second", "first"),
        };
        let offset = |instant| Steady::at(zone, instant).map(|steady| steady.offset);
        let seconds_shown = offset(second).map(|offset| second + offset);
        let instant = seconds_shown.and_then(|local| {
            Steady::walk(zone, second)
                .take_while(|steady| steady.begin < second + REACH)
                .find(|steady| steady.shown(zone, self.rule).contains(&local))
                .and_then(|steady| Timestamp::from_second(local - steady.offset).ok())
        });
        let at = instant.map(|instant| format!(", at {instant}")).unwrap_or_default();
        format!(
            "the clock shows {shown} twice on that day: this is the {this} pass, and it is due in the {due} only{at}"
        )
    }

    /// The widest field that does not match a local time, and what is shown instead.
    fn mismatch(&self, local: DateTime) -> Option<(String, String)> {
        let pattern = &self.pattern;
        let texts = sources(&self.text).ok()?;
        let is = |name: &str, source: &Source<'_>| format!("the {name} field is {}", source.text);
        let member = |set: u64, value: i8| has(set, usize::from(value.unsigned_abs()));
        if pattern.years.as_ref().is_some_and(|years| !years.contains(local.year())) {
            return Some((is("year", texts.year.as_ref()?), local.year().to_string()));
        }
        if !member(pattern.months, local.month()) {
            return Some((is("month", &texts.month), local.strftime("%B").to_string()));
        }
        let (of_month, of_week) = pattern.days.by_field(local.date().first_of_month());
        let (of_month, of_week) = (member(of_month, local.day()), member(of_week, local.day()));
        let month_field = is("day-of-month", &texts.day_of_month);
        let week_field = is("day-of-week", &texts.day_of_week);
        match (of_month, of_week) {
            (false, false) if pattern.days.either => {
                return Some((format!("{month_field}, {week_field}"), whole_date(local)));
            }
            _ if pattern.days.either => {}
            (false, _) => return Some((month_field, whole_date(local))),
            (_, false) if pattern.days.on_weekday(local) => return Some((week_field, whole_date(local))),
            (_, false) => return Some((week_field, local.strftime("%A").to_string())),
            (true, true) => {}
        }
        if !member(pattern.hours, local.hour()) {
            return Some((is("hour", &texts.hour), time_of(local)));
        }
        if !member(pattern.minutes, local.minute()) {
            return Some((is("minute", &texts.minute), time_of(local)));
        }
        if !member(pattern.seconds, local.second()) {
            let field = match &texts.second {
                Some(second) => is("second", second),
                None => "it is due at whole minutes".to_owned(),
            };
            return Some((field, time_of(local)));
        }
        None
    }
}

impl Days {
    /// Whether the day-of-week field names the weekday, be it only for some of a month's weeks.
    fn on_weekday(&self, local: DateTime) -> bool {
        let weekday = usize::from(local.weekday().to_sunday_zero_offset().unsigned_abs());
        has(self.of_week, weekday) || self.nth_of_week[weekday] != 0
    }
}

pub(super) fn whole_date(local: DateTime) -> String {
    local.strftime("%A, %-d %B %Y").to_string()
}

/// Hours and minutes, and seconds where there are any.
pub(super) fn time_of(local: DateTime) -> String {
    local.strftime(if local.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}
