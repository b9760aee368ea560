//! What brokers and workers gave up on → sent again, a capped number of times, or an end with a reason.
//!
//! A dead letter is settled only after the store has kept what is to become of it; one that is seen twice finds that
//! its trigger is no longer the one that is out.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::broker::{Broker, BrokerError, DeadLetter};
use reveille_shared::store::{Store, StoreError};
use reveille_shared::telemetry::chain;
use reveille_shared::trigger::Trigger;
use reveille_shared::work_request::RunError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A run with more triggers than this, retries included, ends when one more of them is a dead letter.
const MOST_TRIGGERS: u32 = 20;
/// How long a dead trigger waits before it goes out again.
const DELAY: Duration = Duration::from_secs(5);
/// How often the log mentions unreadable ones.
const REMIND: Duration = Duration::from_secs(60);

/// Looks after dead letters until `stop`, or until the broker has shut down.
///
/// # Errors
/// [`BrokerError`] when the broker has no dead letters to consume.
pub async fn run(store: Store, broker: Arc<dyn Broker>, stop: CancellationToken) -> Result<(), BrokerError> {
    let mut letters = broker.dead_letters().await?;
    let mut unreadable = Reminder::default();
    loop {
        let letter = tokio::select! {
            letter = letters.next() => letter,
            () = stop.cancelled() => return Ok(()),
        };
        let Some(letter) = letter else {
            stop.cancelled().await;
            return Ok(());
        };
        match &letter.content {
            Ok(trigger) => {
                metrics::counter!("reveille_dead_letters_total", "kind" => "trigger").increment(1);
                while let Err(error) = settle_trigger(&store, trigger, &letter).await {
                    tracing::warn!(error = chain(&error), "can't look after a dead letter; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        () = stop.cancelled() => return Ok(()),
                    }
                }
            }
            Err(why) => {
                metrics::counter!("reveille_dead_letters_total", "kind" => "unreadable").increment(1);
                unreadable.one_more(why, &letter);
            }
        }
        letters.settle(letter).await;
    }
}

async fn settle_trigger(store: &Store, trigger: &Trigger, letter: &DeadLetter) -> Result<(), StoreError> {
    if trigger.n > MOST_TRIGGERS {
        let message = format!("given up after {} triggers; the last one was {}", trigger.n, letter.reason);
        let ended = store.give_up(trigger, RunError::new("Undeliverable", message)).await?;
        if ended {
            tracing::warn!(id = %trigger.id, n = trigger.n, reason = letter.reason, "undeliverable");
        }
        return Ok(());
    }
    let reason = format!("the broker gave it up: {}", letter.reason);
    store.unsend(&[(trigger.clone(), DELAY, Some(reason))]).await
}

/// Mentions unreadable messages in the log, but not each one of a flood.
#[derive(Default)]
struct Reminder {
    last: Option<Instant>,
    since: u64,
}

impl Reminder {
    fn one_more(&mut self, why: &str, letter: &DeadLetter) {
        self.since += 1;
        if self.last.is_none_or(|last| last.elapsed() >= REMIND) {
            tracing::warn!(
                count = self.since,
                queue = letter.queue,
                reason = letter.reason,
                why,
                "unreadable messages are kept in reveille.unreadable"
            );
            (self.last, self.since) = (Some(Instant::now()), 0);
        }
    }
}
