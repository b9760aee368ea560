//! Jobs as JSON. Values of headers and of the environment are not shown: people write secrets there.

use reveille_shared::definition::{
    CancelCall, Chained, Concurrency, ExternalWork, FanOut, Follow, Handler, Job, Priority, Rate, RemoteCommand,
    Unique, UniqueSpan, Verify, VerifyCall, VerifyHttp,
};
use reveille_shared::fan_out::FailPolicy;
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
    /// Asked whether a lost attempt took effect, before `onLost` is followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    verify: Option<VerifyView>,
    /// Which runs go first when many wait: `high`, `normal` or `low`.
    #[schema(value_type = String)]
    priority: Priority,
    /// How many runs may be under way at one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<ConcurrencyView>,
    /// How many runs may start within a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<RateView>,
    /// Which runs are the same: asking for another one gives the one that there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    unique: Option<UniqueView>,
    /// A run that has not started within this time FAILS, like `10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    /// What a run calls for when its handler has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    fan_out: Option<FanOutView>,
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

/// What a run calls for when its handler has succeeded: a child for each item of a list.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FanOut)]
struct FanOutView {
    /// The job that the children run.
    job: String,
    /// The template that gives the list of their inputs; without it the handler hands them over.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// What failed children mean: `fast`, `at_end`, or `{"tolerate": 3}` or `{"tolerate": "5%"}`.
    #[schema(value_type = Value)]
    fail: FailPolicy,
    /// The most children.
    max: u32,
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
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
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
        /// Made when the run is canceled while the call is under way.
        #[serde(skip_serializing_if = "Option::is_none")]
        cancel: Option<CancelView>,
        /// How what the call has begun is asked after, if it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        follow: Option<Box<FollowView>>,
        /// Only the status of the answer counts.
        #[serde(rename = "oneWay")]
        one_way: bool,
    },
    /// Runs a program.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Names of the environment variables that are added.
        env: Vec<String>,
    },
    /// Runs a command on another host.
    Ssh {
        /// The host, as the definition says it.
        host: String,
        /// The port of its SSH server.
        port: u16,
        /// The user on it.
        user: String,
        /// Program and arguments, or what `/bin/sh` there is given: `[sh, -c, …]`.
        argv: Vec<String>,
        /// Names of the environment variables that are added.
        env: Vec<String>,
        /// How long it may take until the command has begun, like `10s`.
        connect_timeout: String,
        /// How long the command may print nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        idle_timeout: Option<String>,
    },
    /// Calls a Rust function of the worker.
    Function {
        /// The name under which it is registered.
        name: String,
    },
    /// Leaves it to a worker in any language, which claims at this API.
    External {
        /// How long that worker may be silent, like `1m`.
        lease: String,
    },
}

/// A request that tells a callee to stop.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CancelCall)]
struct CancelView {
    /// The HTTP method.
    method: String,
    /// The URL, without a password.
    url: String,
    /// Names of the request headers.
    headers: Vec<String>,
}

/// How what a call has begun is asked after.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Follow)]
struct FollowView {
    /// Where, if the answer's headers do not say so, as it is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The condition under which it has succeeded; without it the conventions decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    succeeded: Option<String>,
    /// The condition under which it has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    /// The condition under which it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<String>,
    /// The expression that says how far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<String>,
    /// The shortest time between two questions, like `1s`.
    min: String,
    /// The longest, like `1m`.
    max: String,
    /// Whether it is canceled by deleting the URL at which it is asked after.
    delete: bool,
}

/// Who is asked whether a lost attempt took effect.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verify)]
struct VerifyView {
    /// How long the answer may take, like `10s`.
    timeout: String,
    /// Who it is.
    #[serde(flatten)]
    how: VerifyCallView,
}

/// An endpoint or a program that knows whether a run took effect.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "camelCase")]
#[schema(as = VerifyCall)]
enum VerifyCallView {
    /// An endpoint, by GET.
    Http {
        /// The URL, without a password.
        url: String,
        /// Names of the request headers.
        headers: Vec<String>,
        /// The condition under which it took effect.
        succeeded: String,
        /// The condition under which it did not.
        #[serde(skip_serializing_if = "Option::is_none")]
        failed: Option<String>,
        /// The condition under which it is still running.
        #[serde(skip_serializing_if = "Option::is_none")]
        running: Option<String>,
    },
    /// A program: exit code 0 it took effect, 1 it did not, 2 it is still running.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
        /// Names of the environment variables that are added.
        env: Vec<String>,
    },
}

/// How many runs may be under way at one time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Concurrency)]
struct ConcurrencyView {
    /// The most of them.
    limit: u32,
    /// A template: runs with the same text share the limit; without it all runs of the job do.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// How many runs may start within a time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rate)]
struct RateView {
    /// The most starts in any span, retries included.
    limit: u32,
    /// The length of the span, like `1m`.
    per: String,
    /// A template: runs with the same text share the limit; without it all runs of the job do.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// Which runs are the same.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unique)]
struct UniqueView {
    /// A template: runs with the same text are the same.
    key: String,
    /// For how long: `waiting` (until it starts), `running` (until it ends), or a duration like `10m`.
    #[serde(rename = "while")]
    span: String,
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
            verify: job.verify.map(VerifyView::from),
            priority: job.priority,
            concurrency: job.concurrency.map(|Concurrency { limit, key }| ConcurrencyView { limit, key }),
            rate: job.rate.map(|Rate { limit, per, key }| RateView { limit, per: per.to_string(), key }),
            unique: job.unique.map(UniqueView::from),
            expires: job.expires.map(|expires| expires.to_string()),
            fan_out: job.fan_out.map(|FanOut { job, from, fail, max }| FanOutView { job, from, fail, max }),
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
                cancel: call.cancel.map(CancelView::from),
                follow: call.follow.map(|follow| Box::new(FollowView::from(*follow))),
                one_way: call.one_way,
            },
            Handler::Command(call) => Self::Command { argv: call.argv, env: call.env.into_keys().collect() },
            Handler::Ssh(call) => Self::Ssh {
                host: call.host,
                port: call.port,
                user: call.user,
                argv: match call.command {
                    RemoteCommand::Argv(argv) => argv,
                    RemoteCommand::Shell(text) => vec!["sh".into(), "-c".into(), text],
                },
                env: call.env.into_keys().collect(),
                connect_timeout: call.connect_timeout.to_string(),
                idle_timeout: call.idle_timeout.map(|timeout| timeout.to_string()),
            },
            Handler::Function(name) => Self::Function { name },
            Handler::External(ExternalWork { lease }) => Self::External { lease: lease.to_string() },
        }
    }
}

impl From<CancelCall> for CancelView {
    fn from(CancelCall { method, url, headers }: CancelCall) -> Self {
        Self { method, url: without_credentials(&url), headers: headers.into_keys().collect() }
    }
}

impl From<Follow> for FollowView {
    fn from(Follow { url, succeeded, failed, running, percent, least, most, delete }: Follow) -> Self {
        let (min, max) = (least.to_string(), most.to_string());
        Self { url: url.as_deref().map(without_credentials), succeeded, failed, running, percent, min, max, delete }
    }
}

impl From<Verify> for VerifyView {
    fn from(Verify { how, timeout }: Verify) -> Self {
        let how = match how {
            VerifyCall::Http(VerifyHttp { url, headers, succeeded, failed, running }) => VerifyCallView::Http {
                url: without_credentials(&url),
                headers: headers.into_keys().collect(),
                succeeded,
                failed,
                running,
            },
            VerifyCall::Command(call) => {
                VerifyCallView::Command { argv: call.argv, env: call.env.into_keys().collect() }
            }
        };
        Self { timeout: timeout.to_string(), how }
    }
}

impl From<Unique> for UniqueView {
    fn from(Unique { key, span }: Unique) -> Self {
        let span = match span {
            UniqueSpan::Waiting => "waiting".to_owned(),
            UniqueSpan::Running => "running".to_owned(),
            UniqueSpan::Window(window) => window.to_string(),
        };
        Self { key, span }
    }
}

#[cfg(test)]
mod tests {
    use reveille_shared::definition::read_part;
    use serde_json::json;

    use super::*;

    fn shown(keys: &str) -> Value {
        let text = format!("version: 1\njobs: {{ a: {{ {keys} }} }}");
        let job = read_part(&[("a.yaml".into(), text)]).unwrap().jobs.remove(0);
        serde_json::to_value(View::from(Versioned { version: 1, item: job })).unwrap()
    }

    #[test]
    fn limits_are_shown_as_they_are_in_force() {
        let job = shown(
            "function: f, priority: low, concurrency: { limit: 3, key: k }, rate: 20/30s, expires: 90s, \
             unique: { key: '{{ input.day }}', while: 10m }",
        );
        assert_eq!(job["priority"], json!("low"));
        assert_eq!(job["concurrency"], json!({"limit": 3, "key": "k"}));
        assert_eq!(job["rate"], json!({"limit": 20, "per": "30s"}));
        assert_eq!(job["unique"], json!({"key": "{{ input.day }}", "while": "10m"}));
        assert_eq!(job["expires"], json!("1m30s"));
        assert_eq!(shown("function: f, unique: { key: k, while: running }")["unique"]["while"], json!("running"));
        let plain = shown("function: f");
        let without = |member: &str| plain.get(member).is_none();
        assert!(["concurrency", "rate", "unique", "expires", "verify"].into_iter().all(without), "{plain}");
        assert_eq!(plain["priority"], json!("normal"));
    }

    #[test]
    fn questions_and_cancel_calls_are_shown_without_secrets() {
        let call = "url: 'http://me:${env:PW}@a', headers: { Authorization: hunter2 }";
        let job = shown(&format!(
            "http: {{ {call}, cancel: {{ {call} }} }}, verify: {{ http: {{ {call}, succeeded: status == 200 }} }}"
        ));
        let (url, headers) = ("http://***@a", ["Authorization"]);
        assert_eq!(job["handler"]["cancel"], json!({"method": "POST", "url": url, "headers": headers}));
        let http =
            json!({"type": "http", "url": url, "headers": headers, "succeeded": "status == 200", "timeout": "10s"});
        assert_eq!(job["verify"], http);
        let job = shown(
            "http: { url: 'http://a', one_way: false, follow: { url: 'http://me@b/{{ body.id }}', succeeded: body.ok, \
             poll: { max: 5m }, cancel: delete } }",
        );
        let follow = json!({"url": "http://***@b/{{ body.id }}", "succeeded": "body.ok", "min": "1s", "max": "5m", "delete": true});
        assert_eq!((&job["handler"]["follow"], &job["handler"]["oneWay"]), (&follow, &json!(false)));
        let job = shown("function: f, verify: { command: { argv: [v], env: { TOKEN: hunter2 } }, timeout: 5s }");
        assert_eq!(job["verify"], json!({"type": "command", "argv": ["v"], "env": ["TOKEN"], "timeout": "5s"}));
    }
}
