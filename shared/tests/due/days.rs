//! Days that `except`, `only` and calendars exclude.

use jiff::civil::{Date, Weekday, date};
use jiff::{Timestamp, ToSpan};
use reveille_shared::definition::{Day, DayRule, Dst, Schedule, Timing};
use reveille_shared::due::{DueTimes, exclusion};

use super::utc;

const DAYS: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

fn dates(from: Date, to: Date) -> DayRule {
    DayRule::Dates { from, to }
}

fn weekdays(from: Day, to: Day) -> DayRule {
    DayRule::Weekdays { from, to }
}

fn holidays() -> DayRule {
    let (new_year, christmas) = (date(2026, 1, 1), date(2026, 12, 25));
    let days = [dates(new_year, new_year), dates(christmas, date(2026, 12, 26)), weekdays(Day::Sun, Day::Sun)];
    DayRule::Calendar { name: "de-holidays".to_owned(), days: days.into() }
}

fn schedule(zone: &str, except: Vec<DayRule>, only: Vec<DayRule>) -> Schedule {
    let timing = Timing::Cron("0 9 * * *".to_owned());
    Schedule { timezone: zone.to_owned(), except, only, ..Schedule::new("default", "s", timing, "job") }
}

fn excluded(schedule: &Schedule, due_at: Timestamp) -> Option<String> {
    exclusion(schedule, DueTimes::of(schedule).unwrap().zone(), due_at)
}

#[track_caller]
fn expect(schedule: &Schedule, due_at: &str, expected: Option<&str>) {
    assert_eq!(excluded(schedule, utc(due_at)).as_deref(), expected, "{due_at}");
}

#[test]
fn a_rule_is_named_as_it_is_written() {
    let except = schedule(
        "UTC",
        vec![
            dates(date(2026, 12, 24), date(2026, 12, 26)),
            dates(date(2026, 5, 1), date(2026, 5, 1)),
            weekdays(Day::Sat, Day::Sat),
            holidays(),
        ],
        vec![],
    );
    expect(&except, "2026-12-23T23:59:59", None);
    expect(&except, "2026-12-24T00:00", Some("except 2026-12-24/2026-12-26"));
    expect(&except, "2026-12-26T23:59:59", Some("except 2026-12-24/2026-12-26"));
    expect(&except, "2026-12-27T00:00", Some("except de-holidays (SUN)"));
    expect(&except, "2026-05-01T09:00", Some("except 2026-05-01"));
    expect(&except, "2026-05-02T09:00", Some("except SAT"));
    expect(&except, "2026-01-01T09:00", Some("except de-holidays (2026-01-01)"));
    let except = schedule("UTC", vec![holidays()], vec![]);
    expect(&except, "2026-12-25T09:00", Some("except de-holidays (2026-12-25/2026-12-26)"));

    let only = schedule("UTC", vec![], vec![weekdays(Day::Mon, Day::Fri), holidays()]);
    expect(&only, "2026-07-31T09:00", None);
    expect(&only, "2026-12-26T09:00", None);
    expect(&only, "2026-08-01T09:00", Some("not in only MON-FRI, de-holidays"));
    let many = (1..=8).map(|day| dates(date(2026, 1, day), date(2026, 1, day))).collect();
    let listed = "not in only 2026-01-01, 2026-01-02, 2026-01-03, 2026-01-04, 2026-01-05 and 3 more";
    expect(&schedule("UTC", vec![], many), "2026-08-01T09:00", Some(listed));

    let both = schedule("UTC", vec![weekdays(Day::Wed, Day::Wed)], vec![weekdays(Day::Mon, Day::Fri)]);
    expect(&both, "2026-07-29T09:00", Some("except WED"));
    expect(&both, "2026-07-30T09:00", None);
    expect(&both, "2026-08-01T09:00", Some("not in only MON-FRI"));
    expect(&schedule("UTC", vec![], vec![]), "2026-07-29T09:00", None);
}

#[test]
fn the_day_is_that_of_the_local_calendar() {
    let friday = |zone| schedule(zone, vec![weekdays(Day::Fri, Day::Fri)], vec![]);
    expect(&friday("UTC"), "2026-07-31T02:00", Some("except FRI"));
    expect(&friday("America/New_York"), "2026-07-31T02:00", None);
    expect(&friday("America/New_York"), "2026-08-01T02:00", Some("except FRI"));
    expect(&friday("Asia/Tokyo"), "2026-07-30T15:00", Some("except FRI"));
    // Friday, 30 December 2011 was left out; its call is due on Saturday.
    let apia = friday("Pacific/Apia");
    let due = DueTimes::of(&apia).unwrap().next_after(utc("2011-12-30T09:00"));
    assert_eq!(due, Some(utc("2011-12-30T10:00")));
    assert_eq!(excluded(&apia, due.unwrap()), None);
    // An interval has a zone for this, too.
    let ping = Schedule { timing: Timing::Every("1h".parse().unwrap()), ..friday("America/New_York") };
    expect(&ping, "2026-08-01T02:00", Some("except FRI"));
    assert_eq!(
        DueTimes::new(&ping.timing, "Asia/Tokyo", Dst::default()).unwrap().zone().iana_name(),
        Some("Asia/Tokyo")
    );
}

#[test]
fn every_range_of_weekdays_is_walked_from_its_first_day_to_its_last() {
    for (first, from) in DAYS.into_iter().enumerate() {
        for (length, to) in (0..7).map(|length| (length, DAYS[(first + length) % 7])) {
            let except = schedule("UTC", vec![weekdays(from, to)], vec![]);
            let only = schedule("UTC", vec![], vec![weekdays(from, to)]);
            let monday = date(2026, 7, 27);
            assert_eq!(monday.weekday(), Weekday::Monday);
            for day in 0..7 {
                let due_at = (monday + day.days()).in_tz("UTC").unwrap().timestamp();
                let within = (usize::try_from(day).unwrap() + 7 - first) % 7 <= length;
                assert_eq!(excluded(&except, due_at).is_some(), within, "{from:?}-{to:?} on {due_at}");
                assert_eq!(excluded(&only, due_at).is_none(), within, "{from:?}-{to:?} on {due_at}");
            }
        }
    }
}
