//! Workers for every queue that the definitions name, also for those that a change of a file brings.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reveille_shared::broker::Broker;
use reveille_shared::clock::Clock;
use reveille_shared::lifecycle::{Lifecycle, TaskResult};
use reveille_shared::store::{Store, StoreError};
use reveille_shared::telemetry::chain;
use reveille_worker::app::Settings;
use reveille_worker::{Functions, Guard, Policy};
use tokio::task::JoinSet;

use super::LEASE_TTL;

/// How often to look for queues that nobody serves.
const PERIOD: Duration = Duration::from_secs(1);

/// What workers are made from.
pub(super) struct Workers {
    pub(super) store: Store,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) clock: Arc<dyn Clock>,
    /// Of each worker.
    pub(super) slots: u16,
    /// What commands run under.
    pub(super) guard: Guard,
    /// What they may run, if not everything.
    pub(super) policy: Option<Policy>,
}

impl Workers {
    /// Starts a worker that serves these queues, under a name of its own unless it is the first one.
    pub(super) async fn start(
        &self,
        queues: &BTreeSet<String>,
        name: Option<String>,
        lifecycle: &mut Lifecycle,
    ) -> anyhow::Result<()> {
        let settings = Settings {
            queues: queues.iter().cloned().collect(),
            slots: self.slots,
            name,
            lease_ttl: LEASE_TTL,
            policy: self.policy.clone(),
        };
        let (store, broker, clock) = (self.store.clone(), Arc::clone(&self.broker), Arc::clone(&self.clock));
        let (functions, guard) = (Functions::default(), self.guard.clone());
        reveille_worker::app::start(settings, functions, guard, store, broker, clock, lifecycle).await?;
        Ok(())
    }

    /// The queues that our own workers have to serve.
    async fn queues(&self) -> Result<impl Iterator<Item = String>, StoreError> {
        // In this order: an external job that comes in between must not look like one of ours.
        let queues = self.store.queues().await?;
        let external = self.store.external_queues().await?;
        Ok(queues.into_iter().filter(move |queue| !external.contains(queue)))
    }

    /// Starts a further worker when queues appear that are not in `served`: what a running one consumes is settled
    /// when it starts. Ends when all of these workers have ended after the soft token.
    pub(super) async fn follow(self, mut served: BTreeSet<String>, lifecycle: Lifecycle) -> TaskResult {
        let mut workers: JoinSet<TaskResult> = JoinSet::new();
        loop {
            tokio::select! {
                () = lifecycle.soft.cancelled() => break,
                Some(ended) = workers.join_next() => return ended?,
                () = tokio::time::sleep(PERIOD) => {}
            }
            let new: BTreeSet<String> = match self.queues().await {
                Ok(queues) => queues.filter(|queue| !served.contains(queue)).collect(),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "can't look for new queues; trying again");
                    continue;
                }
            };
            if new.is_empty() {
                continue;
            }
            let mut worker = lifecycle.child();
            self.start(&new, new.first().map(|queue| format!("dev-{queue}")), &mut worker)
                .await
                .context("can't serve new queues")?;
            workers.spawn(worker.join());
            served.extend(new);
        }
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        Ok(())
    }
}
