//! Walked whole: every reachable state meets every input, and what comes of it is the table in
//! `snapshots/state__walk__table.snap`.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use jiff::SignedDuration;
use reveille_shared::state::{Hold, Input, Joined, Lease, Operation, Phase, Refusal, Run, Transition, apply};
use uuid::Uuid;

use crate::{LATER, accepted, check, error, held, start};

/// How far the walk lets the counters of a run go. Beyond the first few nothing new comes up: the walk
/// checks that runs which differ only in counters answer alike.
const TRIGGERS_WALKED: u32 = 3;

/// The token of the lease under which an attempt runs, in the walk.
fn token_of(attempt: u32) -> Uuid {
    Uuid::from_u128(attempt.into())
}

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
