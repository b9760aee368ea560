//! What workers in other languages tell, over the broker and the API → the store.
//!
//! A message is settled only after the store has kept what becomes of it. While the store is away messages wait; what no
//! store would take is refused alone, so that nothing stands in the way of what follows it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reveille_shared::broker::{Broker, EventMessage, Events};
use reveille_shared::cloud_event::Message;
use reveille_shared::crash::{self, Act};
use reveille_shared::run_event::RunEvent;
use reveille_shared::store::{EventVerdict, Incoming, Store, StoreError, Via};
use reveille_shared::telemetry::chain;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::reminder::Reminder;

/// The most messages of one transaction.
const BATCH: usize = 200;
/// How long a message waits for company.
const LINGER: Duration = Duration::from_millis(5);
/// How long to wait before the store is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often the store may fail, while it answers otherwise, before what it fails at is taken apart.
const PATIENCE: u32 = 3;

/// Takes events, counts them, and tells the log of refused ones.
#[derive(Debug)]
pub struct EventsIn {
    store: Store,
    refused: Mutex<Reminder>,
}

impl EventsIn {
    /// Takes them into this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, refused: Mutex::default() }
    }

    /// As [`Store::take_events`].
    ///
    /// # Errors
    /// [`StoreError::Query`]: take the same again.
    pub async fn take(&self, via: Via, came: Vec<Incoming>) -> Result<Vec<EventVerdict>, StoreError> {
        let verdicts = self.store.take_events(via, came, fastrand::f64).await?;
        for verdict in &verdicts {
            let labels = [("via", via.as_str()), ("verdict", verdict.as_str())];
            metrics::counter!("reveille_events_total", &labels).increment(1);
            if let EventVerdict::Refused(event) = verdict {
                metrics::counter!("reveille_refused_events_total", "code" => event.code).increment(1);
                let due = self.refused.lock().unwrap_or_else(PoisonError::into_inner).more(1, Instant::now());
                if let Some(count) = due {
                    let (source, subject) = (event.of.source.as_deref(), event.of.subject.as_deref());
                    let (via, code, why) = (via.as_str(), event.code, &event.message);
                    tracing::warn!(count, via, code, source, subject, why, "events are refused: see /v1/refusedEvents");
                }
            }
        }
        Ok(verdicts)
    }

    /// Takes them however long the store is away, and refuses alone what it never takes. False: told to stop before.
    async fn take_surely(&self, came: Vec<Incoming>, stop: &CancellationToken) -> bool {
        let mut left = vec![came];
        while let Some(mut came) = left.pop() {
            let mut failures = 0;
            while let Err(error) = self.take(Via::Broker, came.clone()).await {
                tracing::warn!(error = chain(&error), events = came.len(), "can't take events; trying again");
                if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                    return false;
                }
                // A store that is away says nothing about these events.
                failures += u32::from(self.store.now().await.is_ok());
                if failures < PATIENCE {
                    continue;
                }
                failures = 0;
                if came.len() > 1 {
                    left.push(came.split_off(came.len() / 2));
                } else if let Some(Ok(event)) = came.first() {
                    came = vec![Err(event.refused("Unprocessable", "the store can't take it; its log has the reason"))];
                }
            }
        }
        true
    }
}

/// What a message says.
pub(crate) fn read(message: Message) -> Vec<Incoming> {
    message.into_events().into_iter().map(|event| event.and_then(RunEvent::try_from)).collect()
}

/// Takes what comes over the broker until `stop`, or until it has shut down. Where nobody can put events there is nothing to
/// do.
pub async fn run(events: Arc<EventsIn>, broker: Arc<dyn Broker>, stop: CancellationToken) {
    let Some(mut messages) = broker.events().await else {
        stop.cancelled().await;
        return;
    };
    while let Some(batch) = gather(&mut *messages, &stop).await {
        crash::at(Act::EventsReceived);
        let came = batch.iter().flat_map(|EventMessage { content_type, attributes, body, .. }| {
            read(Message::read(content_type.as_deref(), attributes.iter().cloned(), body))
        });
        if !events.take_surely(came.collect(), &stop).await {
            return;
        }
        crash::at(Act::EventsKept);
        messages.settle(batch).await;
    }
}

/// The next messages: those that are there soon after the first.
async fn gather(messages: &mut dyn Events, stop: &CancellationToken) -> Option<Vec<EventMessage>> {
    let Some(Some(first)) = stop.run_until_cancelled(messages.next()).await else {
        stop.cancelled().await;
        return None;
    };
    let mut batch = vec![first];
    let linger = tokio::time::sleep(LINGER);
    tokio::pin!(linger);
    while batch.len() < BATCH {
        tokio::select! {
            biased;
            Some(next) = messages.next() => batch.push(next),
            () = &mut linger => break,
            else => break,
        }
    }
    Some(batch)
}
