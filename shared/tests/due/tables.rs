//! Known cases on real nights, written down by hand. The table in the documentation of
//! `reveille_shared::due` holds no case that is not here.

use jiff::tz::TimeZone;

use super::{all_between, cron, utc};

/// Each due time of a text between two UTC times, as local time with its offset.
fn local_times(text: &str, zone: &str, after: &str, until: &str) -> Vec<String> {
    let tz = TimeZone::get(zone).unwrap();
    let due_times = cron(text, zone).unwrap();
    all_between(&due_times, utc(after), utc(until))
        .into_iter()
        .map(|due| due.to_zoned(tz.clone()).strftime("%d %H:%M:%S %:z").to_string().replacen(":00 ", " ", 1))
        .collect()
}

#[track_caller]
fn expect(text: &str, zone: &str, (after, until): (&str, &str), expected: &[&str]) {
    assert_eq!(local_times(text, zone, after, until), expected, "{text} in {zone}");
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
