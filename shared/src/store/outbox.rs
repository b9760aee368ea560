//! What happens to runs, on its way to whoever wants to know.
//!
//! An entry of a history gets into the outbox in the transaction that writes it, and leaves it once it was told: at least
//! once, whatever dies. A cursor would not do, as a serial number is not commit order: an entry of a low one may appear late.

use super::{Result, Store};
use crate::crash::{self, Commit};
use crate::work_request::{HistoryEvent, WorkRequestId};

/// An entry of a run's history that is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Untold {
    /// Its place in the outbox: of one run's entries the earlier one has the lower number.
    pub number: i64,
    /// The run.
    pub id: WorkRequestId,
    /// The tenant.
    pub namespace: String,
    /// The job.
    pub job: String,
    /// The schedule that called for the run, if one did.
    pub schedule: Option<String>,
    /// The entry.
    pub event: HistoryEvent,
}

impl Store {
    /// Says whether what happens from now on is to be told, for all processes. What is in the outbox stays there.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn tell_transitions(&self, wanted: bool) -> Result<()> {
        if self.db.tells_transitions().await? == wanted {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        tx.tell_transitions(wanted).await?;
        crash::around(Commit::TellTransitions, tx.commit()).await
    }

    /// Up to `limit` entries that are to be told, `besides` those of these numbers, in the order of their numbers: of one run
    /// none before an earlier one, unless that is among `besides`. None at all only if there are none: what was deleted before
    /// it was told, run or entry, is in nobody's way.
    ///
    /// To go on from the last number would not do: an earlier entry of a run may appear below it, together with a later one
    /// above.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn untold(&self, besides: &[i64], limit: i64) -> Result<Vec<Untold>> {
        loop {
            let (mut untold, mut gone) = (Vec::new(), Vec::new());
            for entry in self.db.untold(besides, limit).await? {
                match entry {
                    Ok(entry) => untold.push(entry),
                    Err(number) => gone.push(number),
                }
            }
            if !gone.is_empty() {
                tracing::warn!(count = gone.len(), "what happened to runs was deleted before it was told");
                self.told(&gone).await?;
            }
            if !untold.is_empty() || gone.is_empty() {
                return Ok(untold);
            }
        }
    }

    /// Takes entries that were told out of the outbox.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: they may be told again.
    pub async fn told(&self, numbers: &[i64]) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        tx.take_out(numbers).await?;
        crash::around(Commit::Told, tx.commit()).await
    }
}
