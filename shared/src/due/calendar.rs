//! Days on which due times are skipped: `except`, `only` and calendars.

use jiff::Timestamp;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use crate::definition::{Day, DayRule, Schedule};

/// How many rules of `only` a text names.
const NAMED: usize = 5;

/// Why `except` or `only` excludes a due time, by its date on the local calendar of `zone`; none when it is not excluded.
/// The text names the rule as it is written: `except 2026-12-24/2026-12-26`, `except SAT`,
/// `except de-holidays (2026-12-25)`, `not in only MON-FRI`. It is equal for all due times that a rule excludes.
///
/// `zone` is the schedule's own, at hand as [`DueTimes::zone`](super::DueTimes::zone).
#[must_use]
pub fn exclusion(schedule: &Schedule, zone: &TimeZone, due_at: Timestamp) -> Option<String> {
    if schedule.except.is_empty() && schedule.only.is_empty() {
        return None;
    }
    let date = zone.to_datetime(due_at).date();
    if let Some(rule) = schedule.except.iter().find_map(|rule| rule_of(rule, date)) {
        return Some(format!("except {rule}"));
    }
    if schedule.only.is_empty() || schedule.only.iter().any(|rule| holds(rule, date)) {
        return None;
    }
    let mut text =
        format!("not in only {}", schedule.only.iter().take(NAMED).map(written).collect::<Vec<_>>().join(", "));
    if schedule.only.len() > NAMED {
        text += &format!(" and {} more", schedule.only.len() - NAMED);
    }
    Some(text)
}

/// The text of a rule that holds a date, with that of the calendar's rule that does.
fn rule_of(rule: &DayRule, date: Date) -> Option<String> {
    match rule {
        DayRule::Calendar { name, days } => {
            days.iter().find_map(|day| rule_of(day, date)).map(|day| format!("{name} ({day})"))
        }
        DayRule::Dates { .. } | DayRule::Weekdays { .. } => holds(rule, date).then(|| written(rule)),
    }
}

fn holds(rule: &DayRule, date: Date) -> bool {
    match rule {
        DayRule::Dates { from, to } => (*from..=*to).contains(&date),
        DayRule::Weekdays { from, to } if from <= to => (*from..=*to).contains(&day_of(date)),
        DayRule::Weekdays { from, to } => day_of(date) >= *from || day_of(date) <= *to,
        DayRule::Calendar { days, .. } => days.iter().any(|day| holds(day, date)),
    }
}

/// A rule as it is written: `2026-12-24/2026-12-26`, `SAT`, `MON-FRI`, or the name of a calendar.
#[must_use]
pub fn written(rule: &DayRule) -> String {
    match rule {
        DayRule::Dates { from, to } if from == to => from.to_string(),
        DayRule::Dates { from, to } => format!("{from}/{to}"),
        DayRule::Weekdays { from, to } if from == to => name_of(*from).to_owned(),
        DayRule::Weekdays { from, to } => format!("{}-{}", name_of(*from), name_of(*to)),
        DayRule::Calendar { name, .. } => name.clone(),
    }
}

fn day_of(date: Date) -> Day {
    match date.weekday() {
        Weekday::Monday => Day::Mon,
        Weekday::Tuesday => Day::Tue,
        Weekday::Wednesday => Day::Wed,
        Weekday::Thursday => Day::Thu,
        Weekday::Friday => Day::Fri,
        Weekday::Saturday => Day::Sat,
        Weekday::Sunday => Day::Sun,
    }
}

fn name_of(day: Day) -> &'static str {
    match day {
        Day::Mon => "MON",
        Day::Tue => "TUE",
        Day::Wed => "WED",
        Day::Thu => "THU",
        Day::Fri => "FRI",
        Day::Sat => "SAT",
        Day::Sun => "SUN",
    }
}
