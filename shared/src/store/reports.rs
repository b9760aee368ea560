//! How attempts end, and what they say until then: told by their workers under their leases (I3).

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::fan_outs::{self, NoSplit};
use super::texts::{error_without_nul, json_without_nul, without_nul};
use super::transition::{Batch, Hints, Known, Locked};
use super::{Result, Store};
use crate::crash::{self, Commit};
use crate::fan_out::FailPolicy;
use crate::state::{Input, Refusal};
use crate::work_request::{LogLine, RunError, WorkRequestId};

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Outcome {
    /// The business logic took effect.
    Succeeded {
        /// What it answered; at most [`crate::work_request::MAX_OUTPUT`] bytes of JSON.
        output: Value,
    },
    /// Nothing was run: an attempt that was lost is known to have taken effect.
    Verified {
        /// What was found, likewise.
        output: Value,
    },
    /// Nothing was run: whether an attempt that was lost took effect is to be asked again.
    Deferred {
        /// How long to wait.
        after: Duration,
        /// What was found.
        reason: String,
    },
    /// What the attempt has begun elsewhere goes on, and is to be asked after.
    Parked {
        /// How long to wait before that.
        after: Duration,
        /// What whoever asks needs to know: no secret.
        notes: Value,
    },
    /// It took effect, and calls for other runs, its children; it ends as they do.
    Split {
        /// What it answered, likewise.
        output: Value,
        /// What the children run: a job of the same namespace.
        job: String,
        /// What failed ones mean for it.
        fail: FailPolicy,
        /// How many they are. Their inputs were staged under the lease's token, see [`super::Staging`].
        children: u32,
    },
    /// It did not.
    Failed {
        /// Why.
        error: RunError,
        /// How long to wait before the next attempt, where the retry policy grants one.
        retry: Option<Duration>,
    },
    /// It was stopped because someone had asked.
    Stopped,
    /// It was given up unfinished, for another worker to start anew.
    Released {
        /// It was broken off in its course: whether it took effect is to be asked first.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        doubt: bool,
    },
    /// It was broken off, by whatever came between: nobody knows whether it took effect.
    Lost {
        /// What is known.
        error: RunError,
        /// How long to wait before the next attempt, where the job's policies grant one.
        retry: Option<Duration>,
        /// Whether it took effect is to be asked first, even where no retry is granted.
        verify: bool,
    },
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The work request.
    pub id: WorkRequestId,
    /// The lease.
    pub token: Uuid,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, if its worker has seen all of it.
    pub took: Option<Duration>,
    /// As it came with the lease, so that a success need not look whether anything has changed since.
    pub known: Known,
}

impl Report {
    /// The end of an attempt of which no more is known.
    #[must_use]
    pub fn new(id: WorkRequestId, token: Uuid, outcome: Outcome) -> Self {
        Self { id, token, outcome, took: None, known: Known::default() }
    }
}

/// A run's own word on how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The work request.
    pub id: WorkRequestId,
    /// The lease.
    pub token: Uuid,
    /// 0 to 100; never goes down within the work request.
    pub percent: f32,
    /// A few words.
    pub message: Option<String>,
}

/// What a worker has reported under a lease that had ended: evidence of what became of that attempt. It has changed
/// nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct LateReport {
    /// The lease.
    pub token: Uuid,
    /// When it came.
    pub at: Timestamp,
    /// What it says.
    pub outcome: Outcome,
}

impl Store {
    /// Records how attempts ended, one answer for each report in order. `Err(Repeated)` is as good as `Ok`: the first
    /// answer stands. `Err(StaleToken)` and `Err(Ended)`: the lease was lost; the report is kept as evidence, unless it
    /// says no more than that, and has changed nothing.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: repeat the same reports, as the commit may have gone through.
    pub async fn report(&self, reports: Vec<Report>) -> Result<Vec<std::result::Result<(), Refusal>>> {
        let known = self.report_known(&reports).await?;
        let left = without(reports, &known);
        let free = self.report_free(&left).await?;
        let left = without(left, &free);
        let locked = if left.is_empty() { Vec::new() } else { self.report_locked(left).await? };
        let (mut free, mut locked) = (free.into_iter(), locked.into_iter());
        let answer = |known| match known || free.next() == Some(true) {
            true => Ok(()),
            false => locked.next().unwrap_or(Err(Refusal::Ended)),
        };
        Ok(known.into_iter().map(answer).collect())
    }

    /// Records successes of runs that are as their claims have left them, in one way to the database; answers which reports were
    /// recorded. How anything else goes on depends on the time, or on more than is known.
    async fn report_known(&self, reports: &[Report]) -> Result<Vec<bool>> {
        let mut seen = HashSet::new();
        let known = |report: &Report| {
            // What comes behind another report on the same run is left to be looked at.
            let is_first = seen.insert(report.id);
            let row = report.known.0.as_deref().filter(|_| is_first);
            row.filter(|_| matches!(report.outcome, Outcome::Succeeded { .. })).cloned()
        };
        let known: Vec<_> = reports.iter().map(known).collect();
        let are_known: Vec<bool> = known.iter().map(Option::is_some).collect();
        let mut batch = Batch::of(known.into_iter().flatten().collect(), Timestamp::default());
        let ended = |(report, is_known): (&Report, bool)| is_known && end(&mut batch, report);
        let ended: Vec<bool> = reports.iter().zip(are_known).map(ended).collect();
        self.replace_ended(&batch, None, reports, ended).await
    }

    /// Records the ends of attempts whose runs nobody else wants at the same time, in two ways to the database; answers which
    /// reports were recorded.
    async fn report_free(&self, reports: &[Report]) -> Result<Vec<bool>> {
        if reports.is_empty() {
            return Ok(Vec::new());
        }
        let looked = Batch::look(&*self.db, reports.iter().map(|report| report.id), false).await?;
        let Some((mut batch, _)) = looked else { return Ok(vec![false; reports.len()]) };
        let mut left = HashSet::new();
        let ended = |report: &Report| {
            // What comes behind a report that is left is left too.
            let is_ended = !left.contains(&report.id) && end(&mut batch, report);
            if !is_ended {
                left.insert(report.id);
            }
            is_ended
        };
        let ended: Vec<bool> = reports.iter().map(ended).collect();
        self.replace_ended(&batch, Some(batch.now), reports, ended).await
    }

    /// Keeps the ends of runs that nobody has changed or locked; answers which of the reports that ended something were
    /// recorded.
    async fn replace_ended(
        &self,
        batch: &Batch,
        at: Option<Timestamp>,
        reports: &[Report],
        ended: Vec<bool>,
    ) -> Result<Vec<bool>> {
        let kept = batch.replace(&*self.db, Commit::ReportUnlocked, at, None).await?;
        let mut hints = Hints::default();
        batch.rows().filter(|row| kept.contains_key(&row.id.0)).for_each(|row| hints.after(row));
        hints.give(self);
        Ok(reports.iter().zip(ended).map(|(report, ended)| ended && kept.contains_key(&report.id.0)).collect())
    }

    async fn report_locked(&self, reports: Vec<Report>) -> Result<Vec<std::result::Result<(), Refusal>>> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock_ids(&mut *tx, reports.iter().map(|report| report.id)).await?;
        let mut hints = Hints::default();
        let mut verdicts = Vec::with_capacity(reports.len());
        let mut stale = Vec::new();
        for (index, report) in reports.into_iter().enumerate() {
            let Report { id, token, outcome, took, .. } = report.clone();
            let mut children = None;
            let told = match told(token, outcome) {
                Ok(told) => told,
                Err(Split { output, job, fail, children: total }) => {
                    let namespace = batch.get(id).map(|row| row.namespace.clone()).unwrap_or_default();
                    match fan_outs::split(&mut *tx, &namespace, id, (&job, fail, token, total)).await? {
                        Ok(new) => {
                            children = Some(new);
                            Told::with(Input::Split { token: Some(token), children: total }, output)
                        }
                        Err(NoSplit::Empty) => Told::with(Input::Succeed { token, verified: false }, output),
                        Err(NoSplit::Failed(error)) => Told::of(Input::Fail { token, error, retry: None }),
                    }
                }
            };
            verdicts.push(match told.apply(&mut batch, id, took) {
                Ok(row) => {
                    hints.after(row);
                    // One that was canceled meanwhile has ended.
                    if let Some((new, depth)) = children.filter(|_| !row.is_done()) {
                        let namespace = row.namespace.clone();
                        tx.insert_fan_out(id, &namespace, &new, depth).await?;
                        hints.grow();
                    }
                    Ok(())
                }
                Err(refusal) => {
                    stale.push((index, report));
                    Err(refusal)
                }
            });
        }
        batch.save(&mut *tx).await?;
        if !stale.is_empty() {
            let pairs: Vec<_> = stale.iter().map(|(_, report)| (report.id.0, report.token)).collect();
            let ended = tx.ended_under(&pairs).await?;
            for (index, report) in stale {
                if ended.contains(&(report.id.0, report.token)) {
                    verdicts[index] = Err(Refusal::Repeated);
                } else if !matches!(report.outcome, Outcome::Lost { .. }) {
                    // That nobody knows is no evidence.
                    tx.keep_late(&report).await?;
                }
            }
        }
        crash::around(Commit::Report, tx.commit()).await?;
        hints.give(self);
        Ok(verdicts)
    }

    /// What was reported on a run under leases that had ended, the first to come first.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn late_reports(&self, id: WorkRequestId) -> Result<Vec<LateReport>> {
        self.db.late_reports(id).await
    }

    /// Keeps what runs say about their progress; what comes under a stale token changes nothing.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn progress(&self, progress: &[Progress]) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.save_progress(&latest(progress)).await?;
        crash::around(Commit::Progress, tx.commit()).await
    }

    /// Keeps lines that runs have printed. Repeating it is harmless.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn append_logs(&self, lines: &[(WorkRequestId, LogLine)]) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.append_logs(lines).await?;
        crash::around(Commit::Lines, tx.commit()).await
    }
}

/// Lets a report end its attempt; false if it is refused, or tells of children, which are read under a lock.
fn end(batch: &mut Batch, Report { id, token, outcome, took, .. }: &Report) -> bool {
    told(*token, outcome.clone()).is_ok_and(|told| told.apply(batch, *id, *took).is_ok())
}

/// The reports that were not kept.
fn without(reports: Vec<Report>, kept: &[bool]) -> Vec<Report> {
    reports.into_iter().zip(kept).filter(|(_, kept)| !**kept).map(|(report, _)| report).collect()
}

/// What happens to a run by a report, and what is kept of it.
struct Told {
    input: Input,
    output: Option<Value>,
    notes: Option<Value>,
}

/// A report of children, whose inputs are to be looked at first.
struct Split {
    output: Value,
    job: String,
    fail: FailPolicy,
    children: u32,
}

impl Told {
    const fn of(input: Input) -> Self {
        Self { input, output: None, notes: None }
    }

    fn with(input: Input, output: Value) -> Self {
        Self { output: Some(json_without_nul(output)), ..Self::of(input) }
    }

    fn apply(
        self,
        batch: &mut Batch,
        id: WorkRequestId,
        took: Option<Duration>,
    ) -> std::result::Result<&mut Locked, Refusal> {
        let row = batch.apply(id, &self.input)?;
        row.took = took;
        row.output = self.output;
        row.notes = self.notes.or_else(|| row.notes.take());
        Ok(row)
    }
}

fn told(token: Uuid, outcome: Outcome) -> std::result::Result<Told, Split> {
    Ok(match outcome {
        Outcome::Succeeded { output } => Told::with(Input::Succeed { token, verified: false }, output),
        Outcome::Verified { output } => Told::with(Input::Succeed { token, verified: true }, output),
        Outcome::Deferred { after, reason } => Told::of(Input::Defer { token, after, reason: without_nul(reason) }),
        Outcome::Parked { after, notes } => {
            Told { notes: Some(json_without_nul(notes)), ..Told::of(Input::Park { token, after }) }
        }
        Outcome::Split { output, job, fail, children } => return Err(Split { output, job, fail, children }),
        Outcome::Failed { error, retry } => Told::of(Input::Fail { token, error: error_without_nul(error), retry }),
        Outcome::Stopped => Told::of(Input::Stopped { token }),
        Outcome::Released { doubt } => Told::of(Input::Release { token, doubt }),
        Outcome::Lost { error, retry, verify } => {
            Told::of(Input::Lose { token, error: error_without_nul(error), retry, verify })
        }
    })
}

/// One entry for each lease, in one order for all, so that two batches can't deadlock: the highest percentage that
/// makes sense and the last words.
fn latest(progress: &[Progress]) -> Vec<Progress> {
    let mut latest: BTreeMap<(WorkRequestId, Uuid), Progress> = BTreeMap::new();
    for Progress { id, token, percent, message } in progress {
        let entry =
            latest.entry((*id, *token)).or_insert(Progress { id: *id, token: *token, percent: 0.0, message: None });
        // Not a number says nothing.
        entry.percent = entry.percent.max(*percent).min(100.0);
        if let Some(message) = message {
            entry.message = Some(without_nul(message.clone()));
        }
    }
    latest.into_values().collect()
}
