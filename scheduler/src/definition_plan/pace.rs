//! Schedules that come round sooner than their jobs usually take.
//!
//! In two steps, as how long jobs take is for the store to say: [`intervals`] tells which jobs to ask about, [`overruns`]
//! puts both together.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::definition::{Overlap, Schedule};
use reveille_shared::due::{DueTimes, InvalidTiming};
use reveille_shared::duration::HumanDuration;
use reveille_shared::store::{ScheduleKey, just_before};

use super::{Budget, Merged};

/// Fires of a schedule whose distances are looked at.
const FIRES: usize = 20;
/// The most due times of one schedule that are visited, should most of them be excluded.
const MOST_VISITED: usize = 1_000;
/// Jobs that are asked about.
const MOST_JOBS: usize = 500;

/// How soon a schedule comes round at its closest.
#[derive(Debug, Clone, PartialEq)]
pub struct Interval {
    /// The schedule.
    pub key: ScheduleKey,
    /// From one of its next fires to the one after.
    pub closest: Duration,
    /// The jobs that it calls.
    pub jobs: Vec<String>,
    /// What it does about runs that go on.
    pub overlap: Overlap,
    /// With [`Overlap::QueueAll`], how many fires wait.
    pub queue_max: u32,
}

/// A schedule that is due again before a run of its job has usually ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Overrun {
    /// The schedule.
    pub key: ScheduleKey,
    /// Its job that takes longest.
    pub job: String,
    /// How soon the schedule comes round at its closest.
    pub closest: Duration,
    /// How long the job's last runs took.
    pub usual: Duration,
    /// Both figures, and what becomes of fires, in words.
    pub words: String,
}

/// How soon schedules come round that are in the files, the soonest first; those that call more jobs than can be asked
/// about are left out.
pub(super) fn intervals(merged: &Merged, now: Timestamp, budget: &mut Budget) -> Result<Vec<Interval>, InvalidTiming> {
    let mut intervals = Vec::new();
    for schedule in merged.definitions.schedules.iter().filter(|schedule| merged.is_in_files(schedule)) {
        let Some(closest) = closest(schedule, now, budget)? else { continue };
        intervals.push(Interval {
            key: ScheduleKey::of(schedule),
            closest,
            jobs: schedule.trigger.clone(),
            overlap: schedule.overlap,
            queue_max: schedule.queue_max,
        });
    }
    intervals.sort_by_key(|interval| interval.closest);
    let mut jobs = 0;
    intervals.retain(|interval| {
        jobs += interval.jobs.len();
        budget.cut |= jobs > MOST_JOBS;
        jobs <= MOST_JOBS
    });
    Ok(intervals)
}

fn closest(schedule: &Schedule, now: Timestamp, budget: &mut Budget) -> Result<Option<Duration>, InvalidTiming> {
    let due = DueTimes::of(schedule)?;
    let from = schedule.starts_at.map_or(now, |starts_at| now.max(just_before(starts_at)));
    let until = schedule.ends_at.unwrap_or(Timestamp::MAX);
    let fires = due.between(from, until).take(MOST_VISITED).take_while(|_| budget.take());
    let fires = fires.filter(|due_at| due.exclusion(schedule, *due_at).is_none());
    let most = schedule.max_fires.and_then(|max| usize::try_from(max).ok()).unwrap_or(FIRES);
    let fires: Vec<Timestamp> = fires.take(most.min(FIRES)).collect();
    let gaps = fires.windows(2).map(|pair| pair[1].duration_since(pair[0]));
    Ok(gaps.min().map(SignedDuration::unsigned_abs))
}

/// Which of these schedules are due again before a run has usually ended; `usual` is by namespace and job.
#[must_use]
pub fn overruns(intervals: &[Interval], usual: &HashMap<(String, String), Duration>) -> Vec<Overrun> {
    let of = |interval: &Interval| {
        let known = |job: &String| usual.get(&(interval.key.namespace.clone(), job.clone())).copied();
        let (usual, job) = interval.jobs.iter().filter_map(|job| Some((known(job)?, job))).max()?;
        let words = words(interval, job, usual);
        let Interval { key, closest, .. } = interval.clone();
        (usual > closest).then(|| Overrun { key, job: job.clone(), closest, usual, words })
    };
    intervals.iter().filter_map(of).collect()
}

fn words(interval: &Interval, job: &str, usual: Duration) -> String {
    let (closest, usual) = (rounded(interval.closest), rounded(usual));
    let then = match interval.overlap {
        Overlap::Skip => "`overlap: skip` skips what is due meanwhile".to_owned(),
        Overlap::Allow => "`overlap: allow` runs them side by side, more and more of them".to_owned(),
        Overlap::QueueOne => "`overlap: queue_one` lets one fire wait and skips the others".to_owned(),
        Overlap::QueueAll => {
            format!("`overlap: queue_all` lets up to {} fires wait, then skips", interval.queue_max)
        }
        Overlap::CancelRunning => "`overlap: cancel_running` cancels each run before it has usually ended".to_owned(),
    };
    format!("is due again after {closest} at its closest, and {job} usually takes {usual}: {then}")
}

/// To the second, unless it is shorter than ten.
fn rounded(time: Duration) -> HumanDuration {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    HumanDuration::from_millis(if millis < 10_000 { millis } else { millis / 1000 * 1000 })
}
