//! Jobs as JSON. Values of headers and of the environment are not shown: people write secrets there.

use reveille_shared::definition::{Chained, Handler, Job};
use reveille_shared::store::Versioned;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::hide::without_credentials;

/// A named definition of business logic.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Job)]
pub(crate) struct View {
    /// The tenant.
    namespace: String,
    /// Unique within the namespace.
    name: String,
    /// Counts the definitions that this name has had.
    version: i64,
    /// One line for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// The work queue whose workers may run it.
    queue: String,
    /// What runs.
    handler: HandlerView,
    /// How long one attempt may take, like `10m`.
    timeout: String,
    /// What follows a failed attempt.
    retry: RetryView,
    /// What follows an attempt whose worker died: `retry` or `fail`.
    #[schema(value_type = String)]
    on_lost: reveille_shared::definition::OnLost,
    /// Jobs that are called when a run ends SUCCEEDED.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    on_success: Vec<ChainedView>,
    /// The same for a run that ends FAILED.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    on_failure: Vec<ChainedView>,
    /// The same for a run that ends in any way, CANCELED included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    on_finish: Vec<ChainedView>,
}

/// A job that the end of another job's run calls.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChainedJob)]
struct ChainedView {
    /// Its name, in the same namespace.
    job: String,
    /// Given to its run, as it is written; without it the run is given the ended run's input and output.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<Value>,
}

fn chained(list: Vec<Chained>) -> Vec<ChainedView> {
    list.into_iter().map(|Chained { job, input }| ChainedView { job, input }).collect()
}

/// What runs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
#[schema(as = Handler)]
enum HandlerView {
    /// Calls an endpoint.
    Http {
        /// The HTTP method.
        method: String,
        /// The URL, without a password.
        url: String,
        /// Names of the request headers.
        headers: Vec<String>,
    },
    /// Runs a program.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Names of the environment variables that are added.
        env: Vec<String>,
    },
    /// Calls a Rust function of the worker.
    Function {
        /// The name under which it is registered.
        name: String,
    },
}

/// When and how often a failed attempt is repeated.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RetryPolicy)]
struct RetryView {
    /// Attempts in all, the first included.
    max_attempts: u32,
    /// Upper bound of the delay before the second attempt.
    initial: String,
    /// Upper bound of any delay.
    max: String,
    /// How the upper bound grows: `exponential` or `constant`.
    #[schema(value_type = String)]
    backoff: reveille_shared::definition::Backoff,
}

impl From<Versioned<Job>> for View {
    fn from(Versioned { version, item: job }: Versioned<Job>) -> Self {
        let retry = RetryView {
            max_attempts: job.retry.max_attempts,
            initial: job.retry.initial.to_string(),
            max: job.retry.max.to_string(),
            backoff: job.retry.backoff,
        };
        Self {
            namespace: job.namespace,
            name: job.name,
            version,
            description: job.description,
            queue: job.queue,
            handler: job.handler.into(),
            timeout: job.timeout.to_string(),
            retry,
            on_lost: job.on_lost,
            on_success: chained(job.on_success),
            on_failure: chained(job.on_failure),
            on_finish: chained(job.on_finish),
        }
    }
}

impl From<Handler> for HandlerView {
    fn from(handler: Handler) -> Self {
        match handler {
            Handler::Http(call) => Self::Http {
                method: call.method,
                url: without_credentials(&call.url),
                headers: call.headers.into_keys().collect(),
            },
            Handler::Command(call) => Self::Command { argv: call.argv, env: call.env.into_keys().collect() },
            Handler::Function(name) => Self::Function { name },
        }
    }
}
