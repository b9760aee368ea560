//! The rules: what may follow what.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{CANCEL_LIMIT, Hold, Input, Joined, Lease, Operation, Phase, Refusal, Run, Status, Transition};
use crate::work_request::{Asker, Happening, RunError};

/// What `input` does to `run` at `now`.
///
/// # Errors
/// [`Refusal`]: the run stays as it is.
pub fn apply(run: &Run, input: &Input, now: Timestamp) -> Result<Transition, Refusal> {
    if run.status.is_terminal() {
        return Err(Refusal::Ended);
    }
    match input {
        Input::Hold { hold } => match run.phase {
            Phase::Due { at } if at <= now => silently(Run { phase: Phase::Held { since: now, hold: *hold }, ..*run }),
            Phase::Held { hold: held, .. } if held == *hold => Err(Refusal::Repeated),
            // From one limit to another; what waits for earlier fires is let go first.
            Phase::Held { since, hold: held } if held != Hold::Overlap => {
                silently(Run { phase: Phase::Held { since, hold: *hold }, ..*run })
            }
            _ => Err(Refusal::NotDue),
        },
        Input::Admit => match run.phase {
            Phase::Held { hold, .. } => {
                let run = Run { phase: due(now, Duration::ZERO), ..*run };
                // Limits hold and let go too many to tell of each.
                Ok(Transition { run, event: (hold == Hold::Overlap).then_some(Happening::Admitted) })
            }
            _ => Err(Refusal::NotHeld),
        },
        Input::Expire { error } => match run.phase {
            Phase::Held { .. } | Phase::Due { .. } | Phase::Sent { .. } if run.attempt == 0 => {
                end(run, Status::Failed, Happening::Failed { attempt: 0, token: None, error: error.clone() })
            }
            _ => Err(Refusal::Started),
        },
        Input::Refuse { error } => match run.phase {
            Phase::Held { .. } | Phase::Due { .. } if run.attempt == 0 => {
                end(run, Status::Failed, Happening::Failed { attempt: 0, token: None, error: error.clone() })
            }
            _ => Err(Refusal::NotDue),
        },
        Input::Send => match run.phase {
            Phase::Due { at } | Phase::Parked { at } if at <= now => {
                silently(Run { phase: Phase::Sent { at: now }, sends: run.sends + 1, ..*run })
            }
            _ => Err(Refusal::NotDue),
        },
        Input::Unsend { n, after, reason } => {
            let run = the_sent(run, *n, now)?;
            let event = reason.clone().map(|reason| Happening::Returned { reason });
            let at = due_at(now, *after);
            let phase = if run.operation.is_some() { Phase::Parked { at } } else { Phase::Due { at } };
            Ok(Transition { run: Run { phase, ..run }, event })
        }
        Input::Claim { n, lease } => match run.phase {
            Phase::Leased(held) if held.token == lease.token => Err(Refusal::Repeated),
            _ => {
                let run = the_sent(run, *n, now)?;
                if let Some(operation) = run.operation {
                    let lease = Lease { deadline: operation.until, ..*lease };
                    return silently(Run { phase: Phase::Leased(lease), ..run });
                }
                let attempt = run.attempt + 1;
                let run = Run { status: Status::InProgress, phase: Phase::Leased(*lease), attempt, ..run };
                Ok(Transition { run, event: Some(Happening::Started { attempt, worker: lease.worker }) })
            }
        },
        Input::Release { token, .. } if run.operation.is_some() => {
            the_lease_to_park(run, *token)?;
            // Whoever has it next makes the cancel call, if someone has asked for that.
            silently(parked(run, *token, now))
        }
        Input::Release { token, doubt } => {
            the_lease(run, *token)?;
            if run.status == Status::Canceling {
                return canceled(run, Some(*token));
            }
            let event = Happening::Released { attempt: run.attempt, token: *token, doubt: *doubt };
            let run = Run { phase: due(now, Duration::ZERO), doubt: run.doubt || *doubt, ..*run };
            Ok(Transition { run, event: Some(event) })
        }
        Input::Defer { token, after, reason } => {
            the_lease(run, *token)?;
            if run.status == Status::Canceling {
                return canceled(run, Some(*token));
            }
            let at = due_at(now, *after);
            let reason = reason.clone();
            let event = Happening::Deferred { attempt: run.attempt, token: *token, reason, retry_at: at };
            Ok(Transition { run: Run { phase: Phase::Due { at }, operation: None, ..*run }, event: Some(event) })
        }
        Input::Park { token, after } => {
            the_lease_to_park(run, *token)?;
            let at = if run.status == Status::Canceling { now } else { due_at(now, *after) };
            // Told once: it may be asked after for days.
            let event = run.operation.is_none().then_some(Happening::Parked {
                attempt: run.attempt,
                token: Some(*token),
                reason: None,
                poll_at: at,
            });
            Ok(Transition { run: parked(run, *token, at), event })
        }
        Input::Extend { token, until } => {
            the_lease(run, *token)?;
            match run.phase {
                Phase::Leased(lease) if lease.silent_until.is_some_and(|known| known < *until) => {
                    let lease = Lease { silent_until: Some(*until), ..lease };
                    silently(Run { phase: Phase::Leased(lease), ..*run })
                }
                _ => Err(Refusal::Repeated),
            }
        }
        Input::Abandon { error, retry, verify } => match (run.phase, run.operation) {
            (Phase::Parked { .. } | Phase::Sent { .. }, Some(operation)) if operation.until <= now => {
                lose(run, error, *retry, *verify, now)
            }
            _ => Err(Refusal::NotDue),
        },
        Input::Split { token, children } => {
            match token {
                Some(token) => the_lease(run, *token)?,
                None if run.phase == Phase::Children && run.status == Status::Accepted => {}
                None => return Err(Refusal::Started),
            }
            if run.status == Status::Canceling {
                return canceled(run, *token);
            }
            let event = Happening::Split { attempt: run.attempt, token: *token, children: *children };
            let run = Run { status: Status::InProgress, phase: Phase::Children, operation: None, doubt: false, ..*run };
            Ok(Transition { run, event: Some(event) })
        }
        Input::Join { end: joined } => {
            if run.phase != Phase::Children || run.status == Status::Accepted {
                return Err(Refusal::NotHeld);
            }
            let (attempt, token) = (run.attempt, None);
            match joined {
                Joined::Succeeded => {
                    end(run, Status::Succeeded, Happening::Succeeded { attempt, token, verified: false })
                }
                Joined::Failed(error) => {
                    end(run, Status::Failed, Happening::Failed { attempt, token, error: error.clone() })
                }
                Joined::Canceled => canceled(run, token),
            }
        }
        Input::Succeed { token, verified } => {
            the_lease(run, *token)?;
            let event = Happening::Succeeded { attempt: run.attempt, token: Some(*token), verified: *verified };
            end(run, Status::Succeeded, event)
        }
        Input::Fail { token, error, retry } => {
            the_lease(run, *token)?;
            let retry = retry.filter(|_| run.status != Status::Canceling);
            fail(&Run { doubt: false, ..*run }, Some(*token), error, retry, now)
        }
        Input::Stopped { token } => {
            the_lease(run, *token)?;
            canceled(run, Some(*token))
        }
        Input::Lose { token, error, retry, verify } => {
            the_lease(run, *token)?;
            match run.operation {
                // What goes on elsewhere is not lost with the worker that asked after it.
                Some(operation) if now < operation.until && run.status != Status::Canceling => {
                    let (attempt, reason) = (run.attempt, Some(error.to_string()));
                    let event = Happening::Parked { attempt, token: None, reason, poll_at: now };
                    Ok(Transition { run: parked(run, *token, now), event: Some(event) })
                }
                _ => lose(run, error, *retry, *verify, now),
            }
        }
        Input::Cancel { by } => match (run.phase, run.status) {
            (_, Status::Canceling) => Err(Refusal::Repeated),
            (Phase::Children, Status::InProgress) => canceling(run, by, run.phase, now),
            // A worker that lives and does not answer loses the lease, like one that is overdue.
            (Phase::Leased(lease), _) => {
                let deadline = lease.deadline.min(due_at(now, CANCEL_LIMIT));
                canceling(run, by, Phase::Leased(Lease { deadline, ..lease }), now)
            }
            // Who does it elsewhere is to be told.
            (Phase::Parked { .. }, _) => canceling(run, by, Phase::Parked { at: now }, now),
            (Phase::Sent { .. }, _) if run.operation.is_some() => canceling(run, by, run.phase, now),
            _ => {
                let event = Happening::Canceled { attempt: run.attempt, token: None, by: Some(by.clone()) };
                end(run, Status::Canceled, event)
            }
        },
        Input::GiveUp { n, error } => {
            let run = the_sent(run, *n, now)?;
            // It is asked after by one trigger after the other, so that their number says nothing; its time ends it.
            if run.operation.is_some() {
                return Err(Refusal::Started);
            }
            if run.status == Status::Canceling {
                return canceled(&run, None);
            }
            let event = Happening::Failed { attempt: run.attempt, token: None, error: error.clone() };
            end(&run, Status::Failed, event)
        }
    }
}

/// Accepts only the trigger that is out. The first one of a run that is due is out when it says so itself: under a backlog nobody
/// marks it before it is published.
fn the_sent(run: &Run, n: u32, now: Timestamp) -> Result<Run, Refusal> {
    match run.phase {
        Phase::Sent { .. } if run.sends == n => Ok(*run),
        Phase::Due { at } if at <= now && run.sends == 0 && n == 1 => {
            Ok(Run { phase: Phase::Sent { at }, sends: n, ..*run })
        }
        _ => Err(Refusal::OldTrigger),
    }
}

/// Accepts only the lease that is held.
fn the_lease(run: &Run, token: Uuid) -> Result<(), Refusal> {
    match run.phase {
        Phase::Leased(lease) if lease.token == token => Ok(()),
        _ => Err(Refusal::StaleToken),
    }
}

/// The same for one who wants to park what it stands for; told from a repetition.
fn the_lease_to_park(run: &Run, token: Uuid) -> Result<(), Refusal> {
    let has_parked = |operation: Operation| operation.token == token;
    match the_lease(run, token) {
        Err(_) if run.operation.is_some_and(has_parked) => Err(Refusal::Repeated),
        verdict => verdict,
    }
}

/// A run whose lease has ended, and whose operation goes on.
fn parked(run: &Run, token: Uuid, at: Timestamp) -> Run {
    let until = match (run.operation, run.phase) {
        (Some(operation), _) => operation.until,
        (None, Phase::Leased(lease)) => lease.deadline,
        (None, _) => at,
    };
    Run { phase: Phase::Parked { at }, operation: Some(Operation { token, until }), doubt: false, ..*run }
}

/// A run that is to be stopped by whoever does it.
fn canceling(run: &Run, by: &Asker, phase: Phase, now: Timestamp) -> Result<Transition, Refusal> {
    let limit = due_at(now, CANCEL_LIMIT);
    let operation = run.operation.map(|known| Operation { until: known.until.min(limit), ..known });
    let event = Some(Happening::CancelRequested { by: by.clone() });
    Ok(Transition { run: Run { status: Status::Canceling, phase, operation, ..*run }, event })
}

/// An attempt whose end nobody has reported.
fn lose(
    run: &Run,
    error: &RunError,
    retry: Option<Duration>,
    verify: bool,
    now: Timestamp,
) -> Result<Transition, Refusal> {
    if run.status == Status::Canceling {
        return canceled(run, None);
    }
    let retry = retry.or_else(|| verify.then_some(Duration::ZERO));
    fail(&Run { doubt: verify, ..*run }, None, error, retry, now)
}

fn fail(
    run: &Run,
    reporter: Option<Uuid>,
    error: &RunError,
    retry: Option<Duration>,
    now: Timestamp,
) -> Result<Transition, Refusal> {
    let (attempt, error) = (run.attempt, error.clone());
    let run = Run { failures: run.failures + 1, operation: None, ..*run };
    match retry {
        Some(after) => {
            let retry_at = due_at(now, after);
            let event = Happening::AttemptFailed { attempt, token: reporter, error, retry_at };
            Ok(Transition { run: Run { phase: Phase::Due { at: retry_at }, ..run }, event: Some(event) })
        }
        None => end(&run, Status::Failed, Happening::Failed { attempt, token: reporter, error }),
    }
}

/// The end of a run that was asked to stop before.
fn canceled(run: &Run, token: Option<Uuid>) -> Result<Transition, Refusal> {
    end(run, Status::Canceled, Happening::Canceled { attempt: run.attempt, token, by: None })
}

fn end(run: &Run, status: Status, event: Happening) -> Result<Transition, Refusal> {
    Ok(Transition { run: Run { status, phase: Phase::Done, operation: None, ..*run }, event: Some(event) })
}

fn silently(run: Run) -> Result<Transition, Refusal> {
    Ok(Transition { run, event: None })
}

fn due(now: Timestamp, after: Duration) -> Phase {
    Phase::Due { at: due_at(now, after) }
}

fn due_at(now: Timestamp, after: Duration) -> Timestamp {
    let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
    crate::clock::whole_micros(now.saturating_add(after).unwrap_or(Timestamp::MAX))
}
