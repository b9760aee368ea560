//! A tree without faults → jobs and schedules with all defaults filled in.

mod schedule;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use self::schedule::RawSchedule;
use super::model::{Backoff, CommandCall, Handler, HttpCall, Job, OnLost, RetryPolicy};
use super::node::Node;
use super::scalar::to_json;
use super::schedule::Schedule;
use crate::duration::HumanDuration;

pub(super) const DEFAULT_NAMESPACE: &str = "default";
pub(super) const DEFAULT_TIMEZONE: &str = "UTC";

/// What one file defines.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) revision: Option<u64>,
    pub(super) jobs: Vec<Job>,
    pub(super) schedules: Vec<Schedule>,
}

/// Builds what one file defines; calendars in it have no days yet.
///
/// # Errors
/// If the tree is not what the table of keys says, so that a fault of the checker shows as one.
pub(super) fn build(root: &Node) -> Result<Built, serde_json::Error> {
    let file: File = serde_json::from_value(to_json(root))?;
    let namespace = file.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    let jobs = file.jobs.into_iter().flatten().map(|(name, job)| job.finish(&namespace, name, &file.defaults));
    let schedules = file.schedules.into_iter().flatten().map(|(name, schedule)| schedule.finish(&namespace, name));
    Ok(Built { revision: file.revision, jobs: jobs.collect(), schedules: schedules.collect() })
}

#[derive(Deserialize)]
struct File {
    revision: Option<u64>,
    namespace: Option<String>,
    #[serde(default)]
    defaults: Defaults,
    jobs: Option<BTreeMap<String, RawJob>>,
    schedules: Option<BTreeMap<String, RawSchedule>>,
}

#[derive(Deserialize, Default)]
struct Defaults {
    timeout: Option<HumanDuration>,
    #[serde(default)]
    retry: RawRetry,
    queue: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy)]
pub(super) struct RawRetry {
    pub(super) max_attempts: Option<u32>,
    pub(super) initial: Option<HumanDuration>,
    pub(super) max: Option<HumanDuration>,
    pub(super) backoff: Option<Backoff>,
}

impl RawRetry {
    /// What is written here, else there, else the built-in value.
    pub(super) fn or(self, defaults: Self) -> RetryPolicy {
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
struct RawJob {
    description: Option<String>,
    queue: Option<String>,
    #[serde(flatten)]
    handler: RawHandler,
    timeout: Option<HumanDuration>,
    #[serde(default)]
    retry: RawRetry,
    #[serde(default)]
    on_lost: OnLost,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawHandler {
    Http(RawHttp),
    Command(RawCommand),
    Function(String),
}

#[derive(Deserialize)]
struct RawHttp {
    method: Option<String>,
    url: String,
    headers: Option<BTreeMap<String, String>>,
    body: Option<Value>,
    #[serde(default)]
    success: Vec<u16>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawCommand {
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

impl RawJob {
    fn finish(self, namespace: &str, name: String, defaults: &Defaults) -> Job {
        let handler = match self.handler {
            RawHandler::Http(RawHttp { method, url, headers, body, success }) => Handler::Http(HttpCall {
                method: method.unwrap_or_else(|| "POST".to_owned()),
                url,
                headers: headers.unwrap_or_default(),
                body,
                success,
            }),
            RawHandler::Command(RawCommand::Short(argv)) => Handler::Command(CommandCall {
                argv,
                env: BTreeMap::new(),
                working_dir: None,
                success: Vec::new(),
                no_retry: Vec::new(),
            }),
            RawHandler::Command(RawCommand::Long { argv, env, working_dir, success, no_retry }) => {
                Handler::Command(CommandCall { argv, env: env.unwrap_or_default(), working_dir, success, no_retry })
            }
            RawHandler::Function(name) => Handler::Function(name),
        };
        let built_in = Job::new(namespace, name, handler);
        Job {
            description: self.description,
            queue: self.queue.or_else(|| defaults.queue.clone()).unwrap_or(built_in.queue),
            timeout: self.timeout.or(defaults.timeout).unwrap_or(built_in.timeout),
            retry: self.retry.or(defaults.retry),
            on_lost: self.on_lost,
            ..built_in
        }
    }
}

/// A list, or its only item.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(item) => vec![item],
            Self::Many(items) => items,
        }
    }
}
