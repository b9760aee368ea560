//! Who is alive.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::leases::HeldLease;
use super::{Result, Store};
use crate::crash::{self, Commit};

/// A worker process that starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWorker {
    /// Fresh for each start of the process.
    pub incarnation: Uuid,
    /// For people: host and process id, or what the operator named it.
    pub name: String,
    /// The work queues that it consumes.
    pub queues: Vec<String>,
    /// How many runs it executes at once.
    pub slots: u32,
    /// Its build.
    pub version: String,
    /// How long it may be unheard before its leases end; it has stopped its runs by then.
    pub lease_ttl: Duration,
}

/// A worker, as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// What it said when it started.
    pub worker: NewWorker,
    /// It is written in another language: it was first heard of by a claim, and beats with each word.
    pub is_external: bool,
    /// When it started.
    pub started_at: Timestamp,
    /// Counts up while it lives.
    pub beat: i64,
    /// When it last did, by the database's clock.
    pub beat_at: Timestamp,
    /// When it said goodbye or was found dead.
    pub ended_at: Option<Timestamp>,
    /// Live leases.
    pub leases: i64,
}

impl Store {
    /// Makes a worker known as alive.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn register_worker(&self, worker: &NewWorker) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.put_worker(worker).await?;
        crash::around(Commit::RegisterWorker, tx.commit()).await
    }

    /// Says that a worker lives, and answers with the leases that the store knows it to hold. `None`: it was found
    /// dead and has lost them all; it must stop its runs and register under a new incarnation.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn beat(&self, worker: Uuid) -> Result<Option<Vec<HeldLease>>> {
        let mut tx = self.begin().await?;
        let alive = tx.beat(worker).await?;
        crash::around(Commit::Beat, tx.commit()).await?;
        if alive { self.db.leases_of(worker).await.map(Some) } else { Ok(None) }
    }

    /// Takes a worker for dead whose beat was seen to stand still at this count. False: it has beaten since, or has ended.
    /// Its leases are not touched: see [`Store::lose`].
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn retire_silent(&self, worker: Uuid, beat: i64) -> Result<bool> {
        let mut tx = self.begin().await?;
        let retired = tx.retire_silent(worker, beat).await?;
        crash::around(Commit::RetireWorker, tx.commit()).await?;
        Ok(retired)
    }

    /// Lets a worker say goodbye. Its leases are not touched: see [`Store::lose`].
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn retire_worker(&self, worker: Uuid) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.retire_worker(worker).await?;
        crash::around(Commit::RetireWorker, tx.commit()).await
    }

    /// All workers that live or hold a lease, and those that ended within the last day or so.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn workers(&self) -> Result<Vec<Worker>> {
        self.db.workers().await
    }

    /// Forgets workers that ended before this instant and hold no lease. Answers how many.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn purge_workers(&self, before: Timestamp) -> Result<u64> {
        let mut tx = self.begin().await?;
        let purged = tx.purge_workers(before).await?;
        crash::around(Commit::PurgeWorkers, tx.commit()).await?;
        Ok(purged)
    }
}
