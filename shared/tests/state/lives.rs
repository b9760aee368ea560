//! Long random lives, in which old names must do no harm.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use reveille_shared::state::{Hold, Input, Joined, Lease, Phase, Refusal, Run, apply};
use uuid::Uuid;

use crate::{LATER, accepted, check, error, held, start};

/// One thing that may happen, with names chosen from those that the run has had.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    /// The wall clock is put back.
    Back(u64),
    Send,
    Unsend {
        which: usize,
        after: u64,
    },
    /// Under a fresh token, as workers do; `Again` repeats it under the same.
    Claim {
        which: usize,
    },
    Release {
        token: Pick,
        doubt: bool,
    },
    Succeed(Pick),
    Fail {
        token: Pick,
        retry: Option<u64>,
    },
    Stopped(Pick),
    Lose {
        token: Pick,
        retry: Option<u64>,
        verify: bool,
    },
    Defer {
        token: Pick,
        after: u64,
    },
    Park {
        token: Pick,
        after: u64,
    },
    Extend {
        token: Pick,
        by: u64,
    },
    Abandon {
        retry: Option<u64>,
        verify: bool,
    },
    Split(Pick),
    Join(usize),
    Hold(Hold),
    Admit,
    Expire,
    Cancel,
    GiveUp {
        which: usize,
    },
    /// The broker or the network repeats what was said before.
    Again(usize),
}

/// Which token: the one held most of the time, else one from the past or from nowhere.
#[derive(Debug, Clone, Copy)]
enum Pick {
    Held,
    Old(usize),
    Fresh,
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![6 => Just(Pick::Held), 2 => any::<usize>().prop_map(Pick::Old), 1 => Just(Pick::Fresh)]
}

fn retry() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![1 => Just(None), 3 => (0..100_u64).prop_map(Some)]
}

fn step() -> impl Strategy<Value = Step> {
    // `which` counts triggers back from the last one sent, so that 0 is the one to act on.
    let which = || prop_oneof![4 => Just(0_usize), 1 => 0..4_usize];
    prop_oneof![
        4 => (1..200_u64).prop_map(Step::Wait),
        1 => (1..4000_u64).prop_map(Step::Back),
        8 => Just(Step::Send),
        2 => (which(), 0..100_u64).prop_map(|(which, after)| Step::Unsend { which, after }),
        8 => which().prop_map(|which| Step::Claim { which }),
        2 => (pick(), any::<bool>()).prop_map(|(token, doubt)| Step::Release { token, doubt }),
        1 => pick().prop_map(Step::Succeed),
        4 => (pick(), retry()).prop_map(|(token, retry)| Step::Fail { token, retry }),
        1 => pick().prop_map(Step::Stopped),
        3 => (pick(), retry(), any::<bool>()).prop_map(|(token, retry, verify)| Step::Lose { token, retry, verify }),
        2 => (pick(), 0..100_u64).prop_map(|(token, after)| Step::Defer { token, after }),
        4 => (pick(), 0..100_u64).prop_map(|(token, after)| Step::Park { token, after }),
        1 => (pick(), 0..100_u64).prop_map(|(token, by)| Step::Extend { token, by }),
        2 => (retry(), any::<bool>()).prop_map(|(retry, verify)| Step::Abandon { retry, verify }),
        1 => pick().prop_map(Step::Split),
        1 => (0..3_usize).prop_map(Step::Join),
        2 => (0..3_usize).prop_map(|which| Step::Hold(Hold::ALL[which])),
        3 => Just(Step::Admit),
        1 => Just(Step::Expire),
        1 => Just(Step::Cancel),
        1 => which().prop_map(|which| Step::GiveUp { which }),
        6 => any::<usize>().prop_map(Step::Again),
    ]
}

/// A run, and all that was ever said to it.
struct Life {
    run: Run,
    now: Timestamp,
    tokens: Vec<Uuid>,
    said: Vec<Input>,
    /// Inputs that have had their effect and name a trigger or a lease: no other may have it under that name.
    done: Vec<Input>,
}

impl Life {
    fn new() -> Self {
        Self { run: accepted(start()), now: start(), tokens: vec![], said: vec![], done: vec![] }
    }

    fn token(&mut self, pick: Pick) -> Uuid {
        match pick {
            Pick::Held if held(&self.run).is_some() => held(&self.run).unwrap(),
            Pick::Old(index) if !self.tokens.is_empty() => self.tokens[index % self.tokens.len()],
            _ => {
                self.tokens.push(Uuid::from_u128(1 + self.tokens.len() as u128));
                self.tokens[self.tokens.len() - 1]
            }
        }
    }

    fn input(&mut self, step: &Step) -> Option<Input> {
        // Where none is marked as sent the first one may be out all the same.
        let last = self.run.sends.max(1);
        let n = |which: usize| last.wrapping_sub(u32::try_from(which).unwrap());
        let seconds = |seconds: Option<u64>| seconds.map(Duration::from_secs);
        let shift = |by: i64| self.now.saturating_add(SignedDuration::from_secs(by)).unwrap();
        Some(match *step {
            Step::Wait(by) => {
                self.now = shift(i64::try_from(by).unwrap());
                return None;
            }
            Step::Back(by) => {
                self.now = shift(-i64::try_from(by).unwrap());
                return None;
            }
            Step::Send => Input::Send,
            Step::Unsend { which, after } => {
                Input::Unsend { n: n(which), after: Duration::from_secs(after), reason: None }
            }
            Step::Claim { which } => {
                let n = n(which);
                let (deadline, silent_until) = (shift(300), Some(self.now));
                let (token, worker) = (self.token(Pick::Fresh), Uuid::from_u128(77));
                let lease = Lease { token, worker, deadline, silent_until };
                Input::Claim { n, lease }
            }
            Step::Release { token, doubt } => Input::Release { token: self.token(token), doubt },
            Step::Succeed(token) => Input::Succeed { token: self.token(token), verified: false },
            Step::Fail { token, retry } => {
                Input::Fail { token: self.token(token), error: error(), retry: seconds(retry) }
            }
            Step::Stopped(token) => Input::Stopped { token: self.token(token) },
            Step::Lose { token, retry, verify } => {
                Input::Lose { token: self.token(token), error: error(), retry: seconds(retry), verify }
            }
            Step::Defer { token, after } => {
                let after = Duration::from_secs(after);
                Input::Defer { token: self.token(token), after, reason: "still running".into() }
            }
            Step::Park { token, after } => Input::Park { token: self.token(token), after: Duration::from_secs(after) },
            Step::Extend { token, by } => {
                let until = shift(i64::try_from(by).unwrap());
                Input::Extend { token: self.token(token), until }
            }
            Step::Abandon { retry, verify } => Input::Abandon { error: error(), retry: seconds(retry), verify },
            Step::Split(token) => Input::Split { token: Some(self.token(token)), children: 2 },
            Step::Join(which) => {
                let ends = [Joined::Succeeded, Joined::Failed(error()), Joined::Canceled];
                Input::Join { end: ends[which].clone() }
            }
            Step::Hold(hold) => Input::Hold { hold },
            Step::Admit => Input::Admit,
            Step::Expire => Input::Expire { error: error() },
            Step::Cancel => Input::Cancel { by: "someone".into() },
            Step::GiveUp { which } => Input::GiveUp { n: n(which), error: error() },
            Step::Again(index) => {
                let said = self.said.len();
                return (said > 0).then(|| self.said[index % said].clone());
            }
        })
    }

    fn take(&mut self, input: Input) {
        let result = apply(&self.run, &input, self.now);
        match &result {
            Ok(transition) => {
                check(&self.run, &input, transition);
                assert!(!self.done.contains(&input), "{input:?} had its effect twice");
                self.stale_tokens_are_refused(&input);
                self.run = transition.run;
                let repeated = apply(&self.run, &input, self.now);
                assert!(repeated.is_err(), "{input:?}, repeated at once, did {repeated:?}");
                let is_named = !matches!(
                    input,
                    Input::Send | Input::Cancel { .. } | Input::Hold { .. } | Input::Admit | Input::Abandon { .. }
                );
                if is_named {
                    self.done.push(input.clone());
                }
            }
            Err(refusal) => {
                assert_eq!(*refusal == Refusal::Ended, self.run.status.is_terminal(), "{input:?}: {refusal:?}");
            }
        }
        self.said.push(input);
    }

    /// What was accepted under a token must have named the lease that was held.
    fn stale_tokens_are_refused(&self, input: &Input) {
        if let Input::Release { token, .. }
        | Input::Succeed { token, .. }
        | Input::Fail { token, .. }
        | Input::Stopped { token }
        | Input::Defer { token, .. }
        | Input::Park { token, .. }
        | Input::Extend { token, .. }
        | Input::Split { token: Some(token), .. }
        | Input::Lose { token, .. } = input
        {
            assert_eq!(held(&self.run), Some(*token), "a stale token was accepted: {input:?}");
        }
        if let Input::Unsend { n, .. } | Input::Claim { n, .. } | Input::GiveUp { n, .. } = input {
            let is_last = matches!(self.run.phase, Phase::Sent { .. }) && *n == self.run.sends;
            let is_first = matches!(self.run.phase, Phase::Due { .. }) && self.run.sends == 0 && *n == 1;
            assert!(is_last || is_first, "an old trigger was accepted: {input:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is said in whatever order and however often: each transition holds the invariants, each named
    /// input has its effect at most once, and old triggers and tokens have none.
    #[test]
    fn random_lives(steps in prop::collection::vec(step(), 1..120)) {
        let mut life = Life::new();
        for step in &steps {
            if let Some(input) = life.input(step) {
                life.take(input);
            }
        }
    }

    /// Once it has ended, nothing moves it.
    #[test]
    fn nothing_follows_the_end(steps in prop::collection::vec(step(), 1..60), after in prop::collection::vec(step(), 1..30)) {
        let mut life = Life::new();
        for step in &steps {
            if let Some(input) = life.input(step) {
                life.take(input);
            }
        }
        // Whatever it is in, cancelling and the end of the lease is one way out.
        let _ = apply(&life.run, &Input::Cancel { by: "test".into() }, life.now).map(|t| life.run = t.run);
        let late = Step::Wait(10_000);
        let _waited = life.input(&late);
        let abandon = Input::Abandon { error: error(), retry: Some(LATER), verify: true };
        let _ = apply(&life.run, &abandon, life.now).map(|t| life.run = t.run);
        let _ = apply(&life.run, &Input::Join { end: Joined::Canceled }, life.now).map(|t| life.run = t.run);
        if let Some(token) = held(&life.run) {
            life.run = apply(&life.run, &Input::Lose { token, error: error(), retry: Some(LATER), verify: false }, life.now).unwrap().run;
        }
        prop_assert!(life.run.status.is_terminal());
        let end = life.run;
        for step in &after {
            if let Some(input) = life.input(step) {
                prop_assert_eq!(apply(&life.run, &input, life.now), Err(Refusal::Ended));
                life.take(input);
            }
        }
        prop_assert_eq!(life.run, end);
    }
}
