//! Jobs and schedules in force, versioned.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::changes::{Action, Change};
use super::database::{NamePage, Tx};
use super::fires::{Fire, SkipReason};
use super::follow::sorted;
use super::leader::Generation;
use super::schedules::{ScheduleKey, ScheduleRow, due_times};
use super::{Hint, Result, Store, StoreError};
use crate::crash::{self, Commit};
use crate::definition::{self, Definitions, Job, Schedule};

/// Definitions that go to the database in one statement: 100,000 at once would cost too much memory.
const AT_ONCE: usize = 2_000;

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

/// Changes to the definitions in force.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangeSet {
    /// The version of the definitions in force that it was made from; none if nothing was in force.
    pub base: Option<i64>,
    /// New or changed jobs.
    pub put_jobs: Vec<Job>,
    /// New or changed schedules.
    pub put_schedules: Vec<Schedule>,
    /// Jobs that go out of force.
    pub remove_jobs: Vec<ScheduleKey>,
    /// Schedules that go out of force.
    pub remove_schedules: Vec<ScheduleKey>,
    /// Of the whole that is in force then.
    pub digest: String,
    /// Likewise.
    pub revision: Option<u64>,
}

/// What putting definitions in force has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The version of the definitions in force from then on.
    pub version: i64,
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
        if tx.leading().await? != generation {
            return Err(StoreError::Deposed);
        }
        let old = Old::of(tx.all_jobs().await?, tx.all_schedules().await?);
        let mut set = ChangeSet { digest: digest.to_owned(), revision: definitions.revision, ..ChangeSet::default() };
        let jobs: HashSet<_> = definitions.jobs.iter().map(ScheduleKey::of_job).collect();
        let schedules: HashSet<_> = definitions.schedules.iter().map(ScheduleKey::of).collect();
        set.remove_jobs = old.jobs.keys().filter(|key| !jobs.contains(key)).cloned().collect();
        set.remove_schedules = old.schedules.keys().filter(|key| !schedules.contains(key)).cloned().collect();
        let jobs: Vec<_> = definitions.jobs.iter().filter(|job| old.is_other_job(job)).collect();
        let schedules: Vec<_> = definitions.schedules.iter().filter(|s| old.is_other_schedule(s)).collect();
        // Definitions change only under the leader's row, which is locked; pauses and counts need the schedule's own.
        let concerned = schedules.iter().map(|schedule| ScheduleKey::of(schedule));
        let concerned = sorted(concerned.chain(set.remove_schedules.iter().cloned()));
        let mut locked = Vec::new();
        for some in concerned.chunks(AT_ONCE) {
            locked.extend(tx.lock_schedules(some).await?);
        }
        let old = Old::of(old.jobs.into_values().collect(), locked);
        let applied = put(&mut *tx, old, &jobs, &schedules, &set, Author { by, reason: None }).await?;
        crash::around(Commit::ApplyDefinitions, tx.commit()).await?;
        self.hint(Hint::Schedules);
        Ok(applied)
    }

    /// Puts a set of changes in force, in one transaction (I6), if the definitions in force are still those that the
    /// set was made from. With a generation, only while that leads.
    ///
    /// # Errors
    /// [`StoreError::Moved`], [`StoreError::Deposed`], [`StoreError::Timing`], [`StoreError::Query`]: nothing was changed.
    pub async fn apply_changes(
        &self,
        generation: Option<Generation>,
        set: &ChangeSet,
        by: &str,
        reason: Option<&str>,
    ) -> Result<Applied> {
        let mut tx = self.begin().await?;
        let leading = tx.leading().await?;
        if generation.is_some_and(|generation| generation != leading) {
            return Err(StoreError::Deposed);
        }
        if tx.version_in_force().await? != set.base {
            return Err(StoreError::Moved);
        }
        let jobs = sorted(set.put_jobs.iter().map(ScheduleKey::of_job).chain(set.remove_jobs.iter().cloned()));
        let schedules = set.put_schedules.iter().map(ScheduleKey::of).chain(set.remove_schedules.iter().cloned());
        let old = Old::of(tx.jobs_in_force(&jobs).await?, tx.lock_schedules(&sorted(schedules)).await?);
        let jobs: Vec<_> = set.put_jobs.iter().filter(|job| old.is_other_job(job)).collect();
        let schedules: Vec<_> = set.put_schedules.iter().filter(|schedule| old.is_other_schedule(schedule)).collect();
        let applied = put(&mut *tx, old, &jobs, &schedules, set, Author { by, reason }).await?;
        crash::around(Commit::ApplyChanges, tx.commit()).await?;
        self.hint(Hint::Schedules);
        Ok(applied)
    }

    /// A job in force.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn job(&self, namespace: &str, name: &str) -> Result<Option<Versioned<Job>>> {
        Ok(self.db.jobs(namespace, NamePage::Only(name)).await?.pop())
    }

    /// Up to `limit` jobs of a namespace behind the name `after`, by name.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn jobs(&self, namespace: &str, after: &str, limit: i64) -> Result<Vec<Versioned<Job>>> {
        self.db.jobs(namespace, NamePage::After { name: after, part: "", limit }).await
    }

    /// Up to `limit` jobs of a namespace behind the name `after` whose name holds `part`, by name.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn search_jobs(
        &self,
        namespace: &str,
        after: &str,
        part: &str,
        limit: i64,
    ) -> Result<Vec<Versioned<Job>>> {
        self.db.jobs(namespace, NamePage::After { name: after, part, limit }).await
    }

    /// Everything that is in force, of all namespaces, and the version of the whole. Holds up nobody who writes.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn all_in_force(&self) -> Result<(Option<InForce>, Vec<Versioned<Job>>, Vec<ScheduleRow>)> {
        loop {
            let before = self.in_force().await?;
            let (jobs, schedules) = (self.db.every_job().await?, self.db.every_schedule().await?);
            // Again if others were put in force meanwhile.
            if self.in_force().await?.map(|in_force| in_force.version) == before.as_ref().map(|before| before.version) {
                return Ok((before, jobs, schedules));
            }
        }
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

    /// The queues of the external jobs in force, which workers of other languages serve.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn external_queues(&self) -> Result<Vec<String>> {
        self.db.external_queues().await
    }
}

/// What a set of changes finds in force, of the names that it is about.
struct Old {
    jobs: HashMap<ScheduleKey, Versioned<Job>>,
    schedules: HashMap<ScheduleKey, ScheduleRow>,
}

impl Old {
    fn of(jobs: Vec<Versioned<Job>>, schedules: Vec<ScheduleRow>) -> Self {
        Self {
            jobs: jobs.into_iter().map(|job| (ScheduleKey::of_job(&job.item), job)).collect(),
            schedules: schedules.into_iter().map(|row| (row.key(), row)).collect(),
        }
    }

    fn is_other_job(&self, job: &Job) -> bool {
        self.jobs.get(&ScheduleKey::of_job(job)).is_none_or(|old| old.item != *job)
    }

    fn is_other_schedule(&self, schedule: &Schedule) -> bool {
        self.schedules.get(&ScheduleKey::of(schedule)).is_none_or(|old| old.schedule != *schedule)
    }
}

/// Who changes definitions, and why.
#[derive(Clone, Copy)]
struct Author<'a> {
    by: &'a str,
    reason: Option<&'a str>,
}

/// Writes changes, their history, and what removed or retimed schedules leave undecided; a part at a time.
async fn put(
    tx: &mut dyn Tx,
    mut old: Old,
    jobs: &[&Job],
    schedules: &[&Schedule],
    set: &ChangeSet,
    author: Author<'_>,
) -> Result<Applied> {
    for some in jobs.chunks(AT_ONCE) {
        put_jobs(tx, &old, some, author).await?;
    }
    for some in schedules.chunks(AT_ONCE) {
        put_schedules(tx, &mut old, some, author).await?;
    }
    let removed = remove(tx, &old, set, author).await?;
    let version = tx.put_in_force(&set.digest, set.revision, author.by).await?;
    Ok(Applied { version, jobs: jobs.len(), schedules: schedules.len(), removed })
}

fn action(known: Option<i64>) -> Action {
    if known.is_some() { Action::Changed } else { Action::Created }
}

async fn put_jobs(tx: &mut dyn Tx, old: &Old, jobs: &[&Job], Author { by, reason }: Author<'_>) -> Result<()> {
    let unknown = jobs.iter().map(|job| ScheduleKey::of_job(job)).filter(|key| !old.jobs.contains_key(key));
    let last_versions = tx.last_job_versions(&unknown.collect::<Vec<_>>()).await?;
    let (mut put, mut changes) = (Vec::new(), Vec::new());
    for job in jobs {
        let key = ScheduleKey::of_job(job);
        let known = old.jobs.get(&key).map(|old| old.version);
        let version = known.or_else(|| last_versions.get(&key).copied()).unwrap_or(0) + 1;
        let job = Versioned { version, item: *job };
        changes.push(Change::of_job(&job, action(known), by, reason));
        put.push(job);
    }
    tx.put_jobs(&put).await?;
    tx.insert_changes(&changes).await
}

async fn put_schedules(
    tx: &mut dyn Tx,
    old: &mut Old,
    schedules: &[&Schedule],
    Author { by, reason }: Author<'_>,
) -> Result<()> {
    let unknown = schedules.iter().map(|schedule| ScheduleKey::of(schedule));
    let unknown: Vec<_> = unknown.filter(|key| !old.schedules.contains_key(key)).collect();
    let last_versions = tx.last_schedule_versions(&unknown).await?;
    let (mut rows, mut actions, mut undecided) = (Vec::new(), Vec::new(), Vec::new());
    for schedule in schedules {
        let key = ScheduleKey::of(schedule);
        let predecessor = old.schedules.remove(&key);
        let known = predecessor.as_ref().map(|old| old.version);
        let version = known.or_else(|| last_versions.get(&key).copied()).unwrap_or(0) + 1;
        let (row, fires) = succeed(predecessor, version, schedule, tx.now())?;
        rows.push(row);
        actions.push(action(known));
        undecided.extend(fires);
    }
    let changes = rows.iter().zip(actions).map(|(row, action)| Change::of_schedule(row, action, by, reason));
    let changes: Vec<_> = changes.collect();
    tx.insert_fires(&undecided).await?;
    tx.put_schedules(&rows).await?;
    tx.insert_changes(&changes).await
}

/// Puts out of force what the set removes; answers how much of it was there.
async fn remove(tx: &mut dyn Tx, old: &Old, set: &ChangeSet, Author { by, reason }: Author<'_>) -> Result<usize> {
    let gone: Vec<_> = set.remove_schedules.iter().filter_map(|key| old.schedules.get(key)).collect();
    let mut undecided = Vec::new();
    for row in &gone {
        let why = (SkipReason::Superseded, "the schedule was removed");
        undecided.extend(row.settle(&due_times(&row.schedule)?, tx.now(), why));
    }
    let jobs = set.remove_jobs.iter().filter_map(|key| old.jobs.get(key));
    let jobs: Vec<_> = jobs.map(|job| Versioned { version: job.version, item: &job.item }).collect();
    let changes = jobs.iter().map(|job| Change::of_job(job, Action::Removed, by, reason));
    let changes = changes.chain(gone.iter().map(|row| Change::of_schedule(row, Action::Removed, by, reason)));
    let changes: Vec<_> = changes.collect();
    tx.insert_fires(&undecided).await?;
    tx.remove_jobs(&set.remove_jobs).await?;
    tx.remove_schedules(&set.remove_schedules).await?;
    for some in changes.chunks(AT_ONCE) {
        tx.insert_changes(some).await?;
    }
    Ok(changes.len())
}

/// The row of a new or changed schedule, and what its predecessor left undecided.
fn succeed(
    old: Option<ScheduleRow>,
    version: i64,
    schedule: &Schedule,
    now: Timestamp,
) -> Result<(ScheduleRow, Vec<Fire>)> {
    let due = due_times(schedule)?;
    let Some(old) = old else {
        let row = ScheduleRow::new(schedule.clone(), version, now);
        return Ok((ScheduleRow { next_due_at: row.next_look(&due), ..row }, Vec::new()));
    };
    let same_timing = {
        let timing = |schedule: &Schedule| (schedule.timing.clone(), schedule.timezone.clone(), schedule.dst);
        timing(&old.schedule) == timing(schedule)
    };
    let counted = old.schedule.max_fires.is_some() && schedule.max_fires.is_some();
    let same_patience = old.schedule.pause_after_failures == schedule.pause_after_failures;
    let mut row = ScheduleRow {
        schedule: schedule.clone(),
        version,
        fired: if counted { old.fired } else { 0 },
        failures: if same_patience { old.failures } else { 0 },
        ..old.clone()
    };
    let mut fires = Vec::new();
    // One that had come to its end, or had not begun, is not made to decide again what it passed over.
    let is_over = old.pause.is_none() && old.next_due_at.is_none_or(|next| next > now);
    if !same_timing || is_over {
        let why = format!(
            "definition changed from version {} to {version}: {}",
            old.version,
            describe(&old.schedule, schedule)
        );
        let old_due = due_times(&old.schedule)?;
        fires = old.settle(&old_due, now, (SkipReason::Superseded, &why));
        // A clock that was put back must not make a schedule decide again what its predecessor has decided.
        row.cursor = old.cursor.max(now);
    }
    row.next_due_at = row.next_look(&due);
    Ok((row, fires))
}

/// What differs, in words.
fn describe(old: &Schedule, new: &Schedule) -> String {
    let changes = definition::changed_members(old, new);
    let words: Vec<_> = changes.iter().map(ToString::to_string).collect();
    words.join(", ")
}
