//! A tree without faults → jobs and schedules with all defaults filled in.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::model::{Backoff, CommandCall, Definitions, Handler, HttpCall, Job, OnLost, RetryPolicy};
use super::node::Node;
use super::scalar::to_json;
use super::schedule::{CatchUp, CatchUpPolicy, Overlap, Schedule, Timing};
use super::text::timezone;
use crate::duration::HumanDuration;

pub(super) const DEFAULT_NAMESPACE: &str = "default";
pub(super) const DEFAULT_TIMEZONE: &str = "UTC";

/// Adds what one file defines.
///
/// # Errors
/// If the tree is not what the table of keys says, so that a fault of the checker shows as one.
pub(super) fn add(root: &Node, definitions: &mut Definitions) -> Result<(), serde_json::Error> {
    let file: File = serde_json::from_value(to_json(root))?;
    let namespace = file.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
    definitions.revision = definitions.revision.max(file.revision);
    for (name, job) in file.jobs.into_iter().flatten() {
        definitions.jobs.push(job.finish(&namespace, name, &file.defaults));
    }
    for (name, schedule) in file.schedules.into_iter().flatten() {
        definitions.schedules.push(schedule.finish(&namespace, name));
    }
    Ok(())
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

#[derive(Deserialize)]
struct RawSchedule {
    description: Option<String>,
    #[serde(flatten)]
    timing: RawTiming,
    timezone: Option<String>,
    trigger: OneOrMany,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    overlap: Overlap,
    catch_up: Option<RawCatchUp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawTiming {
    Cron(String),
    Every(HumanDuration),
    At(Timestamp),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawCatchUp {
    Short(CatchUpPolicy),
    Long { policy: Option<CatchUpPolicy>, window: Option<HumanDuration> },
}

impl RawSchedule {
    fn finish(self, namespace: &str, name: String) -> Schedule {
        let zone = self.timezone.as_deref().unwrap_or(DEFAULT_TIMEZONE);
        let built_in = CatchUp::default();
        let (policy, window) = match self.catch_up {
            None => (None, None),
            Some(RawCatchUp::Short(policy)) => (Some(policy), None),
            Some(RawCatchUp::Long { policy, window }) => (policy, window),
        };
        let timing = match self.timing {
            RawTiming::Cron(text) => Timing::Cron(text),
            RawTiming::Every(interval) => Timing::Every(interval),
            RawTiming::At(at) => Timing::At(at),
        };
        Schedule {
            description: self.description,
            timezone: timezone(zone).unwrap_or_else(|_| zone.to_owned()),
            trigger: match self.trigger {
                OneOrMany::One(job) => vec![job],
                OneOrMany::Many(jobs) => jobs,
            },
            input: self.input,
            overlap: self.overlap,
            catch_up: CatchUp {
                policy: policy.unwrap_or(built_in.policy),
                window: window.unwrap_or(built_in.window),
                ..built_in
            },
            ..Schedule::new(namespace, name, timing, "")
        }
    }
}
