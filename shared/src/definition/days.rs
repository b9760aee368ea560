//! Days as they are written: `2026-12-24`, `2026-12-24/2026-12-26`, `SAT`, `MON-FRI`, or the name of a calendar.

use std::sync::Arc;

use jiff::civil::{Date, Weekday};

use super::node::short;
use super::schedule::{Day, DayRule};
use super::text::{Complaint, Text, complaint};

const EXPECTED: &str =
    "write a date like 2026-12-24, a range like 2026-12-24/2026-12-26, or weekdays like SAT or MON-FRI";

/// Reads days, or the name of a calendar, whose days are not known here.
pub(super) fn read(text: &str) -> Result<DayRule, Complaint> {
    if let Some((from, to)) = text.split_once('/') {
        return match (weekday_like(from), weekday_like(to)) {
            (Some(from), Some(to)) => {
                let hint = format!("write {}-{}", shown(from), shown(to));
                Err(complaint("a range of weekdays is written with a hyphen", hint))
            }
            _ => dates(text, from, to),
        };
    }
    if looks_like_date(text) {
        return date(text).map(|day| DayRule::Dates { from: day, to: day });
    }
    match weekdays_like(text) {
        Some((from, to)) if text.len() == 3 || (text.len() == 7 && text.as_bytes()[3] == b'-') => {
            Ok(DayRule::Weekdays { from, to })
        }
        Some((from, to)) => {
            let range = if from == to { shown(from).to_owned() } else { format!("{}-{}", shown(from), shown(to)) };
            Err(complaint(
                format!("weekdays have three letters, and `{}` has not", short(text)),
                format!("write {range}"),
            ))
        }
        None if Text::Name.check(text).is_ok() => Ok(DayRule::Calendar { name: text.to_owned(), days: Arc::default() }),
        None => Err(complaint(
            format!("`{}` is neither a day nor the name of a calendar", short(text)),
            format!("{EXPECTED}, or the name of a calendar"),
        )),
    }
}

/// Reads days of a calendar, which can't be those of another one.
pub(super) fn read_of_calendar(text: &str) -> Result<DayRule, Complaint> {
    match read(text) {
        Ok(DayRule::Calendar { .. }) => Err(complaint(format!("`{}` is not a day", short(text)), EXPECTED)),
        Ok(days) => Ok(days),
        Err(Complaint { range, message, hint }) if hint.starts_with(EXPECTED) => {
            let message = message.replace("neither a day nor the name of a calendar", "not a day");
            Err(Complaint { range, message, hint: EXPECTED.to_owned() })
        }
        Err(complaint) => Err(complaint),
    }
}

/// Says whether a calendar can have this name: in a list of days it must not be taken for one.
pub(super) fn check_name(text: &str) -> Result<(), Complaint> {
    Text::Name.check(text)?;
    if looks_like_date(text) || weekdays_like(text).is_some() {
        let message = format!("`{}` reads like a date or a weekday", short(text));
        return Err(complaint(message, "give the calendar another name, like holidays"));
    }
    Ok(())
}

fn dates(text: &str, from: &str, to: &str) -> Result<DayRule, Complaint> {
    let second = from.len() + 1;
    let first_day = date(from).map_err(|fault| Complaint { range: Some(0..from.len()), ..fault })?;
    let last_day = date(to).map_err(|fault| Complaint { range: Some(second..text.len()), ..fault })?;
    if last_day < first_day {
        return Err(complaint("this range ends before it begins", format!("write {to}/{from}")));
    }
    Ok(DayRule::Dates { from: first_day, to: last_day })
}

fn date(text: &str) -> Result<Date, Complaint> {
    let is_digit = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let is_hyphen = |at: usize| text.as_bytes().get(at) == Some(&b'-');
    if text.len() != 10 || !(0..10).all(|at| if matches!(at, 4 | 7) { is_hyphen(at) } else { is_digit(at) }) {
        return Err(complaint(format!("`{}` is not a date", short(text)), "write it like 2026-12-24"));
    }
    text.parse()
        .map_err(|_| complaint(format!("there is no day {text}"), "write a day of the calendar, like 2026-12-24"))
}

/// Also of texts that are no date, but were meant as one.
fn looks_like_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let begins =
        bytes.len() > 5 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-' && bytes[5].is_ascii_digit();
    let separators = bytes.iter().filter(|byte| matches!(byte, b'-' | b'.')).count();
    begins || separators > 1 && bytes.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

/// Also of names that are not cut to three letters.
fn weekday_like(text: &str) -> Option<Day> {
    const NAMES: [(&str, Day); 7] = [
        ("monday", Day::Mon),
        ("tuesday", Day::Tue),
        ("wednesday", Day::Wed),
        ("thursday", Day::Thu),
        ("friday", Day::Fri),
        ("saturday", Day::Sat),
        ("sunday", Day::Sun),
    ];
    let lower = text.to_ascii_lowercase();
    let found = NAMES.iter().find(|(name, _)| lower.len() >= 3 && name.starts_with(&lower));
    found.map(|(_, day)| *day)
}

fn weekdays_like(text: &str) -> Option<(Day, Day)> {
    match text.split_once('-') {
        Some((from, to)) => Some((weekday_like(from)?, weekday_like(to)?)),
        None => weekday_like(text).map(|day| (day, day)),
    }
}

fn shown(day: Day) -> &'static str {
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

/// Whether the rule, or the days of the calendar that it names, hold this day.
pub(super) fn contains(rule: &DayRule, day: Date) -> bool {
    match rule {
        DayRule::Dates { from, to } => (*from..=*to).contains(&day),
        DayRule::Weekdays { from, to } => weekday_range(*from, *to) & bit(day.weekday()) != 0,
        DayRule::Calendar { days, .. } => days.iter().any(|rule| contains(rule, day)),
    }
}

/// All days of the week, one bit for each.
pub(super) const WHOLE_WEEK: u8 = 0x7f;

/// The days of the week that fall under the rule, at least now and then.
pub(super) fn weekdays_touched(rule: &DayRule) -> u8 {
    match rule {
        DayRule::Dates { from, to } => {
            let days = from.series(jiff::Span::new().days(1)).take_while(|day| day <= to).take(7);
            days.fold(0, |set, day| set | bit(day.weekday()))
        }
        DayRule::Weekdays { from, to } => weekday_range(*from, *to),
        DayRule::Calendar { days, .. } => days.iter().fold(0, |set, rule| set | weekdays_touched(rule)),
    }
}

/// The days of the week that always fall under the rule.
pub(super) fn weekdays_covered(rule: &DayRule) -> u8 {
    match rule {
        DayRule::Dates { .. } => 0,
        DayRule::Weekdays { from, to } => weekday_range(*from, *to),
        DayRule::Calendar { days, .. } => days.iter().fold(0, |set, rule| set | weekdays_covered(rule)),
    }
}

fn bit(day: Weekday) -> u8 {
    1 << day.to_monday_zero_offset()
}

fn weekday_range(from: Day, to: Day) -> u8 {
    let (from, to) = (from as u8, to as u8);
    let days = (to + 7 - from) % 7;
    (0..=days).fold(0, |set, step| set | 1 << ((from + step) % 7))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(text: &str) -> DayRule {
        read(text).unwrap_or_else(|complaint| panic!("{text}: {complaint:?}"))
    }

    #[test]
    fn days_are_read_as_they_are_written() {
        let date = |text: &str| text.parse::<Date>().unwrap();
        let (eve, boxing) = (date("2026-12-24"), date("2026-12-26"));
        assert_eq!(days("2026-12-24"), DayRule::Dates { from: eve, to: eve });
        assert_eq!(days("2026-12-24/2026-12-26"), DayRule::Dates { from: eve, to: boxing });
        assert_eq!(days("SAT"), DayRule::Weekdays { from: Day::Sat, to: Day::Sat });
        assert_eq!(days("fri-mon"), DayRule::Weekdays { from: Day::Fri, to: Day::Mon });
        for name in ["holidays", "de-by", "2026-holidays", "sun-protection", "saturn", "1st", "q1.2026"] {
            assert_eq!(days(name), DayRule::Calendar { name: name.to_owned(), days: Arc::default() });
            assert!(check_name(name).is_ok() && read_of_calendar(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_is_no_day_is_told_with_what_is() {
        for (text, message, hint) in [
            ("2026-02-30", "there is no day 2026-02-30", "write a day of the calendar, like 2026-12-24"),
            ("2026-2-3", "`2026-2-3` is not a date", "write it like 2026-12-24"),
            ("24.12.2026", "`24.12.2026` is not a date", "write it like 2026-12-24"),
            ("12/24/2026", "`12` is not a date", "write it like 2026-12-24"),
            ("2026-12-24/26", "`26` is not a date", "write it like 2026-12-24"),
            ("2026-12-26/2026-12-24", "this range ends before it begins", "write 2026-12-24/2026-12-26"),
            ("2026-12-24T10:00:00Z", "`2026-12-24T10:00:00Z` is not a date", "write it like 2026-12-24"),
            ("Saturday", "weekdays have three letters, and `Saturday` has not", "write SAT"),
            ("mon-friday", "weekdays have three letters, and `mon-friday` has not", "write MON-FRI"),
            ("MON/FRI", "a range of weekdays is written with a hyphen", "write MON-FRI"),
        ] {
            for told in [read(text).unwrap_err(), read_of_calendar(text).unwrap_err()] {
                assert_eq!((told.message.as_str(), told.hint.as_str()), (message, hint), "{text}");
            }
        }
        for text in ["", "My Holidays", "ä", "MON,TUE"] {
            assert!(read(text).unwrap_err().hint.ends_with("or the name of a calendar"), "{text}");
            let told = read_of_calendar(text).unwrap_err();
            assert!(told.message.ends_with("is not a day") && told.hint == EXPECTED, "{told:?}");
        }
        for name in ["sat", "mon-fri", "sunday", "2026-12-24", "1.1.2026", "Holidays", ""] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn rules_hold_days() {
        let date = |text: &str| text.parse::<Date>().unwrap();
        let (friday, saturday) = (date("2026-12-25"), date("2026-12-26"));
        assert!(
            contains(&days("2026-12-24/2026-12-25"), friday) && !contains(&days("2026-12-24/2026-12-25"), saturday)
        );
        assert!(contains(&days("sat-sun"), saturday) && !contains(&days("mon-fri"), saturday));
        assert!(contains(&days("fri-mon"), saturday) && !contains(&days("sun-thu"), friday));
        let calendar = DayRule::Calendar { name: "a".into(), days: [days("SAT"), days("2026-12-25")].into() };
        assert!(
            contains(&calendar, saturday) && contains(&calendar, friday) && !contains(&calendar, date("2026-12-24"))
        );
        assert_eq!(weekdays_touched(&calendar), 0b011_0000);
        assert_eq!(weekdays_covered(&calendar), 0b010_0000);
        assert_eq!(weekdays_touched(&days("2026-01-01/2026-12-31")), WHOLE_WEEK);
        assert_eq!((weekdays_covered(&days("mon-sun")), weekdays_covered(&days("thu-wed"))), (WHOLE_WEEK, WHOLE_WEEK));
    }
}
