//! First, last and number of due times in a range, against a count of each.

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use reveille_shared::definition::{Dst, Fold, Gap, Timing};
use reveille_shared::due::{DueTimes, Stretch};
use reveille_shared::duration::HumanDuration;

use super::{cron, utc};

/// What visiting each due time finds.
fn counted(due_times: &DueTimes, after: Timestamp, until: Timestamp) -> Option<Stretch> {
    due_times.between(after, until).fold(None, |known: Option<Stretch>, due| {
        let Stretch { first, count, .. } = known.unwrap_or(Stretch { first: due, last: due, count: 0 });
        Some(Stretch { first, last: due, count: count + 1 })
    })
}

fn sum(one: Option<Stretch>, next: Option<Stretch>) -> Option<Stretch> {
    let (Some(one), Some(next)) = (one, next) else { return one.or(next) };
    Some(Stretch { first: one.first, last: next.last, count: one.count + next.count })
}

fn any_timing() -> impl Strategy<Value = Timing> {
    let field = |low: u8, high: u8| {
        prop_oneof![
            3 => Just("*".to_owned()),
            1 => (2..5_u8).prop_map(|step| format!("*/{step}")),
            3 => (low..=high).prop_map(|value| value.to_string()),
            1 => (low..=high, low..=high).prop_map(|(one, other)| format!("{one},{other}")),
        ]
    };
    let month_day = prop_oneof![6 => field(1, 31), 1 => Just("L".to_owned()), 1 => Just("15W,LW".to_owned())];
    let week_day = prop_oneof![6 => field(0, 7), 1 => Just("FRIL".to_owned()), 1 => Just("MON#1,SUN#5".to_owned())];
    let year = prop_oneof![4 => Just("*"), 1 => Just("2020-2040/3")];
    let second = prop_oneof![2 => Just("0".to_owned()), 1 => field(0, 59)];
    let text = (second, field(0, 59), field(0, 23), month_day, field(1, 12), week_day, year).prop_map(
        |(second, minute, hour, day, month, weekday, year)| {
            format!("{second} {minute} {hour} {day} {month} {weekday} {year}")
        },
    );
    prop_oneof![
        12 => text.prop_map(Timing::Cron),
        1 => (1000..10_000_000_u64).prop_map(|millis| Timing::Every(HumanDuration::from_millis(millis))),
        1 => (1_600_000_000..1_700_000_000_i64).prop_map(|at| Timing::At(Timestamp::from_second(at).unwrap())),
    ]
}

fn any_dst() -> impl Strategy<Value = Dst> {
    let gap = prop_oneof![Just(None), Just(Some(Gap::RunAfter)), Just(Some(Gap::Skip))];
    let fold = prop_oneof![Just(None), Just(Some(Fold::First)), Just(Some(Fold::Second)), Just(Some(Fold::Both))];
    (gap, fold).prop_map(|(gap, fold)| Dst { gap, fold })
}

const ZONES: [&str; 7] = [
    "UTC",
    "Europe/Berlin",
    "America/Santiago",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Pacific/Apia",
];

proptest! {
    #[test]
    fn a_stretch_is_what_visiting_each_due_time_finds(
        timing in any_timing(),
        dst in any_dst(),
        zone in prop::sample::select(&ZONES[..]),
        from in 1_300_000_000_000..1_800_000_000_000_i64,
        parts in prop::collection::vec(0..20_000_000_000_i64, 2..4),
        size in 0..6_u32,
    ) {
        let Ok(due_times) = DueTimes::new(&timing, zone, dst) else { return Ok(()) };
        let begin = Timestamp::from_millisecond(from).unwrap();
        let mut after = begin;
        let mut total = None;
        for part in parts {
            // Visiting is slow: the longer the range, the fewer the due times must be.
            let mut until = after + SignedDuration::from_millis(part / 10_i64.pow(size));
            until = due_times.between(after, until).nth(2000).unwrap_or(until);
            let stretch = due_times.stretch(after, until);
            prop_assert_eq!(stretch, counted(&due_times, after, until), "{:?} in {} from {}", timing, zone, after);
            total = sum(total, stretch);
            after = until;
        }
        prop_assert_eq!(due_times.stretch(begin, after), total, "{:?} in {} from {}", timing, zone, begin);
        prop_assert_eq!(due_times.stretch(after, begin), None);
        let long = SignedDuration::from_hours(24 * 3652);
        let whole = sum(due_times.stretch(begin - long, begin), due_times.stretch(begin, begin + long));
        prop_assert_eq!(due_times.stretch(begin - long, begin + long), whole, "{:?} in {} from {}", timing, zone, begin);
    }
}

#[test]
fn each_range_round_a_change_is_counted_to_the_second() {
    let mut rng = Rng::with_seed(3);
    let nights = [("2026-03-28T22:00", "2026-03-29T05:00"), ("2026-10-24T22:00", "2026-10-25T05:00")];
    for text in ["* * * * *", "*/7 * * * * *", "0,20,40 0-4 * * *", "30 2 * * *", "59 59 1,2 * * *", "0 0 3 * * *"] {
        for (gap, fold) in [(Gap::RunAfter, Fold::First), (Gap::RunAfter, Fold::Second), (Gap::Skip, Fold::Both)] {
            let dst = Dst { gap: Some(gap), fold: Some(fold) };
            let due_times = DueTimes::new(&Timing::Cron(text.to_owned()), "Europe/Berlin", dst).unwrap();
            for (begin, end) in nights.map(|(begin, end)| (utc(begin).as_second(), utc(end).as_second())) {
                for _ in 0..10 {
                    let [after, until] = [(); 2].map(|()| Timestamp::from_second(rng.i64(begin..end)).unwrap());
                    let stretch = due_times.stretch(after, until);
                    assert_eq!(stretch, counted(&due_times, after, until), "{text} {dst:?} {after} {until}");
                }
            }
        }
    }
}

#[test]
fn each_second_of_ten_years() {
    let (after, until) = (utc("2020-01-01T00:00"), utc("2030-01-01T00:00"));
    let whole = Stretch { first: after + SignedDuration::from_secs(1), last: until, count: 3653 * 86_400 };
    let every = DueTimes::new(&Timing::Every(HumanDuration::from_secs(1)), "UTC", Dst::default()).unwrap();
    assert_eq!(every.stretch(after, until), Some(whole));
    assert_eq!(cron("* * * * * *", "Europe/Berlin").unwrap().stretch(after, until), Some(whole));
    // Once each, skipped and repeated hours leave ten gaps and ten pauses of an hour.
    let once = DueTimes::new(
        &Timing::Cron("* * * * * *".to_owned()),
        "Europe/Berlin",
        Dst { gap: Some(Gap::RunAfter), fold: Some(Fold::First) },
    );
    assert_eq!(once.unwrap().stretch(after, until), Some(Stretch { count: whole.count - 10 * 3600, ..whole }));
}

#[test]
fn the_ends_of_time_can_be_counted() {
    for text in ["* * * * * *", "30 2 * * *", "0 0 29 2 *", "* * * * * ? 2030"] {
        let due_times = cron(text, "Europe/Berlin").unwrap();
        let whole = due_times.stretch(Timestamp::MIN, Timestamp::MAX).unwrap();
        assert_eq!(Some(whole.first), due_times.next_after(Timestamp::MIN), "{text}");
        assert_eq!(due_times.next_after(whole.last), None, "{text}");
    }
    assert_eq!(
        cron("0 0 29 2 *", "UTC").unwrap().stretch(utc("2000-03-01T00:00"), utc("2400-03-01T00:00")).unwrap().count,
        97
    );
}
