//! What the ends of children mean for their parent: the pure verdict, by properties over whole lives, and its texts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use proptest::prelude::*;
use reveille_shared::fan_out::{Counts, End, FailPolicy, Stop, Tolerance, Verdict, judge};
use serde_json::{Value, json};

fn policy() -> impl Strategy<Value = FailPolicy> {
    prop_oneof![
        Just(FailPolicy::Fast),
        Just(FailPolicy::AtEnd),
        (0..6_u32).prop_map(|number| FailPolicy::Tolerate(Tolerance::Number(number))),
        (0..=10_000_u32).prop_map(|part| FailPolicy::Tolerate(Tolerance::OfTenThousand(part))),
    ]
}

/// What happens next in the life of a run with children.
#[derive(Debug, Clone, Copy)]
enum Step {
    Bear(u32),
    Succeed(u32),
    Fail(u32),
    /// Someone cancels some of them alone.
    CancelSome(u32),
    /// Someone cancels the run.
    Cancel,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let some = || 1..4_u32;
    prop_oneof![
        5 => some().prop_map(Step::Bear),
        5 => some().prop_map(Step::Succeed),
        2 => some().prop_map(Step::Fail),
        1 => some().prop_map(Step::CancelSome),
        1 => Just(Step::Cancel),
        4 => Just(Step::Settle),
    ]
}

/// A run with children, as the store keeps it.
#[derive(Debug, Clone, Copy)]
struct Life {
    policy: FailPolicy,
    counts: Counts,
    stopped: Option<Stop>,
    canceling: bool,
    end: Option<End>,
}

impl Life {
    fn take(&mut self, step: Step) {
        let counts = &mut self.counts;
        let some = |some: u32| some.min(counts.under_way());
        match step {
            Step::Bear(some) if self.stopped.is_none() && !self.canceling => counts.born += some.min(counts.unborn()),
            Step::Bear(_) => {}
            Step::Succeed(count) => counts.succeeded += some(count),
            Step::Fail(count) => counts.failed += some(count),
            Step::CancelSome(count) => counts.canceled += some(count),
            Step::Cancel => self.canceling = true,
            Step::Settle => self.settle(),
        }
    }

    fn settle(&mut self) {
        match judge(self.policy, &self.counts, self.stopped, self.canceling) {
            Verdict::GoOn => {}
            Verdict::Stop(why) => {
                assert_eq!(self.stopped, None, "stopped once");
                self.stopped = Some(why);
                // Those under way are canceled.
                self.counts.canceled += self.counts.under_way();
            }
            Verdict::End(end) => self.end = Some(end),
        }
    }
}

proptest! {
    #[test]
    fn every_life_ends_once_and_as_its_children_did(
        policy in policy(),
        total in 1..12_u32,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let counts = Counts { total, ..Counts::default() };
        let mut life = Life { policy, counts, stopped: None, canceling: false, end: None };
        let mut percent = 0.0;
        for step in steps {
            if life.end.is_some() {
                break;
            }
            life.take(step);
            prop_assert!(life.counts.percent() >= percent, "the percentage goes backward");
            prop_assert!(life.counts.percent() <= 100.0);
            percent = life.counts.percent();
        }
        // Whatever has happened so far, with more births, ends and looks it comes to an end.
        for _ in 0..2 * total + 4 {
            if life.end.is_some() {
                break;
            }
            [Step::Settle, Step::Bear(1), Step::Succeed(1), Step::Settle].into_iter().for_each(|step| life.take(step));
        }
        let Life { counts, stopped, canceling, end, .. } = life;
        let end = end.expect("it ends");
        let too_many = counts.failed > policy.tolerated(total);
        prop_assert_eq!(counts.under_way(), 0, "it ends when nothing is under way");
        prop_assert!(counts.born == total || stopped.is_some(), "or when nothing more is to come");
        match end {
            End::Succeeded => prop_assert!(!too_many && counts.born == total),
            End::Failed => prop_assert!(too_many, "only failed children fail it"),
            End::Canceled => {
                let nothing_ran = counts.succeeded + counts.failed == 0;
                prop_assert!(counts.canceled > 0 || counts.born < total, "something was canceled");
                prop_assert!(canceling || nothing_ran, "someone wanted it");
            }
        }
        if !canceling && !too_many && counts.succeeded > 0 {
            prop_assert_eq!(end, End::Succeeded);
        }
        if stopped == Some(Stop::Failed) {
            prop_assert!(end == End::Failed && policy != FailPolicy::AtEnd);
        }
    }

    #[test]
    fn a_policy_is_read_as_it_is_written(policy in policy()) {
        prop_assert_eq!(policy.to_string().parse(), Ok(policy));
        prop_assert_eq!(FailPolicy::from_json(&policy.to_json()), Ok(policy));
        prop_assert_eq!(serde_json::from_value::<FailPolicy>(json!(policy)).unwrap(), policy);
    }
}

#[test]
fn each_policy_stops_when_it_says_so() {
    let counts = |failed, under_way| Counts { total: 100, born: failed + under_way, failed, ..Counts::default() };
    let verdict = |policy: &str, failed| judge(policy.parse().unwrap(), &counts(failed, 5), None, false);
    let stop = Verdict::Stop(Stop::Failed);
    assert_eq!([0, 1].map(|failed| verdict("fast", failed)), [Verdict::GoOn, stop]);
    assert_eq!([0, 90].map(|failed| verdict("at_end", failed)), [Verdict::GoOn; 2]);
    assert_eq!([3, 4].map(|failed| verdict("tolerate:3", failed)), [Verdict::GoOn, stop]);
    assert_eq!([5, 6].map(|failed| verdict("tolerate:5%", failed)), [Verdict::GoOn, stop]);
    assert_eq!([2, 3].map(|failed| verdict("tolerate:2.9%", failed)), [Verdict::GoOn, stop], "rounded down");
    assert_eq!(judge(FailPolicy::Fast, &counts(1, 5), Some(Stop::Failed), true), Verdict::GoOn, "once is enough");
    assert_eq!(judge(FailPolicy::AtEnd, &counts(0, 5), None, true), Verdict::Stop(Stop::Canceled));
    let over = Counts { total: 2, born: 2, succeeded: 2, ..Counts::default() };
    assert_eq!(judge(FailPolicy::AtEnd, &over, None, true), Verdict::End(End::Succeeded), "it was faster");
}

#[test]
fn what_is_no_policy_is_refused() {
    for text in [
        "",
        "slow",
        "tolerate",
        "tolerate:",
        "tolerate:x",
        "tolerate:-1",
        "tolerate:101%",
        "tolerate:5.123%",
        "tolerate:100.01%",
        "tolerate:100001",
        "tolerate:1%%",
        "tolerate:.5%",
        "tolerate:+5",
    ] {
        assert!(text.parse::<FailPolicy>().is_err(), "{text}");
    }
    for value in [
        Value::Null,
        json!(3),
        json!("tolerate:3"),
        json!({}),
        json!({"tolerate": -1}),
        json!({"tolerate": 1.5}),
        json!({"tolerate": 100_001}),
        json!({"tolerate": "5"}),
        json!({"tolerate": 1, "more": 2}),
        json!(["fast"]),
    ] {
        assert!(FailPolicy::from_json(&value).is_err(), "{value}");
    }
    assert_eq!(FailPolicy::from_json(&json!({"tolerate": "0.5%"})).unwrap().tolerated(1_000), 5);
    assert_eq!(FailPolicy::from_json(&json!({"tolerate": "100%"})).unwrap().tolerated(7), 7);
}
