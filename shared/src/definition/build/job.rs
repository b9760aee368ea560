//! A job without faults → the same with all defaults filled in.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::super::model::{
    Backoff, CancelCall, Chained, CommandCall, Concurrency, ExternalWork, FanOut, Handler, HttpCall, Job, Rate,
    RetryPolicy, Unique, Verify,
};
use super::OneOrMany;
use super::fan_out::RawFanOut;
use super::follow::RawFollow;
use super::limits::{RawLimits, RawUnique};
use super::ssh::RawSsh;
use super::verify::RawVerify;
use crate::duration::HumanDuration;

#[derive(Deserialize, Default)]
pub(super) struct Defaults {
    timeout: Option<HumanDuration>,
    #[serde(default)]
    retry: RawRetry,
    queue: Option<String>,
    #[serde(flatten)]
    limits: RawLimits,
}

#[derive(Deserialize, Default, Clone, Copy)]
pub(in super::super) struct RawRetry {
    pub(in super::super) max_attempts: Option<u32>,
    pub(in super::super) initial: Option<HumanDuration>,
    pub(in super::super) max: Option<HumanDuration>,
    pub(in super::super) backoff: Option<Backoff>,
}

impl RawRetry {
    /// What is written here, else there, else the built-in value.
    pub(in super::super) fn or(self, defaults: Self) -> RetryPolicy {
        let built_in = RetryPolicy::default();
        RetryPolicy {
            max_attempts: self.max_attempts.or(defaults.max_attempts).unwrap_or(built_in.max_attempts),
            initial: self.initial.or(defaults.initial).unwrap_or(built_in.initial),
            max: self.max.or(defaults.max).unwrap_or(built_in.max),
            backoff: self.backoff.or(defaults.backoff).unwrap_or(built_in.backoff),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawJob {
    description: Option<String>,
    queue: Option<String>,
    #[serde(flatten)]
    handler: RawHandler,
    timeout: Option<HumanDuration>,
    #[serde(default)]
    retry: RawRetry,
    #[serde(flatten)]
    limits: RawLimits,
    verify: Option<RawVerify>,
    unique: Option<RawUnique>,
    expires: Option<HumanDuration>,
    fan_out: Option<RawFanOut>,
    on_success: Option<OneOrMany<RawCall>>,
    on_failure: Option<OneOrMany<RawCall>>,
    on_finish: Option<OneOrMany<RawCall>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawCall {
    Short(String),
    Long { job: String, input: Option<Value> },
}

fn calls(list: Option<OneOrMany<RawCall>>) -> Vec<Chained> {
    let call = |call| match call {
        RawCall::Short(job) => Chained { job, input: None },
        RawCall::Long { job, input } => Chained { job, input },
    };
    list.map(OneOrMany::into_vec).unwrap_or_default().into_iter().map(call).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawHandler {
    Http(RawHttp),
    Command(RawCommand),
    Ssh(RawSsh),
    Function(String),
    External(RawExternal),
}

#[derive(Deserialize)]
struct RawExternal {
    lease: Option<HumanDuration>,
}

#[derive(Deserialize)]
struct RawHttp {
    method: Option<String>,
    url: String,
    headers: Option<BTreeMap<String, String>>,
    body: Option<Value>,
    #[serde(default)]
    success: Vec<u16>,
    cancel: Option<RawCancel>,
    follow: Option<RawFollow>,
    #[serde(default)]
    one_way: bool,
}

#[derive(Deserialize)]
struct RawCancel {
    method: Option<String>,
    url: String,
    headers: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawCommand {
    Short(Vec<String>),
    Long {
        argv: Vec<String>,
        env: Option<BTreeMap<String, String>>,
        working_dir: Option<String>,
        #[serde(default)]
        success: Vec<i32>,
        #[serde(default)]
        no_retry: Vec<i32>,
    },
}

impl From<RawCommand> for CommandCall {
    fn from(raw: RawCommand) -> Self {
        match raw {
            RawCommand::Short(argv) => {
                Self { argv, env: BTreeMap::new(), working_dir: None, success: Vec::new(), no_retry: Vec::new() }
            }
            RawCommand::Long { argv, env, working_dir, success, no_retry } => {
                Self { argv, env: env.unwrap_or_default(), working_dir, success, no_retry }
            }
        }
    }
}

impl From<RawCancel> for CancelCall {
    fn from(RawCancel { method, url, headers }: RawCancel) -> Self {
        Self { method: or_post(method), url, headers: headers.unwrap_or_default() }
    }
}

fn or_post(method: Option<String>) -> String {
    method.unwrap_or_else(|| "POST".to_owned())
}

impl RawJob {
    pub(super) fn finish(self, namespace: &str, name: String, defaults: &Defaults) -> Job {
        let handler = match self.handler {
            RawHandler::Http(RawHttp { method, url, headers, body, success, cancel, follow, one_way }) => {
                Handler::Http(HttpCall {
                    method: or_post(method),
                    url,
                    headers: headers.unwrap_or_default(),
                    body,
                    success,
                    cancel: cancel.map(CancelCall::from),
                    follow: follow.and_then(RawFollow::read).map(Box::new),
                    one_way,
                })
            }
            RawHandler::Command(command) => Handler::Command(command.into()),
            RawHandler::Ssh(ssh) => Handler::Ssh(ssh.into()),
            RawHandler::Function(name) => Handler::Function(name),
            RawHandler::External(RawExternal { lease }) => {
                Handler::External(lease.map_or_else(ExternalWork::default, |lease| ExternalWork { lease }))
            }
        };
        let (own, inherited) = (self.limits, defaults.limits.clone());
        let built_in = Job::new(namespace, name, handler);
        Job {
            description: self.description,
            queue: self.queue.or_else(|| defaults.queue.clone()).unwrap_or(built_in.queue),
            timeout: self.timeout.or(defaults.timeout).unwrap_or(built_in.timeout),
            retry: self.retry.or(defaults.retry),
            on_lost: own.on_lost.or(inherited.on_lost).unwrap_or(built_in.on_lost),
            priority: own.priority.or(inherited.priority).unwrap_or(built_in.priority),
            concurrency: own.concurrency.or(inherited.concurrency).map(Concurrency::from),
            rate: own.rate.or(inherited.rate).map(Rate::from),
            verify: self.verify.map(Verify::from),
            unique: self.unique.map(Unique::from),
            expires: self.expires,
            fan_out: self.fan_out.map(FanOut::from),
            on_success: calls(self.on_success),
            on_failure: calls(self.on_failure),
            on_finish: calls(self.on_finish),
            ..built_in
        }
    }
}
