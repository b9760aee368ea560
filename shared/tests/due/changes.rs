//! What changes of clocks do to a schedule.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use reveille_shared::definition::{Dst, Fold, Gap, Timing};
use reveille_shared::due::{ClockEffect, DueTimes};

use super::{cron, utc};

fn due_times(text: &str, zone: &str, gap: Option<Gap>, fold: Option<Fold>) -> DueTimes {
    DueTimes::new(&Timing::Cron(text.to_owned()), zone, Dst { gap, fold }).unwrap()
}

#[test]
fn a_year_in_words() {
    let cases = [
        ("30 2 * * *", "Europe/Berlin", None, None),
        ("30 2 * * *", "Europe/Berlin", Some(Gap::Skip), Some(Fold::Second)),
        ("0,30 2 * * *", "Europe/Berlin", None, Some(Fold::Both)),
        ("*/30 2 * * *", "Europe/Berlin", None, None),
        ("* 2 * * *", "Europe/Berlin", Some(Gap::RunAfter), Some(Fold::First)),
        ("* 1-3 * 3,10 SUN", "Europe/Berlin", None, None),
        ("0 9 * * *", "Europe/Berlin", None, None),
        ("30 2 * * MON-FRI", "Europe/Berlin", None, None),
        ("0 0 * * *", "Africa/Cairo", None, None),
        ("30 2 * * *", "Asia/Tokyo", None, None),
        ("0 * * * *", "Europe/Berlin", None, None),
        ("0,30 0-23 * * *", "Europe/Berlin", None, None),
    ];
    let said = cases.map(|(text, zone, gap, fold)| {
        let changes =
            due_times(text, zone, gap, fold).clock_changes(utc("2026-01-01T00:00"), utc("2027-01-01T00:00"), 10);
        let words: Vec<_> = changes.iter().map(|change| format!("  {}\n", change.words)).collect();
        let declared = format!("{gap:?} {fold:?}").replace("Some(", "").replace(')', "");
        format!("{text} in {zone} with {declared}\n{}", words.concat())
    });
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn a_change_in_data() {
    let changes = due_times("30 2 * * *", "Europe/Berlin", None, Some(Fold::Both)).clock_changes(
        utc("2026-01-01T00:00"),
        utc("2027-01-01T00:00"),
        10,
    );
    insta::assert_snapshot!(serde_json::to_string_pretty(&changes).unwrap());
    let apia = cron("0 9 * * *", "Pacific/Apia").unwrap();
    let changes = apia.clock_changes(utc("2011-12-01T00:00"), utc("2012-01-01T00:00"), 10);
    assert_eq!(
        changes[0].words,
        "Saturday, 31 December 2011: clocks skip from 2011-12-30 00:00 to 2011-12-31 00:00; \
         2011-12-30 09:00 is due at 2011-12-31 00:00"
    );
}

#[test]
fn the_range_and_the_limit_are_kept() {
    let nightly = cron("30 2 * * *", "Europe/Berlin").unwrap();
    let (spring, autumn) = (utc("2026-03-29T01:00"), utc("2026-10-25T01:00"));
    let found = |from, until, limit| -> Vec<Timestamp> {
        nightly.clock_changes(from, until, limit).iter().map(|change| change.at).collect()
    };
    let second = jiff::SignedDuration::from_secs(1);
    assert_eq!(found(spring - second, autumn, 10), [spring, autumn]);
    assert_eq!(found(spring, autumn, 10), [autumn]);
    assert_eq!(found(spring - second, autumn - second, 10), [spring]);
    assert_eq!(found(spring - second, autumn, 1), [spring]);
    assert_eq!(found(spring - second, autumn, 0), []);
    assert_eq!(found(autumn, spring, 10), []);
    let every = DueTimes::new(&Timing::Every("1h".parse().unwrap()), "Europe/Berlin", Dst::default()).unwrap();
    assert_eq!(every.clock_changes(spring - second, autumn, 10), []);
}

/// Each effect tells the truth about the due times next to the change.
#[test]
fn effects_are_what_is_due() {
    let zones = ["Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca", "Antarctica/Troll"];
    for zone in zones {
        let tz = TimeZone::get(zone).unwrap();
        for gap in [Gap::RunAfter, Gap::Skip] {
            for fold in [Fold::First, Fold::Second, Fold::Both] {
                let due_times = due_times("10,40 0-3 * * *", zone, Some(gap), Some(fold));
                let in_gap = |local: DateTime| tz.to_datetime(tz.to_timestamp(local).unwrap()) != local;
                let is_due = |at| due_times.why_not(at).is_none();
                let mut effects = 0;
                for change in due_times.clock_changes(utc("2018-01-01T00:00"), utc("2024-01-01T00:00"), 100) {
                    let text = format!("{} in {zone} with {gap:?} and {fold:?}", change.words);
                    for effect in &change.effects {
                        effects += 1;
                        match effect {
                            ClockEffect::Moved { local, to } => {
                                assert!(gap == Gap::RunAfter && *to == change.at && is_due(*to), "{text}");
                                assert!(in_gap(*local), "{text}");
                            }
                            ClockEffect::Dropped { local } => {
                                assert!(gap == Gap::Skip && in_gap(*local), "{text}");
                            }
                            ClockEffect::Once { local, at } => {
                                let ambiguous = tz.to_ambiguous_timestamp(*local);
                                let (due, not) = match fold {
                                    Fold::First => (ambiguous.earlier(), ambiguous.later()),
                                    _ => (ambiguous.later(), ambiguous.earlier()),
                                };
                                assert!(due.unwrap() == *at && is_due(*at) && !is_due(not.unwrap()), "{text}");
                            }
                            ClockEffect::Repeated { local, times } => {
                                let ambiguous = tz.to_ambiguous_timestamp(*local);
                                let passes = [ambiguous.earlier().unwrap(), ambiguous.later().unwrap()];
                                assert!(fold == Fold::Both && *times == passes, "{text}");
                                assert!(times.iter().all(|at| is_due(*at)), "{text}");
                            }
                            ClockEffect::Many { .. } => panic!("{text}"),
                        }
                    }
                }
                assert!(effects >= 10, "{effects} in {zone}");
            }
        }
    }
}
