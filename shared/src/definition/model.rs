//! Jobs and schedules as they are in force: validated, with all defaults filled in.
//!
//! The JSON form of these types is what the store keeps and the API shows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// When to sound the call, and for which jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// The tenant that the schedule belongs to.
    pub namespace: String,
    /// Unique within the namespace.
    pub name: String,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it is due.
    #[serde(flatten)]
    pub timing: Timing,
    /// IANA name of the zone in which `cron` is read.
    pub timezone: String,
    /// Jobs of the same namespace, called in order, none waited for; at least one.
    pub trigger: Vec<String>,
    /// Given to each run.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub input: Value,
    /// What happens to a fire while runs of an earlier fire go on.
    pub overlap: Overlap,
    /// What happens to due times that nobody saw in time.
    pub catch_up: CatchUp,
}

/// When a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Timing {
    /// A cron text of five, six (seconds first) or seven (year last) fields, or `@daily` and kin.
    Cron(String),
    /// A fixed interval, counted from the Unix epoch so that replicas and restarts agree.
    Every(HumanDuration),
    /// Once.
    At(Timestamp),
}

/// What happens to a fire while runs of an earlier fire of the schedule have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The fire is recorded as skipped.
    #[default]
    Skip,
    /// The fire triggers all the same.
    Allow,
}

/// What happens to due times that passed while no scheduler decided them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CatchUp {
    /// Which of the missed due times are made up for.
    pub policy: CatchUpPolicy,
    /// How late a missed due time may be to be made up for.
    pub window: HumanDuration,
}

/// Which missed due times are made up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUpPolicy {
    /// None.
    None,
    /// Only the latest.
    Latest,
    /// Every one.
    All,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self { policy: CatchUpPolicy::Latest, window: HumanDuration::from_secs(3600) }
    }
}
