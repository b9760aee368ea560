//! What follows the end of a run: chained jobs, held fires, failures in a row, a parent's counts.
//!
//! The transaction that ends a run which something waits for leaves a row in `follow_ups` (a database trigger writes it,
//! so that no way of ending can forget). Whoever deletes that row draws the consequences in the same transaction:
//! exactly once, whatever dies.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;

use super::accept::{self, Admits, NewWorkRequest};
use super::database::Tx;
use super::dispatch::Outgoing;
use super::record::admit_held;
use super::schedules::{self, ScheduleKey, ScheduleRow};
use super::{Hint, Result, Store, fan_outs, unique};
use crate::crash::{self, Commit};
use crate::state::Status;
use crate::work_request::{FireRef, Origin, RunError, WorkRequestId};

/// Who pauses a schedule after failures.
const REVEILLE: &str = "reveille";

/// A run that has ended and that something waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedRun {
    /// The work request.
    pub id: WorkRequestId,
    /// The tenant.
    pub namespace: String,
    /// The job that ran.
    pub job: String,
    /// Its version.
    pub job_version: i64,
    /// How it ended.
    pub status: Status,
    /// What it was given.
    pub input: Value,
    /// What it answered.
    pub output: Option<Value>,
    /// Why it FAILED.
    pub error: Option<RunError>,
    /// The fire that had called for it.
    pub fire: Option<FireRef>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The run whose child it is, if it is one.
    pub parent: Option<WorkRequestId>,
}

/// What follows the end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct FollowUp {
    /// The run.
    pub run: EndedRun,
    /// The runs that its end calls for.
    pub births: Vec<NewWorkRequest>,
}

/// What was done about runs that have ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Followed {
    /// Ends that were followed up here, and not by someone else.
    pub ended: usize,
    /// Chained runs that were born.
    pub chained: usize,
    /// Held runs that were let go.
    pub admitted: usize,
    /// Schedules that were paused after failures.
    pub paused: Vec<ScheduleKey>,
    /// Triggers of chained runs that count as sent: to be published.
    pub sent: Vec<Outgoing>,
}

impl Store {
    /// Up to `limit` ended runs that something waits for, the first accepted first.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn ended_runs(&self, limit: i64) -> Result<Vec<EndedRun>> {
        self.db.ended_runs(limit).await
    }

    /// Draws the consequences of ended runs, each once: what someone else has followed up is passed over. Runs that are called
    /// for count as sent if they go out at once, on routes that admit them.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: nothing was done, or the answer was lost; ask again for ended runs.
    pub async fn follow(&self, follow_ups: Vec<FollowUp>, admits: &Admits<'_>) -> Result<Followed> {
        let mut tx = self.begin().await?;
        let ids = super::ids(follow_ups.iter().map(|follow_up| follow_up.run.id));
        let mine = tx.take_follow_ups(&ids).await?;
        let mut follow_ups: Vec<_> = follow_ups.into_iter().filter(|f| mine.contains(&f.run.id.0)).collect();
        follow_ups.sort_by_key(|follow_up| (follow_up.run.finished_at, follow_up.run.id));
        let mut keys: HashMap<_, _> = follow_ups.iter().filter_map(|f| Some((key_of(&f.run)?, false))).collect();
        let rows = tx.lock_schedules(&sorted(keys.keys().cloned())).await?;
        keys.extend(rows.iter().map(|row| (row.key(), row.schedule.count_manual)));
        let paused = count_failures(&mut *tx, rows, &follow_ups).await?;
        let percents = fan_outs::count_ends(&mut *tx, follow_ups.iter().map(|follow_up| &follow_up.run)).await?;
        let admitted = if keys.is_empty() { 0 } else { admit_held(&mut *tx, &keys).await? };
        for (parent, percent) in percents {
            tx.raise_percent(parent, percent).await?;
        }
        let ended = follow_ups.len();
        let mut births: Vec<_> = follow_ups.into_iter().flat_map(|follow_up| follow_up.births).collect();
        unique::join(&mut *tx, &mut births).await?;
        accept::send_at_birth(&mut births, admits);
        accept::insert(&mut *tx, &births).await?;
        let now = tx.now();
        crash::around(Commit::Follow, tx.commit()).await?;
        if admitted > 0 {
            self.hint(Hint::Due);
        }
        Ok(Followed { ended, chained: births.len(), admitted, paused, sent: self.after_births(&births, now) })
    }

    /// Lets go held fires whose hold is over and whom no follow-up has let go, as their schedule was removed or
    /// changed meanwhile. Answers how many runs.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn admit_stranded(&self) -> Result<usize> {
        let held = self.db.held_schedules().await?;
        if held.is_empty() {
            return Ok(0);
        }
        let mut tx = self.begin().await?;
        let rows = tx.lock_schedules(&held).await?;
        let mut keys: HashMap<_, _> = held.into_iter().map(|key| (key, false)).collect();
        keys.extend(rows.iter().map(|row| (row.key(), row.schedule.count_manual)));
        let admitted = admit_held(&mut *tx, &keys).await?;
        crash::around(Commit::AdmitStranded, tx.commit()).await?;
        if admitted > 0 {
            self.hint(Hint::Due);
        }
        Ok(admitted)
    }
}

/// Counts failures in a row, and pauses schedules that have as many as they bear.
async fn count_failures(tx: &mut dyn Tx, rows: Vec<ScheduleRow>, follow_ups: &[FollowUp]) -> Result<Vec<ScheduleKey>> {
    let mut ends: HashMap<ScheduleKey, Vec<Status>> = HashMap::new();
    for run in follow_ups.iter().map(|follow_up| &follow_up.run) {
        if let Some(key) = key_of(run)
            && run.fire.as_ref().is_some_and(|fire| fire.origin == Origin::Schedule)
        {
            ends.entry(key).or_default().push(run.status);
        }
    }
    let mut paused = Vec::new();
    for mut row in rows {
        let Some(most) = row.schedule.pause_after_failures else { continue };
        let key = row.key();
        let before = row.failures;
        for status in ends.remove(&key).unwrap_or_default() {
            match status {
                Status::Failed => row.failures = row.failures.saturating_add(1),
                Status::Succeeded => row.failures = 0,
                _ => {}
            }
            if row.failures >= most {
                break;
            }
        }
        if row.failures >= most && row.pause.is_none() {
            let why = format!("{} runs in a row have failed (pause_after_failures)", row.failures);
            schedules::pause(tx, row, REVEILLE, Some(&why)).await?;
            paused.push(key);
        } else if row.failures != before {
            tx.put_schedules(&[row]).await?;
        }
    }
    Ok(paused)
}

fn key_of(run: &EndedRun) -> Option<ScheduleKey> {
    let fire = run.fire.as_ref().filter(|fire| !matches!(fire.origin, Origin::Backfill(_)))?;
    Some(ScheduleKey { namespace: run.namespace.clone(), name: fire.schedule.clone() })
}

/// In the one order in which all lock schedules, each once.
pub(crate) fn sorted(keys: impl Iterator<Item = ScheduleKey>) -> Vec<ScheduleKey> {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
