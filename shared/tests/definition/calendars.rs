//! Calendars: defined in one file, named in another.

use reveille_shared::definition::{DayRule, read_part, read_path};

use super::{faults, read, read_named};

const DAYS: &str = "version: 1\ncalendars:\n  holidays: [2026-12-25, 2026-12-26/2026-12-27]\n  weekends: [SAT-SUN]\n";

fn user(days: &str) -> String {
    format!(
        "version: 1\njobs: {{ a: {{ function: f }} }}\nschedules:\n  s: {{ every: 5s, trigger: a, except: {days} }}\n"
    )
}

#[test]
fn a_schedule_is_given_the_days_of_the_calendars_that_it_names() {
    let definitions = read_named([("a", &user("[holidays, MON, weekends]")), ("b", DAYS)]).unwrap();
    insta::assert_json_snapshot!(definitions.schedules[0].except);
    let changed = read_named([("a", &user("[holidays, MON, weekends]")), ("b", &DAYS.replace("25", "24"))]).unwrap();
    assert_ne!(definitions.digest(), changed.digest(), "a changed calendar is a changed schedule");
    let unused = read(DAYS).unwrap();
    assert!(unused.schedules.is_empty() && unused.jobs.is_empty(), "nobody has to use a calendar");
    assert!(read("version: 1\ncalendars:\n").is_ok());
}

#[test]
fn namespaces_have_calendars_of_their_own() {
    let other = "version: 1\nnamespace: other\ncalendars: { holidays: [2026-01-01] }\n";
    let definitions = read_named([("a", &user("[holidays]")), ("b", DAYS), ("c", other)]).unwrap();
    let DayRule::Calendar { days, .. } = &definitions.schedules[0].except[0] else { panic!("no calendar") };
    assert_eq!(days.len(), 2);
    assert!(read_named([("a", &user("[holidays]")), ("c", other)]).is_err());
}

#[test]
fn each_fault_of_calendars() {
    let twice = "version: 1\ncalendars: { holidays: [2026-01-01] }\n";
    let named = read_named([
        ("a.yaml", &user("[holydays, weekend, STA, nothing]")),
        ("b.yaml", DAYS),
        ("c.yaml", twice),
        ("d.yaml", "version: 1\nnamespace: other\nschedules: { s: { every: 1m, trigger: x, only: [holidays] } }\n"),
    ]);
    let own = faults(
        r"
version: 1
calendar: { x: [SAT] }
calendars:
  sat: [SAT]
  mon-fri: [MON-FRI]
  2026-12-24: [2026-12-24]
  Holidays: [2026-12-24]
  empty: []
  nothing:
  word: SAT
  nested: [empty, [SAT], 5, 2026-02-29, SAT-2026]
",
    );
    insta::assert_snapshot!(format!("{}\n\n──\n{own}", named.unwrap_err()));
}

#[test]
fn a_day_that_a_calendar_excludes_is_told_where_the_time_stands() {
    let once = |keys: &str| {
        let head = "version: 1\njobs: { a: { function: f } }\nschedules:\n";
        format!("{head}  s: {{ at: 2026-12-26T23:30:00Z, trigger: a, {keys} }}\n")
    };
    let told = |keys: &str| read_named([("a", once(keys).as_str()), ("b", DAYS)]).map_err(|faults| faults.to_string());
    let excluded = told("except: [2026-01-01, holidays]").unwrap_err();
    assert!(excluded.starts_with("a:4:12: this time is on 2026-12-26, a day that `except` rules out"), "{excluded}");
    assert!(told("only: [MON, holidays]").is_ok());
    assert!(told("only: [weekends], except: [2026-12-27]").is_ok());
    assert!(told("only: [MON, holidays], timezone: Pacific/Kiritimati").is_ok(), "it is the 27th there");
    let left = told("only: [MON, weekends], except: [weekends]").unwrap_err();
    assert!(left.contains("`except` rules out"), "{left}");
}

#[test]
fn a_calendar_in_a_file_that_can_not_be_read_is_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), user("[holidays]")).unwrap();
    std::fs::write(folder.path().join("b.yaml"), b"version: 1\ncalendars: { \xff }\n").unwrap();
    let faults = read_path(folder.path()).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults}");
}

#[test]
fn a_part_may_leave_out_jobs_but_not_the_days_of_a_calendar() {
    let part = |texts: &[&str]| {
        let named: Vec<_> = texts.iter().enumerate().map(|(n, text)| (n.to_string(), (*text).to_owned())).collect();
        read_part(&named)
    };
    let text = "version: 1\nschedules: { s: { every: 5s, trigger: elsewhere, except: [holidays] } }\n";
    assert_eq!(part(&[text, DAYS]).unwrap().schedules.len(), 1);
    let told = part(&[text]).unwrap_err();
    assert!(told.len() == 1 && told.to_string().contains("there is no calendar `holidays`"), "{told}");
}
