//! Claim, report, release, lose: one holder at a time (I3).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::dispatch::expire;
use super::fan_outs::{self, NoSplit};
use super::rows::Claimable;
use super::texts::{error_without_nul, json_without_nul, without_nul};
use super::transition::{Batch, Hints, Locked};
use super::{Result, Store, StoreError};
use crate::crash::{self, Commit};
use crate::fan_out::FailPolicy;
use crate::retry;
use crate::state::{Input, Lease, Phase, Refusal, Status};
use crate::work_request::{FireRef, LogLine, RunError, WorkRequestId};

/// How long past its time-out an attempt may live before its lease is taken for lost.
const DEADLINE_GRACE: SignedDuration = SignedDuration::from_secs(30);
/// How far back a history is looked through for questions: of far more than matter.
const LATEST: i64 = 100;

/// "I have received trigger `n` for `id` and want to run it."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The work request.
    pub id: WorkRequestId,
    /// The trigger's number.
    pub n: u32,
    /// The fencing token that the lease is to have: fresh for each delivery, the same when the claim is repeated.
    pub token: Uuid,
}

/// A lease, and all that an attempt needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The work request.
    pub id: WorkRequestId,
    /// The fencing token of every write from here on.
    pub token: Uuid,
    /// The tenant.
    pub namespace: String,
    /// The job.
    pub job: String,
    /// The version to run, see [`Store::job_version`].
    pub job_version: i64,
    /// This attempt's number, from 1.
    pub attempt: u32,
    /// Attempts that have failed so far.
    pub failures: u32,
    /// An attempt was lost: whether it took effect is to be asked before anything is run.
    pub doubt: bool,
    /// How often that was asked in vain; counted for workers of Reveille alone.
    pub questions: u32,
    /// What an earlier lease of this attempt has noted on what it has begun elsewhere: go on with that.
    pub operation: Option<Value>,
    /// Someone has asked for what goes on elsewhere to stop.
    pub canceling: bool,
    /// What to run it with.
    pub input: Value,
    /// The fire that called for it, if any.
    pub fire: Option<FireRef>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When the trigger was sent, for the queue's waiting time.
    pub sent_at: Timestamp,
    /// When the claim was made, by the database's clock.
    pub claimed_at: Timestamp,
}

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

/// A lease, as the store sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// The work request.
    pub id: WorkRequestId,
    /// The lease.
    pub token: Uuid,
    /// Who holds it, if it has not ended.
    pub worker: Option<Uuid>,
    /// Someone has asked for the run to stop.
    pub canceling: bool,
    /// The tenant.
    pub namespace: String,
    /// The job.
    pub job: String,
    /// The job's version that runs.
    pub job_version: i64,
    /// Attempts that have failed so far.
    pub failures: u32,
    /// How long its holder may be silent, if it has no beats.
    pub silence: Option<Duration>,
    /// It ends before its attempt's time is over, as its holder has been silent.
    pub is_silent: bool,
}

/// An attempt whose worker is dead or overdue, or that has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    /// The work request.
    pub id: WorkRequestId,
    /// Its last lease.
    pub token: Uuid,
    /// What is known.
    pub error: RunError,
    /// How long to wait before the next attempt, where the job's policies grant one.
    pub retry: Option<Duration>,
    /// Whether it took effect is to be asked first, even where no retry is granted.
    pub verify: bool,
    /// Only if it is past its end still: its holder may have given a sign of life since that was seen.
    pub if_overdue: bool,
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
    /// Opens leases, one answer for each claim in order. Repeating a claim under the same token gives the same lease.
    ///
    /// # Errors
    /// [`StoreError::Query`]: repeat the same claims, as the commit may have gone through. [`StoreError::Retired`]: the
    /// worker was taken for dead; a lease would be lost at once.
    pub async fn claim(&self, worker: Uuid, claims: &[Claim]) -> Result<Vec<std::result::Result<Claimed, Refusal>>> {
        let mut tx = self.begin().await?;
        if !tx.lives(worker).await? {
            return Err(StoreError::Retired);
        }
        let mut batch = Batch::lock_ids(&mut *tx, claims.iter().map(|claim| claim.id)).await?;
        let mut hints = Hints::default();
        let verdicts: Vec<_> =
            claims.iter().map(|claim| open(&mut batch, worker, claim, None, &mut hints).map(|()| *claim)).collect();
        batch.save(&mut *tx).await?;
        let ids = super::ids(verdicts.iter().flatten().map(|claim| claim.id));
        let mut facts = if ids.is_empty() { Vec::new() } else { tx.claimable(&ids).await? };
        for facts in &mut facts {
            if batch.get(facts.id).is_some_and(|row| row.run.doubt) {
                let latest = tx.latest(facts.id, LATEST).await?;
                facts.questions = retry::questions(latest.iter().map(|entry| &entry.what));
            }
        }
        crash::around(Commit::Claim, tx.commit()).await?;
        hints.give(self);
        let facts: HashMap<_, _> = facts.into_iter().map(|facts| (facts.id, facts)).collect();
        let answer = |claim: Claim| granted(&batch, &facts, claim).ok_or(Refusal::Ended);
        Ok(verdicts.into_iter().map(|verdict| verdict.and_then(answer)).collect())
    }

    /// Records how attempts ended, one answer for each report in order. `Err(Repeated)` is as good as `Ok`: the first
    /// answer stands. `Err(StaleToken)` and `Err(Ended)`: the lease was lost; the report is kept as evidence, unless it
    /// says no more than that, and has changed nothing.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: repeat the same reports, as the commit may have gone through.
    pub async fn report(&self, reports: Vec<Report>) -> Result<Vec<std::result::Result<(), Refusal>>> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock_ids(&mut *tx, reports.iter().map(|report| report.id)).await?;
        let mut hints = Hints::default();
        let mut verdicts = Vec::with_capacity(reports.len());
        let mut stale = Vec::new();
        for (index, report) in reports.into_iter().enumerate() {
            let Report { id, token, outcome } = report.clone();
            let mut noted = None;
            let mut children = None;
            let (input, output) = match outcome {
                Outcome::Succeeded { output } => {
                    (Input::Succeed { token, verified: false }, Some(json_without_nul(output)))
                }
                Outcome::Verified { output } => {
                    (Input::Succeed { token, verified: true }, Some(json_without_nul(output)))
                }
                Outcome::Deferred { after, reason } => {
                    (Input::Defer { token, after, reason: without_nul(reason) }, None)
                }
                Outcome::Parked { after, notes } => {
                    noted = Some(json_without_nul(notes));
                    (Input::Park { token, after }, None)
                }
                Outcome::Split { output, job, fail, children: total } => {
                    let namespace = batch.get(id).map(|row| row.namespace.clone()).unwrap_or_default();
                    let output = Some(json_without_nul(output));
                    match fan_outs::split(&mut *tx, &namespace, id, (&job, fail, token, total)).await? {
                        Ok(new) => {
                            children = Some(new);
                            (Input::Split { token: Some(token), children: total }, output)
                        }
                        Err(NoSplit::Empty) => (Input::Succeed { token, verified: false }, output),
                        Err(NoSplit::Failed(error)) => (Input::Fail { token, error, retry: None }, None),
                    }
                }
                Outcome::Failed { error, retry } => {
                    (Input::Fail { token, error: error_without_nul(error), retry }, None)
                }
                Outcome::Stopped => (Input::Stopped { token }, None),
                Outcome::Released { doubt } => (Input::Release { token, doubt }, None),
                Outcome::Lost { error, retry, verify } => {
                    (Input::Lose { token, error: error_without_nul(error), retry, verify }, None)
                }
            };
            verdicts.push(match batch.apply(id, &input) {
                Ok(row) => {
                    row.output = output;
                    row.notes = noted.or_else(|| row.notes.take());
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

    /// Ends lost leases; a report or a release that came first stands. Answers how many were ended.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn lose(&self, losses: Vec<Loss>) -> Result<usize> {
        let input = |Loss { token, error, retry, verify, .. }| Input::Lose { token, error, retry, verify };
        self.end_attempts(Commit::Lose, losses, input).await
    }

    /// Ends attempts whose operation is past its time and has nobody who looks after it; a claim that came first stands.
    /// Answers how many were ended.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn abandon(&self, losses: Vec<Loss>) -> Result<usize> {
        let input = |Loss { error, retry, verify, .. }| Input::Abandon { error, retry, verify };
        self.end_attempts(Commit::Abandon, losses, input).await
    }

    async fn end_attempts(&self, commit: Commit, losses: Vec<Loss>, input: impl Fn(Loss) -> Input) -> Result<usize> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock_ids(&mut *tx, losses.iter().map(|loss| loss.id)).await?;
        let mut ended = 0;
        let mut hints = Hints::default();
        for loss in losses {
            let ends_at = batch.get(loss.id).and_then(Locked::lease).map(|lease| lease.ends_at());
            if loss.if_overdue && ends_at.is_some_and(|ends_at| ends_at > batch.now) {
                continue;
            }
            let (id, error) = (loss.id, error_without_nul(loss.error));
            if let Ok(row) = batch.apply(id, &input(Loss { error, ..loss })) {
                hints.after(row);
                ended += 1;
            }
        }
        batch.save(&mut *tx).await?;
        crash::around(commit, tx.commit()).await?;
        hints.give(self);
        Ok(ended)
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

    /// The live leases of a worker.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn leases_of(&self, worker: Uuid) -> Result<Vec<HeldLease>> {
        self.db.leases_of(worker).await
    }

    /// Up to `limit` live leases whose attempt is past its time-out and grace.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn overdue_leases(&self, limit: i64) -> Result<Vec<HeldLease>> {
        self.db.overdue_leases(self.db.now().await?, limit).await
    }

    /// Up to `limit` attempts that have begun something elsewhere, are past their time-out and grace, and have no lease;
    /// as the lease under which each was looked after last.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn abandoned(&self, limit: i64) -> Result<Vec<HeldLease>> {
        self.db.abandoned(self.db.now().await?, limit).await
    }
}

/// Lets a worker claim a run whose row is locked, with a lease that ends after so much silence; `Ok` also for what it has.
pub(super) fn open(
    batch: &mut Batch,
    worker: Uuid,
    claim: &Claim,
    silence: Option<Duration>,
    hints: &mut Hints,
) -> std::result::Result<(), Refusal> {
    let after = |time: SignedDuration| batch.now.saturating_add(time).unwrap_or(Timestamp::MAX);
    let timeout = batch.get(claim.id).map_or(0, |row| row.timeout_ms);
    let deadline = after(SignedDuration::from_millis(timeout).saturating_add(DEADLINE_GRACE));
    let silent_until = silence.map(|silence| after(SignedDuration::try_from(silence).unwrap_or(SignedDuration::MAX)));
    let lease = Lease { token: claim.token, worker, deadline, silent_until };
    let expired = batch.get(claim.id).filter(|row| row.has_expired(batch.now)).map(expire);
    let input = expired.unwrap_or(Input::Claim { n: claim.n, lease });
    match batch.apply(claim.id, &input) {
        Ok(row) if row.is_done() => {
            hints.after(row);
            Err(Refusal::Ended)
        }
        Ok(_) | Err(Refusal::Repeated) => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

/// What a worker is told whose claim was granted.
pub(super) fn granted(batch: &Batch, facts: &HashMap<WorkRequestId, Claimable>, claim: Claim) -> Option<Claimed> {
    let row = batch.get(claim.id)?;
    let facts = facts.get(&claim.id)?;
    let sent_at = match row.before.phase {
        Phase::Sent { at } => at,
        _ => batch.now,
    };
    Some(Claimed {
        id: claim.id,
        token: claim.token,
        namespace: row.namespace.clone(),
        job: row.job.clone(),
        job_version: row.job_version,
        attempt: row.run.attempt,
        failures: row.run.failures,
        doubt: row.run.doubt,
        questions: facts.questions,
        operation: row.run.operation.and_then(|_| row.notes.clone()),
        canceling: row.run.status == Status::Canceling,
        input: facts.input.clone(),
        fire: row.fire.clone(),
        accepted_at: facts.accepted_at,
        sent_at,
        claimed_at: batch.now,
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
