//! Random texts in many zones around many transitions, against the naive model.

use fastrand::Rng;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use reveille_shared::definition::{Dst, Timing};
use reveille_shared::due::DueTimes;

use super::model::{Field, Fields, Readings, Rule};
use super::{all_between, utc};

/// How many transitions are looked at; `REVEILLE_DUE_CASES` raises it, up to all there are.
const CASES: usize = 60;

/// Every change of an offset in every zone from 1970 to 2040.
fn transitions() -> Vec<(String, Timestamp)> {
    let end = utc("2040-01-01T00:00");
    jiff::tz::db()
        .available()
        .map(|name| name.as_str().to_owned())
        .filter(|name| reveille_shared::due::timezone(name).is_ok())
        .flat_map(|name| {
            let zone = TimeZone::get(&name).unwrap();
            let changes: Vec<_> = zone
                .following(utc("1970-01-01T00:00"))
                .map(|change| change.timestamp())
                .take_while(|at| *at < end)
                .filter(|at| zone.to_offset(*at) != zone.to_offset(*at - SignedDuration::from_secs(1)))
                .map(|at| (name.clone(), at))
                .collect();
            changes
        })
        .collect()
}

fn random_fields(rng: &mut Rng, zone: &TimeZone, change: Timestamp, with_seconds: bool) -> Fields {
    let either_side = SignedDuration::from_mins(rng.i64(-90..=90));
    let near = zone.to_datetime(change + either_side);
    let weekday = near.weekday().to_sunday_zero_offset();
    let every = || Field::fixed("*", &(0..=31).collect::<Vec<_>>());
    let mut sometimes = |low, high, near: i8| match rng.u8(0..3) {
        0 => Field::random(rng, low, high, near.into()),
        _ => every(),
    };
    let day_of_month = sometimes(1, 31, near.day());
    let day_of_week = sometimes(0, 6, weekday);
    let month = sometimes(1, 12, near.month());
    Fields {
        second: if with_seconds { Field::random(rng, 0, 59, 0) } else { Field::fixed("0", &[0]) },
        minute: Field::random(rng, 0, 59, near.minute().into()),
        hour: Field::random(rng, 0, 23, near.hour().into()),
        day_of_month,
        month,
        day_of_week,
    }
}

#[test]
fn due_times_are_those_of_a_clock_watched_at_every_tick() {
    let cases = std::env::var("REVEILLE_DUE_CASES").map_or(CASES, |cases| cases.parse().expect("a number"));
    let all = transitions();
    assert!(all.len() > 10_000, "only {} transitions known", all.len());
    let mut rng = Rng::with_seed(2026);
    for (name, change) in all.iter().step_by((all.len() / cases).max(1)) {
        let zone = TimeZone::get(name).unwrap();
        let hours = |hours| SignedDuration::from_hours(hours);
        let offset = |hours: i64| zone.to_offset(*change + SignedDuration::from_hours(hours)).seconds();
        let odd = offset(-1) % 60 != 0 || offset(1) % 60 != 0;
        let small = (offset(1) - offset(-1)).abs() <= 3 * 3600;
        let with_seconds = odd || small && rng.u8(0..8) == 0;
        // The clock is watched for longer than is asked for, so that what comes round the change is known.
        let (begin, after, until, end, tick) = match with_seconds {
            true => (*change - hours(4), *change - hours(1), *change + hours(2), *change + hours(5), 1),
            false => (*change - hours(60), *change - hours(30), *change + hours(36), *change + hours(62), 60),
        };
        let readings = Readings::new(&zone, begin, end, tick);
        for _ in 0..4 {
            let fields = random_fields(&mut rng, &zone, *change, with_seconds);
            let own = Rule::of(&fields);
            let matches = readings.matches(&fields);
            for rule in Rule::ALL {
                // What the text would do by itself mostly goes undeclared.
                let declared = Dst {
                    gap: (rule.gap != own.gap || rng.u8(0..8) == 0).then_some(rule.gap),
                    fold: (rule.fold != own.fold || rng.u8(0..8) == 0).then_some(rule.fold),
                };
                let expected = readings.due_times(&matches, rule, after, until);
                check((&fields.text(), name, declared), &expected, (after, until), &mut rng);
            }
        }
    }
}

fn check((text, zone, dst): (&str, &str, Dst), expected: &[Timestamp], span: (Timestamp, Timestamp), rng: &mut Rng) {
    let (after, until) = span;
    let due_times = match DueTimes::new(&Timing::Cron(text.to_owned()), zone, dst) {
        Ok(due_times) => due_times,
        Err(error) => return assert_eq!((expected, error.field), (&[][..], None), "{text} was refused"),
    };
    let found = all_between(&due_times, after, until);
    assert_eq!(found, expected, "{text} in {zone} with {dst:?} after {after}");

    let span = (until - after).total(jiff::Unit::Millisecond).unwrap() as i64;
    for _ in 0..5 {
        let from = after + SignedDuration::from_millis(rng.i64(0..span));
        let next = due_times.next_after(from);
        assert!(next.is_none_or(|next| next > from), "{text} in {zone} with {dst:?} after {from}");
        let rest = &expected[expected.partition_point(|due| *due <= from)..];
        assert_eq!(
            next.filter(|next| *next <= until),
            rest.first().copied(),
            "{text} in {zone} with {dst:?} after {from}"
        );
        let counted = due_times.stretch(from, until).map(|stretch| (stretch.first, stretch.last, stretch.count));
        let listed = rest.first().zip(rest.last()).map(|(first, last)| (*first, *last, rest.len() as i64));
        assert_eq!(counted, listed, "{text} in {zone} with {dst:?} after {from}");
    }
}
