//! The work request's whole state machine: what a run is, what can happen to it, and one pure function, [`apply`].
//!
//! A run has a public [`Status`] and a delivery [`Phase`]. Whatever happens to it is an [`Input`];
//! `apply` answers with the next state and the history entry, or refuses. Stores keep the result
//! in the transaction that read the state; no rule is written again in SQL. The table of all states
//! and inputs is `snapshots/` beside this crate's tests and doubles as the documentation (I3, I4).

mod apply;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::apply::apply;
use crate::work_request::{Asker, Happening, RunError};

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
    /// Someone asked a run that holds a lease, has begun something elsewhere or has children to stop; a report, the loss of
    /// its lease or the end of its children ends it.
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
    /// What its attempt has begun elsewhere goes on: a trigger is to go out at this time, for a worker to ask after it.
    Parked {
        /// When.
        at: Timestamp,
    },
    /// Runs that it has called for are under way; of its own nothing is to be delivered.
    Children,
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
    /// Until when its holder may be silent, likewise; none for one whose beats tell that it lives.
    pub silent_until: Option<Timestamp>,
}

impl Lease {
    /// When it is to be taken for lost.
    #[must_use]
    pub fn ends_at(&self) -> Timestamp {
        self.silent_until.map_or(self.deadline, |until| until.min(self.deadline))
    }
}

/// What an attempt has begun elsewhere and that goes on without a lease, until a later lease finds out how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// The lease under which it was looked after last.
    pub token: Uuid,
    /// When the attempt is past its time-out and grace.
    pub until: Timestamp,
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
    /// What the present attempt has begun elsewhere, if it has: the next lease goes on with that, and opens no attempt.
    pub operation: Option<Operation>,
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
        /// It was broken off in its course: whether it took effect is to be asked before it is begun anew.
        doubt: bool,
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
    /// What the attempt has begun elsewhere goes on, and the worker need not wait for it.
    Park {
        /// Its lease.
        token: Uuid,
        /// When to ask after it.
        after: Duration,
    },
    /// The holder of a lease without beats gives a sign of life.
    Extend {
        /// Its lease.
        token: Uuid,
        /// Until when it may be silent from here on.
        until: Timestamp,
    },
    /// What was begun elsewhere is past its time, and no worker is there to say so.
    Abandon {
        /// What is known of it.
        error: RunError,
        /// As for [`Input::Fail`].
        retry: Option<Duration>,
        /// As for [`Input::Lose`].
        verify: bool,
    },
    /// It has called for other runs, its children, and ends as they do.
    Split {
        /// Its lease; none for one that was born for that.
        token: Option<Uuid>,
        /// How many.
        children: u32,
    },
    /// Its children have ended.
    Join {
        /// What that means for it.
        end: Joined,
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
        /// Who, and why.
        by: Asker,
    },
    /// Trigger `n` can't be delivered, ever.
    GiveUp {
        /// Which trigger.
        n: u32,
        /// Why.
        error: RunError,
    },
}

/// What the ends of all of its children mean for a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Joined {
    /// As many have succeeded as had to.
    Succeeded,
    /// They have not.
    Failed(RunError),
    /// They were canceled with it.
    Canceled,
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
