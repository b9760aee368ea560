//! Jobs as they are in force: validated, with all defaults filled in. Schedules are in `schedule`.
//!
//! The JSON form of these types is what the store keeps and the API shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schedule::Schedule;
use crate::duration::HumanDuration;

/// All that a folder of files defines.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Definitions {
    /// The highest `revision:` of the files, if any has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Jobs, ordered by namespace and name; names are unique within a namespace.
    pub jobs: Vec<Job>,
    /// Schedules, ordered by namespace and name; names are unique within a namespace.
    pub schedules: Vec<Schedule>,
}

/// A named definition of business logic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// The tenant that the job belongs to.
    pub namespace: String,
    /// Unique within the namespace.
    pub name: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The work queue whose workers may run it.
    pub queue: String,
    /// What runs.
    pub handler: Handler,
    /// How long one attempt may take.
    pub timeout: HumanDuration,
    /// What follows a failed attempt.
    pub retry: RetryPolicy,
    /// What follows an attempt whose worker died.
    pub on_lost: OnLost,
    /// Jobs of the same namespace that are called when a run ends SUCCEEDED.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_success: Vec<Chained>,
    /// The same for a run that ends FAILED.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_failure: Vec<Chained>,
    /// The same for a run that ends in any way, CANCELED included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_finish: Vec<Chained>,
}

impl Job {
    /// A job with the defaults of everything but its handler.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, handler: Handler) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            description: None,
            queue: "default".to_owned(),
            handler,
            timeout: HumanDuration::from_secs(600),
            retry: RetryPolicy::default(),
            on_lost: OnLost::default(),
            on_success: Vec::new(),
            on_failure: Vec::new(),
            on_finish: Vec::new(),
        }
    }

    /// Whether the end of a run calls other jobs.
    #[must_use]
    pub fn is_chained(&self) -> bool {
        !(self.on_success.is_empty() && self.on_failure.is_empty() && self.on_finish.is_empty())
    }
}

/// A job that the end of another job's run calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Chained {
    /// Its name, in the same namespace.
    pub job: String,
    /// Given to its run; texts may hold templates that know the ended run as `output`, `input`, `error` and
    /// `parent`. Without it the run is given the ended run's input, with the output added as its member `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

/// The business logic itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Handler {
    /// Calls an endpoint.
    Http(HttpCall),
    /// Runs a program.
    Command(CommandCall),
    /// Calls a Rust function registered in the worker under this name.
    Function(String),
}

/// An HTTP request to make. Texts may hold `{{ … }}` templates and `${env:NAME}`; the latter is
/// resolved on the worker and never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpCall {
    /// An upper-case HTTP method.
    pub method: String,
    /// An absolute `http` or `https` URL.
    pub url: String,
    /// Request headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Request body: sent as JSON unless it is a string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// Status codes that mean success; empty means any 2xx.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<u16>,
}

/// A program to run, never through a shell unless the first argument is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandCall {
    /// Program and arguments; arguments may hold `{{ … }}` templates.
    pub argv: Vec<String>,
    /// Added to the worker's minimal environment; values may hold templates and `${env:NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The folder to run in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Exit codes that mean success; empty means 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub success: Vec<i32>,
    /// Exit codes after which a retry is pointless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_retry: Vec<i32>,
}

/// When and how often a failed attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub max_attempts: u32,
    /// Upper bound of the delay before the second attempt.
    pub initial: HumanDuration,
    /// Upper bound of any delay.
    pub max: HumanDuration,
    /// How the upper bound grows.
    pub backoff: Backoff,
}

/// How the delay grows from one retry to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backoff {
    /// Doubles with each failure.
    Exponential,
    /// Stays at `initial`.
    Constant,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial: HumanDuration::from_secs(5),
            max: HumanDuration::from_secs(300),
            backoff: Backoff::Exponential,
        }
    }
}

/// What follows an attempt whose worker died and that may or may not have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLost {
    /// Run it again, as handlers should be idempotent. Counts as a failed attempt.
    #[default]
    Retry,
    /// End FAILED and leave the rest to people.
    Fail,
}
