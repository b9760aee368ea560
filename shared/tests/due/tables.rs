//! Known cases on real nights, written down by hand.

use jiff::tz::TimeZone;
use reveille_shared::definition::{Dst, Fold, Gap, Timing};
use reveille_shared::due::DueTimes;

use super::{all_between, utc};

/// Each due time of a text between two UTC times, as local time with its offset.
fn local_times(text: &str, zone: &str, dst: Dst, after: &str, until: &str) -> Vec<String> {
    let tz = TimeZone::get(zone).unwrap();
    let due_times = DueTimes::new(&Timing::Cron(text.to_owned()), zone, dst).unwrap();
    all_between(&due_times, utc(after), utc(until))
        .into_iter()
        .map(|due| due.to_zoned(tz.clone()).strftime("%d %H:%M:%S %:z").to_string().replacen(":00 ", " ", 1))
        .collect()
}

#[track_caller]
fn expect(text: &str, zone: &str, (after, until): (&str, &str), expected: &[&str]) {
    assert_eq!(local_times(text, zone, Dst::default(), after, until), expected, "{text} in {zone}");
}

/// Berlin, 29 March 2026: 02:00 +01:00 becomes 03:00 +02:00.
const SPRING: (&str, &str) = ("2026-03-28T23:00", "2026-03-29T03:00");
/// Berlin, 25 October 2026: 03:00 +02:00 becomes 02:00 +01:00.
const AUTUMN: (&str, &str) = ("2026-10-24T22:00", "2026-10-25T03:30");

#[test]
fn a_skipped_fixed_time_is_due_once_right_after_the_gap() {
    expect("30 2 * * *", "Europe/Berlin", SPRING, &["29 03:00 +02:00"]);
    expect("47-52 2 * * *", "Europe/Berlin", SPRING, &["29 03:00 +02:00"]);
    expect("0,30 2,3 * * *", "Europe/Berlin", SPRING, &["29 03:00 +02:00", "29 03:30 +02:00"]);
    expect("0 1 * * *", "Europe/Berlin", SPRING, &["29 01:00 +01:00"]);
    expect("0 3 * * *", "Europe/Berlin", SPRING, &["29 03:00 +02:00"]);
    expect("15 2 * * *", "Australia/Lord_Howe", ("2026-10-03T00:00", "2026-10-04T00:00"), &["04 02:30 +11:00"]);
}

#[test]
fn a_repeated_fixed_time_is_due_once_in_the_first_pass() {
    expect("30 2 * * *", "Europe/Berlin", AUTUMN, &["25 02:30 +02:00"]);
    expect("0 2 * * *", "Europe/Berlin", AUTUMN, &["25 02:00 +02:00"]);
    expect("0 3 * * *", "Europe/Berlin", AUTUMN, &["25 03:00 +01:00"]);
    expect("31 2,3 * * *", "Europe/Berlin", AUTUMN, &["25 02:31 +02:00", "25 03:31 +01:00"]);
    let london = ("2026-10-24T23:00", "2026-10-25T03:00");
    expect("27,34 1 * * *", "Europe/London", london, &["25 01:27 +01:00", "25 01:34 +01:00"]);
    expect("45 1 * * *", "Australia/Lord_Howe", ("2026-04-04T00:00", "2026-04-05T00:00"), &["05 01:45 +11:00"]);
}

#[test]
fn elapsed_time_goes_on_through_gap_and_fold() {
    let spring = ["29 00:00 +01:00", "29 01:00 +01:00", "29 03:00 +02:00", "29 04:00 +02:00"];
    expect("0 * * * *", "Europe/Berlin", ("2026-03-28T22:59", "2026-03-29T02:00"), &spring);
    expect("*/15 2 * * *", "Europe/Berlin", SPRING, &[]);
    let passes = ["25 02:00 +02:00", "25 02:30 +02:00", "25 02:00 +01:00", "25 02:30 +01:00"];
    expect("*/30 2 * * *", "Europe/Berlin", AUTUMN, &passes);
    expect("0 */2 * * *", "Europe/Berlin", AUTUMN, &["25 02:00 +02:00", "25 02:00 +01:00", "25 04:00 +01:00"]);
}

const RUN_AFTER: Option<Gap> = Some(Gap::RunAfter);
const SKIP: Option<Gap> = Some(Gap::Skip);
const FIRST: Option<Fold> = Some(Fold::First);
const SECOND: Option<Fold> = Some(Fold::Second);
const BOTH: Option<Fold> = Some(Fold::Both);

#[test]
fn a_declared_half_overrides_only_itself() {
    let due = |text, gap, fold, (after, until)| local_times(text, "Europe/Berlin", Dst { gap, fold }, after, until);
    for (text, gap, expected) in [
        ("30 2 * * *", None, &["29 03:00 +02:00"][..]),
        ("30 2 * * *", RUN_AFTER, &["29 03:00 +02:00"]),
        ("30 2 * * *", SKIP, &[]),
        ("*/30 2 * * *", None, &[]),
        ("*/30 2 * * *", RUN_AFTER, &["29 03:00 +02:00"]),
        ("*/30 2 * * *", SKIP, &[]),
        ("0 2,3 * * *", SKIP, &["29 03:00 +02:00"]),
    ] {
        for fold in [None, FIRST, SECOND, BOTH] {
            assert_eq!(due(text, gap, fold, SPRING), expected, "{text} with {gap:?} and {fold:?}");
        }
    }
    for (text, fold, expected) in [
        ("30 2 * * *", None, &["25 02:30 +02:00"][..]),
        ("30 2 * * *", FIRST, &["25 02:30 +02:00"]),
        ("30 2 * * *", SECOND, &["25 02:30 +01:00"]),
        ("30 2 * * *", BOTH, &["25 02:30 +02:00", "25 02:30 +01:00"]),
        ("45 */2 * * *", None, &["25 00:45 +02:00", "25 02:45 +02:00", "25 02:45 +01:00", "25 04:45 +01:00"]),
        ("45 */2 * * *", FIRST, &["25 00:45 +02:00", "25 02:45 +02:00", "25 04:45 +01:00"]),
        ("45 */2 * * *", SECOND, &["25 00:45 +02:00", "25 02:45 +01:00", "25 04:45 +01:00"]),
        ("0 1-3 * * *", SECOND, &["25 01:00 +02:00", "25 02:00 +01:00", "25 03:00 +01:00"]),
    ] {
        for gap in [None, RUN_AFTER, SKIP] {
            assert_eq!(
                due(text, gap, fold, (AUTUMN.0, "2026-10-25T04:00")),
                expected,
                "{text} with {gap:?} and {fold:?}"
            );
        }
    }
}

/// What cron(8) of Debian documents: times that are skipped run soon after the change, repeated ones do not run again,
/// and texts with `*` in the minute or hour field, or `@hourly`, follow the new time at once. Where Debian would run one
/// call for each skipped minute, ours is one call for all.
#[test]
fn debians_documented_rules() {
    let new_york = |text, span, expected: &[&str]| expect(text, "America/New_York", span, expected);
    // 8 March 2026: 02:00 -05:00 becomes 03:00 -04:00.
    let spring = ("2026-03-08T06:30", "2026-03-08T07:59");
    new_york("15 2 * * *", spring, &["08 03:00 -04:00"]);
    new_york("0 2 8 3 *", spring, &["08 03:00 -04:00"]);
    new_york("15 2 * * SUN", spring, &["08 03:00 -04:00"]);
    new_york("@hourly", spring, &["08 03:00 -04:00"]);
    new_york("15 * * * *", spring, &["08 03:15 -04:00"]);
    new_york("*/20 * * * *", spring, &["08 01:40 -05:00", "08 03:00 -04:00", "08 03:20 -04:00", "08 03:40 -04:00"]);
    new_york("* 2 * * *", spring, &[]);
    new_york("59 1 * * *", spring, &["08 01:59 -05:00"]);
    // 1 November 2026: 02:00 -04:00 becomes 01:00 -05:00.
    let autumn = ("2026-11-01T04:30", "2026-11-01T07:00");
    new_york("15 1 * * *", autumn, &["01 01:15 -04:00"]);
    new_york("@hourly", autumn, &["01 01:00 -04:00", "01 01:00 -05:00", "01 02:00 -05:00"]);
    new_york("15 * * * *", autumn, &["01 01:15 -04:00", "01 01:15 -05:00"]);
    new_york("*/40 1 * * *", autumn, &["01 01:00 -04:00", "01 01:40 -04:00", "01 01:00 -05:00", "01 01:40 -05:00"]);
    new_york("15 1,2 * * *", autumn, &["01 01:15 -04:00"]);
    new_york("0 2 * * *", autumn, &["01 02:00 -05:00"]);
}

#[test]
fn midnight_and_whole_days() {
    expect("0 0 * * *", "Africa/Cairo", ("2026-04-23T12:00", "2026-04-24T12:00"), &["24 01:00 +03:00"]);
    expect("0 0 * * *", "America/Santiago", ("2026-09-05T12:00", "2026-09-06T12:00"), &["06 01:00 -03:00"]);
    expect("30 0 * * *", "Asia/Beirut", ("2026-03-28T12:00", "2026-03-29T12:00"), &["29 01:00 +03:00"]);
    expect("0 0 * * *", "America/Havana", ("2026-10-31T12:00", "2026-11-01T12:00"), &["01 00:00 -04:00"]);
    expect("30 23 * * *", "America/Santiago", ("2026-04-04T12:00", "2026-04-05T12:00"), &["04 23:30 -03:00"]);
    let skipped_day = ("2011-12-30T00:00", "2011-12-31T09:00");
    expect("0 9 * * *", "Pacific/Apia", skipped_day, &["31 00:00 +14:00", "31 09:00 +14:00"]);
    expect("0 */12 * * *", "Pacific/Apia", skipped_day, &["31 00:00 +14:00", "31 12:00 +14:00"]);
}

#[test]
fn seconds_follow_the_rule_of_minute_and_hour() {
    expect("*/20 30 2 * * *", "Europe/Berlin", SPRING, &["29 03:00 +02:00"]);
    let first_pass = ["25 02:30 +02:00", "25 02:30:20 +02:00", "25 02:30:40 +02:00"];
    expect("*/20 30 2 * * *", "Europe/Berlin", AUTUMN, &first_pass);
}
