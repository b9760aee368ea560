//! The wake-ups: triggers from the dispatcher to the workers, over RabbitMQ or in process.
//!
//! A broker may lose, repeat or delay messages; nothing but speed depends on it (I7). One
//! conformance suite (`tests/conformance/broker` in the workspace) runs against both.

mod embedded;
mod rabbitmq;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

pub use self::embedded::EmbeddedBroker;
pub use self::rabbitmq::RabbitBroker;
use crate::definition::Priority;
use crate::trigger::Trigger;

/// Where triggers go: a work queue has one queue of the broker for each priority.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// The work queue.
    pub queue: String,
    /// Which of its triggers go first.
    pub priority: Priority,
}

/// Something that has happened, for whoever has subscribed to such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Words with dots in between, by which subscribers choose.
    pub key: String,
    /// A CloudEvent in structured JSON.
    pub body: Vec<u8>,
}

/// What the dispatcher publishes to and workers consume from.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Makes sure that the work queues exist, each for all priorities. Repeating is harmless.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker can't be reached or refuses.
    async fn declare(&self, queues: &[String]) -> Result<(), BrokerError>;

    /// Publishes each trigger on its route and waits until the broker has taken charge of all of them,
    /// or has not within the confirm time-out. One verdict for each, in order; an error means
    /// that the message may or may not have arrived.
    async fn publish(&self, triggers: &[(Route, Trigger)]) -> Vec<Result<(), PublishError>> {
        let alone = |(route, trigger): &(Route, Trigger)| (route.clone(), vec![trigger.clone()]);
        self.publish_bundles(&triggers.iter().map(alone).collect::<Vec<_>>()).await
    }

    /// The same, with several triggers of one job in a message. One verdict for each message. None may be empty.
    async fn publish_bundles(&self, bundles: &[(Route, Vec<Trigger>)]) -> Vec<Result<(), PublishError>>;

    /// Consumes the triggers of one priority from work queues, with no demand yet (see [`Subscription::demand`]). Lives through
    /// reconnects, until it is dropped.
    ///
    /// # Errors
    /// [`BrokerError`] when the queue names are not acceptable. A broker that can't be reached is
    /// not an error: deliveries start when it is back.
    async fn subscribe(&self, queues: &[String], priority: Priority) -> Result<Box<dyn Subscription>, BrokerError>;

    /// Consumes what brokers and workers gave up on. Lives through reconnects.
    ///
    /// # Errors
    /// As [`Broker::subscribe`].
    async fn dead_letters(&self) -> Result<Box<dyn DeadLetters>, BrokerError>;

    /// Tells whoever has subscribed, in this order. A verdict for each, as in [`Broker::publish`]; that nobody has subscribed
    /// is none of its failures.
    async fn announce(&self, announcements: Vec<Announcement>) -> Vec<Result<(), PublishError>>;

    /// Consumes what workers in other languages tell. Lives through reconnects. `None`: this broker is within one process, and
    /// nobody else can put anything there.
    async fn events(&self) -> Option<Box<dyn Events>>;

    /// Tells all who listen that its sender reads the store well, and may end the leases of workers whose beat stands still.
    /// Good once the broker has put it where every listener that has heard [`Heard::Tuned`] will find it.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`]: it may or may not be heard.
    async fn pulse(&self) -> Result<(), BrokerError>;

    /// Listens for pulses. Lives through reconnects, until it is dropped.
    async fn pulses(&self) -> Box<dyn Pulses>;

    /// How many messages of a work queue wait for a worker. A hint: what workers have been handed and not yet
    /// settled is not counted. None wait in a queue that does not exist.
    ///
    /// # Errors
    /// [`BrokerError`] when the broker can't be asked, or the name is not acceptable.
    async fn depth(&self, queue: &str) -> Result<u64, BrokerError>;

    /// Whether the broker can be reached at this moment, and if not, why: for `/readyz`.
    fn health(&self) -> Health;
}

/// A worker's deliveries, in the order in which the broker hands them out.
#[async_trait]
pub trait Subscription: Send {
    /// The next delivery. Messages that are not triggers are dead-lettered and counted, one by
    /// one, and never seen here. Cancel safe. `None` once the broker has shut down for good.
    async fn next(&mut self) -> Option<Delivery>;

    /// How many unsettled deliveries this subscription may have from now on. Zero stops the flow and gives back to the broker
    /// what [`Subscription::next`] has not handed out; deliveries that it has handed out stay with their holder.
    async fn demand(&mut self, unsettled: u16);

    /// Tells the broker that these deliveries are done with. Those of a lost connection are left to redelivery.
    async fn ack(&mut self, deliveries: Vec<Delivery>);

    /// Gives these back to the broker, for any worker.
    async fn give_back(&mut self, deliveries: Vec<Delivery>);
}

/// A message handed to a worker, to be settled by [`Subscription::ack`] or [`Subscription::give_back`].
#[derive(Debug)]
pub struct Delivery {
    /// What it says: one trigger, or several of one job.
    pub triggers: Vec<Trigger>,
    /// The broker has handed it out before.
    pub redelivered: bool,
    /// Which connection it came over; a tag means nothing on another.
    pub(crate) session: u64,
    /// The broker's name for it on that connection.
    pub(crate) tag: u64,
}

/// What a listener hears of pulses.
#[async_trait]
pub trait Pulses: Send {
    /// What is heard next. Cancel safe. `None` once the broker has shut down for good.
    async fn next(&mut self) -> Option<Heard>;

    /// Sends this listener itself a message through the broker, to be heard as [`Heard::Echo`] behind every pulse that was
    /// good before this was called. What can't be sent is never heard.
    async fn call(&mut self, number: u64);
}

/// Something that a listener has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// From now on every pulse is heard; one before may have been missed.
    Tuned,
    /// A pulse.
    Pulse,
    /// The listener's own call with this number.
    Echo(u64),
}

/// What workers in other languages tell, in no order that could be relied on.
#[async_trait]
pub trait Events: Send {
    /// The next message. It is gone from the broker once [`Events::settle`] is called; before, it is handed out again after a
    /// reconnect. Cancel safe. `None` once the broker has shut down for good.
    async fn next(&mut self) -> Option<EventMessage>;

    /// Done with these.
    async fn settle(&mut self, messages: Vec<EventMessage>);
}

/// A message that may be a CloudEvent.
pub struct EventMessage {
    /// Its media type, if it names one.
    pub content_type: Option<String>,
    /// The attributes that it has as headers, without their prefix.
    pub attributes: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    pub(crate) session: u64,
    pub(crate) tag: u64,
}

impl std::fmt::Debug for EventMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Attributes and body hold the token of a lease.
        let Self { content_type, body, .. } = self;
        f.debug_struct("EventMessage")
            .field("content_type", content_type)
            .field("bytes", &body.len())
            .finish_non_exhaustive()
    }
}

/// What brokers and workers gave up on, for the scheduler to look after.
#[async_trait]
pub trait DeadLetters: Send {
    /// The next dead letter. It is gone from the broker once [`DeadLetters::settle`] is called; before,
    /// it is handed out again after a reconnect. Unreadable ones are moved to the queue for people
    /// (`reveille.unreadable`) by settling. Cancel safe. `None` once the broker has shut down for good.
    async fn next(&mut self) -> Option<DeadLetter>;

    /// Done with it.
    async fn settle(&mut self, letter: DeadLetter);
}

/// A message that no worker could take.
#[derive(Debug)]
pub struct DeadLetter {
    /// The triggers, or why the bytes are none.
    pub content: Result<Vec<Trigger>, String>,
    /// The queue that it was in, where the broker says so.
    pub queue: Option<String>,
    /// The broker's reason: `rejected`, `expired`, `delivery_limit`, `maxlen`.
    pub reason: String,
    /// The body as it came.
    pub body: Vec<u8>,
    pub(crate) session: u64,
    pub(crate) tag: u64,
}

/// Whether a broker can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Connected.
    Up,
    /// Not connected; the text says since when and why, without secrets.
    Down(String),
}

/// The broker can't do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// The URL is not one of a broker. The text never holds the password.
    #[error("invalid broker URL: {0}")]
    InvalidUrl(String),
    /// A queue name that no broker would take.
    #[error("invalid queue name {0:?}: use 1 to 64 of a-z, 0-9, '-', '_' and '.'")]
    InvalidQueue(String),
    /// Not reachable, or the connection broke.
    #[error("the broker is not available: {0}")]
    Unavailable(Arc<str>),
}

/// Why a trigger is not known to be with the broker.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// The broker said no.
    #[error("refused by the broker")]
    Nacked,
    /// There is no such queue.
    #[error("returned by the broker: no queue takes it")]
    Returned,
    /// No answer within the confirm time-out, or the connection broke.
    #[error("not confirmed: {0}")]
    Unconfirmed(Arc<str>),
}

/// Connects to the broker that `url` names: `amqp://…`, `amqps://…` or `embedded`.
/// A broker that is down is not an error: its health says so, and it is connected to once it is up.
/// `stop` ends the connection for good. Must be called within a Tokio runtime.
///
/// # Errors
/// [`BrokerError::InvalidUrl`].
pub fn connect(url: &str, process: &str, stop: CancellationToken) -> Result<Arc<dyn Broker>, BrokerError> {
    if url == "embedded" {
        return Ok(Arc::new(EmbeddedBroker::new(stop)));
    }
    Ok(Arc::new(RabbitBroker::connect(url, process, stop)?))
}

/// Whether all are names that both brokers take for work queues.
fn check_names(queues: &[String]) -> Result<(), BrokerError> {
    queues.iter().try_for_each(|name| check_name(name))
}

fn check_name(name: &str) -> Result<(), BrokerError> {
    if is_queue_name(name) { Ok(()) } else { Err(BrokerError::InvalidQueue(name.to_owned())) }
}

fn is_queue_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
}
