//! Instants as people write them: with an offset, or as the clock of a schedule's time zone shows them.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, Zoned};

/// What a `TIME` may look like, for help texts.
pub(crate) const EXPECTED: &str = "write `now`, an instant with its offset like 2026-11-25T02:00:00+01:00 or …Z, or a local time of the \
     schedule's zone like 2026-11-25T02:00 or '2026-11-25 02:00'";

/// A `TIME` argument.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Moment {
    /// `now`.
    Now,
    /// With its offset: the same everywhere.
    Instant(Timestamp),
    /// Date and time of day on the clock of a zone that is not known yet.
    Local(DateTime),
}

/// Which of two instants is meant by a local time that the clock shows twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The first.
    First,
    /// The second: the end of a range holds both.
    Second,
}

/// Reads a `TIME` argument.
pub(crate) fn moment(text: &str) -> Result<Moment, &'static str> {
    let text = text.trim();
    if text == "now" {
        return Ok(Moment::Now);
    }
    if text.contains('[') {
        return text.parse().map(|zoned: Zoned| Moment::Instant(zoned.timestamp())).map_err(|_| EXPECTED);
    }
    if let Ok(instant) = text.parse() {
        return Ok(Moment::Instant(instant));
    }
    // Without a time of day it is not clear whether the day itself is meant, and jiff would overlook an offset.
    let clock = text.get(11..).filter(|clock| clock.contains(':') && !clock.contains(['+', '-', 'Z', 'z']));
    clock.and_then(|_| text.parse().ok()).map(Moment::Local).ok_or(EXPECTED)
}

impl Moment {
    /// The instant, and what people should know when the local time does not name exactly one.
    pub(crate) fn resolve(self, now: Timestamp, zone: &TimeZone, pass: Pass) -> (Timestamp, Option<String>) {
        let local = match self {
            Self::Now => return (now, None),
            Self::Instant(instant) => return (instant, None),
            Self::Local(local) => local,
        };
        let name = zone.iana_name().unwrap_or("the schedule's zone");
        let shown = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string();
        let ambiguous = zone.to_ambiguous_timestamp(local);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => (ambiguous.compatible().unwrap_or(now), None),
            AmbiguousOffset::Gap { after, .. } => {
                // With the offset after the gap the local time is an instant before it.
                let before_gap = after.to_timestamp(local).unwrap_or(now);
                let end = zone.following(before_gap).next().map_or(before_gap, |change| change.timestamp());
                (end, Some(format!("the clock of {name} skips {local}: {} is taken", shown(end))))
            }
            AmbiguousOffset::Fold { .. } => {
                let (first, second) = (ambiguous.earlier().unwrap_or(now), ambiguous.later().unwrap_or(now));
                let (taken, other) = if pass == Pass::First { (first, second) } else { (second, first) };
                let note = format!(
                    "the clock of {name} shows {local} twice: {} is taken; the other is {}",
                    shown(taken),
                    shown(other)
                );
                (taken, Some(note))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, pass: Pass) -> (String, String) {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let (at, note) = moment(text).unwrap().resolve(Timestamp::UNIX_EPOCH, &zone, pass);
        (at.to_string(), note.unwrap_or_default())
    }

    #[test]
    fn an_offset_counts_and_a_local_time_is_of_the_zone() {
        for (text, at) in [
            ("now", "1970-01-01T00:00:00Z"),
            ("2026-11-25T02:00:00+01:00", "2026-11-25T01:00:00Z"),
            ("2026-11-25T02:00Z", "2026-11-25T02:00:00Z"),
            ("2026-11-25 02:00", "2026-11-25T01:00:00Z"),
            ("2026-07-25T02:00:30", "2026-07-25T00:00:30Z"),
            ("2026-11-25T02:00[Asia/Tokyo]", "2026-11-24T17:00:00Z"),
        ] {
            assert_eq!(resolved(text, Pass::First), (at.to_owned(), String::new()), "{text}");
        }
    }

    #[test]
    fn a_skipped_time_is_the_end_of_the_gap() {
        for text in ["2026-03-29 02:00", "2026-03-29 02:30", "2026-03-29 02:59:59"] {
            let (at, note) = resolved(text, Pass::First);
            assert_eq!(at, "2026-03-29T01:00:00Z", "{text}");
            assert!(note.contains("skips") && note.contains("03:00:00 +02:00"), "{note}");
        }
    }

    #[test]
    fn a_repeated_time_is_the_first_or_at_the_end_of_a_range_the_second() {
        let (at, note) = resolved("2026-10-25 02:30", Pass::First);
        assert_eq!(at, "2026-10-25T00:30:00Z");
        assert!(note.contains("twice") && note.contains("02:30:00 +01:00"), "{note}");
        assert_eq!(resolved("2026-10-25 02:30", Pass::Second).0, "2026-10-25T01:30:00Z");
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "tomorrow",
            "2026-11-25",
            "02:00",
            "2026-13-25 02:00",
            "2026-11-25 25:00",
            "2026-11-25T02:00+99:00",
            "2026-11-25T02:00[Europe/Berlni]",
            "2026-11-25 02",
        ] {
            assert!(moment(text).is_err(), "{text:?} was accepted");
        }
    }
}
