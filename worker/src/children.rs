//! Inputs that a run hands over → kept in the store as they come, to become its children when it has succeeded.

use std::time::Duration;

use reveille_shared::fan_out::{MAX_BYTES, MAX_CHILDREN};
use reveille_shared::store::{Staging, Store};
use reveille_shared::telemetry::chain;
use reveille_shared::work_request::MAX_INPUT;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::handlers::RunFailure;

/// How long to wait before a store that failed is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// The children that an attempt has asked for so far. Those of one that does not succeed are never made.
#[derive(Debug)]
pub(crate) struct Children {
    staging: Mutex<Staging>,
    most: u32,
    stop: CancellationToken,
}

impl Children {
    /// None so far, of the attempt under this lease.
    pub(crate) fn new(store: Store, token: Uuid, most: u32, stop: CancellationToken) -> Self {
        Self { staging: Mutex::new(Staging::new(store, token)), most: most.min(MAX_CHILDREN), stop }
    }

    /// Takes the input of one. At times it waits for the store.
    pub(crate) async fn add(&self, input: Value) -> Result<(), RunFailure> {
        let size = input.to_string().len();
        let mut staging = self.staging.lock().await;
        let (count, bytes) = staging.given();
        let refused = |code: &str, message: String| Err(RunFailure::fatal(message).code(code));
        if input.is_null() {
            return refused("InvalidChild", "the input of a child is null".to_owned());
        }
        if size > MAX_INPUT {
            let told = format!("the input of a child has {size} bytes of JSON; {MAX_INPUT} are allowed");
            return refused("InputTooLarge", told);
        }
        if count >= self.most {
            return refused("TooManyChildren", format!("it calls for more than {} children", self.most));
        }
        if bytes + size > MAX_BYTES {
            let told = format!("the inputs of its children have more than {MAX_BYTES} bytes of JSON");
            return refused("TooManyChildren", told);
        }
        staging.add(input, size);
        if staging.is_full() { self.keep(staging, false).await } else { Ok(()) }
    }

    /// Keeps what is left, and answers how many they are.
    pub(crate) async fn finish(&self) -> Result<u32, RunFailure> {
        let staging = self.staging.lock().await;
        let (count, _) = staging.given();
        self.keep(staging, true).await?;
        Ok(count)
    }

    async fn keep(&self, mut staging: MutexGuard<'_, Staging>, all: bool) -> Result<(), RunFailure> {
        loop {
            let kept = if all { staging.finish().await } else { staging.keep().await };
            let Err(error) = kept else { return Ok(()) };
            tracing::debug!(error = chain(&error), "can't keep the inputs of children; trying again");
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = self.stop.cancelled() => return Err(RunFailure::stopped()),
            }
        }
    }
}
