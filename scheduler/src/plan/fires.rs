//! A schedule's due times → one decision for each.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::definition::{CatchUpPolicy, Job, Schedule};
use reveille_shared::due::{DueTimes, Stretch};
use reveille_shared::duration::HumanDuration;
use reveille_shared::store::{
    Decision, Fire, FireOutcome, FirePlan, NewWorkRequest, OverlapRule, Planned, ScheduleRow, SkipReason, Versioned,
    before_start, just_before,
};
use reveille_shared::work_request::{Asker, FireRef, Origin};
use serde_json::json;

use super::{Ask, payload, request};

/// A due time that is decided no later than this after it is on time, whatever the catch-up policy says.
pub const GRACE: SignedDuration = SignedDuration::from_secs(30);
/// The most triggering due times in one plan.
pub const MAX_TRIGGERS: usize = 1_000;
/// The most due times in one plan; a longer backlog is decided plan by plan.
pub const MAX_DUE_TIMES: usize = 10_000;

/// Decides every due time of a schedule in (cursor, `now`], in order; `None` when there is none. `jobs` finds a
/// job in force by its name in the schedule's namespace.
///
/// - Due times before `starts_at` are skipped as one stretch. After `ends_at`, and once `max_fires` have triggered,
///   nothing is decided any more.
/// - A due time on a day that `except` or `only` leaves out is skipped.
/// - A due time at most [`GRACE`] ago triggers.
/// - An older one was missed, and the catch-up policy speaks: `all` triggers each one within the window, but at most the
///   last `max` of them; `latest` triggers one within the window only if it is the last of all up to now, so that many
///   missed ones are made up for by one run, and by none where a later due time is on time and runs anyhow; `none` triggers
///   none.
/// - Skips come in stretches with one reason and a count (I8).
///
/// What overlaps is not judged here but where the plan is recorded.
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
    let schedule = &row.schedule;
    let mut stretches = Stretches::default();
    let mut cursor = row.cursor;
    let mut pass_over = |until: Timestamp, reason, detail: &dyn Fn() -> String| {
        let until = until.min(now);
        if let Some(stretch) = due.stretch(cursor, until) {
            let planned = Planned::Skip(reason, detail());
            stretches.0.push(Decision {
                due_at: stretch.first,
                last_due_at: stretch.last,
                count: stretch.count,
                planned,
            });
            cursor = stretch.last;
        }
        cursor = cursor.max(until);
    };
    if let Some(starts_at) = schedule.starts_at.filter(|starts_at| *starts_at > row.cursor) {
        pass_over(just_before(starts_at), SkipReason::BeforeStart, &|| before_start(starts_at));
    }
    // Jobs do not change within a plan, and whether all are in force is the same for every due time.
    let jobs: Result<Vec<_>, _> = schedule.trigger.iter().map(|name| jobs(name).ok_or(name)).collect();
    let judge = Judge::new(schedule, due, cursor_of(row), now);
    if jobs.is_ok() && !judge.has_day_rules() {
        let (until, why) = judge.hopeless();
        pass_over(until, SkipReason::Late, &|| why.clone());
    }
    let mut left = judge.made_up_for(cursor);
    let mut next = due.next_after(cursor);
    let (mut triggers, mut seen) = (0, 0);
    while let Some(due_at) = next.filter(|due_at| *due_at <= judge.until) {
        let exhausted = schedule.max_fires.is_some_and(|max| row.fired.saturating_add(triggers) >= max);
        if exhausted || triggers == MAX_TRIGGERS as u64 || seen == MAX_DUE_TIMES {
            break;
        }
        cursor = due_at;
        next = due.next_after(due_at);
        seen += 1;
        match (&jobs, judge.verdict(due_at, &mut left)) {
            (Err(job), _) => stretches.skip(due_at, SkipReason::Superseded, format!("job {job} is not in force")),
            (Ok(_), Err((reason, detail))) => stretches.skip(due_at, reason, detail),
            (Ok(jobs), Ok(())) => {
                triggers += 1;
                let fire = FireRef { schedule: schedule.name.clone(), due_at, origin: Origin::Schedule };
                stretches.0.push(single(due_at, Planned::Trigger(requests(schedule, jobs, &fire, now))));
            }
        }
    }
    let decided = ScheduleRow { cursor, ..row.clone() };
    (!stretches.0.is_empty()).then(|| FirePlan {
        key: row.key(),
        version: row.version,
        cursor: row.cursor,
        planned_at: now,
        overlap: OverlapRule::of(schedule),
        fired: schedule.max_fires.map(|max| (row.fired, max)),
        decisions: stretches.0,
        next_cursor: cursor,
        next_due_at: decided.next_look(due),
    })
}

fn cursor_of(row: &ScheduleRow) -> Timestamp {
    row.schedule.starts_at.map_or(row.cursor, |starts_at| row.cursor.max(just_before(starts_at)))
}

/// Judges due times by their day and their age.
struct Judge<'a> {
    schedule: &'a Schedule,
    due: &'a DueTimes,
    now: Timestamp,
    /// Nothing later is decided.
    until: Timestamp,
    /// The last due time up to `until` that its day does not exclude, for the catch-up policy `latest`.
    last: Option<Timestamp>,
}

impl<'a> Judge<'a> {
    fn new(schedule: &'a Schedule, due: &'a DueTimes, cursor: Timestamp, now: Timestamp) -> Self {
        let until = schedule.ends_at.map_or(now, |ends_at| ends_at.min(now));
        let mut judge = Self { schedule, due, now, until, last: None };
        if schedule.catch_up.policy == CatchUpPolicy::Latest {
            judge.last = if judge.has_day_rules() {
                judge.days_back(judge.window_from(cursor), until).next().map(|stretch| stretch.last)
            } else {
                due.stretch(cursor, until).map(|stretch| stretch.last)
            };
        }
        judge
    }

    fn has_day_rules(&self) -> bool {
        !(self.schedule.except.is_empty() && self.schedule.only.is_empty())
    }

    fn excluded(&self, due_at: Timestamp) -> Option<String> {
        self.due.exclusion(self.schedule, due_at)
    }

    /// The instant before the oldest due time that may be made up for.
    fn window_from(&self, cursor: Timestamp) -> Timestamp {
        let window = self.schedule.catch_up.window.signed().max(GRACE);
        cursor.max(just_before(self.now.saturating_sub(window).unwrap_or(Timestamp::MIN)))
    }

    /// The due times after `from` and up to `until` on each day that is not excluded, the last day first. Rules are about
    /// whole days, so that one due time speaks for all of its day.
    fn days_back(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = Stretch> {
        let mut end = until;
        let days = std::iter::from_fn(move || {
            let midnight = self.due.zone().to_datetime(end).date().to_zoned(self.due.zone().clone()).ok()?.timestamp();
            let begin = just_before(midnight).max(from);
            let day = (begin < end).then_some((begin, end))?;
            end = begin;
            Some(day)
        });
        let due = days.filter_map(|(begin, end)| self.due.stretch(begin, end));
        due.filter(|stretch| self.excluded(stretch.last).is_none())
    }

    /// Due times up to here can't be made up for, whatever else is true; and why.
    fn hopeless(&self) -> (Timestamp, String) {
        let catch_up = self.schedule.catch_up;
        let before = |age| just_before(self.now.saturating_sub(age).unwrap_or(Timestamp::MIN)).min(self.until);
        match catch_up.policy {
            CatchUpPolicy::None => (before(GRACE), "missed, and catch_up is none".into()),
            CatchUpPolicy::Latest | CatchUpPolicy::All => {
                let why = format!("missed by more than the catch-up window of {}", catch_up.window);
                (before(catch_up.window.signed().max(GRACE)), why)
            }
        }
    }

    /// How many missed due times behind the cursor the policy `all` would make up for if it had no limit.
    fn made_up_for(&self, cursor: Timestamp) -> i64 {
        if self.schedule.catch_up.policy != CatchUpPolicy::All {
            return 0;
        }
        let missed = just_before(self.now.saturating_sub(GRACE).unwrap_or(Timestamp::MIN)).min(self.until);
        let from = self.window_from(cursor);
        if self.has_day_rules() {
            return self.days_back(from, missed).map(|stretch| stretch.count).sum();
        }
        self.due.stretch(from, missed).map_or(0, |stretch| stretch.count)
    }

    /// Whether a due time triggers; if not, why. `left` counts those that `all` would still make up for.
    fn verdict(&self, due_at: Timestamp, left: &mut i64) -> Result<(), (SkipReason, String)> {
        if let Some(rule) = self.excluded(due_at) {
            return Err((SkipReason::Excluded, rule));
        }
        let age = self.now.duration_since(due_at);
        if age <= GRACE {
            return Ok(());
        }
        let catch_up = self.schedule.catch_up;
        let late = |why: String| Err((SkipReason::Late, why));
        match catch_up.policy {
            CatchUpPolicy::None => late(self.hopeless().1),
            _ if age > catch_up.window.signed() => late(self.hopeless().1),
            CatchUpPolicy::Latest if self.last != Some(due_at) => {
                late("missed, and a later due time makes up for it".into())
            }
            CatchUpPolicy::Latest => Ok(()),
            CatchUpPolicy::All => {
                let behind = std::mem::replace(left, *left - 1);
                if behind > i64::from(catch_up.max) {
                    let max = catch_up.max;
                    return Err((SkipReason::Cap, format!("missed, and only the last {max} are made up for")));
                }
                Ok(())
            }
        }
    }
}

/// The runs that a fire calls for.
pub(super) fn requests(
    schedule: &Schedule,
    jobs: &[Arc<Versioned<Job>>],
    fire: &FireRef,
    now: Timestamp,
) -> Vec<NewWorkRequest> {
    let (input, refused) = payload::render(&schedule.input, || {
        json!({
            "scheduled_for": fire.due_at.to_string(),
            "fired_at": now.to_string(),
            "schedule": schedule.name,
            "namespace": schedule.namespace,
        })
    });
    let wait = match fire.origin {
        Origin::Schedule => fire.due_at.saturating_add(jitter(schedule, fire.due_at)).unwrap_or(Timestamp::MAX),
        Origin::Manual | Origin::Backfill(_) => now,
    };
    let delay = u64::try_from(wait.duration_since(now).as_millis()).unwrap_or(0);
    let request = |job: &Arc<Versioned<Job>>| {
        let ask = Ask {
            input: input.clone(),
            delay: HumanDuration::from_millis(delay),
            fire: Some(fire.clone()),
            by: fire.origin.to_string().into(),
            refused: refused.clone(),
            follow: schedule.pause_after_failures.is_some() && fire.origin == Origin::Schedule
                || matches!(fire.origin, Origin::Backfill(_)),
            ..Ask::default()
        };
        request(job, ask, now)
    };
    jobs.iter().map(request).collect()
}

/// A fire that someone asks for now: its entry in the ledger, and its runs.
#[must_use]
pub fn fire_by_hand(
    row: &ScheduleRow,
    jobs: &[Arc<Versioned<Job>>],
    by: &Asker,
    now: Timestamp,
) -> (Fire, Vec<NewWorkRequest>) {
    let fire = FireRef { schedule: row.schedule.name.clone(), due_at: now, origin: Origin::Manual };
    let mut requests = requests(&row.schedule, jobs, &fire, now);
    requests.iter_mut().for_each(|request| request.by = by.clone());
    let entry = Fire {
        key: row.key(),
        origin: Origin::Manual,
        due_at: now,
        last_due_at: now,
        count: 1,
        outcome: FireOutcome::Triggered(requests.iter().map(|request| request.id).collect()),
        version: row.version,
        decided_at: now,
    };
    (entry, requests)
}

/// How long after a due time its triggers go out: anything below the schedule's jitter, and always the same for one
/// due time of one schedule.
#[must_use]
pub fn jitter(schedule: &Schedule, due_at: Timestamp) -> SignedDuration {
    let most = schedule.jitter.as_millis();
    if most == 0 {
        return SignedDuration::ZERO;
    }
    let mut hasher = blake3::Hasher::new();
    for part in [schedule.namespace.as_bytes(), b"/", schedule.name.as_bytes(), b"/"] {
        hasher.update(part);
    }
    hasher.update(&due_at.as_microsecond().to_be_bytes());
    let mut drawn = [0; 8];
    hasher.finalize_xof().fill(&mut drawn);
    SignedDuration::from_millis(i64::try_from(u64::from_be_bytes(drawn) % most).unwrap_or(0))
}

/// Decisions in order; equal skips next to each other are one stretch.
#[derive(Default)]
pub(super) struct Stretches(pub(super) Vec<Decision>);

impl Stretches {
    pub(super) fn skip(&mut self, due_at: Timestamp, reason: SkipReason, detail: String) {
        let planned = Planned::Skip(reason, detail);
        match self.0.last_mut() {
            Some(stretch) if stretch.planned == planned => {
                stretch.last_due_at = due_at;
                stretch.count += 1;
            }
            _ => self.0.push(single(due_at, planned)),
        }
    }
}

pub(super) fn single(due_at: Timestamp, planned: Planned) -> Decision {
    Decision { due_at, last_due_at: due_at, count: 1, planned }
}

#[cfg(test)]
mod tests;
