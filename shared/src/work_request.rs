//! The durable record of one run of one job, and its history.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::fan_out::{Counts, FailPolicy};
use crate::state::{Phase, Status};

/// The largest JSON text of an input, in bytes.
pub const MAX_INPUT: usize = 256 * 1024;
/// The largest JSON text of an output, in bytes; a larger one fails the run.
pub const MAX_OUTPUT: usize = 256 * 1024;

/// Names a work request. Clients treat it as opaque; it is a UUIDv7 (RFC 9562), so ids order by acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkRequestId(pub Uuid);

impl WorkRequestId {
    /// A fresh id for a work request accepted at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanos = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos)))
    }

    /// When it was made, in whole milliseconds (RFC 9562, section 5.7).
    #[must_use]
    pub fn made_at(self) -> Timestamp {
        let millis = i64::try_from(self.0.as_u128() >> 80).expect("48 bits");
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for WorkRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for WorkRequestId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// One run of one job, from acceptance to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkRequest {
    /// Its name.
    pub id: WorkRequestId,
    /// The tenant.
    pub namespace: String,
    /// The job that runs.
    pub job: String,
    /// The version of the job that runs, see [`crate::store::Store::job_version`].
    pub job_version: i64,
    /// The work queue.
    pub queue: String,
    /// The fire that called for it, if any.
    pub fire: Option<FireRef>,
    /// The run whose end called for it, if one did.
    pub chained_from: Option<WorkRequestId>,
    /// The run whose child it is, if it is one.
    pub parent: Option<WorkRequestId>,
    /// The run of which it does again what did not succeed, if it does.
    pub retry_of: Option<WorkRequestId>,
    /// Its children, if it has called for any.
    pub children: Option<Children>,
    /// Where it stands, for callers.
    pub status: Status,
    /// Where its delivery stands, for operators.
    pub phase: Phase,
    /// Attempts opened so far.
    pub attempt: u32,
    /// What the run was given.
    pub input: Value,
    /// What the run creates or changes, as the caller named it.
    pub resource: Option<Value>,
    /// 0 to 100; 100 when SUCCEEDED.
    pub percent: f32,
    /// The run's own words about its progress.
    pub message: Option<String>,
    /// Why it FAILED, or why the last failed attempt did; none once it has SUCCEEDED.
    pub error: Option<RunError>,
    /// Not started by then, it FAILS; none once it has started.
    pub expires_at: Option<Timestamp>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When the first attempt started.
    pub started_at: Option<Timestamp>,
    /// When it reached its terminal state.
    pub finished_at: Option<Timestamp>,
}

/// The children of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Children {
    /// What they run.
    pub job: String,
    /// How far they are.
    pub counts: Counts,
    /// What failed ones mean for the run.
    pub policy: FailPolicy,
    /// No more of them are made.
    pub is_stopped: bool,
}

/// The fire that called for a work request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FireRef {
    /// The schedule's name, in the work request's namespace.
    pub schedule: String,
    /// The due time, or for a fire by hand the instant of asking.
    pub due_at: Timestamp,
    /// Who decided it.
    pub origin: Origin,
}

/// Who decided a fire. Its text is what the store keeps and the API shows: `schedule`, `manual` or `backfill:ID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The schedule itself.
    Schedule,
    /// Someone who asked for a fire now.
    Manual,
    /// The backfill of this id.
    Backfill(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule => f.write_str("schedule"),
            Self::Manual => f.write_str("manual"),
            Self::Backfill(id) => write!(f, "backfill:{id}"),
        }
    }
}

impl FromStr for Origin {
    type Err = UnknownOrigin;

    fn from_str(text: &str) -> Result<Self, UnknownOrigin> {
        match (text, text.strip_prefix("backfill:")) {
            ("schedule", _) => Ok(Self::Schedule),
            ("manual", _) => Ok(Self::Manual),
            (_, Some(id)) => Ok(Self::Backfill(id.to_owned())),
            _ => Err(UnknownOrigin),
        }
    }
}

/// A text that names no origin of a fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected schedule, manual or backfill:ID")]
pub struct UnknownOrigin;

/// Why a run or an attempt failed. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunError {
    /// A stable word for programs, such as `Timeout`, `ExitCode`, `HttpStatus`, `Lost`, `Panic`.
    pub code: String,
    /// One or more sentences for people.
    pub message: String,
}

impl RunError {
    /// An error with a code for programs and a message for people.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// One immutable entry in a work request's history. The first has `seq` 1 and the numbers have no gaps.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryEvent {
    /// Its place in the history.
    pub seq: i32,
    /// When it was recorded, by the database's clock.
    pub at: Timestamp,
    /// What happened, with the facts of it.
    pub what: Happening,
}

/// Who asks for something of a run, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Asker {
    /// `schedule`, `api` or whoever else asks.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl<T: Into<String>> From<T> for Asker {
    fn from(by: T) -> Self {
        Self { by: by.into(), reason: None }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.by)?;
        self.reason.iter().try_for_each(|reason| write!(f, ", because: {reason}"))
    }
}

/// What can happen to a work request. The JSON form is what the store keeps and the API shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Happening {
    /// It was accepted and will reach an end.
    Accepted {
        /// Who asked for it.
        #[serde(flatten)]
        by: Asker,
    },
    /// It waits until runs of an earlier fire have ended.
    Held {
        /// For what, in words.
        reason: String,
    },
    /// What it was held for is over.
    Admitted,
    /// A worker opened an attempt under a lease.
    Started {
        /// Counts from 1.
        attempt: u32,
        /// The worker's incarnation.
        worker: Uuid,
    },
    /// An attempt failed and another one follows.
    AttemptFailed {
        /// The attempt.
        attempt: u32,
        /// The lease under which its worker reported it; none if the lease was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Uuid>,
        /// Why.
        error: RunError,
        /// When the next trigger goes out.
        retry_at: Timestamp,
    },
    /// A worker handed the run back unfinished, for another to start anew.
    Released {
        /// The attempt that was given up; it does not count as failed.
        attempt: u32,
        /// Under which lease.
        token: Uuid,
        /// It was broken off in its course: whether it took effect is asked first.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        doubt: bool,
    },
    /// Whether a lost attempt took effect is not known yet, and is asked again.
    Deferred {
        /// The attempt that has asked.
        attempt: u32,
        /// Under which lease.
        token: Uuid,
        /// What it was told.
        reason: String,
        /// When it is asked again.
        retry_at: Timestamp,
    },
    /// What the attempt has begun elsewhere goes on without it, and is asked after.
    Parked {
        /// The attempt.
        attempt: u32,
        /// Under which lease; none if that was lost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Uuid>,
        /// Why it is told again, if it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When it is asked after next.
        poll_at: Timestamp,
    },
    /// It has called for other runs, its children, and ends as they do.
    Split {
        /// The attempt that did; 0 if it was accepted for that.
        attempt: u32,
        /// Under which lease, if under any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Uuid>,
        /// How many.
        children: u32,
    },
    /// Someone asked for the run to stop.
    CancelRequested {
        /// Who.
        #[serde(flatten)]
        by: Asker,
    },
    /// A trigger could not be delivered and goes out again.
    Returned {
        /// Why.
        reason: String,
    },
    /// Its trigger was lost and was sent again.
    Resent,
    /// It ended well.
    Succeeded {
        /// The attempt that brought it about, or that has found out; 0 if only its children have.
        attempt: u32,
        /// Under which lease; none if it ended with its children.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Uuid>,
        /// This attempt has run nothing: an earlier one that was lost is known to have taken effect.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        verified: bool,
    },
    /// It ended badly.
    Failed {
        /// The last attempt; 0 if none was opened.
        attempt: u32,
        /// The lease under which its worker reported it, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Uuid>,
        /// Why.
        error: RunError,
    },
    /// It ended as someone had asked.
    Canceled {
        /// The last attempt; 0 if none was opened.
        attempt: u32,
        /// The lease under which its worker reported it, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<Uuid>,
        /// Who asked for it, if nothing had to be stopped first: else an entry before says so.
        #[serde(flatten)]
        by: Option<Asker>,
    },
}

impl Happening {
    /// The run's status from this entry on; none where the entry alone does not tell, as it stays what it was.
    #[must_use]
    pub const fn status(&self) -> Option<Status> {
        Some(match self {
            Self::Accepted { .. } => Status::Accepted,
            Self::Started { .. }
            | Self::AttemptFailed { .. }
            | Self::Released { .. }
            | Self::Deferred { .. }
            | Self::Split { .. } => Status::InProgress,
            Self::CancelRequested { .. } => Status::Canceling,
            Self::Succeeded { .. } => Status::Succeeded,
            Self::Failed { .. } => Status::Failed,
            Self::Canceled { .. } => Status::Canceled,
            Self::Held { .. } | Self::Admitted | Self::Returned { .. } | Self::Resent | Self::Parked { .. } => {
                return None;
            }
        })
    }
}

/// One line that a run printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The attempt that printed it.
    pub attempt: u32,
    /// Orders the lines of one attempt, without gaps except where lines were dropped beyond the cap.
    pub seq: i32,
    /// When the worker read it.
    pub at: Timestamp,
    /// Where it was printed.
    pub stream: Stream,
    /// Without its line end.
    pub text: String,
}

/// Where a run printed a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Reveille's own remarks about the run.
    System,
}
