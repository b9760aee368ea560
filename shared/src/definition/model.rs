//! Jobs as they are in force: validated, with all defaults filled in. Schedules are in `schedule`.
//!
//! The JSON form of these types is what the store keeps and the API shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schedule::Schedule;
use super::ssh::SshCall;
use crate::duration::HumanDuration;
use crate::fan_out::FailPolicy;

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
    /// Asked whether a lost attempt took effect, before `on_lost` is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// Which runs go first when many wait.
    #[serde(default, skip_serializing_if = "Priority::is_normal")]
    pub priority: Priority,
    /// How many runs may be under way at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// How many runs may start within a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Which runs are one and the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<Unique>,
    /// A run that has not started within this time, counted from when it could first go out, FAILS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<HumanDuration>,
    /// Runs that a run calls for when its handler has succeeded, and with which it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fan_out: Option<FanOut>,
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
            verify: None,
            priority: Priority::Normal,
            concurrency: None,
            rate: None,
            unique: None,
            expires: None,
            fan_out: None,
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

/// What a run calls for when its handler has succeeded: a child for each item of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FanOut {
    /// What the children run: a job of the same namespace.
    pub job: String,
    /// A template that gives the list of their inputs; knows the handler's `output` and what templates of the run know.
    /// Without it the handler hands them over one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What failed children mean for the run.
    #[serde(default)]
    pub fail: FailPolicy,
    /// The most children; more fail the run.
    pub max: u32,
}

/// The business logic itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Handler {
    /// Calls an endpoint.
    Http(HttpCall),
    /// Runs a program.
    Command(CommandCall),
    /// Runs a command on another host.
    Ssh(SshCall),
    /// Calls a Rust function registered in the worker under this name.
    Function(String),
    /// Leaves it to a worker in any language, which takes the triggers from the queue itself and claims at the API.
    External(ExternalWork),
}

impl Handler {
    /// Whether a worker in another language runs it.
    #[must_use]
    pub const fn is_external(&self) -> bool {
        matches!(self, Self::External(_))
    }
}

/// What is asked of a worker that is not Reveille's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalWork {
    /// How long it may be silent before its lease ends.
    pub lease: HumanDuration,
}

impl Default for ExternalWork {
    fn default() -> Self {
        Self { lease: HumanDuration::from_secs(60) }
    }
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
    /// Made when someone cancels the run while the call is under way, or what it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<CancelCall>,
    /// The answer may only say that something was begun: it is asked after until that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<Box<Follow>>,
    /// Only the answer's status counts; its body is not read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_way: bool,
}

impl HttpCall {
    /// A plain call of `url`.
    #[must_use]
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: BTreeMap::new(),
            body: None,
            success: Vec::new(),
            cancel: None,
            follow: None,
            one_way: false,
        }
    }
}

/// How a long-running operation is asked after. Expressions are over `status` and `body` of the answer and what
/// templates of a run know; without them the answer is read by convention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Follow {
    /// Where it is asked after, if the headers of the answer that began it do not say so: a template over that answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// True: it has succeeded. If this is there the conventions have no say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<String>,
    /// True: it has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// True: it goes on. Without this any answer that is not one of the others says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
    /// How far it is, from 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<String>,
    /// The shortest time between two questions.
    pub least: HumanDuration,
    /// The longest.
    pub most: HumanDuration,
    /// To cancel it, the URL at which it is asked after is deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete: bool,
}

impl Default for Follow {
    fn default() -> Self {
        Self {
            url: None,
            succeeded: None,
            failed: None,
            running: None,
            percent: None,
            least: HumanDuration::from_secs(1),
            most: HumanDuration::from_secs(60),
            delete: false,
        }
    }
}

/// A request that tells a callee to stop what an earlier one has begun. Texts as in [`HttpCall`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelCall {
    /// An upper-case HTTP method.
    pub method: String,
    /// An absolute `http` or `https` URL.
    pub url: String,
    /// Request headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
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

/// How to find out whether a lost attempt took effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// What is asked.
    pub how: VerifyCall,
    /// How long an answer may take.
    pub timeout: HumanDuration,
}

/// Who is asked whether a lost attempt took effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VerifyCall {
    /// An endpoint, by GET. Each condition is an expression over `status`, `body` and what templates of a run know; the
    /// first that is true is the answer, and if none is the answer is not known.
    Http(VerifyHttp),
    /// A program: exit code 0 says that it took effect, 1 that it did not, 2 that it is still running; any other code
    /// that it is not known.
    Command(CommandCall),
}

/// A question by HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyHttp {
    /// An absolute `http` or `https` URL.
    pub url: String,
    /// Request headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// True: it took effect.
    pub succeeded: String,
    /// True: it did not, and may be run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// True: it is still running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<String>,
}

/// Which runs of a work queue go first when many wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    High,
    /// The usual.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

impl Priority {
    /// All of them, the first to go first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Whether it is the usual one.
    #[must_use]
    pub const fn is_normal(&self) -> bool {
        matches!(self, Self::Normal)
    }
}

/// How many runs may be under way at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// At least 1.
    pub limit: u32,
    /// A template over the run's input: runs with the same text share the limit. Without it all runs of the job do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// How many runs may start within a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// At least 1; retries count.
    pub limit: u32,
    /// In any span of this length.
    pub per: HumanDuration,
    /// As in [`Concurrency`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Which runs are one and the same: asking for another one gives the one that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unique {
    /// A template over the run's input; runs with the same text are the same.
    pub key: String,
    /// For how long.
    #[serde(rename = "while")]
    pub span: UniqueSpan,
}

/// For how long a run stands for all that are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum UniqueSpan {
    /// Until it starts.
    Waiting,
    /// Until it ends.
    Running,
    /// For a time after it was accepted.
    Window(HumanDuration),
}
