//! Why a schedule is not due at an instant.

use jiff::{SignedDuration, Timestamp};
use reveille_shared::definition::{Dst, Fold, Gap, Timing};
use reveille_shared::due::DueTimes;

use super::{cron, utc};

fn why(text: &str, zone: &str, at: &str) -> String {
    cron(text, zone).unwrap().why_not(utc(at)).unwrap_or_else(|| "due".to_owned())
}

#[test]
fn a_reason_names_the_widest_field_that_does_not_match() {
    let cases = [
        ("0 2 * * *", "Europe/Berlin", "2026-07-30T07:15"),
        ("0 2 * * *", "Europe/Berlin", "2026-07-30T00:00"),
        ("30 * * * *", "UTC", "2026-07-30T07:15"),
        ("*/30 * * * *", "UTC", "2026-07-30T07:15:20"),
        ("*/30 * * * * *", "UTC", "2026-07-30T07:15:20"),
        ("* * * * * *", "UTC", "2026-07-30T07:15:20.25"),
        ("0 9 * * MON-FRI", "Europe/Berlin", "2026-08-01T07:00"),
        ("0 9 * * FRI#2", "Europe/Berlin", "2026-07-31T07:00"),
        ("0 9 * * FRIL", "Europe/Berlin", "2026-07-30T07:00"),
        ("0 9 LW * *", "Europe/Berlin", "2026-07-30T07:00"),
        ("0 9 13 * FRI", "Europe/Berlin", "2026-07-30T07:00"),
        ("0 9 13 * FRI", "Europe/Berlin", "2026-07-31T07:00"),
        ("0 9 */2 * FRI", "Europe/Berlin", "2026-07-30T07:00"),
        ("0 9 * feb *", "Europe/Berlin", "2026-07-30T07:00"),
        ("0 0 9 * * ? 2030-2032", "Europe/Berlin", "2026-07-30T07:00"),
        ("@daily", "America/New_York", "2026-07-30T07:00"),
        ("@weekly", "America/New_York", "2026-07-30T04:00"),
    ];
    let said: Vec<_> = cases.map(|(text, zone, at)| format!("{text} at {at}Z\n  {}\n", why(text, zone, at))).into();
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn clock_changes_are_named() {
    let why = |text: &str, gap, fold, at| {
        let timing = Timing::Cron(text.to_owned());
        let due_times = DueTimes::new(&timing, "Europe/Berlin", Dst { gap, fold }).unwrap();
        due_times.why_not(utc(at)).unwrap_or_else(|| "due".to_owned())
    };
    let asked = [
        ("30 2 * * *", None, None, "2026-03-29T01:30"),
        ("30 2 * * *", None, None, "2026-03-29T01:00"),
        ("30 2 * * *", Some(Gap::Skip), None, "2026-03-29T01:30"),
        ("30 2 * * *", None, None, "2026-03-29T01:20"),
        ("*/15 2 * * *", None, None, "2026-03-29T01:15"),
        ("30 2 * * *", None, None, "2026-10-25T00:30"),
        ("30 2 * * *", None, None, "2026-10-25T01:30"),
        ("30 2 * * *", None, Some(Fold::Second), "2026-10-25T00:30"),
        ("30 2 * * *", None, Some(Fold::Second), "2026-10-25T01:30"),
        ("30 2 * * *", None, Some(Fold::Both), "2026-10-25T01:30"),
    ];
    let said = asked.map(|(text, gap, fold, at)| {
        let declared = format!("{gap:?} {fold:?}").replace("Some(", "").replace(')', "");
        format!("{text} with {declared} at {at}Z\n  {}\n", why(text, gap, fold, at))
    });
    insta::assert_snapshot!(said.join("\n"));
    assert_eq!(
        cron("0 9 * * *", "Pacific/Apia").unwrap().why_not(utc("2011-12-30T19:00")).as_deref(),
        None,
        "the 31st has its own call"
    );
    assert_eq!(
        cron("0 9 30 * *", "Pacific/Apia").unwrap().why_not(utc("2011-12-30T19:00")).as_deref(),
        Some(
            "local time 2011-12-30 09:00 does not exist: clocks skip from 2011-12-30 00:00 to 2011-12-31 00:00; \
             it is due at 2011-12-31 00:00"
        )
    );
}

#[test]
fn intervals_and_single_times_name_their_due_times() {
    let why = |timing, at| DueTimes::new(&timing, "Europe/Berlin", Dst::default()).unwrap().why_not(utc(at));
    let every = || Timing::Every("30s".parse().unwrap());
    assert_eq!(why(every(), "2026-07-30T07:15:30"), None);
    let between = why(every(), "2026-07-30T07:15:20").unwrap();
    assert_eq!(
        between,
        "it is due every 30s, counted from 1970: at 2026-07-30T07:15:00Z and then at 2026-07-30T07:15:30Z"
    );
    let at = || Timing::At(utc("2026-12-31T22:59"));
    assert_eq!(why(at(), "2026-12-31T22:59"), None);
    assert_eq!(why(at(), "2026-12-31T23:00").unwrap(), "it is due once, at 2026-12-31T22:59:00Z");
}

#[test]
fn there_is_a_reason_exactly_when_it_is_not_due() {
    let mut rng = fastrand::Rng::with_seed(11);
    for text in ["*/7 * * * *", "30 2 * * *", "0 0-5 29 * SUN", "15 30 2 L * FRI#1", "* 2 25 10 ?"] {
        for gap in [Gap::RunAfter, Gap::Skip] {
            for fold in [Fold::First, Fold::Second, Fold::Both] {
                let timing = Timing::Cron(text.to_owned());
                let due_times =
                    DueTimes::new(&timing, "Europe/Berlin", Dst { gap: Some(gap), fold: Some(fold) }).unwrap();
                for change in [utc("2026-03-29T01:00"), utc("2026-10-25T01:00")] {
                    for _ in 0..200 {
                        let at = change + SignedDuration::from_secs(60 * rng.i64(-300..300));
                        let due = due_times.between(at - SignedDuration::from_secs(1), at).last() == Some(at);
                        assert_eq!(due_times.why_not(at).is_none(), due, "{text} {gap:?} {fold:?} at {at}");
                    }
                }
            }
        }
    }
    for at in [Timestamp::MIN, Timestamp::MAX] {
        for timing in [Timing::Cron("* * * * *".to_owned()), Timing::Every("30s".parse().unwrap())] {
            let due_times = DueTimes::new(&timing, "Europe/Berlin", Dst::default()).unwrap();
            assert!(due_times.why_not(at).is_some(), "{timing:?} at {at}");
        }
    }
}
