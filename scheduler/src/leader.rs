//! One scheduler at a time leads: plans, applies definitions, reconciles.
//!
//! Leadership is a lease in the store with a generation. The leader renews it, and stops leading by its own
//! monotonic clock before the lease ends if it could not. A leader that does not know that it was deposed
//! writes nothing all the same: its generation is refused in each transaction.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::store::{Generation, Store};
use reveille_shared::telemetry::chain;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::probe::Skew;
use crate::status::Status;

/// How long leadership lasts unless it is renewed, by the database's clock.
pub const TTL: Duration = Duration::from_secs(3);
/// How often the leader renews it, and the others ask for it.
pub const RENEW: Duration = Duration::from_millis(750);
/// How long before the lease's end a leader that could not renew stops leading.
const MARGIN: Duration = Duration::from_millis(500);

/// Whether this process leads, for those who act on it.
#[derive(Debug)]
pub struct Leadership(watch::Sender<Option<Generation>>);

impl Default for Leadership {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Leadership {
    /// The generation to write under, while this process leads.
    #[must_use]
    pub fn current(&self) -> Option<Generation> {
        *self.0.borrow()
    }

    /// To be told of changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Generation>> {
        self.0.subscribe()
    }

    /// Stops leading under this generation, as the store has refused it.
    pub fn depose(&self, generation: Generation) {
        let deposed = self.0.send_if_modified(|current| current.take_if(|held| *held == generation).is_some());
        if deposed {
            tracing::warn!(generation = generation.0, "deposed: another scheduler leads now");
        }
    }

    /// Leads, or not, from now on, as the store has said. Answers whether that is a change.
    pub fn set(&self, next: Option<Generation>) -> bool {
        self.0.send_if_modified(|current| std::mem::replace(current, next) != next)
    }
}

/// Stands for leadership.
pub struct Candidate {
    /// Where the lease is.
    pub store: Store,
    /// Names this incarnation of the process.
    pub holder: Uuid,
    /// How long the lease lasts, see [`TTL`].
    pub ttl: Duration,
    /// How often it is renewed, see [`RENEW`].
    pub renew: Duration,
    /// Who must not plan, as its clock is wrong, does not lead.
    pub skew: Arc<Skew>,
    /// Where the outcome is put.
    pub leadership: Arc<Leadership>,
    /// Whom to wake when it changes.
    pub nudges: Vec<Arc<Notify>>,
    /// Who is told.
    pub status: Arc<Status>,
}

impl Candidate {
    /// Takes and keeps leadership where it can, until `stop`; then resigns, so that another one need not wait.
    pub async fn run(self, stop: CancellationToken) {
        self.status.tell("leader", false, "asking who leads");
        // When leading is over unless it is renewed before.
        let mut ends: Option<Instant> = None;
        let mut failing = false;
        while !stop.is_cancelled() {
            if self.skew.is_unbearable() {
                // One that must not plan must not keep others from it.
                ends = None;
                self.resign().await;
                self.status.tell("leader", false, "does not stand for leadership, as this machine's clock is wrong");
                pause(self.renew, &stop).await;
                continue;
            }
            let asked = Instant::now();
            let patience = ends.map_or(self.ttl, |ends| ends.saturating_duration_since(asked));
            let answer = tokio::time::timeout(patience, self.store.lead(self.holder, self.ttl)).await;
            let failure = match answer {
                Ok(Ok(Some(generation))) => {
                    ends = Some(asked + self.ttl.saturating_sub(MARGIN.min(self.ttl / 4)));
                    self.set(Some(generation));
                    self.status.tell("leader", true, format!("leading as generation {}", generation.0));
                    None
                }
                Ok(Ok(None)) => {
                    ends = None;
                    self.set(None);
                    self.status.tell("leader", true, "another scheduler leads; ready to take over");
                    None
                }
                Ok(Err(error)) => Some(chain(&error)),
                Err(_) => Some("the database did not answer in time".to_owned()),
            };
            if let Some(error) = &failure {
                if ends.is_none_or(|ends| Instant::now() >= ends) {
                    ends = None;
                    self.set(None);
                    self.status.tell("leader", false, format!("nobody knows who leads: {error}"));
                }
                if !failing {
                    tracing::error!(error, "can't ask for leadership; trying again");
                }
            }
            failing = failure.is_some();
            let wait = ends.map_or(self.renew, |ends| self.renew.min(ends.saturating_duration_since(Instant::now())));
            pause(wait, &stop).await;
        }
        self.resign().await;
    }

    /// Makes room for another one at once, if this one leads.
    async fn resign(&self) {
        if self.leadership.current().is_some() {
            self.set(None);
            if let Ok(Err(error)) = tokio::time::timeout(MARGIN, self.store.resign(self.holder)).await {
                tracing::warn!(error = chain(&error), "could not resign; another scheduler leads within seconds");
            }
        }
    }

    fn set(&self, next: Option<Generation>) {
        if self.leadership.set(next) {
            match next {
                Some(generation) => tracing::info!(generation = generation.0, "leading"),
                None => tracing::info!("not leading"),
            }
            self.nudges.iter().for_each(|nudge| nudge.notify_one());
        }
    }
}

async fn pause(wait: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stop.cancelled() => {}
    }
}
