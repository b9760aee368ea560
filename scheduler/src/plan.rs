//! The only way in which a work request is born: from a schedule's due times ([`decide`]) or by hand ([`request`]).
//!
//! Pure: what is decided depends on the parameters alone. The planner and the API do the reading and the writing.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::definition::{CatchUpPolicy, Job, Overlap};
use reveille_shared::due::DueTimes;
use reveille_shared::duration::HumanDuration;
use reveille_shared::store::{Decision, FirePlan, NewWorkRequest, Planned, ScheduleRow, SkipReason, Versioned};
use reveille_shared::work_request::{FireRef, Origin, WorkRequestId};
use serde_json::Value;

/// A due time that is decided no later than this after it is on time, whatever the catch-up policy says.
pub const GRACE: SignedDuration = SignedDuration::from_secs(30);
/// The most triggering due times in one plan.
pub const MAX_TRIGGERS: usize = 1_000;
/// The most due times in one plan; a longer backlog is decided plan by plan.
pub const MAX_DUE_TIMES: usize = 10_000;

/// What a caller asks of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// What the run is given.
    pub input: Value,
    /// What it is to create or change.
    pub resource: Option<Value>,
    /// How long to wait before the trigger goes out.
    pub delay: HumanDuration,
    /// The fire that calls for it, if any.
    pub fire: Option<FireRef>,
    /// Who asks, for the history: `schedule`, `api`, …
    pub by: String,
}

/// The work request for one run of `job`.
#[must_use]
pub fn request(job: &Versioned<Job>, ask: Ask, now: Timestamp) -> NewWorkRequest {
    NewWorkRequest {
        id: WorkRequestId::new(now),
        namespace: job.item.namespace.clone(),
        job: job.item.name.clone(),
        job_version: job.version,
        queue: job.item.queue.clone(),
        timeout: job.item.timeout,
        fire: ask.fire,
        input: ask.input,
        resource: ask.resource,
        delay: ask.delay,
        by: ask.by,
    }
}

/// Decides every due time of a schedule in (cursor, `now`], in order; `None` when there is none. `jobs` finds a
/// job in force by its name in the schedule's namespace.
///
/// - A due time at most [`GRACE`] ago triggers.
/// - An older one was missed, and the catch-up policy speaks: `all` triggers each one within the window; `latest`
///   triggers one within the window only if it is the last due time of all up to now, so that many missed ones are made
///   up for by one run, and by none where a later due time is on time and runs anyhow; `none` triggers none.
/// - The rest is skipped as late, in stretches with one reason and a count (I8).
///
/// A plan ends early at [`MAX_TRIGGERS`] or [`MAX_DUE_TIMES`]; its `next_due_at` then is not in the future, and the
/// schedule is to be decided again.
#[must_use]
pub fn decide(
    row: &ScheduleRow,
    due: &DueTimes,
    now: Timestamp,
    jobs: impl Fn(&str) -> Option<Arc<Versioned<Job>>>,
) -> Option<FirePlan> {
    let mut next = due.next_after(row.cursor);
    let mut cursor = row.cursor;
    let mut decisions: Vec<Decision> = Vec::new();
    let (mut triggers, mut seen) = (0, 0);
    // Jobs do not change within a plan, and whether all are in force is the same for every due time.
    let jobs: Result<Vec<_>, _> = row.schedule.trigger.iter().map(|name| jobs(name).ok_or(name)).collect();

    while let Some(due_at) = next.filter(|due_at| *due_at <= now) {
        if triggers == MAX_TRIGGERS || seen == MAX_DUE_TIMES {
            break;
        }
        cursor = due_at;
        next = due.next_after(due_at);
        seen += 1;
        let is_last = next.is_none_or(|next| next > now);
        let verdict = match (&jobs, late(row, now.duration_since(due_at), is_last)) {
            (Err(job), _) => Err((SkipReason::Superseded, format!("job {job} is not in force"))),
            (Ok(_), Some(why)) => Err((SkipReason::Late, why)),
            (Ok(jobs), None) => Ok(jobs),
        };
        match verdict {
            Ok(jobs) => {
                triggers += 1;
                decisions.push(single(due_at, trigger(row, jobs, due_at, now)));
            }
            Err((reason, detail)) => skip(&mut decisions, due_at, reason, detail),
        }
    }
    let version = row.version;
    (!decisions.is_empty()).then(|| FirePlan {
        key: row.key(),
        version,
        cursor: row.cursor,
        decisions,
        next_cursor: cursor,
        next_due_at: next,
    })
}

/// Why a due time of this age does not trigger, if it does not.
fn late(row: &ScheduleRow, age: SignedDuration, is_last: bool) -> Option<String> {
    let catch_up = row.schedule.catch_up;
    if age <= GRACE {
        return None;
    }
    match catch_up.policy {
        CatchUpPolicy::None => Some("missed, and catch_up is none".into()),
        _ if age > catch_up.window.signed() => {
            Some(format!("missed by more than the catch-up window of {}", catch_up.window))
        }
        CatchUpPolicy::Latest if !is_last => Some("missed, and a later due time makes up for it".into()),
        CatchUpPolicy::Latest | CatchUpPolicy::All => None,
    }
}

fn trigger(row: &ScheduleRow, jobs: &[Arc<Versioned<Job>>], due_at: Timestamp, now: Timestamp) -> Planned {
    let requests = jobs.iter().map(|job| {
        let fire = FireRef { schedule: row.schedule.name.clone(), due_at, origin: Origin::Schedule };
        let ask = Ask {
            input: row.schedule.input.clone(),
            resource: None,
            delay: HumanDuration::default(),
            fire: Some(fire),
            by: Origin::Schedule.as_str().into(),
        };
        request(job, ask, now)
    });
    Planned::Trigger { requests: requests.collect(), unless_running: row.schedule.overlap == Overlap::Skip }
}

/// Adds a skip to the stretch that the last decision is, or begins a new one.
fn skip(decisions: &mut Vec<Decision>, due_at: Timestamp, reason: SkipReason, detail: String) {
    let planned = Planned::Skip(reason, detail);
    match decisions.last_mut() {
        Some(stretch) if stretch.planned == planned => {
            stretch.last_due_at = due_at;
            stretch.count += 1;
        }
        _ => decisions.push(single(due_at, planned)),
    }
}

fn single(due_at: Timestamp, planned: Planned) -> Decision {
    Decision { due_at, last_due_at: due_at, count: 1, planned }
}

#[cfg(test)]
mod tests;
