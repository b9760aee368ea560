//! The work request's whole state machine: one pure function, [`apply`].
//!
//! A run has a public [`Status`] and a delivery [`Phase`]. Whatever happens to it is an [`Input`];
//! `apply` answers with the next state and the history entry, or refuses. Stores keep the result
//! in the transaction that read the state; no rule is written again in SQL. The table of all states
//! and inputs is `snapshots/` beside this crate's tests and doubles as the documentation (I3, I4).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::work_request::{Happening, RunError};

/// How long a worker may take to answer a cancel before its lease is taken for lost.
pub const CANCEL_LIMIT: Duration = Duration::from_secs(60);

/// Where a work request stands, for callers. Moves only forward (I4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Recorded; no attempt yet. A claim moves it on; a cancel or an undeliverable trigger ends it.
    Accepted,
    /// An attempt was opened; retries stay here.
    InProgress,
    /// Someone asked a run that holds a lease to stop; its report or the loss of its lease ends it.
    Canceling,
    /// Terminal: took effect.
    Succeeded,
    /// Terminal: did not, or nobody knows.
    Failed,
    /// Terminal: stopped on request.
    Canceled,
}

impl Status {
    /// All of them, in order.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::InProgress, Self::Canceling, Self::Succeeded, Self::Failed, Self::Canceled];

    /// Whether it never changes again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }

    /// The text on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "ACCEPTED",
            Self::InProgress => "IN_PROGRESS",
            Self::Canceling => "CANCELING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus)
    }
}

/// A text that names no status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of ACCEPTED, IN_PROGRESS, CANCELING, SUCCEEDED, FAILED, CANCELED")]
pub struct UnknownStatus;

/// Where a run's delivery stands. Every sweep selects by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waits to be admitted.
    Held {
        /// Since when.
        since: Timestamp,
        /// For what.
        hold: Hold,
    },
    /// A trigger is to go out at this time.
    Due {
        /// When.
        at: Timestamp,
    },
    /// The trigger with the run's present number of sends is, or may be, with the broker.
    Sent {
        /// When it was handed to the broker last.
        at: Timestamp,
    },
    /// A worker may execute and report.
    Leased(Lease),
    /// Nothing more is to be delivered.
    Done,
}

/// For what a held run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hold {
    /// Runs of an earlier fire of its schedule have not ended.
    Overlap,
    /// As many runs as may be under way at one time are.
    Concurrency,
    /// As many runs as may start within a time have.
    Rate,
}

impl Hold {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Overlap, Self::Concurrency, Self::Rate];

    /// The text in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
        }
    }

    /// For what it waits, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Overlap => "runs of an earlier fire have not ended",
            Self::Concurrency => "as many runs as may be under way at one time are",
            Self::Rate => "as many runs as may start within a time have",
        }
    }
}

/// A worker's right to execute and report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Fencing token: chosen by the worker with its claim, so that a repeated claim is told from a second one.
    pub token: Uuid,
    /// The worker's incarnation.
    pub worker: Uuid,
    /// When the attempt is past its time-out and grace, by the database's clock.
    pub deadline: Timestamp,
}

/// All that the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// For callers.
    pub status: Status,
    /// For delivery.
    pub phase: Phase,
    /// Triggers numbered so far; a claim names the last one.
    pub sends: u32,
    /// Attempts opened so far.
    pub attempt: u32,
    /// Attempts that count against the retry policy.
    pub failures: u32,
    /// An attempt was lost, and whether it took effect is to be asked before anything else.
    pub doubt: bool,
}

/// What can happen to a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// It is due, and has to wait for something else.
    Hold {
        /// For what.
        hold: Hold,
    },
    /// What it was held for is over.
    Admit,
    /// It can't be run at all, and no attempt is opened.
    Refuse {
        /// Why.
        error: RunError,
    },
    /// It has not started in time, and its time is over.
    Expire {
        /// Why, in words.
        error: RunError,
    },
    /// The dispatcher hands the next trigger to the broker.
    Send,
    /// The broker did not take trigger `n`: it goes out again later.
    Unsend {
        /// Which trigger.
        n: u32,
        /// How long to wait.
        after: Duration,
        /// Why, when it is worth an entry in the history.
        reason: Option<String>,
    },
    /// A worker that received trigger `n` asks for the lease.
    Claim {
        /// Which trigger.
        n: u32,
        /// The lease that it asks for.
        lease: Lease,
    },
    /// The worker hands the run back unfinished.
    Release {
        /// Its lease.
        token: Uuid,
    },
    /// The worker has asked whether a lost attempt took effect, and is to ask again later.
    Defer {
        /// Its lease.
        token: Uuid,
        /// How long to wait.
        after: Duration,
        /// What it was told.
        reason: String,
    },
    /// The worker reports success.
    Succeed {
        /// Its lease.
        token: Uuid,
        /// Nothing was run: an attempt that was lost is known to have taken effect.
        verified: bool,
    },
    /// The worker reports failure.
    Fail {
        /// Its lease.
        token: Uuid,
        /// Why.
        error: RunError,
        /// How long to wait before the next attempt, if the retry policy grants one.
        retry: Option<Duration>,
    },
    /// The worker stopped the handler because someone had asked.
    Stopped {
        /// Its lease.
        token: Uuid,
    },
    /// The reconciler found the lease's holder dead, or past the deadline.
    Lose {
        /// The lost lease.
        token: Uuid,
        /// What is known of it.
        error: RunError,
        /// As for [`Input::Fail`].
        retry: Option<Duration>,
        /// Whether it took effect is to be asked: another attempt is opened for that, even if no retry is granted.
        verify: bool,
    },
    /// Someone asks for it to stop.
    Cancel {
        /// Who.
        by: String,
    },
    /// Trigger `n` can't be delivered, ever.
    GiveUp {
        /// Which trigger.
        n: u32,
        /// Why.
        error: RunError,
    },
}

/// Why an input changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Has happened already under the same name; not an error.
    #[error("has happened already")]
    Repeated,
    /// The trigger is an older one, or its claim was taken.
    #[error("the trigger is no longer the one to act on")]
    OldTrigger,
    /// The lease has ended.
    #[error("the lease is not, or no longer, held under this token")]
    StaleToken,
    /// It is not to be sent now.
    #[error("no trigger is due")]
    NotDue,
    /// Nothing holds it.
    #[error("it is not held")]
    NotHeld,
    /// An attempt was opened.
    #[error("it has started")]
    Started,
    /// The terminal state was reached.
    #[error("the work request has ended")]
    Ended,
}

/// What an input does to a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The state from here on.
    pub run: Run,
    /// The entry in the history, if it is worth one.
    pub event: Option<Happening>,
}

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
            Phase::Due { at } if at <= now => {
                silently(Run { phase: Phase::Sent { at: now }, sends: run.sends + 1, ..*run })
            }
            _ => Err(Refusal::NotDue),
        },
        Input::Unsend { n, after, reason } => {
            the_sent(run, *n)?;
            let event = reason.clone().map(|reason| Happening::Returned { reason });
            Ok(Transition { run: Run { phase: due(now, *after), ..*run }, event })
        }
        Input::Claim { n, lease } => match run.phase {
            Phase::Leased(held) if held.token == lease.token => Err(Refusal::Repeated),
            _ => {
                the_sent(run, *n)?;
                let attempt = run.attempt + 1;
                let run = Run { status: Status::InProgress, phase: Phase::Leased(*lease), attempt, ..*run };
                Ok(Transition { run, event: Some(Happening::Started { attempt, worker: lease.worker }) })
            }
        },
        Input::Release { token } => {
            the_lease(run, *token)?;
            if run.status == Status::Canceling {
                return end(run, Status::Canceled, Happening::Canceled { attempt: run.attempt, token: Some(*token) });
            }
            let event = Happening::Released { attempt: run.attempt, token: *token };
            Ok(Transition { run: Run { phase: due(now, Duration::ZERO), ..*run }, event: Some(event) })
        }
        Input::Defer { token, after, reason } => {
            the_lease(run, *token)?;
            if run.status == Status::Canceling {
                return end(run, Status::Canceled, Happening::Canceled { attempt: run.attempt, token: Some(*token) });
            }
            let at = due_at(now, *after);
            let reason = reason.clone();
            let event = Happening::Deferred { attempt: run.attempt, token: *token, reason, retry_at: at };
            Ok(Transition { run: Run { phase: Phase::Due { at }, ..*run }, event: Some(event) })
        }
        Input::Succeed { token, verified } => {
            the_lease(run, *token)?;
            let event = Happening::Succeeded { attempt: run.attempt, token: *token, verified: *verified };
            end(run, Status::Succeeded, event)
        }
        Input::Fail { token, error, retry } => {
            the_lease(run, *token)?;
            let retry = retry.filter(|_| run.status != Status::Canceling);
            fail(&Run { doubt: false, ..*run }, Some(*token), error, retry, now)
        }
        Input::Stopped { token } => {
            the_lease(run, *token)?;
            end(run, Status::Canceled, Happening::Canceled { attempt: run.attempt, token: Some(*token) })
        }
        Input::Lose { token, error, retry, verify } => {
            the_lease(run, *token)?;
            if run.status == Status::Canceling {
                return end(run, Status::Canceled, Happening::Canceled { attempt: run.attempt, token: None });
            }
            let retry = retry.or_else(|| verify.then_some(Duration::ZERO));
            fail(&Run { doubt: *verify, ..*run }, None, error, retry, now)
        }
        Input::Cancel { by } => match (run.phase, run.status) {
            (Phase::Leased(_), Status::Canceling) => Err(Refusal::Repeated),
            (Phase::Leased(lease), _) => {
                // A worker that lives and does not answer loses the lease, like one that is overdue.
                let deadline = lease.deadline.min(due_at(now, CANCEL_LIMIT));
                let phase = Phase::Leased(Lease { deadline, ..lease });
                let event = Some(Happening::CancelRequested { by: by.clone() });
                Ok(Transition { run: Run { status: Status::Canceling, phase, ..*run }, event })
            }
            _ => end(run, Status::Canceled, Happening::Canceled { attempt: run.attempt, token: None }),
        },
        Input::GiveUp { n, error } => {
            the_sent(run, *n)?;
            let event = Happening::Failed { attempt: run.attempt, token: None, error: error.clone() };
            end(run, Status::Failed, event)
        }
    }
}

/// Accepts only the trigger that is out.
fn the_sent(run: &Run, n: u32) -> Result<(), Refusal> {
    match run.phase {
        Phase::Sent { .. } if run.sends == n => Ok(()),
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

fn fail(
    run: &Run,
    reporter: Option<Uuid>,
    error: &RunError,
    retry: Option<Duration>,
    now: Timestamp,
) -> Result<Transition, Refusal> {
    let (attempt, error) = (run.attempt, error.clone());
    let run = Run { failures: run.failures + 1, ..*run };
    match retry {
        Some(after) => {
            let retry_at = due_at(now, after);
            let event = Happening::AttemptFailed { attempt, token: reporter, error, retry_at };
            Ok(Transition { run: Run { phase: Phase::Due { at: retry_at }, ..run }, event: Some(event) })
        }
        None => end(&run, Status::Failed, Happening::Failed { attempt, token: reporter, error }),
    }
}

fn end(run: &Run, status: Status, event: Happening) -> Result<Transition, Refusal> {
    Ok(Transition { run: Run { status, phase: Phase::Done, ..*run }, event: Some(event) })
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
