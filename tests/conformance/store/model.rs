//! The whole store against the pure state machine: random operations on a few work requests, and after each of them
//! the same answer, the same state and the same history from both.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use reveille_shared::state::{Input, Lease, Phase, Refusal, Run, Status, apply};
use reveille_shared::store::{Cancellation, Claim, Known, Loss, Outcome, Report};
use reveille_shared::trigger::{self, Trigger};
use reveille_shared::work_request::{Happening, WorkRequestId};
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, error, failed, on_both, succeeded, worker};

on_both!(random_operations_do_what_the_state_machine_says);

/// How many work requests live at once.
const RUNS: usize = 3;

/// A delay that passes only with [`Op::Age`].
const LONG: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
enum Op {
    Take,
    Age,
    Unsend { run: usize, back: u32, long: bool },
    Claim { run: usize, back: u32 },
    ClaimAgain { run: usize },
    Report { run: usize, token: usize, outcome: Outcome },
    Lose { run: usize, token: usize, retry: Option<Duration>, verify: bool },
    Abandon { run: usize, retry: Option<Duration>, verify: bool },
    Cancel { run: usize },
    GiveUp { run: usize, back: u32 },
}

fn op() -> impl Strategy<Value = Op> {
    let run = || 0..RUNS;
    // How far back from the last trigger, or token: mostly the last one itself.
    let back = || prop_oneof![5 => Just(0_u32), 1 => 1..3_u32];
    let token = || prop_oneof![5 => Just(0_usize), 1 => 1..3_usize];
    let retry = || prop_oneof![Just(None), Just(Some(Duration::ZERO)), Just(Some(LONG))];
    let outcome = prop_oneof![
        1 => Just(succeeded()),
        4 => retry().prop_map(failed),
        1 => Just(Outcome::Stopped),
        3 => any::<bool>().prop_map(|doubt| Outcome::Released { doubt }),
        1 => Just(Outcome::Verified { output: serde_json::json!(1) }),
        4 => Just(Outcome::Parked { after: LONG, notes: serde_json::json!({ "at": 1 }) }),
        2 => Just(Outcome::Deferred { after: LONG, reason: "still running".into() }),
        2 => (retry(), any::<bool>())
            .prop_map(|(retry, verify)| Outcome::Lost { error: error("was broken off"), retry, verify }),
    ];
    prop_oneof![
        6 => Just(Op::Take),
        2 => Just(Op::Age),
        2 => (run(), back(), any::<bool>()).prop_map(|(run, back, long)| Op::Unsend { run, back, long }),
        8 => (run(), back()).prop_map(|(run, back)| Op::Claim { run, back }),
        2 => run().prop_map(|run| Op::ClaimAgain { run }),
        6 => (run(), token(), outcome).prop_map(|(run, token, outcome)| Op::Report { run, token, outcome }),
        3 => (run(), token(), retry(), any::<bool>())
            .prop_map(|(run, token, retry, verify)| Op::Lose { run, token, retry, verify }),
        2 => (run(), retry(), any::<bool>()).prop_map(|(run, retry, verify)| Op::Abandon { run, retry, verify }),
        1 => run().prop_map(|run| Op::Cancel { run }),
        1 => (run(), back()).prop_map(|(run, back)| Op::GiveUp { run, back }),
    ]
}

/// What the state machine makes of one work request.
struct Model {
    id: WorkRequestId,
    run: Run,
    now: Timestamp,
    told: Vec<Happening>,
    /// The claims made so far, the last one last.
    claims: Vec<Claim>,
    /// Tokens under which something was reported that the history tells.
    reported: BTreeSet<Uuid>,
    /// The run as claims have left it, by their tokens.
    known: BTreeMap<Uuid, Known>,
}

impl Model {
    fn new(id: WorkRequestId, now: Timestamp) -> Self {
        let run = Run {
            status: Status::Accepted,
            phase: Phase::Due { at: now },
            sends: 0,
            attempt: 0,
            failures: 0,
            doubt: false,
            operation: None,
        };
        let told = vec![Happening::Accepted { by: "test".into() }];
        Self { id, run, now, told, claims: vec![], reported: BTreeSet::new(), known: BTreeMap::new() }
    }

    fn apply(&mut self, input: &Input) -> Result<(), Refusal> {
        let transition = apply(&self.run, input, self.now)?;
        self.run = transition.run;
        self.told.extend(transition.event);
        Ok(())
    }

    fn trigger(&self, back: u32) -> Trigger {
        let n = self.run.sends.wrapping_sub(back) & 0xffff;
        Trigger { v: trigger::VERSION, id: self.id, n, namespace: NAMESPACE.into(), job: "copy".into() }
    }

    fn token(&self, back: usize) -> Uuid {
        self.claims.iter().rev().nth(back).map_or(Uuid::from_u128(3), |claim| claim.token)
    }

    async fn claim(&mut self, bed: &Bed, claim: Claim) {
        // As long as the job's attempts may take, and the grace.
        let deadline = self.now.saturating_add(SignedDuration::from_secs(90)).unwrap();
        let lease = Lease { token: claim.token, worker: worker(), deadline, silent_until: None };
        let expected = self.apply(&Input::Claim { n: claim.n, lease });
        let answer = bed.store.claim(worker(), &[claim]).await.unwrap().remove(0);
        match (expected, answer) {
            (Ok(()) | Err(Refusal::Repeated), Ok(run)) => {
                self.known.entry(run.token).or_insert(run.known);
                let facts = (run.id, run.token, run.attempt, run.failures);
                assert_eq!(facts, (self.id, claim.token, self.run.attempt, self.run.failures));
                assert_eq!(run.operation.is_some(), self.run.operation.is_some());
                assert_eq!(run.canceling, self.run.status == Status::Canceling);
            }
            (expected, answer) => assert_eq!(answer.map(drop), expected),
        }
    }

    /// Does to the store and to the model the same; panics where they differ.
    async fn step(&mut self, bed: &Bed, op: Op) {
        match op {
            Op::Take | Op::Age => unreachable!("concerns all"),
            Op::Unsend { back, long, .. } => {
                let (trigger, after) = (self.trigger(back), if long { LONG } else { Duration::ZERO });
                let reason = long.then(|| "no route".to_owned());
                let _ = self.apply(&Input::Unsend { n: trigger.n, after, reason: reason.clone() });
                bed.store.unsend(&[(trigger, after, reason)]).await.unwrap();
            }
            Op::Claim { back, .. } => {
                let claim = Claim { id: self.id, n: self.trigger(back).n, token: Uuid::new_v4() };
                self.claim(bed, claim).await;
                self.claims.push(claim);
            }
            Op::ClaimAgain { .. } => {
                if let Some(claim) = self.claims.last().copied() {
                    self.claim(bed, claim).await;
                }
            }
            Op::Report { token, outcome, .. } => {
                let token = self.token(token);
                let input = match outcome.clone() {
                    Outcome::Succeeded { .. } => Input::Succeed { token, verified: false },
                    Outcome::Verified { .. } => Input::Succeed { token, verified: true },
                    Outcome::Deferred { after, reason } => Input::Defer { token, after, reason },
                    Outcome::Parked { after, .. } => Input::Park { token, after },
                    Outcome::Failed { error, retry } => Input::Fail { token, error, retry },
                    Outcome::Stopped => Input::Stopped { token },
                    Outcome::Released { doubt } => Input::Release { token, doubt },
                    Outcome::Lost { error, retry, verify } => Input::Lose { token, error, retry, verify },
                    Outcome::Split { .. } => unreachable!("needs inputs: see fan_out.rs"),
                };
                let told = self.told.len();
                let mut expected = self.apply(&input);
                if expected.is_ok() {
                    // What is lost, or told only once as an operation goes on, leaves no trace of its token.
                    let names_it = |what: &Happening| serde_json::to_value(what).unwrap()["token"] == token.to_string();
                    self.reported.extend(self.told[told..].iter().any(names_it).then_some(token));
                } else if self.reported.contains(&token) {
                    expected = Err(Refusal::Repeated);
                }
                // What is known may be long out of date.
                let known = self.known.get(&token).cloned().unwrap_or_default();
                let report = Report { known, ..Report::new(self.id, token, outcome) };
                let answers = bed.store.report(vec![report]).await.unwrap();
                assert_eq!(answers, [expected]);
            }
            Op::Lose { token, retry, verify, .. } => {
                let (id, token, error) = (self.id, self.token(token), error("its worker died"));
                let expected = self.apply(&Input::Lose { token, error: error.clone(), retry, verify });
                let ended =
                    bed.store.lose(vec![Loss { id, token, error, retry, verify, if_overdue: false }]).await.unwrap();
                assert_eq!(ended, usize::from(expected.is_ok()));
            }
            Op::Abandon { retry, verify, .. } => {
                // Only what is past its time is found, and nothing else is ended.
                let found = bed.store.abandoned(10).await.unwrap().into_iter().any(|lease| lease.id == self.id);
                let (id, token, error) = (self.id, self.token(0), error("nobody asked"));
                let expected = self.apply(&Input::Abandon { error: error.clone(), retry, verify });
                assert_eq!(found, expected.is_ok());
                let ended =
                    bed.store.abandon(vec![Loss { id, token, error, retry, verify, if_overdue: false }]).await.unwrap();
                assert_eq!(ended, usize::from(expected.is_ok()));
            }
            Op::Cancel { .. } => {
                let expected = match self.apply(&Input::Cancel { by: "ann".into() }) {
                    Ok(()) if self.run.phase == Phase::Done => Cancellation::Canceled,
                    Ok(()) | Err(Refusal::Repeated) => Cancellation::Canceling,
                    Err(_) => Cancellation::Ended,
                };
                assert_eq!(bed.store.cancel(NAMESPACE, self.id, "ann".into()).await.unwrap(), expected);
            }
            Op::GiveUp { back, .. } => {
                let (trigger, error) = (self.trigger(back), error("undeliverable"));
                let expected = self.apply(&Input::GiveUp { n: trigger.n, error: error.clone() }).is_ok();
                assert_eq!(bed.store.give_up(&trigger, error).await.unwrap(), expected);
            }
        }
    }

    async fn compare(&self, bed: &Bed) {
        let kept = bed.get(self.id).await;
        assert_eq!((kept.status, kept.attempt), (self.run.status, self.run.attempt));
        match (kept.phase, self.run.phase) {
            (Phase::Leased(kept), Phase::Leased(lease)) => assert_eq!(kept.token, lease.token),
            (kept, model) => assert_eq!(std::mem::discriminant(&kept), std::mem::discriminant(&model), "{kept:?}"),
        }
        assert_eq!(kept.started_at.is_some(), self.run.attempt > 0);
        assert_eq!(kept.finished_at.is_some(), self.run.status.is_terminal());
        let output = bed.store.output(self.id).await.unwrap();
        assert_eq!(output.is_some(), self.run.status == Status::Succeeded);
        // Only the instant of a retry is the database's own.
        let timeless = |what: &Happening| match what.clone() {
            Happening::AttemptFailed { attempt, token, error, .. } => {
                Happening::AttemptFailed { attempt, token, error, retry_at: Timestamp::UNIX_EPOCH }
            }
            Happening::Parked { attempt, token, reason, .. } => {
                Happening::Parked { attempt, token, reason, poll_at: Timestamp::UNIX_EPOCH }
            }
            Happening::Deferred { attempt, token, reason, .. } => {
                Happening::Deferred { attempt, token, reason, retry_at: Timestamp::UNIX_EPOCH }
            }
            other => other,
        };
        let history: Vec<_> = bed.history(self.id).await.iter().map(timeless).collect();
        assert_eq!(history, self.told.iter().map(timeless).collect::<Vec<_>>());
    }
}

async fn play(bed: &Bed, ops: &[Op]) {
    let mut models = Vec::new();
    for _ in 0..RUNS {
        models.push(Model::new(bed.accepted().await, bed.now().await));
    }
    for op in ops {
        match op.clone() {
            Op::Age => {
                bed.age(LONG.as_secs()).await;
                for model in &mut models {
                    model.now = model.now.saturating_add(SignedDuration::try_from(LONG).unwrap()).unwrap();
                }
            }
            Op::Take => {
                let taken = bed.take().await;
                let taken: BTreeMap<_, _> = taken.iter().map(|out| (out.trigger.id, out.trigger.n)).collect();
                for model in &mut models {
                    let expected = model.apply(&Input::Send).is_ok().then_some(model.run.sends);
                    assert_eq!(taken.get(&model.id).copied(), expected, "{:?}", model.run);
                }
            }
            Op::Unsend { run, .. }
            | Op::Claim { run, .. }
            | Op::ClaimAgain { run }
            | Op::Report { run, .. }
            | Op::Lose { run, .. }
            | Op::Abandon { run, .. }
            | Op::Cancel { run }
            | Op::GiveUp { run, .. } => models[run].step(bed, op.clone()).await,
        }
        for model in &models {
            model.compare(bed).await;
        }
    }
}

async fn random_operations_do_what_the_state_machine_says(bed: Bed) {
    let cases = if bed.clock.is_some() { 40 } else { 15 };
    let lives = prop::collection::vec(op(), 10..40);
    let mut runner = TestRunner::default();
    for case in 0..cases {
        let ops = lives.new_tree(&mut runner).unwrap().current();
        #[allow(clippy::print_stdout, reason = "shown if the case fails")]
        {
            println!("case {case}: {ops:?}");
        }
        play(&bed, &ops).await;
    }
}
