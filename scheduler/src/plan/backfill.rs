//! A backfill → its next fires.

use std::sync::Arc;

use jiff::Timestamp;
use reveille_shared::definition::Job;
use reveille_shared::due::DueTimes;
use reveille_shared::store::{Backfill, BackfillStep, Decision, Fire, FireOutcome, Planned, SkipReason, Versioned};
use reveille_shared::work_request::{Asker, FireRef, Origin};

use super::fires::{MAX_DUE_TIMES, Stretches, requests, single};

/// The most fires in one step.
const MAX_FIRES: usize = 100;

/// The next fires of a backfill: as many as its limit leaves room for. `None` when there is nothing to do before a run ends.
/// `due` are the due times of the backfill's own version of the schedule; `jobs` finds a job in force.
#[must_use]
pub fn backfill_step(
    backfill: &Backfill,
    due: &DueTimes,
    now: Timestamp,
    jobs: impl Fn(&str) -> Option<Arc<Versioned<Job>>>,
) -> Option<BackfillStep> {
    let asked = &backfill.asked;
    let schedule = &asked.schedule;
    let jobs: Result<Vec<_>, _> = schedule.trigger.iter().map(|name| jobs(name).ok_or(name)).collect();
    let unended = usize::try_from(backfill.unended).unwrap_or(usize::MAX);
    let room = (asked.max_parallel as usize).saturating_sub(unended).min(MAX_FIRES);
    let origin = Origin::Backfill(asked.id.clone());
    let by = Asker { by: format!("{origin} of {}", asked.by), reason: asked.reason.clone() };
    let (mut stretches, mut births) = (Stretches::default(), Vec::new());
    let (mut cursor, mut triggers) = (backfill.cursor, 0);
    let mut next = due.next_after(cursor);
    let mut seen = 0;
    while let Some(due_at) = next.filter(|due_at| *due_at <= asked.to && seen < MAX_DUE_TIMES) {
        seen += 1;
        match (&jobs, due.exclusion(schedule, due_at)) {
            (Err(job), _) => stretches.skip(due_at, SkipReason::Superseded, format!("job {job} is not in force")),
            (_, Some(rule)) => stretches.skip(due_at, SkipReason::Excluded, rule),
            (Ok(_), None) if triggers == room => break,
            (Ok(jobs), None) => {
                triggers += 1;
                let fire = FireRef { schedule: schedule.name.clone(), due_at, origin: origin.clone() };
                let mut requests = requests(schedule, jobs, &fire, now);
                requests.iter_mut().for_each(|request| request.by = by.clone());
                stretches.0.push(single(due_at, Planned::Trigger(requests)));
            }
        }
        cursor = due_at;
        next = due.next_after(due_at);
    }
    let done = unended == 0 && stretches.0.is_empty() && next.is_none_or(|due_at| due_at > asked.to);
    let fire = |Decision { due_at, last_due_at, count, planned }| {
        let outcome = match planned {
            Planned::Skip(reason, detail) => FireOutcome::Skipped(reason, detail),
            Planned::Trigger(requests) => {
                let ids = requests.iter().map(|request| request.id).collect();
                births.extend(requests);
                FireOutcome::Triggered(ids)
            }
        };
        Fire {
            key: asked.key.clone(),
            origin: origin.clone(),
            due_at,
            last_due_at,
            count,
            outcome,
            version: asked.version,
            decided_at: now,
        }
    };
    let fires: Vec<Fire> = stretches.0.into_iter().map(fire).collect();
    (done || !fires.is_empty()).then(|| BackfillStep {
        key: asked.key.clone(),
        id: asked.id.clone(),
        from: backfill.cursor,
        to: cursor,
        fires,
        requests: births,
        done,
    })
}
