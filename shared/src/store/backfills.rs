//! Fires of a past range, made at someone's wish, exactly once for each backfill's id.

use std::str::FromStr;

use jiff::Timestamp;

use super::accept::{self, NewWorkRequest};
use super::database::Which;
use super::fires::{Fire, FireOutcome};
use super::idempotency::{self, Earlier, IdempotencyKey};
use super::schedules::ScheduleKey;
use super::transition::Batch;
use super::{Hint, Result, Store, unique};
use crate::crash::{self, Commit};
use crate::definition::Schedule;
use crate::state::Input;
use crate::work_request::{Asker, Origin};

/// A backfill that someone asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewBackfill {
    /// The schedule whose due times are made up for.
    pub key: ScheduleKey,
    /// Unique for the schedule: asked for twice under one id, it is made once.
    pub id: String,
    /// The schedule as it is now: a later change does not touch the backfill.
    pub schedule: Schedule,
    /// The schedule's version.
    pub version: i64,
    /// Due times from this instant on …
    pub from: Timestamp,
    /// … and up to this one, itself included.
    pub to: Timestamp,
    /// How many due times that are.
    pub total: i64,
    /// The most fires whose runs have not ended at one time.
    pub max_parallel: u32,
    /// Who asks.
    pub by: String,
    /// Why, in their words.
    pub reason: Option<String>,
}

/// Where a backfill stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackfillStatus {
    /// It makes fires, or waits for their runs.
    Running,
    /// All due times are decided, and all runs have ended.
    Done,
    /// Someone has stopped it.
    Canceled,
}

impl BackfillStatus {
    /// The text in the store and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Canceled => "canceled",
        }
    }
}

impl FromStr for BackfillStatus {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let all = [Self::Running, Self::Done, Self::Canceled];
        all.into_iter().find(|status| status.as_str() == text).ok_or_else(|| text.to_owned())
    }
}

/// A backfill, and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Backfill {
    /// What was asked for.
    pub asked: NewBackfill,
    /// Where it stands.
    pub status: BackfillStatus,
    /// Every due time up to and including this instant has its decision.
    pub cursor: Timestamp,
    /// Due times that have triggered.
    pub triggered: i64,
    /// Due times that were skipped.
    pub skipped: i64,
    /// Fires whose runs have not all ended.
    pub unended: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was done or canceled.
    pub ended_at: Option<Timestamp>,
    /// Who canceled it.
    pub ended_by: Option<String>,
}

impl Backfill {
    /// How much of it is over, 0 to 100: due times that are decided and whose runs have ended. Never goes down.
    #[must_use]
    pub fn percent(&self) -> f64 {
        if self.asked.total == 0 || self.status == BackfillStatus::Done {
            return 100.0;
        }
        let over = (self.triggered + self.skipped - self.unended).max(0);
        #[allow(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = over as f64 * 100.0 / self.asked.total as f64;
        percent
    }
}

/// What became of a request for a backfill.
#[derive(Debug, Clone, PartialEq)]
pub enum BackfillVerdict {
    /// It is made.
    New(Box<Backfill>),
    /// It was asked for before, and is made once.
    Repeated(Box<Backfill>),
    /// The id stands for another range or another limit.
    Other(Box<Backfill>),
    /// The key was used for a request that differs in these fields.
    KeyReused(Vec<String>),
}

/// The next fires of a backfill, valid only if it stands as the planner saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct BackfillStep {
    /// The schedule.
    pub key: ScheduleKey,
    /// The backfill.
    pub id: String,
    /// The cursor that was planned from.
    pub from: Timestamp,
    /// Where it goes.
    pub to: Timestamp,
    /// Decisions, in the order of their due times.
    pub fires: Vec<Fire>,
    /// What those that trigger call for.
    pub requests: Vec<NewWorkRequest>,
    /// Nothing is left to decide, and no run is left.
    pub done: bool,
}

impl Store {
    /// Asks for a backfill.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: nothing was made, or the answer was lost; ask again under the same id.
    pub async fn create_backfill(&self, new: NewBackfill, key: Option<&IdempotencyKey>) -> Result<BackfillVerdict> {
        let mut tx = self.begin().await?;
        if let Some(key) = key
            && let Some(earlier) = idempotency::take(&mut *tx, key, &new.id).await?
        {
            drop(tx);
            return Ok(match earlier {
                Earlier::Same(id) => BackfillVerdict::Repeated(self.known_backfill(&new.key, &id).await?),
                Earlier::Other(fields) => BackfillVerdict::KeyReused(fields),
            });
        }
        if tx.insert_backfill(&new).await? {
            crash::around(Commit::CreateBackfill, tx.commit()).await?;
            self.hint(Hint::Ended);
            return Ok(BackfillVerdict::New(self.known_backfill(&new.key, &new.id).await?));
        }
        drop(tx);
        let known = self.known_backfill(&new.key, &new.id).await?;
        let same = |backfill: &NewBackfill| (backfill.from, backfill.to, backfill.max_parallel);
        if same(&known.asked) != same(&new) {
            return Ok(BackfillVerdict::Other(known));
        }
        if let Some(key) = key {
            // It stands for what there is from now on.
            let mut tx = self.begin().await?;
            if let Some(Earlier::Other(fields)) = idempotency::take(&mut *tx, key, &new.id).await? {
                return Ok(BackfillVerdict::KeyReused(fields));
            }
            crash::around(Commit::CreateBackfill, tx.commit()).await?;
        }
        Ok(BackfillVerdict::Repeated(known))
    }

    async fn known_backfill(&self, key: &ScheduleKey, id: &str) -> Result<Box<Backfill>> {
        let known = self.backfill(key, id).await?;
        known.map(Box::new).ok_or_else(|| super::step("read a backfill")(sqlx::Error::RowNotFound))
    }

    /// A backfill.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn backfill(&self, key: &ScheduleKey, id: &str) -> Result<Option<Backfill>> {
        self.db.backfill(key, id).await
    }

    /// Up to `limit` backfills of a schedule behind the id `after`, by id.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn backfills(&self, key: &ScheduleKey, after: &str, limit: i64) -> Result<Vec<Backfill>> {
        self.db.backfills(key, after, limit).await
    }

    /// All backfills that run.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn running_backfills(&self) -> Result<Vec<Backfill>> {
        self.db.running_backfills().await
    }

    /// Makes the next fires of a backfill, in one transaction. False: someone else has, or it was canceled; nothing was
    /// made.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: plan again from what the store says then.
    pub async fn advance_backfill(&self, mut step: BackfillStep) -> Result<bool> {
        let mut tx = self.begin().await?;
        let joined = unique::join(&mut *tx, &mut step.requests).await?;
        step.fires.iter_mut().for_each(|fire| fire.outcome.join(&joined));
        let mut counts = [0, 0];
        for fire in &step.fires {
            counts[usize::from(matches!(fire.outcome, FireOutcome::Skipped(..)))] += fire.count;
        }
        if !tx.move_backfill(&step, counts).await? || tx.insert_fires(&step.fires).await? != step.fires.len() {
            return Ok(false);
        }
        accept::insert(&mut *tx, &step.requests).await?;
        crash::around(Commit::AdvanceBackfill, tx.commit()).await?;
        if !step.requests.is_empty() {
            self.hint(Hint::Due);
        }
        Ok(true)
    }

    /// Stops a backfill and cancels its runs. Answers how it stands then; none if there is none of this id.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn cancel_backfill(&self, key: &ScheduleKey, id: &str, by: impl Into<Asker>) -> Result<Option<Backfill>> {
        let asker = by.into();
        let mut tx = self.begin().await?;
        if tx.end_backfill(key, id, &asker.to_string()).await? {
            let mut batch = Batch::lock(&mut *tx, Which::OfSchedules(std::slice::from_ref(key))).await?;
            let origin = Origin::Backfill(id.to_owned());
            for run in batch.names() {
                if batch.get(run).and_then(|row| row.fire.as_ref()).is_some_and(|fire| fire.origin == origin) {
                    let by = Asker { by: format!("{}, who canceled backfill {id}", asker.by), ..asker.clone() };
                    // What was asked to stop before needs no second word.
                    let _refused = batch.apply(run, &Input::Cancel { by }).is_err();
                }
            }
            batch.save(&mut *tx).await?;
            crash::around(Commit::CancelBackfill, tx.commit()).await?;
        } else {
            drop(tx);
        }
        self.backfill(key, id).await
    }
}
