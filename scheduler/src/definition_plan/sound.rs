//! Whether definitions are sound as a whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use reveille_shared::definition::{Definitions, Job};
use reveille_shared::store::ScheduleKey;

/// Something because of which definitions can't be in force together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsound {
    /// `schedule billing/nightly` or `job billing/invoice-run`.
    pub at: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  = {}", self.at, self.message, self.hint)
    }
}

/// Everything that is not sound.
pub(super) fn check(definitions: &Definitions) -> Vec<Unsound> {
    let jobs: BTreeMap<ScheduleKey, &Job> =
        definitions.jobs.iter().map(|job| (ScheduleKey::of_job(job), job)).collect();
    let known = |namespace: &str, name: &str| {
        jobs.contains_key(&ScheduleKey { namespace: namespace.to_owned(), name: name.to_owned() })
    };
    let missing = |at: String, job: &str| Unsound {
        at,
        message: format!("calls job {job}, which would not be in force"),
        hint: "define the job in the files, or keep it in force, or call another one".to_owned(),
    };
    let mut unsound = Vec::new();
    for schedule in &definitions.schedules {
        for job in schedule.trigger.iter().filter(|job| !known(&schedule.namespace, job)) {
            unsound.push(missing(format!("schedule {}", ScheduleKey::of(schedule)), job));
        }
    }
    for (key, job) in &jobs {
        for next in called(job).filter(|next| !known(&key.namespace, next)) {
            unsound.push(missing(format!("job {key}"), next));
        }
    }
    unsound.extend(cycles(&jobs));
    unsound.extend(shared_queues(&jobs));
    unsound
}

/// The jobs that its runs or the ends of these call.
fn called(job: &Job) -> impl Iterator<Item = &str> {
    let chained = job.on_success.iter().chain(&job.on_failure).chain(&job.on_finish).map(|next| next.job.as_str());
    chained.chain(job.fan_out.as_ref().map(|fan_out| fan_out.job.as_str()))
}

/// External jobs whose queue a job of another kind uses too: whoever takes a trigger must be able to run it.
fn shared_queues(jobs: &BTreeMap<ScheduleKey, &Job>) -> Vec<Unsound> {
    let others = jobs.iter().rev().filter(|(_, job)| !job.handler.is_external());
    let others: HashMap<&str, &ScheduleKey> = others.map(|(key, job)| (job.queue.as_str(), key)).collect();
    let external = jobs.iter().filter(|(_, job)| job.handler.is_external());
    let shared = external.filter_map(|(key, job)| Some((key, job, others.get(job.queue.as_str())?)));
    let unsound = |(key, job, other): (&ScheduleKey, &&Job, &&ScheduleKey)| Unsound {
        at: format!("job {key}"),
        message: format!("is external and shares the queue {} with job {other}, which is none", job.queue),
        hint: "give it a queue of its own".to_owned(),
    };
    shared.map(unsound).collect()
}

/// Chains that call themselves again, each told once.
fn cycles(jobs: &BTreeMap<ScheduleKey, &Job>) -> Vec<Unsound> {
    let mut found = Vec::new();
    let mut done: HashSet<ScheduleKey> = HashSet::new();
    for start in jobs.keys() {
        // The way from `start`, with what is still to be followed at each step; a loop, as chains may be long.
        let mut way: Vec<(ScheduleKey, Vec<ScheduleKey>)> = Vec::new();
        let mut on_way: HashMap<ScheduleKey, usize> = HashMap::new();
        let mut enter = vec![start.clone()];
        loop {
            if let Some(key) = enter.pop() {
                if let Some(first) = on_way.get(&key) {
                    let names = way[*first..].iter().map(|(key, _)| key.name.as_str()).chain([key.name.as_str()]);
                    let names: Vec<_> = names.collect();
                    found.push(Unsound {
                        at: format!("job {key}"),
                        message: format!("its chain comes back to itself: {}", names.join(" \u{2192} ")),
                        hint: "take one of on_success, on_failure, on_finish and fan_out out of the circle".to_owned(),
                    });
                } else if let Some(job) = jobs.get(&key).filter(|_| !done.contains(&key)) {
                    let namespace = &key.namespace;
                    let next =
                        called(job).map(|next| ScheduleKey { namespace: namespace.clone(), name: next.to_owned() });
                    let next = next.collect();
                    on_way.insert(key.clone(), way.len());
                    way.push((key, next));
                }
            }
            let Some((key, next)) = way.last_mut() else { break };
            if let Some(next) = next.pop() {
                enter.push(next);
            } else {
                on_way.remove(key);
                done.insert(key.clone());
                way.pop();
            }
        }
    }
    found
}
