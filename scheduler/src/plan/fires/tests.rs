//! What must hold of every decision, and the catch-up policies one by one.

use proptest::prelude::*;
use reveille_shared::definition::{CatchUp, Day, DayRule, Handler, Schedule, Timing};

use super::*;

const SECOND: i64 = 1;
const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn row(timing: Timing, catch_up: CatchUp, cursor: Timestamp) -> ScheduleRow {
    let trigger = vec!["a".into(), "b".into()];
    let schedule = Schedule { trigger, catch_up, ..Schedule::new("default", "s", timing, "") };
    ScheduleRow::new(schedule, 1, cursor)
}

fn every(seconds: i64, catch_up: CatchUp, cursor: i64) -> ScheduleRow {
    row(Timing::Every(HumanDuration::from_secs(seconds.unsigned_abs())), catch_up, at(cursor))
}

fn catch_up(policy: CatchUpPolicy, window: i64) -> CatchUp {
    CatchUp { policy, window: HumanDuration::from_secs(window.unsigned_abs()), ..CatchUp::default() }
}

fn job(name: &str) -> Arc<Versioned<Job>> {
    let item = Job { queue: "q".into(), ..Job::new("default", name, Handler::Function(name.into())) };
    Arc::new(Versioned { version: 7, item })
}

fn plan(row: &ScheduleRow, now: Timestamp) -> Option<FirePlan> {
    let due = DueTimes::of(&row.schedule).unwrap();
    decide(row, &due, now, |name| Some(job(name)))
}

/// A plan as (first due second, count, triggers).
fn shape(plan: &FirePlan) -> Vec<(i64, i64, bool)> {
    let triggers = |d: &Decision| matches!(d.planned, Planned::Trigger(_));
    plan.decisions.iter().map(|d| (d.due_at.as_second(), d.count, triggers(d))).collect()
}

#[test]
fn a_due_time_in_time_triggers_every_job_in_order() {
    for policy in [CatchUpPolicy::None, CatchUpPolicy::Latest, CatchUpPolicy::All] {
        let plan = plan(&every(MINUTE, catch_up(policy, 0), 0), at(60 + 30)).unwrap();
        let [Decision { planned: Planned::Trigger(requests), .. }] = &plan.decisions[..] else { panic!("{plan:?}") };
        let jobs: Vec<_> = requests.iter().map(|r| (r.job.as_str(), r.job_version, r.queue.as_str())).collect();
        assert_eq!(jobs, [("a", 7, "q"), ("b", 7, "q")]);
        let fire = FireRef { schedule: "s".into(), due_at: at(60), origin: Origin::Schedule };
        assert!(requests.iter().all(|r| r.fire.as_ref() == Some(&fire)));
        assert_eq!((plan.next_cursor, plan.next_due_at), (at(60), Some(at(120))));
    }
}

#[test]
fn none_skips_all_that_was_missed_as_one_stretch() {
    let plan = plan(&every(MINUTE, catch_up(CatchUpPolicy::None, HOUR), 0), at(10 * MINUTE)).unwrap();
    assert_eq!(shape(&plan), [(60, 9, false), (600, 1, true)]);
}

#[test]
fn latest_makes_up_once_for_all_that_was_missed() {
    let row = every(MINUTE, catch_up(CatchUpPolicy::Latest, HOUR), 0);
    assert_eq!(shape(&plan(&row, at(10 * MINUTE + 45)).unwrap()), [(60, 9, false), (600, 1, true)]);
}

#[test]
fn latest_makes_up_for_nothing_when_a_later_one_is_on_time() {
    let row = every(20, catch_up(CatchUpPolicy::Latest, HOUR), 0);
    assert_eq!(shape(&plan(&row, at(100)).unwrap()), [(20, 3, false), (80, 1, true), (100, 1, true)]);
}

#[test]
fn latest_outside_the_window_is_skipped_with_its_reason() {
    let row = every(HOUR, catch_up(CatchUpPolicy::Latest, 10 * MINUTE), 0);
    let plan = plan(&row, at(HOUR + 11 * MINUTE)).unwrap();
    let [Decision { planned: Planned::Skip(SkipReason::Late, why), .. }] = &plan.decisions[..] else {
        panic!("{plan:?}")
    };
    assert_eq!(why, "missed by more than the catch-up window of 10m");
}

#[test]
fn all_makes_up_for_each_one_within_the_window() {
    let row = every(MINUTE, catch_up(CatchUpPolicy::All, 3 * MINUTE), 0);
    assert_eq!(
        shape(&plan(&row, at(10 * MINUTE)).unwrap()),
        [(60, 6, false), (420, 1, true), (480, 1, true), (540, 1, true), (600, 1, true)]
    );
}

#[test]
fn a_job_that_is_gone_is_the_reason() {
    let row = every(MINUTE, CatchUp::default(), 0);
    let due = DueTimes::of(&row.schedule).unwrap();
    let plan = decide(&row, &due, at(60), |name| (name == "a").then(|| job(name))).unwrap();
    assert_eq!(plan.decisions[0].planned, Planned::Skip(SkipReason::Superseded, "job b is not in force".into()));
}

#[test]
fn a_clock_behind_the_cursor_decides_nothing() {
    assert_eq!(plan(&every(SECOND, CatchUp::default(), HOUR), at(60)), None);
}

#[test]
fn a_one_shot_is_decided_once_and_never_due_again() {
    let row = row(Timing::At(at(100)), CatchUp::default(), at(0));
    let plan = plan(&row, at(100)).unwrap();
    assert_eq!((shape(&plan), plan.next_due_at), (vec![(100, 1, true)], None));
}

#[test]
fn a_long_downtime_costs_one_decision_and_not_one_per_due_time() {
    let row = every(SECOND, catch_up(CatchUpPolicy::Latest, MINUTE), 0);
    let year = 365 * 24 * HOUR;
    let plan = plan(&row, at(year)).unwrap();
    assert_eq!(shape(&plan)[0], (1, year - 61, false));
    assert_eq!(plan.decisions.iter().map(|d| d.count).sum::<i64>(), year);
}

#[test]
fn all_makes_up_for_the_last_ones_up_to_its_maximum() {
    let row = every(MINUTE, CatchUp { max: 2, ..catch_up(CatchUpPolicy::All, HOUR) }, 0);
    let plan = plan(&row, at(10 * MINUTE)).unwrap();
    assert_eq!(shape(&plan), [(60, 7, false), (480, 1, true), (540, 1, true), (600, 1, true)]);
    let Planned::Skip(SkipReason::Cap, why) = &plan.decisions[0].planned else { panic!("{plan:?}") };
    assert_eq!(why, "missed, and only the last 2 are made up for");
}

#[test]
fn what_lies_before_the_start_is_one_stretch_and_what_lies_after_the_end_is_not_decided() {
    let mut row = every(MINUTE, CatchUp::default(), 0);
    row.schedule.starts_at = Some(at(5 * MINUTE));
    row.schedule.ends_at = Some(at(7 * MINUTE));
    let due = DueTimes::of(&row.schedule).unwrap();
    assert_eq!(row.next_look(&due), Some(at(300)), "nothing to do before the start");
    let first = plan(&row, at(5 * MINUTE)).unwrap();
    assert_eq!(shape(&first), [(60, 4, false), (300, 1, true)]);
    assert!(matches!(&first.decisions[0].planned, Planned::Skip(SkipReason::BeforeStart, why) if why.contains("1970")));
    assert_eq!(first.next_due_at, Some(at(360)));
    row.cursor = at(7 * MINUTE - 1);
    let last = plan(&row, at(9 * MINUTE)).unwrap();
    assert_eq!((shape(&last), last.next_due_at), (vec![(420, 1, true)], None));
}

#[test]
fn the_last_of_max_fires_is_planned_and_none_behind_it() {
    let mut row = every(SECOND, CatchUp::default(), 0);
    row.schedule.max_fires = Some(5);
    row.fired = 3;
    let plan = plan(&row, at(10)).unwrap();
    assert_eq!((shape(&plan).len(), plan.fired), (2, Some((3, 5))));
    row.fired = 5;
    assert_eq!(row.next_look(&DueTimes::of(&row.schedule).unwrap()), None);
}

#[test]
fn excluded_days_are_skipped_with_their_rule_and_do_not_count_as_the_latest() {
    let mut row = every(24 * HOUR, catch_up(CatchUpPolicy::Latest, 7 * 24 * HOUR), 0);
    // 1970-01-03 and 04 were a weekend.
    row.schedule.except = vec![DayRule::Weekdays { from: Day::Sat, to: Day::Sun }];
    let plan = plan(&row, at(3 * 24 * HOUR + HOUR)).unwrap();
    assert_eq!(shape(&plan), [(86_400, 1, true), (172_800, 2, false)]);
    assert!(
        matches!(&plan.decisions[1].planned, Planned::Skip(SkipReason::Excluded, rule) if rule.contains("SAT-SUN"))
    );
}

#[test]
fn triggers_wait_for_their_jitter_and_due_times_do_not() {
    let mut row = every(MINUTE, CatchUp::default(), 0);
    row.schedule.jitter = HumanDuration::from_secs(30);
    let plan = plan(&row, at(60)).unwrap();
    let [Decision { due_at, planned: Planned::Trigger(requests), .. }] = &plan.decisions[..] else {
        panic!("{plan:?}")
    };
    assert_eq!(*due_at, at(60));
    assert!(requests.iter().all(|request| request.delay.signed() == jitter(&row.schedule, at(60))));
}

fn any_row() -> impl Strategy<Value = (ScheduleRow, Timestamp)> {
    let timing = prop_oneof![
        (1u64..100).prop_map(|seconds| Timing::Every(HumanDuration::from_secs(seconds))),
        (0i64..100_000).prop_map(|second| Timing::At(at(second))),
        Just(Timing::Cron("*/7 * * * * *".into())),
        Just(Timing::Cron("0 */2 * * *".into())),
    ];
    let policy = prop_oneof![Just(CatchUpPolicy::None), Just(CatchUpPolicy::Latest), Just(CatchUpPolicy::All)];
    let span = 0i64..100_000 * 1_000_000;
    (timing, policy, 0i64..20_000, span.clone(), span).prop_map(|(timing, policy, window, cursor, now)| {
        let at = |micro| Timestamp::from_microsecond(micro).unwrap();
        (row(timing, catch_up(policy, window), at(cursor)), at(now))
    })
}

proptest! {
    #[test]
    fn every_due_time_is_covered_once_in_order((mut row, now) in any_row()) {
        let due = DueTimes::of(&row.schedule).unwrap();
        let expected: Vec<_> = due.between(row.cursor, now).collect();
        let mut covered = Vec::new();
        while let Some(plan) = plan(&row, now) {
            prop_assert_eq!(plan.cursor, row.cursor);
            prop_assert!(plan.next_cursor > row.cursor && plan.next_cursor <= now);
            prop_assert_eq!(plan.next_due_at, due.next_after(plan.next_cursor));
            for decision in &plan.decisions {
                let before = covered.len();
                covered.extend(
                    due.between(decision.due_at - SignedDuration::from_micros(1), decision.last_due_at),
                );
                prop_assert_eq!(i64::try_from(covered.len() - before).unwrap(), decision.count);
                prop_assert!(decision.count == 1 || matches!(decision.planned, Planned::Skip(..)));
            }
            let same = |pair: &[Decision]| {
                matches!(&pair[0].planned, Planned::Skip(..)) && pair[0].planned == pair[1].planned
            };
            prop_assert!(!plan.decisions.windows(2).any(same), "two stretches that are one");
            row.cursor = plan.next_cursor;
        }
        prop_assert_eq!(covered, expected);
    }

    #[test]
    fn what_triggers_is_what_the_policy_says((row, now) in any_row()) {
        let due = DueTimes::of(&row.schedule).unwrap();
        let last = due.between(row.cursor, now).last();
        let window = row.schedule.catch_up.window.signed();
        let missed = |due_at: &Timestamp| {
            let age = now.duration_since(*due_at);
            age > GRACE && age <= window
        };
        let missed: Vec<_> = due.between(row.cursor, now).filter(missed).collect();
        let most = row.schedule.catch_up.max as usize;
        let last_missed = &missed[missed.len().saturating_sub(most)..];
        let Some(plan) = plan(&row, now) else { return Ok(()) };
        for decision in &plan.decisions {
            let age = now.duration_since(decision.due_at);
            let triggers = matches!(decision.planned, Planned::Trigger(_));
            let made_up_for = match row.schedule.catch_up.policy {
                CatchUpPolicy::None => false,
                CatchUpPolicy::Latest => age <= window && Some(decision.due_at) == last,
                CatchUpPolicy::All => last_missed.contains(&decision.due_at),
            };
            // A stretch is judged by its first: its last is asked below.
            if decision.count == 1 {
                prop_assert_eq!(triggers, age <= GRACE || made_up_for);
            } else {
                prop_assert!(now.duration_since(decision.last_due_at) > GRACE && !triggers);
            }
        }
    }

    #[test]
    fn a_plan_stays_within_its_limits(window in 0i64..200_000, now in 0i64..200_000, max in 1u32..5_000) {
        let mut row = every(SECOND, CatchUp { max, ..catch_up(CatchUpPolicy::All, window) }, 0);
        let (mut triggered, mut plans) = (0, 0);
        while let Some(plan) = plan(&row, at(now)) {
            let triggers = shape(&plan).iter().filter(|(.., triggers)| *triggers).count();
            prop_assert!(triggers <= MAX_TRIGGERS);
            let walked: i64 = plan.decisions.iter().map(|d| d.count).sum();
            let full = triggers == MAX_TRIGGERS || walked >= i64::try_from(MAX_DUE_TIMES).unwrap();
            prop_assert!(plan.next_cursor == at(now) || full);
            triggered += triggers;
            plans += 1;
            row.cursor = plan.next_cursor;
        }
        prop_assert!(triggered <= 31 + max as usize && plans <= 22 + triggered / MAX_TRIGGERS, "{triggered} in {plans}");
    }

    #[test]
    fn jitter_is_always_the_same_and_below_its_bound(jitter_ms in 1u64..100_000, second in 0i64..1_000_000) {
        let jittery = Schedule {
            jitter: HumanDuration::from_millis(jitter_ms),
            ..every(60, CatchUp::default(), 0).schedule
        };
        let drawn = jitter(&jittery, at(second));
        prop_assert!(drawn >= SignedDuration::ZERO && drawn < jittery.jitter.signed());
        prop_assert_eq!(drawn, jitter(&jittery, at(second)));
    }
}
