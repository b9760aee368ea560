//! The keys of a schedule: when, how often, on which days.

use reveille_shared::definition::*;

use super::{faults, read, report};

fn file(schedules: &str) -> String {
    format!("version: 1\njobs: {{ a: {{ function: f }} }}\nschedules:\n{schedules}")
}

#[test]
fn a_schedule_with_everything() {
    let text = file(
        r"
  nightly:
    cron: '30 2 * * *'
    timezone: Europe/Berlin
    dst: { gap: skip, fold: second }
    trigger: a
    overlap: { policy: queue_all, max: 20, count_manual: true }
    catch_up: { policy: all, window: 6h, max: 50 }
    jitter: 30s
    starts_at: 2026-01-01T00:00:00+01:00
    ends_at: 2027-01-01T00:00:00+01:00
    max_fires: 1000
    except: [2026-12-24/2026-12-26, 2026-05-01, SUN]
    only: [mon-sat, holidays]
    pause_after_failures: 3
  short:
    every: 1h
    timezone: America/New_York
    trigger: a
    overlap: cancel_running
    catch_up: { policy: all }
    dst_free: true
    only: [FRI-MON]
  once: { at: 2026-12-31T23:59:00+01:00, timezone: Europe/Berlin, trigger: a, overlap: { count_manual: true }, except: [SAT] }
calendars:
  holidays: [2026-10-03, 2026-12-25/2026-12-26, SUN]
",
    )
    .replace("    dst_free: true\n", "");
    insta::assert_json_snapshot!(read(&text).unwrap().schedules);
}

#[test]
fn the_short_forms_are_the_long_ones_with_defaults() {
    let one = |lines: &str| {
        let text = file(&format!("  s: {{ cron: '0 0 * * *', trigger: a, {lines} }}\n"));
        read(&text).unwrap_or_else(|faults| panic!("{faults}")).schedules.remove(0)
    };
    for (short, long) in [
        ("overlap: queue_all", "overlap: { policy: queue_all, max: 100, count_manual: false }"),
        ("overlap: {}", "overlap: skip"),
        ("overlap: { policy: allow }", "overlap: allow"),
        ("catch_up: all", "catch_up: { policy: all, window: 1h, max: 100 }"),
        ("dst: {}", "timezone: UTC"),
        ("except: [sat]", "except: [SAT-SAT]"),
        ("except: [2026-01-01]", "except: [2026-01-01/2026-01-01]"),
    ] {
        assert_eq!(one(short), one(long), "{short}");
    }
    let plain = Schedule::new("default", "s", Timing::Cron("0 0 * * *".into()), "a");
    assert_eq!(one("description: d"), Schedule { description: Some("d".into()), ..plain });
}

#[test]
fn each_fault_of_a_schedule() {
    let once = "at: 2026-12-25T12:00:00Z, trigger: a";
    let hourly = "cron: '0 * * * *', trigger: a";
    let often = "every: 5s, trigger: a";
    let cases = [
        ("needless keys", format!("{often}, timezone: Europe/Berlin, dst: {{ gap: skip }}")),
        ("a bad word of dst", format!("{hourly}, dst: {{ gap: run, fold: last, fald: both }}")),
        ("a word in place of a map", format!("{hourly}, dst: skip")),
        ("max without its policy", format!("{hourly}, overlap: {{ policy: skip, max: 5 }}, catch_up: {{ max: 5 }}")),
        ("count_manual without effect", format!("{hourly}, overlap: {{ policy: allow, count_manual: true }}")),
        ("count_manual as a text", format!("{hourly}, overlap: {{ count_manual: 'true' }}")),
        (
            "limits",
            format!(
                "{hourly}, overlap: {{ policy: queue_all, max: 10001 }}, catch_up: {{ policy: all, max: 0 }}, max_fires: 0, pause_after_failures: 0"
            ),
        ),
        ("an unknown policy", format!("{hourly}, overlap: queue, catch_up: {{ policy: some }}")),
        ("a long jitter", format!("{hourly}, jitter: 61m")),
        ("a jitter as long as the interval", format!("{often}, jitter: 5s")),
        ("no jitter", format!("{often}, jitter: 0s")),
        (
            "the end before the start",
            format!("{hourly}, starts_at: 2026-02-01T00:00:00Z, ends_at: 2026-01-01T00:00:00Z"),
        ),
        (
            "the end at the start",
            format!("{hourly}, starts_at: 2026-02-01T00:00:00Z, ends_at: 2026-02-01T01:00:00+01:00"),
        ),
        ("a start without an offset", format!("{hourly}, starts_at: 2026-02-01")),
        ("once, too early", format!("{once}, starts_at: 2026-12-26T00:00:00Z")),
        ("once, too late", format!("{once}, ends_at: 2026-12-24T00:00:00Z")),
        ("once, and so often", format!("{once}, max_fires: 1")),
        ("once, on an excluded day", format!("{once}, except: [2026-12-25]")),
        ("once, on an excluded day of its zone", format!("{once}, timezone: Pacific/Kiritimati, except: [2026-12-26]")),
        ("once, on no day that is left", format!("{once}, only: [SAT, 2026-12-24]")),
        ("no day is left", format!("{hourly}, except: [MON-FRI, SAT, SUN]")),
        ("no day is left of a few", format!("{hourly}, only: [SAT, 2026-12-27], except: [sat-sun]")),
        (
            "not days",
            format!(
                "{hourly}, except: [2026-02-30, 2026-12-26/2026-12-24, 24.12.2026, Saturday, MON/FRI, 2026-12-24/x, My Days, 20261224, [SAT]], only: []"
            ),
        ),
        ("a day without a list", format!("{hourly}, except: SAT")),
        ("calendars in the wrong place", format!("{hourly}, calendar: holidays")),
        ("calendars in the wrong place, too", format!("{hourly}, calendars: [holidays]")),
    ];
    let cases = cases.map(|(title, keys)| (title, file(&format!("  s: {{ {keys} }}\n"))));
    insta::assert_snapshot!(report(&cases.each_ref().map(|(title, text)| (*title, text.as_str()))));
}

#[test]
fn what_can_be_due_is_no_fault() {
    for keys in [
        "cron: '0 * * * *', trigger: a, except: [MON-SAT]",
        "cron: '0 * * * *', trigger: a, only: [SAT], except: [2026-12-26]",
        "every: 5s, trigger: a, jitter: 4999ms",
        "every: 1d, trigger: a, jitter: 1h, timezone: Europe/Berlin, except: [SUN]",
        "at: 2026-12-25T12:00:00Z, trigger: a, starts_at: 2026-12-25T12:00:00Z, ends_at: 2026-12-25T12:00:01Z",
        "at: 2026-12-25T12:00:00Z, trigger: a, only: [FRI], except: [2026-12-26]",
        "cron: '0 * * * *', trigger: a, max_fires: 9223372036854775807, ends_at: 2030-01-01T00:00:00Z",
    ] {
        read(&file(&format!("  s: {{ {keys} }}\n"))).unwrap_or_else(|faults| panic!("{faults}"));
    }
    let day = "at: 2026-12-25T23:30:00Z, trigger: a, except: [2026-12-25]";
    assert_eq!(faults(&file(&format!("  s: {{ {day} }}\n"))).len(), 1);
    let elsewhere = format!("{day}, timezone: Europe/Berlin");
    assert!(read(&file(&format!("  s: {{ {elsewhere} }}\n"))).is_ok(), "it is the 26th there");
}
