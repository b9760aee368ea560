//! What RabbitMQ holds for Reveille: names, kinds and arguments, declared on every connection.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Connection, Error, ErrorKind, ExchangeKind};
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use tracing::warn;

use super::ANSWER_LIMIT;
use crate::definition::Priority;
use crate::telemetry::chain;

/// The exchange and the queue for what brokers and workers gave up on.
pub(super) const DEAD: &str = "reveille.dead";
/// The queue for messages that are no triggers, to be looked at by people.
pub(super) const UNREADABLE: &str = "reveille.unreadable";
/// The exchange for the sign of life of who ends the leases of dead workers.
pub(super) const PULSE: &str = "reveille.pulse";
/// The exchange for what happens to runs, where anybody may bind queues of their own.
pub(super) const TRANSITIONS: &str = "reveille.transitions";
/// The exchange to which workers in other languages publish what they tell.
pub(super) const EVENTS: &str = "reveille.events";
/// The queue in which that waits for a scheduler.
pub(super) const EVENTS_IN: &str = "reveille.events.in";
/// A routing key that leads nowhere.
pub(super) const NO_QUEUE: &str = "reveille.none";

/// What comes before a work queue's name.
const fn prefix(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "reveille.high.",
        Priority::Normal => "reveille.q.",
        Priority::Low => "reveille.low.",
    }
}
/// A message given back more often than this is dead. Without a limit, RabbitMQ puts what is given back at the
/// end of a quorum queue, not the front; a low one would bury triggers that busy workers hand back.
const DELIVERY_LIMIT: i64 = 1000;
/// A message of a worker that was handed out more often than this without being settled is dead.
const EVENTS_DELIVERY_LIMIT: i64 = 1_000_000;
/// The oldest unreadable messages go when there are more: nobody may be looking.
const UNREADABLE_LIMIT: i64 = 10_000;
/// AMQP's number for "there is no such queue".
const NOT_FOUND: u16 = 404;

/// RabbitMQ's name for a work queue's triggers of a priority: RabbitMQ 3.10 has none within a quorum queue.
pub(super) fn work_queue(queue: &str, priority: Priority) -> String {
    format!("{}{queue}", prefix(priority))
}

/// The work queue that RabbitMQ calls `name`, or that name if it is none of ours.
pub(super) fn plain_name(name: &str) -> &str {
    Priority::ALL.into_iter().find_map(|priority| name.strip_prefix(prefix(priority))).unwrap_or(name)
}

/// The work queues that this process has asked for, to be declared on every new connection.
#[derive(Debug, Default)]
pub(super) struct KnownQueues(Mutex<BTreeSet<String>>);

impl KnownQueues {
    pub(super) fn add(&self, queues: &[String]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(queues.iter().cloned());
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Declares everything. What the broker refuses (a queue that exists with other arguments, a user that may not
/// declare) or does not answer to (a queue without a leader) is logged: a queue that was made by other
/// hands serves as well, and one that is out of order must not stop the others. Only a broken connection is an error.
pub(super) async fn declare_all(connection: &Connection, queues: &KnownQueues) -> Result<(), Error> {
    tolerate_refusal(timeout(ANSWER_LIMIT, declare_fixed(connection)).await)?;
    for queue in queues.all() {
        tolerate_refusal(timeout(ANSWER_LIMIT, declare_work_queues(connection, &[queue])).await)?;
    }
    Ok(())
}

/// Declares work queues, on a channel of their own as a refusal ends the channel.
pub(super) async fn declare_work_queues(connection: &Connection, queues: &[String]) -> Result<(), Error> {
    let channel = connection.create_channel().await?;
    for (queue, priority) in queues.iter().flat_map(|queue| Priority::ALL.map(|priority| (queue, priority))) {
        let mut arguments = quorum();
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
        arguments.insert("x-dead-letter-exchange".into(), text(DEAD));
        declare_queue(&channel, &work_queue(queue, priority), arguments).await?;
    }
    Ok(())
}

/// How many messages wait in a work queue, on channels of their own as a queue that is not there ends the channel.
pub(super) async fn waiting(connection: &Connection, queue: &str) -> Result<u64, Error> {
    let look = QueueDeclareOptions { passive: true, ..Default::default() };
    let mut waiting = 0;
    for priority in Priority::ALL {
        let channel = connection.create_channel().await?;
        match channel.queue_declare(work_queue(queue, priority).into(), look, FieldTable::default()).await {
            Ok(found) => waiting += u64::from(found.message_count()),
            Err(error) if matches!(error.kind(), ErrorKind::ProtocolError(refusal) if refusal.get_id() == NOT_FOUND) => {
            }
            Err(error) => return Err(error),
        }
    }
    Ok(waiting)
}

async fn declare_fixed(connection: &Connection) -> Result<(), Error> {
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    for exchange in [DEAD, PULSE] {
        channel.exchange_declare(exchange.into(), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    }
    channel.exchange_declare(TRANSITIONS.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    declare_queue(&channel, DEAD, quorum()).await?;
    let (dead, any) = (ShortString::from(DEAD), ShortString::default());
    channel.queue_bind(dead.clone(), dead, any, QueueBindOptions::default(), FieldTable::default()).await?;
    channel.exchange_declare(EVENTS.into(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
    let mut arguments = quorum();
    // As good as none: newer brokers have a low one by default, and a database may be away for long.
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(EVENTS_DELIVERY_LIMIT));
    arguments.insert("x-dead-letter-exchange".into(), text(DEAD));
    declare_queue(&channel, EVENTS_IN, arguments).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(EVENTS_IN.into(), EVENTS.into(), "#".into(), bind, FieldTable::default()).await?;
    let mut arguments = quorum();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(UNREADABLE_LIMIT));
    arguments.insert("x-overflow".into(), text("drop-head"));
    declare_queue(&channel, UNREADABLE, arguments).await
}

async fn declare_queue(channel: &Channel, name: &str, arguments: FieldTable) -> Result<(), Error> {
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(name.into(), durable, arguments).await?;
    Ok(())
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn tolerate_refusal(declared: Result<Result<(), Error>, Elapsed>) -> Result<(), Error> {
    let why = match declared {
        Ok(Err(error)) if error.is_amqp_soft_error() => chain(&error),
        Ok(other) => return other,
        Err(_) => format!("no answer within {} s", ANSWER_LIMIT.as_secs()),
    };
    warn!(error = why, "the broker does not declare a queue as this process wants it");
    Ok(())
}
