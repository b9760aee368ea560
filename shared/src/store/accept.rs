//! A work request is born.

use jiff::Timestamp;
use serde_json::Value;

use super::{Result, Store};
use crate::duration::HumanDuration;
use crate::work_request::{FireRef, WorkRequestId};

/// A work request to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWorkRequest {
    /// Its name from here on.
    pub id: WorkRequestId,
    /// The tenant.
    pub namespace: String,
    /// The job to run.
    pub job: String,
    /// The job's version in force.
    pub job_version: i64,
    /// The job's queue.
    pub queue: String,
    /// The job's time-out of an attempt.
    pub timeout: HumanDuration,
    /// The fire that calls for it.
    pub fire: Option<FireRef>,
    /// What the run is given.
    pub input: Value,
    /// What it is to create or change.
    pub resource: Option<Value>,
    /// How long to wait before the trigger goes out.
    pub delay: HumanDuration,
    /// Who asked, for the history.
    pub by: String,
}

/// A caller's name for a request, under which it can be repeated (draft-ietf-httpapi-idempotency-key-header).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Keys of different namespaces never meet.
    pub namespace: String,
    /// What the caller sent.
    pub key: String,
    /// Tells this request from another one under the same key.
    pub request_hash: String,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceptance {
    /// A work request was born.
    New(WorkRequestId),
    /// The same request was accepted before, as this work request.
    Repeated(WorkRequestId),
    /// The key was used for another request.
    KeyReused,
}

impl Store {
    /// Accepts a work request: from the commit on it will reach an end (I2).
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: nothing was accepted, or the answer was lost; repeat it under the same key.
    pub async fn accept(&self, request: NewWorkRequest, key: Option<&IdempotencyKey>) -> Result<Acceptance> {
        let mut tx = self.begin().await?;
        if let Some(key) = key
            && let Some((id, hash)) = tx.take_key(key, request.id).await?
        {
            return Ok(if hash == key.request_hash { Acceptance::Repeated(id) } else { Acceptance::KeyReused });
        }
        let id = request.id;
        tx.insert_requests(&[request]).await?;
        tx.commit().await?;
        self.made_due();
        Ok(Acceptance::New(id))
    }

    /// Accepts several work requests, all or none.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: none was accepted, or the answer was lost.
    pub async fn accept_all(&self, requests: &[NewWorkRequest]) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.insert_requests(requests).await?;
        tx.commit().await?;
        self.made_due();
        Ok(())
    }

    /// Forgets idempotency keys taken before this instant, at most `limit` of them. Answers how many.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn purge_keys(&self, before: Timestamp, limit: i64) -> Result<u64> {
        let mut tx = self.begin().await?;
        let purged = tx.purge_keys(before, limit).await?;
        tx.commit().await?;
        Ok(purged)
    }
}
