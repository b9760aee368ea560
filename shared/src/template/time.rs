//! Filters for times. They take and give RFC 3339 texts like `2026-12-31T23:59:00Z`.
//!
//! A text with the name of a zone, `2026-12-31T23:59:00+01:00[Europe/Berlin]`, is read on the clock of that zone by
//! all of them, and keeps it; so `timezone` comes first and `date` last.

use jiff::civil::Weekday;
use jiff::fmt::strtime;
use jiff::fmt::temporal::{Pieces, PiecesOffset, TimeZoneAnnotationKind};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};
use minijinja::{Environment, Error, ErrorKind};

use crate::due;
use crate::duration::HumanDuration;

type Result<T> = std::result::Result<T, Error>;

/// Their names, for "did you mean".
pub(super) const NAMES: [&str; 6] = ["date", "timezone", "plus", "minus", "start_of", "timestamp"];

pub(super) fn add_filters(language: &mut Environment<'_>) {
    language.add_filter("date", date);
    language.add_filter("timezone", timezone);
    language.add_filter("plus", plus);
    language.add_filter("minus", minus);
    language.add_filter("start_of", start_of);
    language.add_filter("timestamp", timestamp);
}

fn fault(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// `{{ scheduled_for | date("%d.%m.%Y") }}`, with strftime's letters.
fn date(time: &str, format: Option<&str>) -> Result<String> {
    let time = read("date", time)?;
    strtime::format(format.unwrap_or("%Y-%m-%d"), &time)
        .map_err(|_| fault("date needs a format of strftime's, like \"%Y-%m-%d %H:%M\""))
}

/// The same instant on the clock of another zone.
fn timezone(time: &str, name: &str) -> Result<String> {
    let time = read("timezone", time)?;
    Ok(write(&time.with_time_zone(zone(name)?)))
}

/// Later by a duration. Days are days of the calendar: the clock shows the same time, or the next one that it shows
/// at all.
fn plus(time: &str, duration: &str) -> Result<String> {
    let (days, rest) = span("plus", duration)?;
    let later = read("plus", time)?.checked_add(days.days()).and_then(|time| time.checked_add(rest.signed()));
    later.map(|time| write(&time)).map_err(|_| out_of_range("plus"))
}

/// Earlier by a duration, the days first.
fn minus(time: &str, duration: &str) -> Result<String> {
    let (days, rest) = span("minus", duration)?;
    let earlier = read("minus", time)?.checked_sub(days.days()).and_then(|time| time.checked_sub(rest.signed()));
    earlier.map(|time| write(&time)).map_err(|_| out_of_range("minus"))
}

/// The first instant of the hour, day, week (from Monday), month or year that a time is in.
fn start_of(time: &str, unit: &str) -> Result<String> {
    let time = read("start_of", time)?;
    let first_day = match unit {
        "hour" => {
            // Within an hour that comes twice, the pass stays the same.
            let start = time.with().minute(0).second(0).subsec_nanosecond(0).build();
            return start.map(|start| write(&start)).map_err(|_| out_of_range("start_of"));
        }
        "day" => Ok(time.date()),
        "week" => time.date().checked_sub(i32::from(time.weekday().since(Weekday::Monday)).days()),
        "month" => Ok(time.date().first_of_month()),
        "year" => Ok(time.date().first_of_year()),
        _ => return Err(fault("start_of knows \"hour\", \"day\", \"week\", \"month\" and \"year\"")),
    };
    let start = first_day.and_then(|day| day.to_zoned(time.time_zone().clone()));
    start.map(|start| write(&start)).map_err(|_| out_of_range("start_of"))
}

/// Whole seconds since 1970.
fn timestamp(time: &str) -> Result<i64> {
    Ok(read("timestamp", time)?.timestamp().as_second())
}

fn out_of_range(filter: &str) -> Error {
    fault(format!("{filter} leads out of the years from -9999 to 9999"))
}

/// Calendar days, and the rest.
fn span(filter: &str, text: &str) -> Result<(i64, HumanDuration)> {
    let wrong = || fault(format!("{filter} needs a duration like \"1d\", \"2h30m\" or \"1d12h\""));
    text.parse::<HumanDuration>().map_err(|_| wrong())?;
    let (days, rest) = text.split_once('d').unwrap_or(("0", text));
    let rest = if rest.is_empty() { HumanDuration::ZERO } else { rest.parse().map_err(|_| wrong())? };
    Ok((days.parse().map_err(|_| wrong())?, rest))
}

fn zone(name: &str) -> Result<TimeZone> {
    due::timezone(name).map_err(|_| fault("there is no such time zone: give an IANA name like \"Europe/Berlin\""))
}

/// A time on the clock that its text names: that of a zone, or an offset.
fn read(filter: &str, text: &str) -> Result<Zoned> {
    let wrong = || fault(format!("{filter} needs a time with an offset, like 2026-12-31T23:59:00Z"));
    let pieces = Pieces::parse(text).map_err(|_| wrong())?;
    let offset = pieces.offset().ok_or_else(wrong)?;
    let zone = match pieces.time_zone_annotation().map(|zone| zone.kind()) {
        Some(TimeZoneAnnotationKind::Named(name)) => zone(name.as_str())?,
        Some(TimeZoneAnnotationKind::Offset(offset)) => TimeZone::fixed(*offset),
        None if matches!(offset, PiecesOffset::Zulu) => TimeZone::UTC,
        None => TimeZone::fixed(offset.to_numeric_offset()),
        Some(_) => return Err(wrong()),
    };
    let local = pieces.date().to_datetime(pieces.time().ok_or_else(wrong)?);
    let instant = offset.to_numeric_offset().to_timestamp(local).map_err(|_| wrong())?;
    Ok(instant.to_zoned(zone))
}

/// With the zone's name only if it has one, as many programs read nothing but RFC 3339.
fn write(time: &Zoned) -> String {
    match time.time_zone().iana_name() {
        Some("UTC") => time.timestamp().to_string(),
        Some(_) => time.to_string(),
        None => time.timestamp().display_with_offset(time.offset()).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Engine;

    fn render(text: &str) -> String {
        let engine = Engine::new(&json!({"t": "2026-03-28T23:30:00.250Z", "o": "2026-12-31T23:59:00+05:30"}));
        engine.render(&format!("{{{{ {text} }}}}")).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn times_are_shown_and_moved() {
        for (text, expected) in [
            ("t | date", "2026-03-28"),
            ("t | date('%d.%m.%Y %H:%M:%S %A')", "28.03.2026 23:30:00 Saturday"),
            ("t | timezone('Europe/Berlin')", "2026-03-29T00:30:00.25+01:00[Europe/Berlin]"),
            ("t | timezone('Europe/Berlin') | date", "2026-03-29"),
            ("t | timezone('Europe/Berlin') | date('%Y-%m-%dT%H:%M:%S%:z')", "2026-03-29T00:30:00+01:00"),
            ("t | timezone('Europe/Berlin') | timezone('UTC')", "2026-03-28T23:30:00.25Z"),
            ("t | plus('1d')", "2026-03-29T23:30:00.25Z"),
            ("t | plus('1d2h3m4s5ms')", "2026-03-30T01:33:04.255Z"),
            ("t | minus('1d2h')", "2026-03-27T21:30:00.25Z"),
            ("t | minus('90m')", "2026-03-28T22:00:00.25Z"),
            ("t | timestamp", "1774740600"),
            ("t | start_of('hour')", "2026-03-28T23:00:00Z"),
            ("t | start_of('day')", "2026-03-28T00:00:00Z"),
            ("t | start_of('week')", "2026-03-23T00:00:00Z"),
            ("t | start_of('month')", "2026-03-01T00:00:00Z"),
            ("t | start_of('year')", "2026-01-01T00:00:00Z"),
            ("o | date", "2026-12-31"),
            ("o | plus('1m')", "2027-01-01T00:00:00+05:30"),
            ("o | start_of('day') | timestamp", "1798655400"),
            ("t | minus('1d') | start_of('day') | date", "2026-03-27"),
        ] {
            assert_eq!(render(text), expected, "{text}");
        }
    }

    #[test]
    fn days_are_days_of_the_zone_and_hours_are_hours() {
        let berlin = |text: &str| render(&format!("t | timezone('Europe/Berlin') | {text}"));
        for (text, expected) in [
            // The clock goes from 02:00 to 03:00 on the 29th.
            ("plus('1d')", "2026-03-30T00:30:00.25+02:00[Europe/Berlin]"),
            ("plus('24h')", "2026-03-30T01:30:00.25+02:00[Europe/Berlin]"),
            ("plus('2h')", "2026-03-29T03:30:00.25+02:00[Europe/Berlin]"),
            ("plus('1d') | minus('1d')", "2026-03-29T00:30:00.25+01:00[Europe/Berlin]"),
            ("plus('1d') | start_of('day')", "2026-03-30T00:00:00+02:00[Europe/Berlin]"),
            ("start_of('month') | timestamp", "1772319600"),
        ] {
            assert_eq!(berlin(text), expected, "{text}");
        }
        // The second pass of 02:30 stays in the second pass.
        let second = "'2026-10-25T01:30:00Z' | timezone('Europe/Berlin') | start_of('hour')";
        assert_eq!(render(second), "2026-10-25T02:00:00+01:00[Europe/Berlin]");
        // A day that begins at 01:00.
        let cairo = "'2026-04-24T12:00:00Z' | timezone('Africa/Cairo') | start_of('day')";
        assert_eq!(render(cairo), "2026-04-24T01:00:00+03:00[Africa/Cairo]");
    }

    #[test]
    fn what_is_wrong_is_told_with_an_example() {
        for (text, expected) in [
            ("'tomorrow' | date", "date needs a time with an offset, like 2026-12-31T23:59:00Z"),
            ("'2026-01-01T00:00:00' | plus('1d')", "plus needs a time with an offset, like 2026-12-31T23:59:00Z"),
            ("'2026-01-01' | timestamp", "timestamp needs a time with an offset, like 2026-12-31T23:59:00Z"),
            ("t | date('%!')", "date needs a format of strftime's, like \"%Y-%m-%d %H:%M\""),
            ("t | timezone('Berlin')", "there is no such time zone: give an IANA name like \"Europe/Berlin\""),
            ("t | minus('1 day')", "minus needs a duration like \"1d\", \"2h30m\" or \"1d12h\""),
            ("t | plus('36500d') | plus('36500d')", "2226-02-08T23:30:00.25Z"),
            ("'9999-12-01T00:00:00Z' | plus('36500d')", "plus leads out of the years from -9999 to 9999"),
            ("t | start_of('decade')", "start_of knows \"hour\", \"day\", \"week\", \"month\" and \"year\""),
            ("5 | date", "value is not a string"),
            ("t | plus", "missing argument"),
        ] {
            assert_eq!(render(text), expected, "{text}");
        }
    }
}
