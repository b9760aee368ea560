//! The state machine: what must hold of every transition, wherever it is walked.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod lives;
mod walk;

use std::time::Duration;

use jiff::Timestamp;
use reveille_shared::state::{Input, Phase, Run, Status, Transition};
use reveille_shared::work_request::{Happening, RunError};
use uuid::Uuid;

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

fn held(run: &Run) -> Option<Uuid> {
    match run.phase {
        Phase::Leased(lease) => Some(lease.token),
        _ => None,
    }
}

/// What must hold of every transition (I3, I4): panics if `run` may not become what `transition` says.
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
