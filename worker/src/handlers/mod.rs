//! The business logic: one file per kind of handler, one closed set of results.
//!
//! A handler is given a [`Run`] and answers with a JSON output or a [`RunFailure`]. It may be dropped at
//! any await; what it started outside of this process it must end in a drop guard. What the worker's policy does not allow
//! is refused right before it would be begun.

pub(crate) mod command;
pub(crate) mod env;
pub(crate) mod function;
pub(crate) mod http;
mod lines;
mod printed;
#[cfg(feature = "ssh")]
pub(crate) mod ssh;
pub(crate) mod template;
pub(crate) mod verify;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use reveille_shared::definition::{Handler, Job};
use reveille_shared::work_request::{Stream, WorkRequestId};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::env::Variables;
pub use self::function::{DuplicateFunction, Functions, FunctionsBuilder};
use crate::children::Children;
use crate::policy::Policy;
use crate::report::Sink;
use crate::runs::{Handle, Why};

/// One attempt, as its handler sees it.
#[derive(Debug)]
pub struct Run {
    /// The work request. The same for all attempts, so it serves as an idempotency key.
    pub id: WorkRequestId,
    /// Counts from 1.
    pub attempt: u32,
    /// The tenant.
    pub namespace: String,
    /// The job.
    pub job: String,
    /// The schedule that called for it, if one did.
    pub schedule: Option<String>,
    /// The due time; for a run that no schedule called for, when it was accepted.
    pub scheduled_for: Timestamp,
    /// When the run was accepted.
    pub accepted_at: Timestamp,
    /// What the run was given.
    pub input: Value,
    /// Fires when the run is to end early: someone canceled it, its time is over, or the worker stops. A handler
    /// that heeds it returns an error soon; one that succeeds nevertheless is believed; one that does
    /// neither is dropped after a grace period.
    pub stop: CancellationToken,
    /// When its time is over.
    pub deadline: Instant,
    pub(crate) sink: Sink,
    pub(crate) handle: Arc<Handle>,
    /// Takes the inputs of its children, if the handler is to hand them over.
    pub(crate) children: Option<Arc<Children>>,
}

impl Run {
    /// Says how far the run is: 0 to 100, and a few words. Cheap; of many only the latest is kept.
    pub fn progress(&self, percent: f32, message: &str) {
        self.sink.progress(percent, Some(message));
    }

    /// Adds a line to the run's log. Beyond 1 MiB lines are counted but not kept.
    pub async fn log(&self, stream: Stream, line: &str) {
        self.sink.log(stream, line).await;
    }

    /// Hands over inputs: if this attempt succeeds, each becomes a run of the job that the job's `fan_out` names, as a
    /// child of this run, which ends with them. They are kept as they come, so that very many take no memory.
    ///
    /// # Errors
    /// A failure that no retry can mend, to be passed on: the job has no `fan_out`, or one with `from`; there are more than
    /// its `max`, or too large ones. Or the run is to end early.
    pub async fn fan_out(&self, inputs: impl IntoIterator<Item = Value> + Send) -> Result<(), RunFailure> {
        let Some(children) = &self.children else {
            let told = "hands over children, but its job has no `fan_out` that says so";
            return Err(RunFailure::fatal(told).code("NoFanOut"));
        };
        // An iterator that may not cross threads must not be held while the store is waited for.
        let inputs: Vec<_> = inputs.into_iter().collect();
        for input in inputs {
            children.add(input).await?;
        }
        Ok(())
    }

    /// Whether it is to end early because someone asked for that.
    pub(crate) fn is_canceled(&self) -> bool {
        self.handle.why() == Some(Why::Asked)
    }

    /// The input as a type of the caller's.
    ///
    /// # Errors
    /// A failure that no retry can mend, `InvalidInput`, that says what does not fit.
    pub fn input<T: serde::de::DeserializeOwned>(&self) -> Result<T, RunFailure> {
        T::deserialize(&self.input)
            .map_err(|error| RunFailure::fatal(format!("the input does not fit: {error}")).code("InvalidInput"))
    }
}

/// Why an attempt failed. Every standard error turns into one by `?`, as a failure worth a retry.
///
/// It is not an error type itself, so that this conversion can exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFailure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) retryable: bool,
    pub(crate) not_before: Option<Duration>,
    /// It was broken off in its course, and nobody knows whether it took effect.
    pub(crate) in_doubt: bool,
}

impl RunFailure {
    /// A failure that the retry policy may repeat.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { code: "Failed".into(), message: message.into(), retryable: true, not_before: None, in_doubt: false }
    }

    /// A failure that no retry can mend.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::retry(message) }
    }

    /// A stable word for programs; `Failed` unless said otherwise.
    #[must_use]
    pub fn code(self, code: impl Into<String>) -> Self {
        Self { code: code.into(), ..self }
    }

    /// The next attempt starts no earlier than this, within the bounds of the retry policy.
    #[must_use]
    pub fn not_before(self, delay: Duration) -> Self {
        Self { not_before: Some(delay), ..self }
    }

    /// Of a handler that was broken off, for a reason that is not its own.
    pub(crate) fn in_doubt(message: impl Into<String>) -> Self {
        Self { in_doubt: true, ..Self::retry(message) }
    }

    /// Of a handler that ended because it was told to.
    pub(crate) fn stopped() -> Self {
        Self::retry("stopped before its end").code("Stopped")
    }

    /// The same, where what it has called for may go on.
    pub(crate) fn given_up() -> Self {
        Self { in_doubt: true, ..Self::stopped() }
    }
}

impl<E: std::error::Error + 'static> From<E> for RunFailure {
    fn from(error: E) -> Self {
        Self::retry(reveille_shared::telemetry::chain(&error))
    }
}

/// What a handler ends with.
pub type RunResult = Result<Value, RunFailure>;

/// How a handler leaves its lease.
#[derive(Debug)]
pub(crate) enum Left {
    /// The attempt has ended.
    Ended(RunResult),
    /// It was told to stop before it had begun anything.
    Untouched,
    /// What it has begun elsewhere goes on, and the next lease asks after it.
    Parked {
        /// How long to wait before that.
        after: Duration,
        /// What the next lease needs to know: no secret.
        notes: Value,
    },
}

/// Everything that handlers need and that lives as long as the worker.
#[derive(Debug)]
pub(crate) struct Handlers {
    functions: Functions,
    http: http::Caller,
    variables: Variables,
    guards: command::Guards,
    policy: Policy,
}

impl Handlers {
    pub(crate) fn new(
        functions: Functions,
        variables: Variables,
        guards: command::Guards,
    ) -> Result<Self, reqwest::Error> {
        let policy = guards.policy.clone();
        Ok(Self { functions, http: http::Caller::new(policy.clone())?, variables, guards, policy })
    }

    /// Runs the job's handler; with the notes of an earlier lease of the attempt it goes on from there.
    pub(crate) async fn call(&self, job: &Job, run: Run, notes: Option<Value>) -> Left {
        match &job.handler {
            Handler::Function(name) => match self.policy.function(name) {
                Ok(()) => Left::Ended(self.functions.call(name, run).await),
                Err(refused) => Left::Ended(Err(refused.into())),
            },
            // The futures of the others are large, and boxed so that a function's run stays small.
            Handler::Http(call) => Box::pin(self.http.call(call, &run, &self.variables, notes)).await,
            Handler::Command(call) => {
                Left::Ended(Box::pin(command::run(call, &run, &self.variables, &self.guards)).await)
            }
            #[cfg(feature = "ssh")]
            Handler::Ssh(call) => {
                let lease = self.guards.lease.clone();
                Box::pin(ssh::run(call, &run, &self.variables, &self.policy, lease)).await
            }
            #[cfg(not(feature = "ssh"))]
            Handler::Ssh(_) => Left::Ended(Err(RunFailure::retry("this worker was built without ssh").code("NoSsh"))),
            Handler::External(_) => Left::Ended(Err(RunFailure::fatal(format!(
                "job {} is external: a worker of its own has to take it from the queue {}, which a worker of Reveille must not serve",
                job.name, job.queue
            ))
            .code("ExternalJob"))),
        }
    }
}
