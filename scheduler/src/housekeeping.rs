//! The process's ticking engine: a few static UTC jobs of `tokio-cron-scheduler` that only nudge.
//!
//! The passes that they nudge have timers of their own, so that a lost or late tick costs nothing. User schedules are
//! never held here: the planner reads them from the store and releases each at its exact instant.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tokio_util::sync::CancellationToken;

/// A static job: six cron fields in UTC, and whom it nudges.
#[derive(Debug, Clone)]
pub struct Tick {
    /// Seconds first; `*` in the day fields.
    pub cron: &'static str,
    /// Woken at each tick.
    pub nudge: Arc<Notify>,
}

/// Nudges until `stop`.
///
/// # Errors
/// A cron text that the engine does not take, or an engine that does not start.
pub async fn run(ticks: Vec<Tick>, stop: CancellationToken) -> Result<(), JobSchedulerError> {
    let mut engine = JobScheduler::new().await?;
    for Tick { cron, nudge } in ticks {
        let tick = move |_, _| {
            let nudge = Arc::clone(&nudge);
            let body: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move { nudge.notify_one() });
            body
        };
        engine.add(Job::new_async(cron, tick)?).await?;
    }
    engine.start().await?;
    stop.cancelled().await;
    engine.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn nudges_until_it_is_stopped() {
        let (nudge, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let ticks = vec![Tick { cron: "* * * * * *", nudge: Arc::clone(&nudge) }];
        let mut running = tokio::task::JoinSet::new();
        running.spawn(run(ticks, stop.clone()));
        for _ in 0..2 {
            tokio::time::timeout(Duration::from_secs(10), nudge.notified()).await.unwrap();
        }
        stop.cancel();
        running.join_next().await.unwrap().unwrap().unwrap();
    }
}
