//! What must hold of every decision, and the catch-up policies one by one.

use proptest::prelude::*;
use reveille_shared::definition::{CatchUp, Handler, Schedule, Timing};

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
    ScheduleRow { schedule, version: 1, cursor, next_due_at: None }
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
    let triggers = |d: &Decision| matches!(d.planned, Planned::Trigger { .. });
    plan.decisions.iter().map(|d| (d.due_at.as_second(), d.count, triggers(d))).collect()
}

#[test]
fn a_due_time_in_time_triggers_every_job_in_order() {
    for policy in [CatchUpPolicy::None, CatchUpPolicy::Latest, CatchUpPolicy::All] {
        let plan = plan(&every(MINUTE, catch_up(policy, 0), 0), at(60 + 30)).unwrap();
        let [Decision { planned: Planned::Trigger { requests, unless_running: true }, .. }] = &plan.decisions[..]
        else {
            panic!("{plan:?}")
        };
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
        let Some(plan) = plan(&row, now) else { return Ok(()) };
        for decision in &plan.decisions {
            let age = now.duration_since(decision.due_at);
            let triggers = matches!(decision.planned, Planned::Trigger { .. });
            let within = age <= row.schedule.catch_up.window.signed();
            let made_up_for = match row.schedule.catch_up.policy {
                CatchUpPolicy::None => false,
                CatchUpPolicy::Latest => within && Some(decision.due_at) == last,
                CatchUpPolicy::All => within,
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
    fn a_plan_stays_within_its_limits(window in 0i64..200_000, now in 0i64..200_000) {
        let row = every(SECOND, catch_up(CatchUpPolicy::All, window), 0);
        let Some(plan) = plan(&row, at(now)) else { return Ok(()) };
        let triggers = shape(&plan).iter().filter(|(.., triggers)| *triggers).count();
        let seen: i64 = plan.decisions.iter().map(|d| d.count).sum();
        prop_assert!(triggers <= MAX_TRIGGERS && seen <= i64::try_from(MAX_DUE_TIMES).unwrap());
        prop_assert!(plan.next_cursor == at(now) || triggers == MAX_TRIGGERS || seen == i64::try_from(MAX_DUE_TIMES).unwrap());
    }
}
