//! `docs/time.md`: what its tables say is what is due.

use jiff::civil::{Date, DateTime, Time, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan, Zoned};
use reveille_shared::definition::{Day, DayRule, Dst, Fold, Gap, Schedule, Timing};
use reveille_shared::due::{DueTimes, exclusion};

use super::{all_between, cron, utc};

const PAGE: &str = include_str!("../../../docs/time.md");

/// The cells of each row of the table whose first line begins with `head`.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let rest = &PAGE[PAGE.find(head).unwrap_or_else(|| panic!("no table {head}"))..];
    let rows = rest.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect();
    rows.map(cells).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn gap(word: &str) -> Gap {
    serde_json::from_str(&format!("{word:?}")).unwrap()
}

fn fold(word: &str) -> Fold {
    serde_json::from_str(&format!("{word:?}")).unwrap()
}

/// Reads `29 March 2026, 02:00 → 03:00`, of a day on which clocks change like that.
fn day_of_change(cell: &str, zone: &TimeZone) -> Date {
    let (day, times) = cell.split_once(", ").unwrap();
    let day = Date::strptime("%d %B %Y", day).unwrap();
    let noon = day.at(12, 0, 0, 0).to_zoned(zone.clone()).unwrap().timestamp();
    let at = zone.preceding(noon).next().unwrap().timestamp();
    let offset = zone.to_offset(at - SignedDuration::from_secs(1));
    let (expected, shown) = (offset.to_datetime(at), zone.to_datetime(at));
    assert_eq!(format!("{} → {}", expected.strftime("%H:%M"), shown.strftime("%H:%M")), times, "{cell}");
    assert_eq!(shown.date(), day, "{cell}");
    day
}

/// All due times of a local day, as local times with their offsets.
fn due_on(text: &str, zone: &TimeZone, dst: Dst, day: Date) -> String {
    let name = zone.iana_name().unwrap();
    let due_times = DueTimes::new(&Timing::Cron(text.to_owned()), name, dst).unwrap();
    let instant = |day: Date| day.to_datetime(Time::midnight()).to_zoned(zone.clone()).unwrap().timestamp();
    let (begin, end) = (instant(day) - SignedDuration::from_hours(3), instant(day + 1.day()));
    let local = all_between(&due_times, begin, end).into_iter().map(|due| due.to_zoned(zone.clone()));
    let shown: Vec<_> = local.filter(|due| due.date() == day).map(time_and_offset).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

fn time_and_offset(due: Zoned) -> String {
    assert_eq!(due.second(), 0);
    due.strftime("%H:%M %:z").to_string()
}

#[test]
fn rows_of_cron_forms() {
    let rows = table("| cron | means |");
    assert!(rows.len() >= 19, "{} rows", rows.len());
    for row in rows {
        let times: Vec<_> =
            row[2].split(", ").map(|time| utc(&time.parse::<DateTime>().unwrap().to_string())).collect();
        for text in quoted(row[0]) {
            let due_times = cron(text, "UTC").unwrap();
            let found: Vec<_> =
                due_times.between(utc("2026-07-30T12:00"), utc("2050-01-01T00:00")).take(times.len()).collect();
            assert_eq!(found, times, "{row:?}");
        }
        if row[0].contains('@') {
            let written_out = cron(quoted(row[1]).next().unwrap(), "UTC").unwrap();
            assert_eq!(written_out.next_after(utc("2026-07-30T12:00")), Some(times[0]), "{row:?}");
        }
    }
}

#[test]
fn rows_of_declared_rules() {
    let head = "| `gap` | `fold` |";
    let days: Vec<_> = PAGE.lines().find(|line| line.starts_with(head)).unwrap().split('|').map(str::trim).collect();
    let rows = table(head);
    assert_eq!(rows.len(), 6);
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    for row in rows {
        let word = |cell: &'static str| quoted(cell).next().unwrap();
        let dst = Dst { gap: Some(gap(word(row[0]))), fold: Some(fold(word(row[1]))) };
        for (day, due) in [(days[3], row[2]), (days[4], row[3])] {
            assert_eq!(due_on("30 2 * * *", &zone, dst, day_of_change(day, &zone)), due, "{row:?}");
        }
    }
}

#[test]
fn rows_of_clock_changes() {
    let rows = table("| cron | dst | zone |");
    assert!(rows.len() >= 16, "{} rows", rows.len());
    for row in rows {
        let zone = TimeZone::get(row[2]).unwrap();
        let mut dst = Dst::default();
        if let Some(declared) = quoted(row[1]).next() {
            let (half, word) = declared.trim_matches(['{', '}', ' ']).split_once(": ").unwrap();
            match half {
                "gap" => dst.gap = Some(gap(word)),
                "fold" => dst.fold = Some(fold(word)),
                _ => panic!("{row:?}"),
            }
        }
        let due = due_on(quoted(row[0]).next().unwrap(), &zone, dst, day_of_change(row[3], &zone));
        match row[4].strip_prefix("…, ").and_then(|rest| rest.strip_suffix(", …")) {
            Some(part) => assert!(due.contains(part), "{row:?}: {due}"),
            None => assert_eq!(due, row[4], "{row:?}"),
        }
    }
}

#[test]
fn days_that_rules_exclude() {
    let dates = |from, to| DayRule::Dates { from, to };
    let one = |day| dates(day, day);
    let days = [dates(date(2026, 12, 25), date(2026, 12, 26)), one(date(2027, 1, 1))].into();
    let schedule = Schedule {
        timezone: "Europe/Berlin".to_owned(),
        except: vec![one(date(2026, 12, 24)), DayRule::Calendar { name: "de-holidays".to_owned(), days }],
        only: vec![DayRule::Weekdays { from: Day::Mon, to: Day::Fri }],
        ..Schedule::new("default", "nightly", Timing::Cron("0 2 * * *".to_owned()), "job")
    };
    let due_times = DueTimes::of(&schedule).unwrap();
    let lines: Vec<_> = PAGE.lines().filter(|line| line.get(3..5) == Some(", ") && line.contains(" 202")).collect();
    assert_eq!(lines.len(), 7);
    for line in lines {
        let (day, said) = line.split_once("   ").unwrap();
        let day = Date::strptime("%a, %d %B %Y", day).unwrap();
        let due_at = day.at(2, 0, 0, 0).to_zoned(due_times.zone().clone()).unwrap().timestamp();
        assert!(due_times.why_not(due_at).is_none(), "{line}");
        let reason = exclusion(&schedule, due_times.zone(), due_at).unwrap_or_else(|| "due".to_owned());
        assert_eq!(reason, said.trim(), "{line}");
    }
}
