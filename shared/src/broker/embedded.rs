//! The broker of a single process: queues in memory, rebuilt from the store when it starts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Broker, BrokerError, DeadLetter, DeadLetters, Delivery, Health, PublishError, Subscription, check_name, check_names,
};
use crate::crash::{self, Act};
use crate::trigger::Trigger;

/// Hands triggers from publishers to subscribers of the same process.
#[derive(Debug)]
pub struct EmbeddedBroker {
    queues: Arc<Queues>,
    stop: CancellationToken,
}

impl EmbeddedBroker {
    /// A broker without queues; `stop` ends all subscriptions.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { queues: Arc::default(), stop }
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn declare(&self, queues: &[String]) -> Result<(), BrokerError> {
        check_names(queues)?;
        self.queues.declare(queues);
        Ok(())
    }

    async fn publish(&self, triggers: &[(String, Trigger)]) -> Vec<Result<(), PublishError>> {
        if self.stop.is_cancelled() {
            let why: Arc<str> = "the broker has shut down".into();
            return triggers.iter().map(|_| Err(PublishError::Unconfirmed(Arc::clone(&why)))).collect();
        }
        self.queues.publish(triggers)
    }

    async fn subscribe(&self, queues: &[String]) -> Result<Box<dyn Subscription>, BrokerError> {
        check_names(queues)?;
        self.queues.declare(queues);
        Ok(Box::new(EmbeddedSubscription {
            names: queues.to_vec(),
            first: 0,
            demand: 0,
            session: self.queues.sessions.fetch_add(1, Ordering::Relaxed),
            last_tag: 0,
            unsettled: BTreeMap::new(),
            changes: self.queues.changed.subscribe(),
            queues: Arc::clone(&self.queues),
            stop: self.stop.clone(),
        }))
    }

    async fn dead_letters(&self) -> Result<Box<dyn DeadLetters>, BrokerError> {
        Ok(Box::new(NoDeadLetters { stop: self.stop.clone() }))
    }

    async fn depth(&self, queue: &str) -> Result<u64, BrokerError> {
        check_name(queue)?;
        Ok(self.queues.ready().get(queue).map_or(0, |ready| ready.len() as u64))
    }

    fn health(&self) -> Health {
        if self.stop.is_cancelled() { Health::Down("the broker has shut down".into()) } else { Health::Up }
    }
}

/// A trigger that waits for a subscriber.
#[derive(Debug)]
struct Ready {
    trigger: Trigger,
    redelivered: bool,
}

#[derive(Debug, Default)]
struct Queues {
    ready: Mutex<HashMap<String, VecDeque<Ready>>>,
    /// Marked whenever a trigger becomes ready, for the subscriptions that wait for one.
    changed: watch::Sender<()>,
    sessions: AtomicU64,
}

impl Queues {
    fn ready(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Ready>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn declare(&self, names: &[String]) {
        let mut ready = self.ready();
        for name in names {
            ready.entry(name.clone()).or_default();
        }
    }

    fn publish(&self, triggers: &[(String, Trigger)]) -> Vec<Result<(), PublishError>> {
        let verdicts = {
            let mut ready = self.ready();
            let put = |(name, trigger): &(String, Trigger)| {
                let queue = ready.get_mut(name).ok_or(PublishError::Returned)?;
                queue.push_back(Ready { trigger: trigger.clone(), redelivered: false });
                crash::at(Act::PublishHalfway);
                Ok(())
            };
            triggers.iter().map(put).collect()
        };
        self.changed.send_replace(());
        verdicts
    }

    /// Puts these, in the order in which they were handed out, before all that wait.
    fn give_back(&self, triggers: impl DoubleEndedIterator<Item = (String, Trigger)>) {
        {
            let mut ready = self.ready();
            for (name, trigger) in triggers.rev() {
                ready.entry(name).or_default().push_front(Ready { trigger, redelivered: true });
            }
        }
        self.changed.send_replace(());
    }
}

struct EmbeddedSubscription {
    names: Vec<String>,
    /// The queue to look into first, so that a busy one does not starve the others.
    first: usize,
    demand: u16,
    session: u64,
    last_tag: u64,
    /// What was handed out, by tag: the drop gives it back.
    unsettled: BTreeMap<u64, (String, Trigger)>,
    changes: watch::Receiver<()>,
    queues: Arc<Queues>,
    stop: CancellationToken,
}

impl EmbeddedSubscription {
    fn take(&mut self) -> Option<Delivery> {
        if self.unsettled.len() >= usize::from(self.demand) {
            return None;
        }
        let mut queues = self.queues.ready();
        let count = self.names.len();
        let (found, Ready { trigger, redelivered }) = (0..count)
            .map(|step| (self.first + step) % count)
            .find_map(|index| Some((index, queues.get_mut(&self.names[index])?.pop_front()?)))?;
        drop(queues);
        self.first = (found + 1) % count;
        self.last_tag += 1;
        self.unsettled.insert(self.last_tag, (self.names[found].clone(), trigger.clone()));
        Some(Delivery { trigger, redelivered, session: self.session, tag: self.last_tag })
    }

    /// Forgets those of the deliveries that are this subscription's and not settled, in order.
    fn settle(&mut self, deliveries: &[Delivery]) -> BTreeMap<u64, (String, Trigger)> {
        let ours = deliveries.iter().filter(|delivery| delivery.session == self.session);
        ours.filter_map(|delivery| self.unsettled.remove_entry(&delivery.tag)).collect()
    }
}

#[async_trait]
impl Subscription for EmbeddedSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            if self.stop.is_cancelled() {
                return None;
            }
            // Seen before looking, so that what comes after the look wakes the wait below.
            self.changes.mark_unchanged();
            if let Some(delivery) = self.take() {
                return Some(delivery);
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                // The queues hold the sender and this subscription the queues: it can't be gone.
                _ = self.changes.changed() => {}
            }
        }
    }

    async fn demand(&mut self, unsettled: u16) {
        self.demand = unsettled;
    }

    async fn ack(&mut self, deliveries: Vec<Delivery>) {
        self.settle(&deliveries);
    }

    async fn give_back(&mut self, deliveries: Vec<Delivery>) {
        let given = self.settle(&deliveries);
        self.queues.give_back(given.into_values());
    }
}

impl Drop for EmbeddedSubscription {
    fn drop(&mut self) {
        self.queues.give_back(std::mem::take(&mut self.unsettled).into_values());
    }
}

/// Nothing dies here: queues have no limits, and only triggers get in.
struct NoDeadLetters {
    stop: CancellationToken,
}

#[async_trait]
impl DeadLetters for NoDeadLetters {
    async fn next(&mut self) -> Option<DeadLetter> {
        self.stop.cancelled().await;
        None
    }

    async fn settle(&mut self, _letter: DeadLetter) {}
}
