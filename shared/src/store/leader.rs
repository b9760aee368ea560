//! Who leads: one scheduler at a time plans and reconciles.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Result, Store};
use crate::crash::{self, Commit};

/// Counts the changes of leadership. A leader's writes name it and are refused once it is no longer the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(pub i64);

impl Store {
    /// Who leads now, if anyone does.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn leader(&self) -> Result<Option<Generation>> {
        self.db.leader(self.db.now().await?).await
    }

    /// Takes or keeps leadership for `ttl` by the database's clock. `None`: another one leads.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: nobody knows; don't lead.
    pub async fn lead(&self, holder: Uuid, ttl: Duration) -> Result<Option<Generation>> {
        let mut tx = self.begin().await?;
        let generation = tx.lead(holder, ttl).await?;
        crash::around(Commit::Lead, tx.commit()).await?;
        Ok(generation)
    }

    /// When the lease of the last leader that was not the present one ended, by the database's clock, if there was one. Who leads
    /// once more, and nobody has meanwhile, does not change that, even if its own lease had ended.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn leader_before_ended(&self) -> Result<Option<Timestamp>> {
        self.db.leader_before_ended().await
    }

    /// Gives leadership up, so that another one need not wait.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn resign(&self, holder: Uuid) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.resign(holder).await?;
        crash::around(Commit::Resign, tx.commit()).await
    }
}
