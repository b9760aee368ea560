//! Jobs as JSON. Values of headers and of the environment are not shown: people write secrets there.

use reveille_shared::definition::{Handler, Job};
use reveille_shared::store::Versioned;
use serde::Serialize;
use utoipa::ToSchema;

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

fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}{path}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_credentials;

    #[test]
    fn passwords_in_urls_are_not_shown() {
        for (url, shown) in [
            ("https://u:p@host/a@b", "https://***@host/a@b"),
            ("https://u:p@q@host?x", "https://***@host?x"),
            ("https://host/a@b", "https://host/a@b"),
            ("{{ input.url }}", "{{ input.url }}"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }
}
