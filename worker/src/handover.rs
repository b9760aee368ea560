//! What an attempt hands from one lease to the next, while what it has begun elsewhere goes on.

use std::time::Duration;

use jiff::Timestamp;
use reveille_shared::store::Claimed;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::handlers::RunFailure;

/// Kept in the store with the parked run. It holds no secret of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Handover {
    /// When the attempt's first lease was opened, by the database's clock: its time-out counts from there.
    pub(crate) began: Timestamp,
    /// How many lines its log has.
    pub(crate) lines: i32,
    /// What the handler has noted.
    pub(crate) notes: Option<Value>,
}

impl Handover {
    /// Of a lease: what the one before it handed on, or a fresh start.
    pub(crate) fn of(claimed: &Claimed) -> Result<Self, RunFailure> {
        match &claimed.operation {
            None => Ok(Self { began: claimed.claimed_at, lines: 0, notes: None }),
            Some(noted) => Self::deserialize(noted).map_err(|error| {
                let told = format!("what an earlier lease has noted can't be read by this worker: {error}");
                RunFailure::fatal(told).code("Handover")
            }),
        }
    }

    /// How long the attempt had been going on when this lease was opened.
    pub(crate) fn age(&self, claimed: &Claimed) -> Duration {
        Duration::try_from(claimed.claimed_at.duration_since(self.began)).unwrap_or(Duration::ZERO)
    }

    /// For the next lease.
    pub(crate) fn with(self, lines: i32, notes: Value) -> Value {
        serde_json::to_value(Self { lines, notes: Some(notes), ..self }).unwrap_or_default()
    }
}
