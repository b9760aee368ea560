//! Deliveries that have a slot → leases, many in one commit.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::state::Refusal;
use reveille_shared::store::{Claim, Claimed, Store};
use reveille_shared::telemetry::chain;
use reveille_shared::trigger::Trigger;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::runs::Handle;

/// How many claims go into one commit.
pub(crate) const BATCH: usize = 256;
/// How long a store that fails is asked again before the deliveries go back to the broker.
const PATIENCE: Duration = Duration::from_secs(5);

/// A trigger that has a slot and asks for its lease.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// In which message it came.
    pub(crate) parcel: u64,
    pub(crate) trigger: Trigger,
    pub(crate) slot: OwnedSemaphorePermit,
    pub(crate) handle: Arc<Handle>,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Durable: each has its lease, or there is nothing to run.
    Decided(Vec<(Candidate, Result<Claimed, Refusal>)>),
    /// The store can't be asked. A lease that was opened nevertheless is released by the beat.
    Undecided(Vec<Candidate>),
}

/// Claims a batch. While the store fails the same claims are repeated, as the commit may have gone through.
pub(crate) async fn claim(store: Store, worker: Uuid, batch: Vec<Candidate>, stop: CancellationToken) -> Verdict {
    let claims: Vec<Claim> = batch
        .iter()
        .map(|candidate| {
            let trigger = &candidate.trigger;
            Claim { id: trigger.id, n: trigger.n, token: candidate.handle.token }
        })
        .collect();
    metrics::histogram!("reveille_claim_batch_size").record(f64::from(u32::try_from(claims.len()).unwrap_or(u32::MAX)));
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(50);
    loop {
        match store.claim(worker, &claims).await {
            Ok(answers) => return Verdict::Decided(batch.into_iter().zip(answers).collect()),
            Err(error) if stop.is_cancelled() || Instant::now() + pause > deadline => {
                tracing::warn!(error = chain(&error), count = claims.len(), "can't claim; giving the triggers back");
                return Verdict::Undecided(batch);
            }
            Err(error) => tracing::debug!(error = chain(&error), "can't claim; trying again"),
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
