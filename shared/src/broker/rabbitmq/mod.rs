//! The broker between processes: RabbitMQ, through lapin with its own recovery switched off.
//!
//! - [`endpoint`]: where RabbitMQ is and how it proves that; [`link`]: one connection, made again whenever it breaks; topology is declared on each.
//! - [`topology`]: the names and arguments of queues.
//! - [`publisher`]: pipelined publishing with confirms.
//! - [`consumer`]: queues → messages, over as many connections as it takes; [`tags`] decides how to settle them.
//! - [`subscription`], [`dead_letters`]: messages → deliveries and dead letters.
//! - [`events`]: what workers in other languages tell.
//! - [`pulses`]: the sign of life of who ends leases.

mod consumer;
mod dead_letters;
mod endpoint;
mod events;
mod link;
mod publisher;
mod pulses;
mod subscription;
mod tags;
mod topology;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::consumer::Consumer;
use self::dead_letters::RabbitDeadLetters;
use self::endpoint::Endpoint;
use self::events::RabbitEvents;
use self::link::Link;
use self::publisher::{Message, Publisher};
use self::pulses::RabbitPulses;
use self::subscription::RabbitSubscription;
use self::topology::{KnownQueues, work_queue};
use super::{
    Announcement, Broker, BrokerError, DeadLetters, Events, Health, PublishError, Pulses, Route, Subscription,
    check_name, check_names, is_queue_name,
};
use crate::definition::Priority;
use crate::telemetry::chain;
use crate::trigger::{self, Trigger};

/// How long the broker may take to answer to anything but a publish.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// RabbitMQ, over one connection for publishing and one for consuming: a broker that is short of memory
/// stops reading from connections that publish, and acks must still get through.
#[derive(Debug)]
pub struct RabbitBroker {
    publishing: Link,
    consuming: Link,
    publisher: Arc<Publisher>,
    queues: Arc<KnownQueues>,
}

impl RabbitBroker {
    /// Starts to connect to `url`; the connections are named after `process`. `stop` closes them.
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`BrokerError::InvalidUrl`].
    pub fn connect(url: &str, process: &str, stop: CancellationToken) -> Result<Self, BrokerError> {
        let endpoint: Endpoint = url.parse()?;
        let queues = Arc::new(KnownQueues::default());
        let publishing =
            Link::open(endpoint.clone(), format!("{process} publishing"), Arc::clone(&queues), stop.clone());
        let consuming = Link::open(endpoint, format!("{process} consuming"), Arc::clone(&queues), stop);
        let publisher = Arc::new(Publisher::new(publishing.watch(), Arc::clone(&queues)));
        Ok(Self { publishing, consuming, publisher, queues })
    }

    fn consumer(&self, queues: Vec<String>) -> Consumer {
        Consumer::new(self.consuming.watch(), Arc::clone(&self.queues), queues)
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn declare(&self, queues: &[String]) -> Result<(), BrokerError> {
        check_names(queues)?;
        // Known first: if the connection breaks now, the next one declares them.
        self.queues.add(queues);
        let connection = self.publishing.watch().connection().map_err(BrokerError::Unavailable)?;
        let declared = timeout(ANSWER_LIMIT, topology::declare_work_queues(&connection, queues)).await;
        match declared {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(BrokerError::Unavailable(chain(&error).into())),
            Err(_) => Err(BrokerError::Unavailable("no answer to a queue's declaration".into())),
        }
    }

    async fn publish_bundles(&self, bundles: &[(Route, Vec<Trigger>)]) -> Vec<Result<(), PublishError>> {
        let queue = |Route { queue, priority }: &Route| match is_queue_name(queue) {
            true => work_queue(queue, *priority),
            // A name that can't exist takes the way of all names that don't.
            false => topology::NO_QUEUE.to_owned(),
        };
        let message =
            |(route, triggers): &(Route, Vec<Trigger>)| Message::to_queue(queue(route), trigger::encode(triggers));
        let messages: Vec<_> = bundles.iter().map(message).collect();
        self.publisher.publish(&messages).await
    }

    async fn announce(&self, announcements: Vec<Announcement>) -> Vec<Result<(), PublishError>> {
        let message = |Announcement { key, body }| Message::to_subscribers(topology::TRANSITIONS, key, body);
        self.publisher.publish(&announcements.into_iter().map(message).collect::<Vec<_>>()).await
    }

    async fn subscribe(&self, queues: &[String], priority: Priority) -> Result<Box<dyn Subscription>, BrokerError> {
        check_names(queues)?;
        self.queues.add(queues);
        let consumer = self.consumer(queues.iter().map(|queue| work_queue(queue, priority)).collect());
        Ok(Box::new(RabbitSubscription::new(consumer)))
    }

    async fn dead_letters(&self) -> Result<Box<dyn DeadLetters>, BrokerError> {
        let mut consumer = self.consumer(vec![topology::DEAD.to_owned()]);
        consumer.demand(dead_letters::UNSETTLED).await;
        Ok(Box::new(RabbitDeadLetters::new(consumer, Arc::clone(&self.publisher))))
    }

    async fn events(&self) -> Option<Box<dyn Events>> {
        let mut consumer = self.consumer(vec![topology::EVENTS_IN.to_owned()]);
        consumer.demand(events::UNSETTLED).await;
        Some(Box::new(RabbitEvents(consumer)))
    }

    async fn pulse(&self) -> Result<(), BrokerError> {
        let connection = self.publishing.watch().connection().map_err(BrokerError::Unavailable)?;
        match timeout(ANSWER_LIMIT, pulses::publish(&connection)).await {
            Ok(published) => published,
            Err(_) => Err(BrokerError::Unavailable("no confirm of a pulse".into())),
        }
    }

    async fn pulses(&self) -> Box<dyn Pulses> {
        let (consuming, publishing) = (self.consuming.watch(), self.publishing.watch());
        Box::new(RabbitPulses::new(consuming, publishing, Arc::clone(&self.queues)))
    }

    async fn depth(&self, queue: &str) -> Result<u64, BrokerError> {
        check_name(queue)?;
        let connection = self.publishing.watch().connection().map_err(BrokerError::Unavailable)?;
        match timeout(ANSWER_LIMIT, topology::waiting(&connection, queue)).await {
            Ok(Ok(waiting)) => Ok(waiting),
            Ok(Err(error)) => Err(BrokerError::Unavailable(chain(&error).into())),
            Err(_) => Err(BrokerError::Unavailable("no answer to a look at a queue".into())),
        }
    }

    fn health(&self) -> Health {
        match self.publishing.watch().connection().and_then(|_| self.consuming.watch().connection()) {
            Ok(_) => Health::Up,
            Err(why) => Health::Down(why.to_string()),
        }
    }
}
