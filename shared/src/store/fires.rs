//! The fire ledger: one decision per due time, each with its reason (I1, I8). `record` writes it.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::accept::NewWorkRequest;
use super::idempotency::{self, Earlier, IdempotencyKey};
use super::rows::malformed;
use super::schedules::ScheduleKey;
use super::{Result, Store, unique};
use crate::crash::{self, Commit};
use crate::definition::{Overlap, Schedule};
use crate::work_request::{Origin, WorkRequestId};

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct Fire {
    /// The schedule.
    pub key: ScheduleKey,
    /// Who decided.
    pub origin: Origin,
    /// The due time; of a stretch of skips, the first.
    pub due_at: Timestamp,
    /// Of a stretch of skips, the last; else the same.
    pub last_due_at: Timestamp,
    /// How many due times it stands for.
    pub count: i64,
    /// What was decided.
    pub outcome: FireOutcome,
    /// The version of the schedule that it was decided by.
    pub version: i64,
    /// When, by the database's clock.
    pub decided_at: Timestamp,
}

/// What became of a due time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FireOutcome {
    /// It called for these work requests, in the order of the schedule's list.
    Triggered(Vec<WorkRequestId>),
    /// It called for nothing.
    Skipped(SkipReason, String),
}

impl FireOutcome {
    /// Puts those work requests that stand for others into their places.
    pub(crate) fn join(&mut self, joined: &HashMap<WorkRequestId, WorkRequestId>) {
        if let Self::Triggered(ids) = self {
            ids.iter_mut().for_each(|id| *id = joined.get(id).copied().unwrap_or(*id));
        }
    }

    /// Reason, detail and work requests, as they are kept.
    pub(crate) fn columns(&self) -> (Option<&'static str>, Option<&str>, Vec<uuid::Uuid>) {
        match self {
            Self::Triggered(ids) => (None, None, ids.iter().map(|id| id.0).collect()),
            Self::Skipped(reason, detail) => (Some(reason.as_str()), Some(detail), Vec::new()),
        }
    }
}

/// Why a due time called for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// A run of an earlier fire had not ended.
    Overlap,
    /// Nobody was there in time, and the catch-up policy does not make up for it.
    Late,
    /// It was one too many of those that are made up for, or that wait.
    Cap,
    /// A rule of `except` or `only` leaves its day out.
    Excluded,
    /// The schedule was paused.
    Paused,
    /// The definition changed before it was decided.
    Superseded,
    /// It lies before `starts_at`.
    BeforeStart,
    /// It lies after `ends_at`, or behind the last of `max_fires`.
    AfterEnd,
}

impl SkipReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Overlap,
        Self::Late,
        Self::Cap,
        Self::Excluded,
        Self::Paused,
        Self::Superseded,
        Self::BeforeStart,
        Self::AfterEnd,
    ];

    /// The text in the store and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Late => "late",
            Self::Cap => "cap",
            Self::Excluded => "excluded",
            Self::Paused => "paused",
            Self::Superseded => "superseded",
            Self::BeforeStart => "before_start",
            Self::AfterEnd => "after_end",
        }
    }
}

/// What the planner wants to record for a due time or a stretch of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The due time, or the first of a stretch of skips.
    pub due_at: Timestamp,
    /// The last of the stretch, or the same.
    pub last_due_at: Timestamp,
    /// How many.
    pub count: i64,
    /// What is to happen.
    pub planned: Planned,
}

/// What is to happen at a due time.
#[derive(Debug, Clone, PartialEq)]
pub enum Planned {
    /// These work requests are born, one for each entry of the schedule's list, in order; unless the plan's
    /// [`FirePlan::overlap`] has it otherwise.
    Trigger(Vec<NewWorkRequest>),
    /// Nothing.
    Skip(SkipReason, String),
}

/// The planner's decisions for one schedule, valid only if it stands as the planner saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct FirePlan {
    /// The schedule.
    pub key: ScheduleKey,
    /// The version that was planned by.
    pub version: i64,
    /// The cursor that was planned from.
    pub cursor: Timestamp,
    /// What the planner's clock showed: it must not be ahead of the database's, see [`CLOCK_TOLERANCE`].
    pub planned_at: Timestamp,
    /// What happens to a fire while runs of earlier ones go on: judged when the plan is recorded.
    pub overlap: OverlapRule,
    /// Due times that had triggered, and how many may, if the schedule says so.
    pub fired: Option<(u64, u64)>,
    /// In the order of their due times.
    pub decisions: Vec<Decision>,
    /// Where the cursor goes.
    pub next_cursor: Timestamp,
    /// The first due time behind it.
    pub next_due_at: Option<Timestamp>,
}

/// What a schedule says of fires while runs of earlier ones go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverlapRule {
    /// What happens.
    pub policy: Overlap,
    /// The most fires that wait.
    pub queue_max: u32,
    /// Runs by hand count as well.
    pub count_manual: bool,
}

impl OverlapRule {
    /// What a schedule says.
    #[must_use]
    pub const fn of(schedule: &Schedule) -> Self {
        Self { policy: schedule.overlap, queue_max: schedule.queue_max, count_manual: schedule.count_manual }
    }

    /// Whether runs of this origin count as runs of an earlier fire.
    #[must_use]
    pub fn counts(self, origin: &Origin) -> bool {
        match origin {
            Origin::Schedule => true,
            Origin::Manual => self.count_manual,
            Origin::Backfill(_) => false,
        }
    }
}

/// A schedule's cursor, moved from where a plan saw it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CursorMove {
    pub(crate) key: ScheduleKey,
    pub(crate) version: i64,
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    pub(crate) next_due_at: Option<Timestamp>,
}

impl From<&FirePlan> for CursorMove {
    fn from(plan: &FirePlan) -> Self {
        Self {
            key: plan.key.clone(),
            version: plan.version,
            from: plan.cursor,
            to: plan.next_cursor,
            next_due_at: plan.next_due_at,
        }
    }
}

/// A plan by a clock that is further ahead of the database's than this is refused: it would fire early, and take for
/// missed what is on time.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// Several schedules' plans, to be recorded in one transaction. Each schedule at most once.
pub type FirePlans = Vec<FirePlan>;

/// What became of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FireVerdict {
    /// Recorded.
    Recorded {
        /// Due times that triggered.
        triggered: usize,
        /// Due times that were skipped.
        skipped: usize,
    },
    /// The schedule has changed, gone or been decided by someone else; nothing of the plan was recorded.
    Outdated,
}

/// What became of a fire that someone has asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum ByHand {
    /// It is recorded, with the work requests that stand for it.
    Fired(Vec<WorkRequestId>),
    /// Someone else has asked at the same instant: ask at another one. Nothing was recorded.
    Collides,
    /// It was asked for before under the same key.
    Repeated(Box<Fire>),
    /// The key was used for a request that differs in these fields.
    KeyReused(Vec<String>),
}

impl Store {
    /// Up to `limit` entries of a schedule's ledger that begin before `before`, newest first.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn fires(&self, key: &ScheduleKey, before: Timestamp, limit: i64) -> Result<Vec<Fire>> {
        self.db.fires(key, before, limit).await
    }

    /// The schedule's own decision on a due time, be it as part of a stretch; and what else was recorded for it.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn fires_at(&self, key: &ScheduleKey, at: Timestamp) -> Result<Vec<Fire>> {
        self.db.fires_at(key, at).await
    }

    /// The fire by hand of an instant.
    ///
    /// # Errors
    /// [`super::StoreError::Query`], also when there is none.
    pub async fn fired_by_hand(&self, key: &ScheduleKey, at: Timestamp) -> Result<Fire> {
        let fires = self.fires_at(key, at).await?;
        let fire = fires.into_iter().find(|fire| fire.origin == Origin::Manual && fire.due_at == at);
        fire.ok_or_else(|| super::step("read a fire by hand")(sqlx::Error::RowNotFound))
    }

    /// Records a fire that someone has asked for, with its work requests.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: nothing was recorded, or the answer was lost; repeat it under the same key.
    pub async fn fire_by_hand(
        &self,
        mut fire: Fire,
        mut requests: Vec<NewWorkRequest>,
        key: Option<&IdempotencyKey>,
    ) -> Result<ByHand> {
        let mut tx = self.begin().await?;
        let joined = unique::join(&mut *tx, &mut requests).await?;
        fire.outcome.join(&joined);
        if let Some(key) = key
            && let Some(earlier) = idempotency::take(&mut *tx, key, &fire.due_at.to_string()).await?
        {
            drop(tx);
            return Ok(match earlier {
                Earlier::Same(at) => {
                    let at = at.parse().map_err(malformed("idempotency key"))?;
                    ByHand::Repeated(Box::new(self.fired_by_hand(&fire.key, at).await?))
                }
                Earlier::Other(fields) => ByHand::KeyReused(fields),
            });
        }
        if tx.insert_fires(std::slice::from_ref(&fire)).await? == 0 {
            return Ok(ByHand::Collides);
        }
        super::accept::insert(&mut *tx, &requests).await?;
        crash::around(Commit::FireByHand, tx.commit()).await?;
        self.hint(super::Hint::Due);
        Ok(ByHand::Fired(match fire.outcome {
            FireOutcome::Triggered(ids) => ids,
            FireOutcome::Skipped(..) => Vec::new(),
        }))
    }
}
