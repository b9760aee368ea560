//! Schedules in force: how far each is decided, whether it is paused, and what it leaves undecided.

use std::fmt;

use jiff::Timestamp;

use super::changes::{Action, Change};
use super::database::{NamePage, Tx};
use super::fires::{Fire, FireOutcome, SkipReason};
use super::{Hint, Result, Store, StoreError};
use crate::crash::{self, Commit};
use crate::definition::{Job, Schedule};
use crate::due::DueTimes;
use crate::work_request::Origin;

/// Names a schedule, or (where it says so) a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScheduleKey {
    /// The tenant.
    pub namespace: String,
    /// Unique within the namespace.
    pub name: String,
}

impl ScheduleKey {
    /// The name of a job.
    #[must_use]
    pub fn of_job(job: &Job) -> Self {
        Self { namespace: job.namespace.clone(), name: job.name.clone() }
    }

    /// The name of a schedule.
    #[must_use]
    pub fn of(schedule: &Schedule) -> Self {
        Self { namespace: schedule.namespace.clone(), name: schedule.name.clone() }
    }
}

impl fmt::Display for ScheduleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A schedule in force, and how far it is decided.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRow {
    /// The definition.
    pub schedule: Schedule,
    /// Counts the definitions that this name has had.
    pub version: i64,
    /// Every due time up to and including this instant has its decision.
    pub cursor: Timestamp,
    /// The due time at which there is something to decide next; none while it is paused, and when there is none any more.
    pub next_due_at: Option<Timestamp>,
    /// Due times that have triggered since it has `max_fires`.
    pub fired: u64,
    /// Runs of its fires that FAILED, one after the other, up to now.
    pub failures: u32,
    /// It is paused: due times have no decision before it is resumed, and then are skipped.
    pub pause: Option<Pause>,
}

/// Since when a schedule is paused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub at: Timestamp,
    /// Who did it.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<String>,
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "paused by {} at {:.0}", self.by, self.at)?;
        self.reason.iter().try_for_each(|reason| write!(f, ": {reason}"))
    }
}

impl ScheduleRow {
    /// A new schedule, undecided from `cursor` on.
    #[must_use]
    pub fn new(schedule: Schedule, version: i64, cursor: Timestamp) -> Self {
        Self { schedule, version, cursor, next_due_at: None, fired: 0, failures: 0, pause: None }
    }

    /// The schedule's name.
    #[must_use]
    pub fn key(&self) -> ScheduleKey {
        ScheduleKey::of(&self.schedule)
    }

    /// Whether all of its `max_fires` have triggered.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.schedule.max_fires.is_some_and(|max| self.fired >= max)
    }

    /// The due time at which there is something to decide next. Those before `starts_at` are decided together with the
    /// first one that is not; those after the end are not decided as long as the schedule stands.
    #[must_use]
    pub fn next_look(&self, due: &DueTimes) -> Option<Timestamp> {
        if self.pause.is_some() || self.is_exhausted() {
            return None;
        }
        let from = self.schedule.starts_at.map_or(self.cursor, |starts_at| self.cursor.max(just_before(starts_at)));
        due.next_after(from).filter(|due| self.schedule.ends_at.is_none_or(|ends_at| *due <= ends_at))
    }

    /// The ledger's entries for the due times up to `now` that have no decision, when none will be taken any more:
    /// `otherwise` is the reason where the row itself knows none.
    pub(crate) fn settle(&self, due: &DueTimes, now: Timestamp, otherwise: (SkipReason, &str)) -> Vec<Fire> {
        let schedule = &self.schedule;
        let end = schedule.ends_at.map_or(now, |at| at.min(now));
        let main = match &self.pause {
            _ if self.is_exhausted() => vec![(end, (SkipReason::AfterEnd, self.exhausted()))],
            None => vec![(end, (otherwise.0, otherwise.1.to_owned()))],
            Some(pause) => {
                let missed = "missed, and the schedule was paused before it was made up for";
                let missed = (pause.at.min(end), (SkipReason::Late, missed.to_owned()));
                vec![missed, (end, (SkipReason::Paused, pause.to_string()))]
            }
        };
        let before = schedule.starts_at.map(|at| (just_before(at), (SkipReason::BeforeStart, before_start(at))));
        let after = schedule.ends_at.map(|at| (now, (SkipReason::AfterEnd, after_end(at))));
        let mut from = self.cursor;
        let mut fires = Vec::new();
        for (until, (reason, detail)) in before.into_iter().chain(main).chain(after) {
            let until = until.min(now);
            if until > from
                && let Some(stretch) = due.stretch(from, until)
            {
                fires.push(Fire {
                    key: self.key(),
                    origin: Origin::Schedule,
                    due_at: stretch.first,
                    last_due_at: stretch.last,
                    count: stretch.count,
                    outcome: FireOutcome::Skipped(reason, detail),
                    version: self.version,
                    decided_at: now,
                });
            }
            from = from.max(until);
        }
        fires
    }

    /// Why it is not due any more after the last of its fires.
    #[must_use]
    pub fn exhausted(&self) -> String {
        format!("all {} of its max_fires have triggered", self.schedule.max_fires.unwrap_or_default())
    }
}

/// Why a due time before `starts_at` is skipped.
#[must_use]
pub fn before_start(starts_at: Timestamp) -> String {
    format!("before starts_at {starts_at:.0}")
}

/// Why a due time after `ends_at` is skipped.
#[must_use]
pub fn after_end(ends_at: Timestamp) -> String {
    format!("after ends_at {ends_at:.0}")
}

/// The last instant before another one, of those that the databases keep.
#[must_use]
pub fn just_before(at: Timestamp) -> Timestamp {
    at.saturating_sub(jiff::SignedDuration::from_micros(1)).unwrap_or(Timestamp::MIN)
}

pub(crate) fn due_times(schedule: &Schedule) -> Result<DueTimes> {
    DueTimes::of(schedule)
        .map_err(|source| StoreError::Timing { schedule: format!("{}/{}", schedule.namespace, schedule.name), source })
}

/// What became of a request to pause or to resume.
#[derive(Debug, Clone, PartialEq)]
pub enum PauseVerdict {
    /// It is as asked for; this is the schedule from now on.
    Done(Box<ScheduleRow>),
    /// It was so before, and nothing was changed.
    Already(Box<ScheduleRow>),
    /// No such schedule is in force.
    Unknown,
}

impl Store {
    /// A schedule in force.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn schedule(&self, key: &ScheduleKey) -> Result<Option<ScheduleRow>> {
        Ok(self.db.schedules(&key.namespace, NamePage::Only(&key.name)).await?.pop())
    }

    /// Up to `limit` schedules of a namespace behind the name `after` whose name holds `part`, by name.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn schedules(&self, namespace: &str, after: &str, part: &str, limit: i64) -> Result<Vec<ScheduleRow>> {
        self.db.schedules(namespace, NamePage::After { name: after, part, limit }).await
    }

    /// Up to `limit` schedules that are due at or before `until`, the most overdue first.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn due_schedules(&self, until: Timestamp, limit: i64) -> Result<Vec<ScheduleRow>> {
        self.db.due_schedules(until, limit).await
    }

    /// Pauses a schedule: from the commit on no due time triggers, not even one that a planner has in hand.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn pause(&self, key: &ScheduleKey, by: &str, reason: Option<&str>) -> Result<PauseVerdict> {
        let mut tx = self.begin().await?;
        let Some(row) = tx.lock_schedules(std::slice::from_ref(key)).await?.pop() else {
            return Ok(PauseVerdict::Unknown);
        };
        if row.pause.is_some() {
            return Ok(PauseVerdict::Already(Box::new(row)));
        }
        let row = pause(&mut *tx, row, by, reason).await?;
        crash::around(Commit::Pause, tx.commit()).await?;
        Ok(PauseVerdict::Done(Box::new(row)))
    }

    /// Resumes a schedule: it is due again from now on, and what was due meanwhile is recorded as skipped, as one stretch.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn resume(&self, key: &ScheduleKey, by: &str, reason: Option<&str>) -> Result<PauseVerdict> {
        let mut tx = self.begin().await?;
        let Some(mut row) = tx.lock_schedules(std::slice::from_ref(key)).await?.pop() else {
            return Ok(PauseVerdict::Unknown);
        };
        if row.pause.is_none() {
            return Ok(PauseVerdict::Already(Box::new(row)));
        }
        let due = due_times(&row.schedule)?;
        let now = tx.now();
        tx.insert_fires(&row.settle(&due, now, (SkipReason::Paused, ""))).await?;
        row.pause = None;
        row.failures = 0;
        // A clock that was put back must not make it decide again what is decided.
        row.cursor = row.cursor.max(now);
        row.next_due_at = row.next_look(&due);
        tx.put_schedules(std::slice::from_ref(&row)).await?;
        tx.insert_changes(&[Change::of_schedule(&row, Action::Resumed, by, reason)]).await?;
        crash::around(Commit::Resume, tx.commit()).await?;
        self.hint(Hint::Schedules);
        Ok(PauseVerdict::Done(Box::new(row)))
    }
}

/// Pauses a schedule whose row is locked.
pub(crate) async fn pause(
    tx: &mut dyn Tx,
    mut row: ScheduleRow,
    by: &str,
    reason: Option<&str>,
) -> Result<ScheduleRow> {
    row.pause = Some(Pause { at: tx.now(), by: by.to_owned(), reason: reason.map(str::to_owned) });
    row.next_due_at = None;
    tx.put_schedules(std::slice::from_ref(&row)).await?;
    tx.insert_changes(&[Change::of_schedule(&row, Action::Paused, by, reason)]).await?;
    Ok(row)
}
