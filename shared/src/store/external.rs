//! Leases of workers in other languages: they claim and give signs of life one by one, and have no beats.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use super::leases::{Claim, Claimed, granted, open};
use super::transition::{Batch, Hints};
use super::{Result, Store};
use crate::crash::{self, Commit};
use crate::definition::RetryPolicy;
use crate::duration::HumanDuration;
use crate::state::{Input, Refusal, Status};
use crate::work_request::WorkRequestId;

/// A claim, and on which terms the lease is.
#[derive(Debug, Clone)]
pub struct ExternalClaim {
    /// What is claimed.
    pub claim: Claim,
    /// The worker's name.
    pub worker: String,
    /// The queue that it took the trigger from.
    pub queue: String,
    /// How long it may be silent.
    pub lease: HumanDuration,
    /// What follows if the attempt fails.
    pub retry: RetryPolicy,
}

/// A lease of a worker in another language.
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalLease {
    /// What to run.
    pub claimed: Claimed,
    /// When the attempt is past its time-out and grace.
    pub deadline: Timestamp,
    /// When the lease ends unless its holder gives a sign of life.
    pub until: Timestamp,
}

/// The answer to a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Until when the lease is good.
    pub until: Timestamp,
    /// Someone has asked for the run to stop.
    pub canceling: bool,
}

/// The id of a worker in another language: the same for the same name, as nothing else tells of its restarts.
#[must_use]
pub fn external_worker(name: &str) -> Uuid {
    let hash = blake3::derive_key("reveille 2026 a worker in another language", name.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(short).into_uuid()
}

/// A lease as the store keeps it, also after its end.
#[derive(Debug, Clone)]
pub(crate) struct ExternalRow {
    pub(crate) run: WorkRequestId,
    pub(crate) token: Uuid,
    pub(crate) namespace: String,
    pub(crate) worker: Uuid,
    pub(crate) attempt: u32,
    pub(crate) lease: HumanDuration,
    pub(crate) retry: RetryPolicy,
    /// How it said that the attempt ended.
    pub(crate) ended: Option<String>,
    /// Which event had the last words: when it happened, and its name.
    pub(crate) words: Option<(Timestamp, String)>,
    /// What an event of its own said that the run answers, and which.
    pub(crate) output: Option<(Value, Timestamp, String)>,
    /// The end itself said what the run answers.
    pub(crate) has_own: bool,
}

impl ExternalRow {
    /// Until when its holder may be silent after a word of it.
    pub(crate) fn silent_until(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.lease.signed()).unwrap_or(Timestamp::MAX)
    }
}

impl Store {
    /// Opens a lease for a worker in another language, which is known from now on. Repeated under the same token, it gives
    /// the same lease. `Err(StaleToken)`: an earlier lease had this token.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: repeat the same claim, as the commit may have gone through.
    pub async fn claim_external(&self, wanted: &ExternalClaim) -> Result<std::result::Result<ExternalLease, Refusal>> {
        let ExternalClaim { claim, worker: name, queue, lease, retry } = wanted;
        let worker = external_worker(name);
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock_ids(&mut *tx, std::iter::once(claim.id)).await?;
        let used = tx.lock_external(&[claim.id.0]).await?.iter().any(|known| known.token == claim.token);
        let holds = batch.get(claim.id).and_then(super::transition::Locked::lease);
        if used && holds.is_none_or(|lease| lease.token != claim.token) {
            return Ok(Err(Refusal::StaleToken));
        }
        let mut hints = Hints::default();
        let verdict = open(&mut batch, worker, claim, Some(lease.get()), &mut hints);
        if verdict.is_ok()
            && let Some(row) = batch.get(claim.id).filter(|_| !used)
        {
            let (namespace, attempt) = (row.namespace.clone(), row.run.attempt);
            let row = ExternalRow {
                run: claim.id,
                token: claim.token,
                namespace,
                worker,
                attempt,
                lease: *lease,
                retry: *retry,
                ended: None,
                words: None,
                output: None,
                has_own: false,
            };
            tx.put_external(&row).await?;
        }
        batch.save(&mut *tx).await?;
        if verdict.is_ok() {
            tx.put_external_worker(worker, name, queue).await?;
        }
        crash::around(Commit::ClaimExternal, tx.commit()).await?;
        hints.give(self);
        if let Err(refusal) = verdict {
            return Ok(Err(refusal));
        }
        let facts = self.db.claimable(&[claim.id.0]).await?;
        let facts: HashMap<_, _> = facts.into_iter().map(|facts| (facts.id, facts)).collect();
        let lease = batch.get(claim.id).and_then(super::transition::Locked::lease);
        let (Some(claimed), Some(lease)) = (granted(&batch, &facts, *claim), lease) else {
            return Ok(Err(Refusal::Ended));
        };
        Ok(Ok(ExternalLease { claimed, deadline: lease.deadline, until: lease.ends_at() }))
    }

    /// Takes a sign of life of a worker in another language.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: repeat it.
    pub async fn heartbeat(&self, id: WorkRequestId, token: Uuid) -> Result<std::result::Result<Heartbeat, Refusal>> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock_ids(&mut *tx, std::iter::once(id)).await?;
        let leases = tx.lock_external(&[id.0]).await?;
        let Some(known) = leases.iter().find(|known| known.token == token) else {
            return Ok(Err(Refusal::StaleToken));
        };
        let until = known.silent_until(batch.now);
        // Repeated: it is good for that long, or until the end of its attempt.
        let refused = batch.apply(id, &Input::Extend { token, until }).err();
        if let Some(refusal) = refused.filter(|refusal| *refusal != Refusal::Repeated) {
            return Ok(Err(refusal));
        }
        batch.save(&mut *tx).await?;
        tx.beat(known.worker).await?;
        crash::around(Commit::Extend, tx.commit()).await?;
        let row = batch.get(id).and_then(|row| Some((row.lease()?, row.run.status)));
        let answer = |(lease, status): (crate::state::Lease, Status)| Heartbeat {
            until: lease.ends_at(),
            canceling: status == Status::Canceling,
        };
        Ok(row.map(answer).ok_or(Refusal::Ended))
    }

    /// Takes workers in other languages for gone that hold nothing and have said nothing for so long. Answers how many.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn retire_idle(&self, idle: Duration) -> Result<usize> {
        let idle = SignedDuration::try_from(idle).unwrap_or(SignedDuration::MAX);
        let before = self.now().await?.saturating_sub(idle).unwrap_or(Timestamp::MIN);
        let workers = self.workers().await?;
        let gone = workers.iter().filter(|known| {
            known.is_external && known.ended_at.is_none() && known.leases == 0 && known.beat_at < before
        });
        let mut retired = 0;
        for known in gone {
            // One that has claimed since has beaten since.
            retired += usize::from(self.retire_silent(known.worker.incarnation, known.beat).await?);
        }
        Ok(retired)
    }
}
