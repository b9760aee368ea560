//! The broker of a single process: queues in memory, rebuilt from the store when it starts.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::{
    Announcement, Broker, BrokerError, DeadLetter, DeadLetters, Delivery, Events, Health, Heard, PublishError, Pulses,
    Route, Subscription, check_name, check_names,
};
use crate::crash::{self, Act};
use crate::definition::Priority;
use crate::trigger::Trigger;

/// Hands triggers from publishers to subscribers of the same process.
#[derive(Debug)]
pub struct EmbeddedBroker {
    queues: Arc<Queues>,
    pulses: broadcast::Sender<Sound>,
    stop: CancellationToken,
}

/// How many pulses and calls a listener may be behind.
const SOUNDS: usize = 64;

/// What all listeners hear: a pulse, or one listener's call.
#[derive(Debug, Clone, Copy)]
enum Sound {
    Pulse,
    Call { listener: u64, number: u64 },
}

impl EmbeddedBroker {
    /// A broker without queues; `stop` ends all subscriptions.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { queues: Arc::default(), pulses: broadcast::Sender::new(SOUNDS), stop }
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn declare(&self, queues: &[String]) -> Result<(), BrokerError> {
        check_names(queues)?;
        self.queues.declare(queues);
        Ok(())
    }

    async fn publish_bundles(&self, bundles: &[(Route, Vec<Trigger>)]) -> Vec<Result<(), PublishError>> {
        if self.stop.is_cancelled() {
            let why: Arc<str> = "the broker has shut down".into();
            return bundles.iter().map(|_| Err(PublishError::Unconfirmed(Arc::clone(&why)))).collect();
        }
        self.queues.publish(bundles)
    }

    async fn announce(&self, announcements: Vec<Announcement>) -> Vec<Result<(), PublishError>> {
        // Within one process nobody can have subscribed.
        announcements.iter().map(|_| Ok(())).collect()
    }

    async fn subscribe(&self, queues: &[String], priority: Priority) -> Result<Box<dyn Subscription>, BrokerError> {
        check_names(queues)?;
        self.queues.declare(queues);
        Ok(Box::new(EmbeddedSubscription {
            routes: queues.iter().map(|queue| Route { queue: queue.clone(), priority }).collect(),
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

    async fn events(&self) -> Option<Box<dyn Events>> {
        None
    }

    async fn pulse(&self) -> Result<(), BrokerError> {
        if self.stop.is_cancelled() {
            return Err(BrokerError::Unavailable("it has shut down".into()));
        }
        // An error says that nobody listens.
        let _alone = self.pulses.send(Sound::Pulse).is_err();
        Ok(())
    }

    async fn pulses(&self) -> Box<dyn Pulses> {
        Box::new(EmbeddedPulses {
            listener: self.queues.sessions.fetch_add(1, Ordering::Relaxed),
            is_tuned: false,
            sounds: self.pulses.subscribe(),
            sender: self.pulses.clone(),
            stop: self.stop.clone(),
        })
    }

    async fn depth(&self, queue: &str) -> Result<u64, BrokerError> {
        check_name(queue)?;
        let ready = self.queues.ready();
        let waiting = |priority| ready.get(&Route { queue: queue.to_owned(), priority }).map_or(0, VecDeque::len);
        Ok(Priority::ALL.map(waiting).iter().sum::<usize>() as u64)
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
    ready: Mutex<HashMap<Route, VecDeque<Ready>>>,
    /// Marked whenever a trigger becomes ready, for the subscriptions that wait for one.
    changed: watch::Sender<()>,
    sessions: AtomicU64,
}

impl Queues {
    fn ready(&self) -> MutexGuard<'_, HashMap<Route, VecDeque<Ready>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn declare(&self, names: &[String]) {
        let mut ready = self.ready();
        for (name, priority) in names.iter().flat_map(|name| Priority::ALL.map(|priority| (name, priority))) {
            ready.entry(Route { queue: name.clone(), priority }).or_default();
        }
    }

    /// A message costs nothing here: each trigger waits alone.
    fn publish(&self, bundles: &[(Route, Vec<Trigger>)]) -> Vec<Result<(), PublishError>> {
        let verdicts = {
            let mut ready = self.ready();
            let put = |(route, triggers): &(Route, Vec<Trigger>)| {
                let queue = ready.get_mut(route).ok_or(PublishError::Returned)?;
                queue.extend(triggers.iter().map(|trigger| Ready { trigger: trigger.clone(), redelivered: false }));
                crash::at(Act::PublishHalfway);
                Ok(())
            };
            bundles.iter().map(put).collect()
        };
        self.changed.send_replace(());
        verdicts
    }

    /// Puts these, in the order in which they were handed out, before all that wait.
    fn give_back(&self, triggers: impl DoubleEndedIterator<Item = (Route, Trigger)>) {
        {
            let mut ready = self.ready();
            for (route, trigger) in triggers.rev() {
                ready.entry(route).or_default().push_front(Ready { trigger, redelivered: true });
            }
        }
        self.changed.send_replace(());
    }
}

struct EmbeddedSubscription {
    routes: Vec<Route>,
    /// The queue to look into first, so that a busy one does not starve the others.
    first: usize,
    demand: u16,
    session: u64,
    last_tag: u64,
    /// What was handed out, by tag: the drop gives it back.
    unsettled: BTreeMap<u64, (Route, Trigger)>,
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
        let count = self.routes.len();
        let (found, Ready { trigger, redelivered }) = (0..count)
            .map(|step| (self.first + step) % count)
            .find_map(|index| Some((index, queues.get_mut(&self.routes[index])?.pop_front()?)))?;
        drop(queues);
        self.first = (found + 1) % count;
        self.last_tag += 1;
        self.unsettled.insert(self.last_tag, (self.routes[found].clone(), trigger.clone()));
        Some(Delivery { triggers: vec![trigger], redelivered, session: self.session, tag: self.last_tag })
    }

    /// Forgets those of the deliveries that are this subscription's and not settled, in order.
    fn settle(&mut self, deliveries: &[Delivery]) -> BTreeMap<u64, (Route, Trigger)> {
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

struct EmbeddedPulses {
    listener: u64,
    is_tuned: bool,
    sounds: broadcast::Receiver<Sound>,
    sender: broadcast::Sender<Sound>,
    stop: CancellationToken,
}

#[async_trait]
impl Pulses for EmbeddedPulses {
    async fn next(&mut self) -> Option<Heard> {
        if self.stop.is_cancelled() {
            return None;
        }
        if !std::mem::replace(&mut self.is_tuned, true) {
            return Some(Heard::Tuned);
        }
        loop {
            let sound = tokio::select! {
                () = self.stop.cancelled() => return None,
                sound = self.sounds.recv() => sound,
            };
            match sound {
                Ok(Sound::Pulse) => return Some(Heard::Pulse),
                Ok(Sound::Call { listener, number }) if listener == self.listener => return Some(Heard::Echo(number)),
                Ok(Sound::Call { .. }) => {}
                // Among what was missed there may have been a pulse.
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(Heard::Pulse),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    async fn call(&mut self, number: u64) {
        let _alone = self.sender.send(Sound::Call { listener: self.listener, number }).is_err();
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
