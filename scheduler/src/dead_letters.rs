//! What brokers and workers gave up on → sent again, a capped number of times, or an end with a reason.
//!
//! A dead letter is settled only after the store has kept what is to become of it; one that is seen twice finds that
//! its trigger is no longer the one that is out.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::broker::{Broker, BrokerError, DeadLetter};
use reveille_shared::crash::{self, Act};
use reveille_shared::store::{Store, StoreError};
use reveille_shared::telemetry::chain;
use reveille_shared::trigger::Trigger;
use reveille_shared::work_request::RunError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::reminder::Reminder;

/// A run with more triggers than this, retries included, ends when one more of them is a dead letter.
const MOST_TRIGGERS: u32 = 20;
/// How long a dead trigger waits before it goes out again.
const DELAY: Duration = Duration::from_secs(5);

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
        crash::at(Act::LetterTaken);
        match &letter.content {
            Ok(triggers) => {
                metrics::counter!("reveille_dead_letters_total", "kind" => "trigger").increment(1);
                while let Err(error) = revive_all(&store, triggers, &letter.reason).await {
                    tracing::warn!(error = chain(&error), "can't look after a dead letter; trying again");
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        () = stop.cancelled() => return Ok(()),
                    }
                }
            }
            Err(why) => {
                metrics::counter!("reveille_dead_letters_total", "kind" => "unreadable").increment(1);
                if let Some(count) = unreadable.more(1, Instant::now()) {
                    tell(count, why, &letter);
                }
            }
        }
        crash::at(Act::LetterKept);
        letters.settle(letter).await;
        crash::at(Act::LetterSettled);
    }
}

async fn revive_all(store: &Store, triggers: &[Trigger], reason: &str) -> Result<(), StoreError> {
    for trigger in triggers {
        revive(store, trigger, reason).await?;
    }
    Ok(())
}

/// Makes a dead trigger due again, or ends its run. One that is not the last that went out changes nothing.
async fn revive(store: &Store, trigger: &Trigger, reason: &str) -> Result<(), StoreError> {
    if trigger.n > MOST_TRIGGERS {
        let message = format!("given up after {} triggers; the broker's word on the last one: {reason}", trigger.n);
        if store.give_up(trigger, RunError::new("Undeliverable", message)).await? {
            tracing::warn!(id = %trigger.id, n = trigger.n, reason, "undeliverable");
            return Ok(());
        }
        // It has moved on since, or what it has begun elsewhere goes on, for which that many triggers are nothing.
    }
    let reason = format!("the broker gave it up: {reason}");
    store.unsend(&[(trigger.clone(), DELAY, Some(reason))]).await
}

/// Mentions unreadable messages in the log.
fn tell(count: u64, why: &str, letter: &DeadLetter) {
    let (queue, reason) = (letter.queue.as_deref(), &letter.reason);
    tracing::warn!(count, queue, reason, why, "unreadable messages are kept in reveille.unreadable");
}

#[cfg(test)]
mod tests {
    use reveille_shared::clock::{Clock, TestClock};
    use reveille_shared::definition::{Handler, Job};
    use reveille_shared::state::{Phase, Status};
    use reveille_shared::store::NewWorkRequest;
    use reveille_shared::trigger::{ONWARD, VERSION};
    use reveille_shared::work_request::{Happening, WorkRequestId};

    use super::*;

    #[tokio::test]
    async fn a_dead_trigger_goes_out_again_until_enough_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let url = format!("sqlite://{}", folder.path().display());
        let store = Store::connect(&url, "test", Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
        let request = NewWorkRequest::new(
            WorkRequestId::new(clock.now()),
            &Job::new("default", "j", Handler::Function("f".into())),
            1,
            "test",
        );
        let id = request.id;
        store.accept(request, None).await.unwrap();
        let read = async || store.work_request("default", id).await.unwrap().unwrap();
        for n in 1..=MOST_TRIGGERS {
            let [sent] = &store.take_due(10).await.unwrap()[..] else { panic!("trigger {n} did not go out") };
            assert_eq!(sent.trigger.n, n);
            revive(&store, &sent.trigger, "delivery_limit").await.unwrap();
            // A second copy finds nothing to revive.
            revive(&store, &sent.trigger, "delivery_limit").await.unwrap();
            assert!(matches!(read().await.phase, Phase::Due { .. }));
            clock.advance(DELAY);
        }
        let last = store.take_due(10).await.unwrap().remove(0).trigger;
        revive(&store, &last, "delivery_limit").await.unwrap();
        let run = read().await;
        assert_eq!((run.status, run.error.unwrap().code.as_str()), (Status::Failed, "Undeliverable"));
        let events = store.events(id, 0, 100).await.unwrap();
        let returned = events.iter().filter(|event| matches!(event.what, Happening::Returned { .. })).count();
        assert_eq!(returned, usize::try_from(MOST_TRIGGERS).unwrap());
    }

    #[tokio::test]
    async fn many_triggers_are_nothing_for_what_goes_on_elsewhere() {
        use reveille_shared::store::{Claim, Outcome, Report};
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let url = format!("sqlite://{}", folder.path().display());
        let store = Store::connect(&url, "test", Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
        let job = Job::new("default", "j", Handler::Function("f".into()));
        let request = NewWorkRequest::new(WorkRequestId::new(clock.now()), &job, 1, "test");
        let id = request.id;
        store.accept(request, None).await.unwrap();
        for n in 1..=MOST_TRIGGERS + 5 {
            let sent = store.take_due(10).await.unwrap().remove(0).trigger;
            // Workers that would begin it anew refuse all but the first.
            assert_eq!((sent.n, sent.v), (n, if n == 1 { VERSION } else { ONWARD }));
            let token = uuid::Uuid::new_v4();
            store.claim(uuid::Uuid::nil(), &[Claim { id, n, token }]).await.unwrap().remove(0).unwrap();
            let outcome = Outcome::Parked { after: Duration::ZERO, notes: serde_json::json!({}) };
            store.report(vec![Report::new(id, token, outcome)]).await.unwrap();
        }
        let last = store.take_due(10).await.unwrap().remove(0).trigger;
        revive(&store, &last, "delivery_limit").await.unwrap();
        let run = store.work_request("default", id).await.unwrap().unwrap();
        assert!(matches!(run.phase, Phase::Parked { .. }) && run.status == Status::InProgress, "{run:?}");
    }
}
