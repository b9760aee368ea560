//! Cursors and the fire ledger: one decision per due time, each with its reason (I1, I8).

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::accept::NewWorkRequest;
use super::database::Page;
use super::leader::Generation;
use super::{Result, Store, StoreError};
use crate::definition::Schedule;
use crate::work_request::{Origin, WorkRequestId};

/// Names a schedule, or (where it says so) a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScheduleKey {
    /// The tenant.
    pub namespace: String,
    /// Unique within the namespace.
    pub name: String,
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
    /// The first due time behind the cursor; none when it will never be due again.
    pub next_due_at: Option<Timestamp>,
}

impl ScheduleRow {
    /// The schedule's name.
    #[must_use]
    pub fn key(&self) -> ScheduleKey {
        ScheduleKey { namespace: self.schedule.namespace.clone(), name: self.schedule.name.clone() }
    }
}

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

/// Why a due time called for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// A run of an earlier fire had not ended.
    Overlap,
    /// Nobody was there in time, and the catch-up policy does not make up for it.
    Late,
    /// The definition changed before it was decided.
    Superseded,
}

impl SkipReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Overlap, Self::Late, Self::Superseded];

    /// The text in the store and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Late => "late",
            Self::Superseded => "superseded",
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
    /// These work requests are born.
    Trigger {
        /// One for each entry of the schedule's list, in order.
        requests: Vec<NewWorkRequest>,
        /// Unless a run of an earlier fire has not ended: then it is skipped.
        unless_running: bool,
    },
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
    /// In the order of their due times.
    pub decisions: Vec<Decision>,
    /// Where the cursor goes.
    pub next_cursor: Timestamp,
    /// The first due time behind it.
    pub next_due_at: Option<Timestamp>,
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

impl Store {
    /// Up to `limit` schedules that are due at or before `until`, the most overdue first.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn due_schedules(&self, until: Timestamp, limit: i64) -> Result<Vec<ScheduleRow>> {
        self.db.due_schedules(until, limit).await
    }

    /// Records decisions, moves cursors and gives birth to work requests, in one transaction (I1). One verdict for each
    /// plan in order.
    ///
    /// # Errors
    /// [`StoreError::Deposed`] when `generation` no longer leads: nothing was recorded.
    /// [`StoreError::Query`]: plan again from what the store says then.
    pub async fn record_fires(&self, generation: Generation, plans: FirePlans) -> Result<Vec<FireVerdict>> {
        let mut tx = self.begin().await?;
        if !tx.hold(generation).await? {
            return Err(StoreError::Deposed);
        }
        // Moved first: whoever moves a cursor from where the plan saw it has the right to decide.
        let moves: Vec<CursorMove> = plans.iter().map(CursorMove::from).collect();
        let mut moved = tx.move_cursors(&moves).await?;
        let stands = |plan: &FirePlan| moved.contains(&plan.key);
        let dues = plans
            .iter()
            .filter(|plan| stands(plan))
            .flat_map(|plan| plan.decisions.iter().map(|d| (&plan.key, d.due_at)));
        let decided = tx.decided(&dues.collect::<Vec<_>>()).await?;
        let asks = |plan: &FirePlan| {
            plan.decisions.iter().any(|d| matches!(d.planned, Planned::Trigger { unless_running: true, .. }))
        };
        let asking: Vec<_> = plans.iter().filter(|plan| stands(plan) && asks(plan)).map(|p| p.key.clone()).collect();
        let mut running = if asking.is_empty() { HashMap::new() } else { tx.running(&asking).await? };

        let now = tx.now();
        let mut fires = Vec::new();
        let mut births = Vec::new();
        let mut owners = Vec::new();
        let mut verdicts = Vec::with_capacity(plans.len());
        for (index, plan) in plans.into_iter().enumerate() {
            if !moved.remove(&plan.key) {
                verdicts.push(FireVerdict::Outdated);
                continue;
            }
            verdicts.push(FireVerdict::Recorded { triggered: 0, skipped: 0 });
            for decision in plan.decisions {
                if !decided.is_empty() && decided.contains(&(plan.key.clone(), decision.due_at)) {
                    continue; // Decided before, under a cursor that has been put back since.
                }
                let (outcome, requests) = match decision.planned {
                    Planned::Trigger { unless_running: true, .. } if running.contains_key(&plan.key) => {
                        let by = running[&plan.key];
                        (FireOutcome::Skipped(SkipReason::Overlap, format!("work request {by} had not ended")), vec![])
                    }
                    Planned::Trigger { requests, .. } => {
                        if let Some(first) = requests.first() {
                            running.insert(plan.key.clone(), first.id);
                        }
                        (FireOutcome::Triggered(requests.iter().map(|request| request.id).collect()), requests)
                    }
                    Planned::Skip(reason, detail) => (FireOutcome::Skipped(reason, detail), vec![]),
                };
                fires.push(Fire {
                    key: plan.key.clone(),
                    origin: Origin::Schedule,
                    due_at: decision.due_at,
                    last_due_at: decision.last_due_at,
                    count: decision.count,
                    outcome,
                    version: plan.version,
                    decided_at: now,
                });
                births.push(requests);
                owners.push(index);
            }
        }
        let new: HashSet<usize> = tx.insert_fires(&fires).await?.into_iter().collect();
        let mut requests = Vec::new();
        for (at, (fire, birth)) in fires.iter().zip(births).enumerate() {
            let FireVerdict::Recorded { triggered, skipped } = &mut verdicts[owners[at]] else { continue };
            if !new.contains(&at) {
                continue; // The ledger's key is the last word.
            }
            match fire.outcome {
                FireOutcome::Triggered(_) => *triggered += 1,
                FireOutcome::Skipped(..) => *skipped += usize::try_from(fire.count).unwrap_or(0),
            }
            requests.extend(birth);
        }
        tx.insert_requests(&requests).await?;
        tx.commit().await?;
        if !requests.is_empty() {
            self.made_due();
        }
        Ok(verdicts)
    }

    /// Up to `limit` entries of a schedule's ledger that begin before `before`, newest first.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn fires(&self, key: &ScheduleKey, before: Timestamp, limit: i64) -> Result<Vec<Fire>> {
        self.db.fires(key, before, limit).await
    }

    /// A schedule in force.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn schedule(&self, key: &ScheduleKey) -> Result<Option<ScheduleRow>> {
        Ok(self.db.schedules(&key.namespace, Page::Only(&key.name)).await?.pop())
    }

    /// Up to `limit` schedules of a namespace behind the name `after`, by name.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub async fn schedules(&self, namespace: &str, after: &str, limit: i64) -> Result<Vec<ScheduleRow>> {
        self.db.schedules(namespace, Page::After(after, limit)).await
    }
}
