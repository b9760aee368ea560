//! Who may execute: claims open leases, losses end them; one holder at a time (I3).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::dispatch::expire;
use super::rows::Claimable;
use super::texts::error_without_nul;
use super::transition::{Batch, Hints, Known, Locked};
use super::{Result, Store, StoreError};
use crate::crash::{self, Commit};
use crate::retry;
use crate::state::{Input, Lease, Phase, Refusal, Status};
use crate::work_request::{FireRef, RunError, WorkRequestId};

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
    /// To be handed back with the report.
    pub known: Known,
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

impl Store {
    /// Opens leases, one answer for each claim in order. Repeating a claim under the same token gives the same lease.
    ///
    /// # Errors
    /// [`StoreError::Query`]: repeat the same claims, as the commit may have gone through. [`StoreError::Retired`]: the
    /// worker was taken for dead; a lease would be lost at once.
    pub async fn claim(&self, worker: Uuid, claims: &[Claim]) -> Result<Vec<std::result::Result<Claimed, Refusal>>> {
        let answers = self.claim_free(worker, claims).await?;
        let left: Vec<_> =
            claims.iter().zip(&answers).filter(|(_, answer)| answer.is_none()).map(|(claim, _)| *claim).collect();
        let mut rest = if left.is_empty() { Vec::new() } else { self.claim_locked(worker, &left).await? }.into_iter();
        Ok(answers.into_iter().map(|answer| answer.or_else(|| rest.next()).unwrap_or(Err(Refusal::Ended))).collect())
    }

    /// Opens leases of runs that nobody else wants at the same time, in two ways to the database. What is refused stays so, as no
    /// trigger is older than its row. The rest is left.
    async fn claim_free(
        &self,
        worker: Uuid,
        claims: &[Claim],
    ) -> Result<Vec<Option<std::result::Result<Claimed, Refusal>>>> {
        let looked = Batch::look(&*self.db, claims.iter().map(|claim| claim.id), true).await?;
        let Some((mut batch, facts)) = looked else { return Ok(vec![None; claims.len()]) };
        let mut hints = Hints::default();
        let open_plain = |claim: &Claim| {
            // What is in doubt has more to be read.
            let is_plain = batch.get(claim.id).is_none_or(|row| !row.run.doubt);
            is_plain.then(|| open(&mut batch, worker, claim, None, &mut hints))
        };
        let opened: Vec<_> = claims.iter().map(open_plain).collect();
        let mut kept = batch.replace(&*self.db, Commit::ClaimUnlocked, Some(batch.now), Some(worker)).await?;
        hints.give(self);
        let answer = |(claim, opened): (&Claim, Option<std::result::Result<(), Refusal>>)| {
            let is_kept = kept.contains_key(&claim.id.0);
            match opened? {
                Ok(()) if is_kept => {
                    let replaced = |version| batch.get(claim.id).map(|row| Arc::new(row.replaced(version)));
                    // Of a claim that comes twice one answer is enough to know it by.
                    let known = Known(kept.get_mut(&claim.id.0).and_then(Option::take).and_then(replaced));
                    granted(&batch, &facts, *claim).map(|claimed| Ok(Claimed { known, ..claimed }))
                }
                Err(refusal) if is_kept || batch.get(claim.id).is_none_or(|row| !row.dirty) => Some(Err(refusal)),
                _ => None,
            }
        };
        Ok(claims.iter().zip(opened).map(answer).collect())
    }

    async fn claim_locked(&self, worker: Uuid, claims: &[Claim]) -> Result<Vec<std::result::Result<Claimed, Refusal>>> {
        let ids = super::ids(claims.iter().map(|claim| claim.id));
        // What never changes is read beside the transaction.
        let (mut facts, opened) = tokio::try_join!(self.db.claimable(&ids), self.open_all(worker, claims))?;
        let (batch, verdicts, questions) = opened;
        for facts in &mut facts {
            facts.questions = questions.get(&facts.id).copied().unwrap_or(0);
        }
        let facts: HashMap<_, _> = facts.into_iter().map(|facts| (facts.id, facts)).collect();
        let answer = |claim: Claim| granted(&batch, &facts, claim).ok_or(Refusal::Ended);
        Ok(verdicts.into_iter().map(|verdict| verdict.and_then(answer)).collect())
    }

    /// Answers the runs, what became of each claim, and how often it was asked in vain whether an attempt had taken effect,
    /// where that is in doubt.
    async fn open_all(
        &self,
        worker: Uuid,
        claims: &[Claim],
    ) -> Result<(Batch, Vec<std::result::Result<Claim, Refusal>>, HashMap<WorkRequestId, u32>)> {
        let mut tx = self.begin().await?;
        if !tx.lives(worker).await? {
            return Err(StoreError::Retired);
        }
        let mut batch = Batch::lock_ids(&mut *tx, claims.iter().map(|claim| claim.id)).await?;
        let mut hints = Hints::default();
        let verdicts: Vec<_> =
            claims.iter().map(|claim| open(&mut batch, worker, claim, None, &mut hints).map(|()| *claim)).collect();
        batch.save(&mut *tx).await?;
        let mut questions = HashMap::new();
        for id in verdicts.iter().flatten().map(|claim| claim.id) {
            if batch.get(id).is_some_and(|row| row.run.doubt) {
                let latest = tx.latest(id, LATEST).await?;
                questions.insert(id, retry::questions(latest.iter().map(|entry| &entry.what)));
            }
        }
        crash::around(Commit::Claim, tx.commit()).await?;
        hints.give(self);
        Ok((batch, verdicts, questions))
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
    // Nobody publishes the trigger of one that has to have a slot before it is marked.
    if batch.get(claim.id).is_some_and(|row| row.is_limited() && matches!(row.run.phase, Phase::Due { .. })) {
        return Err(Refusal::OldTrigger);
    }
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
        Phase::Sent { at } | Phase::Due { at } => at,
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
        known: Known::default(),
    })
}
