//! Jobs and schedules in force, versioned.

use std::collections::HashMap;

use jiff::Timestamp;

use super::database::Page;
use super::fires::{Fire, FireOutcome, ScheduleKey, ScheduleRow, SkipReason};
use super::leader::Generation;
use super::{Result, Store, StoreError};
use crate::definition::{Definitions, Job, Schedule};
use crate::due::DueTimes;
use crate::work_request::Origin;

/// Due times of an outdated definition that are counted one by one before the count is cut off.
const COUNTED: usize = 100_000;

/// Something with the version that it has or had.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<T> {
    /// Counts the definitions that this name has had, from 1.
    pub version: i64,
    /// The definition.
    pub item: T,
}

/// The definitions that are in force as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Counts the sets that were put in force, from 1.
    pub version: i64,
    /// Of the set's content.
    pub digest: String,
    /// The folder's `revision`, if it has one.
    pub revision: Option<u64>,
    /// When they were put in force.
    pub applied_at: Timestamp,
    /// By whom.
    pub applied_by: String,
}

/// What putting definitions in force has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// New or changed jobs.
    pub jobs: usize,
    /// New or changed schedules.
    pub schedules: usize,
    /// Jobs and schedules that are gone.
    pub removed: usize,
}

impl Store {
    /// What is in force, if anything.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn in_force(&self) -> Result<Option<InForce>> {
        self.db.in_force().await
    }

    /// Whether definitions of this digest are or were once in force.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn was_in_force(&self, digest: &str) -> Result<bool> {
        self.db.was_in_force(digest).await
    }

    /// Puts definitions in force, and out of force what they do not name, in one transaction (I6).
    ///
    /// A new schedule is due from now on. A changed one keeps its cursor as long as its timing is the same; else it is
    /// due by the new timing from now on, and what the old one left undecided is recorded as superseded.
    ///
    /// # Errors
    /// [`StoreError::Deposed`], [`StoreError::Timing`], [`StoreError::Query`]: nothing was changed.
    pub async fn apply_definitions(
        &self,
        generation: Generation,
        definitions: &Definitions,
        digest: &str,
        by: &str,
    ) -> Result<Applied> {
        let mut tx = self.begin().await?;
        if !tx.hold(generation).await? {
            return Err(StoreError::Deposed);
        }
        let now = tx.now();
        let mut applied = Applied::default();

        let mut old_jobs: HashMap<_, _> =
            tx.all_jobs().await?.into_iter().map(|job| (job_key(&job.item), job)).collect();
        let new: Vec<_> = definitions.jobs.iter().map(job_key).filter(|key| !old_jobs.contains_key(key)).collect();
        let last_versions = tx.last_job_versions(&new).await?;
        let mut put_jobs = Vec::new();
        for job in &definitions.jobs {
            let version = match old_jobs.remove(&job_key(job)) {
                Some(old) if old.item == *job => continue,
                Some(old) => old.version + 1,
                None => last_versions.get(&job_key(job)).unwrap_or(&0) + 1,
            };
            put_jobs.push(Versioned { version, item: job });
        }
        applied.jobs = put_jobs.len();
        tx.put_jobs(&put_jobs).await?;
        let gone: Vec<_> = old_jobs.into_keys().collect();
        applied.removed += gone.len();
        tx.remove_jobs(&gone).await?;

        let mut old_schedules: HashMap<_, _> =
            tx.all_schedules().await?.into_iter().map(|row| (row.key(), row)).collect();
        let keys = definitions.schedules.iter().map(schedule_key);
        let new: Vec<_> = keys.filter(|key| !old_schedules.contains_key(key)).collect();
        let last_versions = tx.last_schedule_versions(&new).await?;
        let mut put = Vec::new();
        let mut superseded = Vec::new();
        for schedule in &definitions.schedules {
            let key = schedule_key(schedule);
            let old = old_schedules.remove(&key);
            if old.as_ref().is_some_and(|old| old.schedule == *schedule) {
                continue;
            }
            let last_version = match &old {
                Some(old) => old.version,
                None => last_versions.get(&key).copied().unwrap_or(0),
            };
            let (row, fire) = succeed(old, last_version + 1, schedule, now)?;
            put.push(row);
            superseded.extend(fire);
        }
        applied.schedules = put.len();
        for gone in old_schedules.values() {
            superseded.extend(left_undecided(gone, now, "the schedule was removed")?);
        }
        tx.insert_fires(&superseded).await?;
        tx.put_schedules(&put).await?;
        let gone: Vec<_> = old_schedules.into_keys().collect();
        applied.removed += gone.len();
        tx.remove_schedules(&gone).await?;

        tx.put_in_force(digest, definitions.revision, by).await?;
        tx.commit().await?;
        Ok(applied)
    }

    /// A job in force.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn job(&self, namespace: &str, name: &str) -> Result<Option<Versioned<Job>>> {
        Ok(self.db.jobs(namespace, Page::Only(name)).await?.pop())
    }

    /// Up to `limit` jobs of a namespace behind the name `after`, by name.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn jobs(&self, namespace: &str, after: &str, limit: i64) -> Result<Vec<Versioned<Job>>> {
        self.db.jobs(namespace, Page::After(after, limit)).await
    }

    /// A version of a job, be it in force or not.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn job_version(&self, namespace: &str, name: &str, version: i64) -> Result<Option<Job>> {
        self.db.job_version(namespace, name, version).await
    }

    /// The queues of all jobs in force and of all runs that have not ended.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn queues(&self) -> Result<Vec<String>> {
        self.db.queues().await
    }
}

fn job_key(job: &Job) -> ScheduleKey {
    ScheduleKey { namespace: job.namespace.clone(), name: job.name.clone() }
}

fn schedule_key(schedule: &Schedule) -> ScheduleKey {
    ScheduleKey { namespace: schedule.namespace.clone(), name: schedule.name.clone() }
}

/// The row of a new or changed schedule, and what its predecessor left undecided.
fn succeed(
    old: Option<ScheduleRow>,
    version: i64,
    schedule: &Schedule,
    now: Timestamp,
) -> Result<(ScheduleRow, Option<Fire>)> {
    if let Some(old) = &old
        && (&old.schedule.timing, &old.schedule.timezone) == (&schedule.timing, &schedule.timezone)
    {
        return Ok((ScheduleRow { schedule: schedule.clone(), version, ..old.clone() }, None));
    }
    let fire = old.as_ref().map(|old| left_undecided(old, now, "the schedule's timing changed")).transpose()?.flatten();
    // A clock that was put back must not make a schedule decide again what its predecessor has decided.
    let cursor = old.as_ref().map_or(now, |old| old.cursor.max(now));
    let next_due_at = due_times(schedule)?.next_after(cursor);
    Ok((ScheduleRow { schedule: schedule.clone(), version, cursor, next_due_at }, fire))
}

/// The ledger's entry for the due times that a definition leaves undecided at `now`, if there are any.
fn left_undecided(row: &ScheduleRow, now: Timestamp, why: &str) -> Result<Option<Fire>> {
    if row.next_due_at.is_none_or(|due| due > now) {
        return Ok(None);
    }
    let mut stretch: Option<(Timestamp, Timestamp, i64)> = None;
    for due in due_times(&row.schedule)?.between(row.cursor, now).take(COUNTED) {
        let (_, last, count) = stretch.get_or_insert((due, due, 0));
        *last = due;
        *count += 1;
    }
    Ok(stretch.map(|(due_at, last_due_at, count)| Fire {
        key: row.key(),
        origin: Origin::Schedule,
        due_at,
        last_due_at,
        count,
        outcome: FireOutcome::Skipped(SkipReason::Superseded, why.into()),
        version: row.version,
        decided_at: now,
    }))
}

fn due_times(schedule: &Schedule) -> Result<DueTimes> {
    DueTimes::of(schedule)
        .map_err(|source| StoreError::Timing { schedule: format!("{}/{}", schedule.namespace, schedule.name), source })
}
