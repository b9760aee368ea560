//! A tree without faults → jobs and schedules with all defaults filled in.

mod fan_out;
mod follow;
mod job;
mod limits;
mod schedule;
mod ssh;
mod verify;

use std::collections::BTreeMap;

use serde::Deserialize;

pub(super) use self::follow::RawPoll;
pub(super) use self::job::RawRetry;
use self::job::{Defaults, RawJob};
use self::schedule::RawSchedule;
use super::model::Job;
use super::node::Node;
use super::scalar::to_json;
use super::schedule::Schedule;

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
