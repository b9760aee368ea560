//! The end of a run → the runs that it calls for.

use std::sync::Arc;

use jiff::Timestamp;
use reveille_shared::definition::{Chained, Job};
use reveille_shared::state::Status;
use reveille_shared::store::{EndedRun, NewWorkRequest, Versioned};
use reveille_shared::work_request::RunError;
use serde_json::{Map, Value, json};

use super::{Ask, payload, request};

/// The runs that the end of `run`, of the job as it was then, calls for. `jobs` finds a job in force by its name in the
/// run's namespace; what it does not find is answered as a name.
#[must_use]
pub fn chained(
    run: &EndedRun,
    job: &Job,
    now: Timestamp,
    jobs: impl Fn(&str) -> Option<Arc<Versioned<Job>>>,
) -> (Vec<NewWorkRequest>, Vec<String>) {
    let by_status: (&str, &[Chained]) = match run.status {
        Status::Succeeded => ("on_success", &job.on_success),
        Status::Failed => ("on_failure", &job.on_failure),
        Status::Canceled => ("on_finish", &[]),
        Status::Accepted | Status::InProgress | Status::Canceling => return (Vec::new(), Vec::new()),
    };
    let (mut births, mut missing) = (Vec::new(), Vec::new());
    for (edge, list) in [by_status, ("on_finish", &job.on_finish)] {
        for next in list {
            let Some(job) = jobs(&next.job) else {
                missing.push(next.job.clone());
                continue;
            };
            let (input, refused) = input(run, next, now);
            let by = format!("{edge} of {}", run.id).into();
            let ask = Ask { input, by, chained_from: Some(run.id), refused, ..Ask::default() };
            births.push(request(&job, ask, now));
        }
    }
    (births, missing)
}

/// What a chained run is given.
fn input(run: &EndedRun, next: &Chained, now: Timestamp) -> (Value, Option<RunError>) {
    let Some(template) = &next.input else {
        let mut members = match &run.input {
            Value::Object(members) => members.clone(),
            Value::Null => Map::new(),
            other => Map::from_iter([("input".to_owned(), other.clone())]),
        };
        members.insert("output".to_owned(), run.output.clone().unwrap_or(Value::Null));
        return (Value::Object(members), None);
    };
    payload::render(template, || {
        json!({
            "input": run.input,
            "output": run.output,
            "error": run.error,
            "parent": {"workRequestId": run.id.to_string(), "job": run.job, "status": run.status.as_str()},
            "namespace": run.namespace,
            "schedule": run.fire.as_ref().map(|fire| fire.schedule.as_str()),
            "scheduled_for": run.fire.as_ref().map_or(run.finished_at, |fire| fire.due_at).to_string(),
            "fired_at": now.to_string(),
        })
    })
}
