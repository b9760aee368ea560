//! What texts mean on the calendar, and what is said about those that mean nothing.

use fastrand::Rng;
use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use reveille_shared::definition::{Dst, Timing};
use reveille_shared::due::{DueTimes, nearest_timezone};
use reveille_shared::duration::HumanDuration;

use super::{all_between, cron, utc};

fn dates(text: &str, after: &str, count: usize) -> String {
    let due_times = cron(text, "UTC").unwrap();
    let found = due_times.between(utc(after), Timestamp::MAX).take(count);
    found.map(|due| due.strftime("%Y-%m-%d %a %H:%M:%S").to_string()).collect::<Vec<_>>().join("\n")
}

#[test]
fn fields_and_their_words() {
    let cases = [
        "*/20 * * * *",
        "0/20 22-23 * * *",
        "*/20 30 9 * * *",
        "0 0 9 29 FEB ? 2028",
        "0 0 9 1 1 * 2030,2032-2036/2",
        "0 9 * jan-Mar,12 *",
        "0 9 * * FRI-SUN",
        "0 9 * * 5-7",
        "0 9 * * 0",
        "0 9 * * 7",
        "0 9 L * ?",
        "0 9 LW * *",
        "0 9 1W * *",
        "0 9 15W,31W * *",
        "0 9 ? * MON#1",
        "0 9 ? * 5#5",
        "0 9 ? * FRIL",
        "0 9 ? * fri#L,0#2",
        "0 9 13 * FRI",
        "0 9 */2 * MON",
        "0 0 29 2 *",
        "@hourly",
        "@daily",
        "@midnight",
        "@weekly",
        "@monthly",
        "@yearly",
        "@annually",
        "  @Daily ",
    ];
    let table: Vec<_> = cases.iter().map(|text| format!("{text}\n{}\n", dates(text, "2026-07-30T12:00", 5))).collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn faults_name_the_field_and_what_is_allowed() {
    let cases = [
        "",
        "   ",
        "* * * *",
        "* * * * * * * *",
        "61 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * JUNE *",
        "* * * * 8",
        "* * * * L",
        "* * * * FRI#6",
        "* * * * FRI#",
        "* * * * MON-FRIL",
        "* * W * *",
        "* * L-3 * *",
        "* ? * * *",
        "60 * * * * *",
        "0 0 9 * * * 1969",
        "0 0 9 * * * 2100",
        "5-1 * * * *",
        "* * * * SAT-MON",
        "*/0 * * * *",
        "*/90 * * * *",
        "*/x * * * *",
        "1,,2 * * * *",
        "1-2-3 * * * *",
        "-1 * * * *",
        "1.5 * * * *",
        "５ * * * *",
        "0   0\t99  * *",
        "00000000000000000000000000000000000000000000000000000000000000000000000000000000 * * * *",
        "@reboot",
        "@every 5m",
        "0 0 31 2 *",
        "0 0 31 4,6,9,11 ?",
        "0 0 0 29 2 ? 2027",
        "* * 31W FEB *",
    ];
    let table: Vec<_> = cases
        .iter()
        .map(|text| {
            let error = cron(text, "UTC").expect_err(text);
            let field = error.field.clone().map_or("-".to_owned(), |range| text[range].to_owned());
            format!("{text:?}\n  at {field}\n  {error}\n")
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn past_years_are_valid_but_over() {
    let due_times = cron("0 0 9 * * * 1999", "UTC").unwrap();
    assert_eq!(due_times.next_after(utc("1999-12-31T10:00")), None);
    assert_eq!(due_times.next_after(utc("1950-12-31T10:00")), Some(utc("1999-01-01T09:00")));
}

#[test]
fn a_time_that_only_a_gap_would_show_never_fires() {
    let in_gap = "0 */15 2 29 3 ? 2026";
    assert!(cron(in_gap, "UTC").is_ok());
    assert!(cron(in_gap, "Europe/Berlin").unwrap_err().message.contains("never fires"));
}

#[test]
fn intervals_count_from_the_epoch() {
    let every = |millis| DueTimes::new(&Timing::Every(HumanDuration::from_millis(millis)), "UTC", Dst::default());
    let due_times = every(90_000).unwrap();
    let found: Vec<_> = due_times.between(utc("1969-12-31T23:58"), utc("1970-01-01T00:03")).collect();
    let expected = ["1969-12-31T23:58:30", "1970-01-01T00:00", "1970-01-01T00:01:30", "1970-01-01T00:03"];
    assert_eq!(found, expected.map(utc));
    let just_before = utc("2026-01-01T00:00") - SignedDuration::from_nanos(1);
    assert_eq!(every(1000).unwrap().next_after(just_before), Some(utc("2026-01-01T00:00")));
    assert_eq!(every(1500).unwrap().next_after(utc("1970-01-01T00:00:03")), Some(utc("1970-01-01T00:00:04.5")));
    assert_eq!(every(1000).unwrap().next_after(Timestamp::MAX), None);
    assert_eq!(every(999).unwrap_err().message, "the interval 999ms is too short: the shortest is 1s");
}

#[test]
fn a_single_time_is_due_once() {
    let at = utc("2026-05-04T10:00:00.1234567");
    let due_times = DueTimes::new(&Timing::At(at), "UTC", Dst::default()).unwrap();
    let due = utc("2026-05-04T10:00:00.123456");
    assert_eq!(due_times.next_after(Timestamp::MIN), Some(due));
    assert_eq!(due_times.next_after(due), None);
}

#[test]
fn unknown_zones_are_refused_with_the_nearest_name() {
    let message = |zone| cron("@daily", zone).unwrap_err().message;
    insta::assert_snapshot!(
        ["Europe/Berln", "berlin", "america/new york", "Mars/Olympus_Mons", "", "localtime", "UTC+1"]
            .map(message)
            .join("\n")
    );
    assert_eq!(nearest_timezone("Asia/Calcuta").as_deref(), Some("Asia/Calcutta"));
    assert_eq!(nearest_timezone("Europe/Berlin").as_deref(), Some("Europe/Berlin"));
    assert!(cron("@daily", "europe/berlin").is_ok(), "letter case does not matter");
}

/// One item of a day field, and whether it means a date.
type Item = (String, Box<dyn Fn(Date) -> bool>);

fn day_item(rng: &mut Rng) -> Item {
    let day = rng.i8(1..=31);
    match rng.u8(0..5) {
        0 => ("L".to_owned(), Box::new(|date| date.tomorrow().unwrap().day() == 1)),
        1 => (
            "LW".to_owned(),
            Box::new(|date| {
                let later_workdays = date.series(1.day()).skip(1).take(3);
                is_workday(date)
                    && !later_workdays.filter(|day| is_workday(*day)).any(|day| day.month() == date.month())
                    && date.days_in_month() - date.day() < 3
            }),
        ),
        2 => (
            format!("{day}W"),
            Box::new(move |date| {
                // The candidates in order of distance; the first working day of the month has it.
                let Ok(wanted) = Date::new(date.year(), date.month(), day) else { return false };
                let nearest = [0, -1, 1, -2, 2]
                    .map(|days| wanted + days.days())
                    .into_iter()
                    .find(|day| day.month() == date.month() && is_workday(*day));
                nearest == Some(date)
            }),
        ),
        _ => (day.to_string(), Box::new(move |date| date.day() == day)),
    }
}

fn is_workday(date: Date) -> bool {
    !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday)
}

fn week_item(rng: &mut Rng) -> Item {
    const NAMES: [&str; 8] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];
    let number = rng.i8(0..=7);
    let day = if rng.bool() { number.to_string() } else { NAMES[number as usize].to_owned() };
    let is_day = move |date: Date| date.weekday().to_sunday_zero_offset() == number % 7;
    let nth = rng.i8(1..=5);
    match rng.u8(0..4) {
        0 => (format!("{day}#{nth}"), Box::new(move |date| is_day(date) && (date.day() - 1) / 7 + 1 == nth)),
        1 => (
            format!("{day}{}", if rng.bool() { "L" } else { "#L" }),
            Box::new(move |date| is_day(date) && (date + 7.days()).month() != date.month()),
        ),
        _ => (day, Box::new(is_day)),
    }
}

#[test]
fn day_fields_mean_the_days_that_stepping_through_them_finds() {
    let mut rng = Rng::with_seed(7);
    for _ in 0..150 {
        let items =
            |rng: &mut Rng, item: fn(&mut Rng) -> _| (0..rng.usize(0..3)).map(|_| item(rng)).collect::<Vec<_>>();
        let month: Vec<_> = items(&mut rng, day_item);
        let week: Vec<_> = items(&mut rng, week_item);
        let text = |items: &[Item]| match items {
            [] => "?".to_owned(),
            items => items.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(","),
        };
        let text = format!("0 0 {} * {}", text(&month), text(&week));
        let means =
            |date| (month.is_empty() && week.is_empty()) || month.iter().chain(&week).any(|(_, means)| means(date));
        let year = rng.i16(1970..2040);
        let begin = Date::new(year, 1, 1).unwrap();
        let expected: Vec<_> = begin
            .series(1.day())
            .skip(1)
            .take_while(|date| date.year() < year + 3)
            .filter(|date| means(*date))
            .collect();
        let due_times = cron(&text, "UTC").unwrap();
        let instant = |date: Date| TimeZone::UTC.to_timestamp(date.to_datetime(Default::default())).unwrap();
        let until = instant(Date::new(year + 2, 12, 31).unwrap());
        let found = all_between(&due_times, instant(begin), until);
        assert_eq!(found, expected.into_iter().map(instant).collect::<Vec<_>>(), "{text} in {year}");
    }
}

/// Plain texts, without what the two read differently: steps from a single value, and a day field
/// that begins with `*` but is not `*`, which Vixie cron counts as not given.
fn plain_text() -> impl Strategy<Value = String> {
    let field = |low: u8, high: u8| {
        let pair = (low..=high, low..=high).prop_map(|(one, other)| (one.min(other), one.max(other)));
        prop_oneof![
            Just("*".to_owned()),
            (low..=high).prop_map(|value| value.to_string()),
            pair.clone().prop_map(|(first, last)| format!("{first}-{last}")),
            (pair, 1..4_u8).prop_map(|((first, last), step)| format!("{first}-{last}/{step}")),
            prop::collection::vec(low..=high, 2..5)
                .prop_map(|values| { values.iter().map(u8::to_string).collect::<Vec<_>>().join(",") }),
        ]
    };
    (field(0, 59), field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 6)).prop_map(
        |(second, minute, hour, day, month, weekday)| format!("{second} {minute} {hour} {day} {month} {weekday}"),
    )
}

proptest! {
    #[test]
    fn in_utc_croner_finds_the_same(text in plain_text(), second in 0..2_000_000_000_i64) {
        let parser = croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Optional).build();
        let (Ok(due_times), Ok(other)) = (cron(&text, "UTC"), parser.parse(&text)) else {
            prop_assert!(cron(&text, "UTC").is_err(), "only one reads {}", text);
            return Ok(());
        };
        let mut now = Timestamp::from_second(second).unwrap();
        for _ in 0..3 {
            let expected = other.find_next_occurrence(&now.to_zoned(TimeZone::UTC), false).unwrap().timestamp();
            prop_assert_eq!(due_times.next_after(now), Some(expected), "{}", text);
            now = expected;
        }
    }

    #[test]
    fn no_text_and_no_time_panics(text in ".{0,40}", cronish in "[-0-9*/,LW#?@ A-Za-z]{0,30}", nanos: i128) {
        for text in [text, cronish] {
            let _ = cron(&text, &text);
            if let Ok(due_times) = cron(&text, "Africa/Casablanca") {
                let after = Timestamp::from_nanosecond(nanos % Timestamp::MAX.as_nanosecond()).unwrap();
                prop_assert!(due_times.next_after(after).is_none_or(|due| due > after));
            }
        }
    }

    #[test]
    fn faults_point_into_the_text(fields in prop::collection::vec("[-0-9*/,LW#?]{1,4}", 5..=7)) {
        let text = fields.join(" ");
        if let Err(error) = cron(&text, "UTC") && let Some(range) = error.field {
            prop_assert!(fields.iter().any(|field| *field == text[range.clone()]), "{:?} of {}", range, text);
        }
    }
}

#[test]
fn the_ends_of_time_are_no_trouble() {
    for text in ["* * * * *", "30 2 * * *", "0 0 29 2 *", "* * * * * ? 2030"] {
        let due_times = cron(text, "Europe/Berlin").unwrap();
        assert!(due_times.next_after(Timestamp::MIN).is_some(), "{text}");
        assert_eq!(due_times.next_after(Timestamp::MAX), None, "{text}");
    }
}
