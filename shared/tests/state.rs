//! The state machine, walked whole: every reachable state meets every input, and what comes of it is the
//! table in `snapshots/state__table.snap`. Then long random lives, in which old names must do no harm.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use reveille_shared::state::{Hold, Input, Joined, Lease, Operation, Phase, Refusal, Run, Status, Transition, apply};
use reveille_shared::work_request::{Happening, RunError};
use uuid::Uuid;

/// How far the walk lets the counters of a run go. Beyond the first few nothing new comes up: the walk
/// checks that runs which differ only in counters answer alike.
const TRIGGERS_WALKED: u32 = 3;

const LATER: Duration = Duration::from_secs(60);

fn start() -> Timestamp {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

/// The birth of every run.
fn accepted(at: Timestamp) -> Run {
    Run {
        status: Status::Accepted,
        phase: Phase::Due { at },
        sends: 0,
        attempt: 0,
        failures: 0,
        doubt: false,
        operation: None,
    }
}

fn error() -> RunError {
    RunError::new("Test", "it was to be")
}

/// The token of the lease under which an attempt runs, in the walk.
fn token_of(attempt: u32) -> Uuid {
    Uuid::from_u128(attempt.into())
}

fn held(run: &Run) -> Option<Uuid> {
    match run.phase {
        Phase::Leased(lease) => Some(lease.token),
        _ => None,
    }
}

// --- what must hold of every transition (I3, I4) ---

/// Panics if `run` may not become what `transition` says.
fn check(run: &Run, input: &Input, transition: &Transition) {
    let (after, event) = (&transition.run, &transition.event);
    let context = format!("{run:?}\n  {input:?}\n  {transition:?}");

    // States move forward only.
    assert!(!run.status.is_terminal(), "a terminal state changed: {context}");
    let forward = match run.status {
        Status::Accepted => after.status != Status::Canceling,
        Status::InProgress => after.status != Status::Accepted,
        Status::Canceling => after.status == Status::Canceling || after.status.is_terminal(),
        _ => false,
    };
    assert!(forward, "a step backwards: {context}");
    if after.status == Status::Canceling {
        let is_there_to_stop = held(after).is_some() || after.operation.is_some() || after.phase == Phase::Children;
        assert!(is_there_to_stop, "CANCELING with nothing to stop: {context}");
    }
    // What goes on elsewhere ends with its attempt, and neither is prolonged.
    if let (Some(before), Some(now)) = (run.operation, after.operation) {
        assert!(now.until <= before.until, "an operation prolonged: {context}");
    }
    if let Phase::Parked { .. } = after.phase {
        assert!(after.operation.is_some() && after.attempt > 0, "parked for nothing: {context}");
    }
    if after.failures > run.failures || after.status.is_terminal() {
        assert_eq!(after.operation, None, "an operation outlives its attempt: {context}");
    }
    assert_eq!(after.phase == Phase::Done, after.status.is_terminal(), "DONE is not the end: {context}");
    if after.status == Status::Accepted {
        assert_eq!((after.attempt, held(after)), (0, None), "an attempt of one that is only accepted: {context}");
    }

    // Attempts are opened by claims, triggers numbered by sends, failures counted by failing.
    let is_claim = matches!(input, Input::Claim { .. });
    let opens = is_claim && run.operation.is_none();
    assert_eq!(after.attempt, run.attempt + u32::from(opens), "attempts: {context}");
    // A first trigger that arrives was sent, marked or not.
    let is_first = matches!(run.phase, Phase::Due { .. }) && run.sends == 0;
    let names_first =
        matches!(input, Input::Claim { n: 1, .. } | Input::Unsend { n: 1, .. } | Input::GiveUp { n: 1, .. });
    let is_unmarked = is_first && names_first;
    assert_eq!(after.sends, run.sends + u32::from(is_unmarked || matches!(input, Input::Send)), "sends: {context}");
    assert!(after.failures >= run.failures && after.failures <= after.attempt, "failures: {context}");
    let failing = matches!(input, Input::Fail { .. } | Input::Lose { .. } | Input::Abandon { .. });
    assert!(failing || after.failures == run.failures, "a failure of what did not fail: {context}");

    // At most one lease: a claim takes the only trigger, and until it ends no other lease can come.
    match (held(run), held(after)) {
        (None, Some(_)) => {
            let was_sent = matches!(run.phase, Phase::Sent { .. }) || is_unmarked;
            assert!(is_claim && was_sent, "a lease from nowhere: {context}");
        }
        (Some(before), Some(now)) => assert_eq!(before, now, "the lease changed hands: {context}"),
        _ => {}
    }

    // The history tells of each change that a caller can see.
    if after.status != run.status || after.attempt != run.attempt || after.failures != run.failures {
        assert!(event.is_some(), "untold: {context}");
    }
    let told_end =
        matches!(event, Some(Happening::Succeeded { .. } | Happening::Failed { .. } | Happening::Canceled { .. }));
    assert_eq!(told_end, after.status.is_terminal(), "the history ends with the run: {context}");
}

// --- the walk ---

/// Time passes until the trigger is due: not an input, but part of the walk.
fn wait(run: &Run) -> Option<Run> {
    match run.phase {
        Phase::Due { at } if at > start() => Some(Run { phase: Phase::Due { at: start() }, ..*run }),
        Phase::Parked { at } if at > start() => Some(Run { phase: Phase::Parked { at: start() }, ..*run }),
        Phase::Parked { .. } | Phase::Sent { .. } => run
            .operation
            .filter(|operation| operation.until > start())
            .map(|known| Run { operation: Some(Operation { until: start(), ..known }), ..*run }),
        _ => None,
    }
}

/// Every kind of input, with matching and other names, by its name in the table.
fn inputs(run: &Run) -> Vec<(&'static str, Input)> {
    // Each lease that takes over an operation has a token of its own, although its attempt is the same.
    let number = run.sends;
    let lease = |number: u32| Lease {
        token: token_of(number),
        worker: Uuid::from_u128(77),
        deadline: start().saturating_add(SignedDuration::from_secs(60)).unwrap(),
        silent_until: Some(start()),
    };
    let held = held(run).unwrap_or_else(|| token_of(number + 1));
    let stale = token_of(number.wrapping_sub(7));
    let unsend = |n, after, reason: Option<&str>| Input::Unsend { n, after, reason: reason.map(str::to_owned) };
    let fail = |token, retry| Input::Fail { token, error: error(), retry };
    let lose = |token, retry, verify| Input::Lose { token, error: error(), retry, verify };
    let older = run.sends.wrapping_sub(1);
    // A token belongs to one trigger; while it is held that is the last one.
    let claimed_with = if self::held(run).is_some() { run.sends } else { older };
    let abandon = |retry, verify| Input::Abandon { error: error(), retry, verify };
    let join = |end| Input::Join { end };
    vec![
        ("hold for a slot", Input::Hold { hold: Hold::Concurrency }),
        ("hold for a rate", Input::Hold { hold: Hold::Rate }),
        ("admit", Input::Admit),
        ("expire", Input::Expire { error: error() }),
        ("refuse", Input::Refuse { error: error() }),
        ("send", Input::Send),
        ("unsend", unsend(run.sends, Duration::ZERO, None)),
        ("unsend, wait, with a reason", unsend(run.sends, LATER, Some("no route"))),
        ("unsend the next trigger", unsend(run.sends + 1, LATER, None)),
        ("unsend an older trigger", unsend(older, Duration::ZERO, None)),
        ("claim", Input::Claim { n: run.sends, lease: lease(number) }),
        ("claim again under the same token", Input::Claim { n: claimed_with, lease: lease(claimed_with) }),
        ("claim an older trigger", Input::Claim { n: older, lease: lease(number + 1) }),
        ("claim the next trigger", Input::Claim { n: run.sends + 1, lease: lease(number + 1) }),
        ("release", Input::Release { token: held, doubt: false }),
        ("release, in doubt", Input::Release { token: held, doubt: true }),
        ("release, stale token", Input::Release { token: stale, doubt: false }),
        ("succeed", Input::Succeed { token: held, verified: false }),
        ("succeed, stale token", Input::Succeed { token: stale, verified: false }),
        ("fail", fail(held, None)),
        ("fail, retry at once", fail(held, Some(Duration::ZERO))),
        ("fail, retry later", fail(held, Some(LATER))),
        ("fail, stale token", fail(stale, None)),
        ("fail, retry, stale token", fail(stale, Some(LATER))),
        ("stopped", Input::Stopped { token: held }),
        ("stopped, stale token", Input::Stopped { token: stale }),
        ("lose", lose(held, None, false)),
        ("lose, retry later", lose(held, Some(LATER), false)),
        ("lose, verify", lose(held, None, true)),
        ("lose, verify and retry later", lose(held, Some(LATER), true)),
        ("lose, stale token", lose(stale, None, false)),
        ("lose, retry, stale token", lose(stale, Some(LATER), true)),
        ("defer", Input::Defer { token: held, after: LATER, reason: "still running".into() }),
        ("defer, stale token", Input::Defer { token: stale, after: LATER, reason: "still running".into() }),
        ("park", Input::Park { token: held, after: LATER }),
        ("park, stale token", Input::Park { token: stale, after: LATER }),
        ("extend", Input::Extend { token: held, until: start().saturating_add(SignedDuration::from_secs(9)).unwrap() }),
        ("extend, no longer", Input::Extend { token: held, until: start() }),
        ("extend, stale token", Input::Extend { token: stale, until: start() }),
        ("abandon", abandon(None, false)),
        ("abandon, retry later", abandon(Some(LATER), false)),
        ("abandon, verify", abandon(None, true)),
        ("split", Input::Split { token: Some(held), children: 3 }),
        ("split, stale token", Input::Split { token: Some(stale), children: 3 }),
        ("split from birth", Input::Split { token: None, children: 3 }),
        ("join, succeeded", join(Joined::Succeeded)),
        ("join, failed", join(Joined::Failed(error()))),
        ("join, canceled", join(Joined::Canceled)),
        ("verified", Input::Succeed { token: held, verified: true }),
        ("cancel", Input::Cancel { by: "someone".into() }),
        ("give up", Input::GiveUp { n: run.sends, error: error() }),
        ("give up the next trigger", Input::GiveUp { n: run.sends + 1, error: error() }),
        ("give up an older trigger", Input::GiveUp { n: older, error: error() }),
    ]
}

/// A state's name in the table: all but the counters.
fn name(run: &Run) -> String {
    let waits = matches!(run.phase, Phase::Held { .. } | Phase::Due { .. });
    let first = if waits && run.sends == 0 { " for the first time" } else { "" };
    let phase = match run.phase {
        Phase::Held { hold, .. } => return format!("{} held for {}{first}", run.status, hold.as_str()),
        Phase::Due { at } if at <= start() => "due",
        Phase::Due { .. } => "due later",
        Phase::Sent { .. } => "sent",
        Phase::Leased(lease) if lease.silent_until.is_some_and(|until| until > start()) => "leased, heard of lately",
        Phase::Leased(_) => "leased",
        Phase::Parked { at } if at <= start() => "parked",
        Phase::Parked { .. } => "parked for later",
        Phase::Children => "children",
        Phase::Done => "done",
    };
    let operation = match run.operation {
        Some(operation) if operation.until <= start() => " for an operation out of time",
        Some(_) => " for an operation",
        None => "",
    };
    format!("{} {phase}{first}{operation}", run.status)
}

fn answer(run: &Run, result: &Result<Transition, Refusal>) -> String {
    match result {
        Err(refusal) => format!("refused: {refusal:?}"),
        Ok(Transition { run: after, event }) => {
            let mut answer = name(after);
            let mut counted = |what: &str, before: u32, after: u32| {
                if after != before {
                    write!(answer, ", {what} +{}", after - before).unwrap();
                }
            };
            counted("trigger", run.sends, after.sends);
            counted("attempt", run.attempt, after.attempt);
            counted("failure", run.failures, after.failures);
            match event {
                Some(event) => {
                    let json = serde_json::to_value(event).unwrap();
                    write!(answer, "; event {}", json["type"].as_str().unwrap()).unwrap();
                }
                None => answer.push_str("; no event"),
            }
            answer
        }
    }
}

/// State → input → answer, for all that can be reached from `births`; and state → states one step on.
#[derive(Default)]
struct Walk {
    table: BTreeMap<String, Vec<(&'static str, String)>>,
    /// Order of discovery, for the reader.
    order: Vec<String>,
    next: BTreeMap<String, BTreeSet<String>>,
}

fn walk(births: &[Run]) -> Walk {
    let mut walk = Walk::default();
    let mut seen: HashSet<String> = births.iter().map(|run| format!("{run:?}")).collect();
    let mut queue: VecDeque<Run> = births.iter().copied().collect();
    while let Some(run) = queue.pop_front() {
        let mut rows = Vec::new();
        let mut reached: Vec<Run> = wait(&run).into_iter().collect();
        for (label, input) in inputs(&run) {
            let result = apply(&run, &input, start());
            if let Ok(transition) = &result {
                check(&run, &input, transition);
                reached.push(transition.run);
            }
            rows.push((label, answer(&run, &result)));
        }
        for after in reached {
            walk.next.entry(name(&run)).or_default().insert(name(&after));
            if after.sends <= TRIGGERS_WALKED && seen.insert(format!("{after:?}")) {
                queue.push_back(after);
            }
        }
        match walk.table.get(&name(&run)) {
            Some(known) => assert_eq!(*known, rows, "two runs in {} answer differently", name(&run)),
            None => {
                walk.order.push(name(&run));
                walk.table.insert(name(&run), rows);
            }
        }
    }
    walk
}

fn births() -> [Run; 4] {
    let later = start().saturating_add(SignedDuration::from_secs(60)).unwrap();
    let held = Phase::Held { since: start(), hold: Hold::Overlap };
    let parent = Run { phase: Phase::Children, ..accepted(start()) };
    [accepted(start()), accepted(later), Run { phase: held, ..accepted(start()) }, parent]
}

/// A list over as many indented lines as it needs.
fn lines(items: &[&str]) -> String {
    items.chunks(4).map(|some| format!("\n        {}", some.join("  |  "))).collect()
}

#[test]
fn table() {
    let walk = walk(&births());
    let mut text = String::new();
    for state in &walk.order {
        writeln!(text, "{state}").unwrap();
        let rows = &walk.table[state];
        let mut refused: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (input, answer) in rows {
            match answer.strip_prefix("refused: ") {
                Some(why) => refused.entry(why).or_default().push(input),
                None => writeln!(text, "    {input:<36}→ {answer}").unwrap(),
            }
        }
        for (why, inputs) in refused {
            let inputs = if inputs.len() == rows.len() { " everything".into() } else { lines(&inputs) };
            writeln!(text, "    refused, {why}:{inputs}").unwrap();
        }
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

#[test]
fn only_these_states_can_be_reached() {
    let plain = |state: &str| {
        let state = state.split(" for an operation").next().unwrap_or_default();
        state.replace(", heard of lately", "").replace(" for the first time", "")
    };
    let reached: BTreeSet<String> = walk(&births()).order.iter().map(|state| plain(state)).collect();
    let expected = [
        "ACCEPTED children",
        "ACCEPTED due",
        "ACCEPTED due later",
        "ACCEPTED held for concurrency",
        "ACCEPTED held for overlap",
        "ACCEPTED held for rate",
        "ACCEPTED sent",
        "CANCELED done",
        "CANCELING children",
        "CANCELING leased",
        "CANCELING parked",
        "CANCELING parked for later",
        "CANCELING sent",
        "FAILED done",
        "IN_PROGRESS children",
        "IN_PROGRESS due",
        "IN_PROGRESS due later",
        "IN_PROGRESS held for concurrency",
        "IN_PROGRESS held for rate",
        "IN_PROGRESS leased",
        "IN_PROGRESS parked",
        "IN_PROGRESS parked for later",
        "IN_PROGRESS sent",
        "SUCCEEDED done",
    ];
    assert_eq!(reached.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn every_state_can_reach_an_end_and_no_end_can_be_left() {
    let walk = walk(&births());
    let is_end = |state: &str| state.ends_with(" done");
    let mut ending: BTreeSet<&str> = walk.order.iter().map(String::as_str).filter(|state| is_end(state)).collect();
    loop {
        let leads_to_end = |state: &&String| {
            walk.next.get(*state).is_some_and(|next| next.iter().any(|n| ending.contains(n.as_str())))
        };
        let more: Vec<&str> = walk.order.iter().filter(leads_to_end).map(String::as_str).collect();
        let before = ending.len();
        ending.extend(more);
        if ending.len() == before {
            break;
        }
    }
    let stuck: Vec<_> = walk.order.iter().filter(|state| !ending.contains(state.as_str())).collect();
    assert!(stuck.is_empty(), "no way to an end from {stuck:?}");
    for (state, rows) in &walk.table {
        let ended = rows.iter().all(|(_, answer)| answer == "refused: Ended");
        assert_eq!(ended, is_end(state), "{state}");
    }
}

// --- random lives ---

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
