//! Pulses: published to whoever listens, heard over a queue that lives as long as its listener's connection.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Error, ErrorKind};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::ANSWER_LIMIT;
use super::link::{Backoff, LinkWatch};
use super::topology::{KnownQueues, PULSE, declare_all};
use crate::broker::{BrokerError, Heard, Pulses};
use crate::telemetry::chain;

/// What is heard and not yet asked for. A listener that is slower is waited for, as the broker keeps the rest.
const WAITING: usize = 16;
/// The broker keeps no more for one listener: all that counts is that there was one.
const KEPT: i64 = 64;

/// Publishes one pulse and waits until the broker has put it into every listener's queue.
pub(super) async fn publish(connection: &Connection) -> Result<(), BrokerError> {
    let unavailable = |error: Error| BrokerError::Unavailable(chain(&error).into());
    let channel = connection.create_channel().await.map_err(unavailable)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(unavailable)?;
    let (exchange, nowhere) = (ShortString::from(PULSE), ShortString::default());
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let written = channel.basic_publish(exchange, nowhere, options, b"", properties).await.map_err(unavailable)?;
    match written.await.map_err(unavailable)? {
        Confirmation::Ack(_) => Ok(()),
        Confirmation::Nack(_) | Confirmation::NotRequested => {
            Err(BrokerError::Unavailable("it does not confirm a pulse".into()))
        }
    }
}

/// Hears pulses, with reconnects: a task does the hearing.
pub(super) struct RabbitPulses {
    heard: mpsc::Receiver<Heard>,
    queue: Queue,
    /// A connection that publishes: a broker that is short of memory stops reading from those, and the acks of
    /// the other one must get through.
    publishing: LinkWatch,
    /// Dropped, it ends the task.
    _listener: JoinSet<()>,
}

/// The name of the present queue, if there is one.
type Queue = Arc<Mutex<Option<ShortString>>>;

impl RabbitPulses {
    pub(super) fn new(consuming: LinkWatch, publishing: LinkWatch, known: Arc<KnownQueues>) -> Self {
        let (sender, heard) = mpsc::channel(WAITING);
        let queue = Queue::default();
        let mut listener = JoinSet::new();
        listener.spawn(listen(consuming, known, Arc::clone(&queue), sender));
        Self { heard, queue, publishing, _listener: listener }
    }
}

#[async_trait]
impl Pulses for RabbitPulses {
    async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    async fn call(&mut self, number: u64) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(queue), Ok(connection)) = (queue, self.publishing.connection()) else { return };
        let call = async {
            let channel = connection.create_channel().await?;
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            channel.basic_publish(ShortString::default(), queue, options, &number.to_be_bytes(), properties).await?;
            channel.close(200, "called".into()).await
        };
        // One that fails is not heard: that is what it is for.
        let _unheard = timeout(ANSWER_LIMIT, call).await.is_err();
    }
}

async fn listen(mut link: LinkWatch, known: Arc<KnownQueues>, queue: Queue, heard: mpsc::Sender<Heard>) {
    let mut backoff = Backoff::default();
    let set = |name| *queue.lock().unwrap_or_else(PoisonError::into_inner) = name;
    while let Some(connection) = link.wait_up().await {
        let mut stopped = link.clone();
        let ended = tokio::select! {
            ended = session(&connection, &known, &set, &heard, &mut backoff) => ended,
            () = stopped.wait_stopped() => return,
        };
        set(None);
        let Err(error) = ended else { return };
        let wait = backoff.next_wait();
        warn!(error = chain(&error), ?wait, "listening for pulses has broken off");
        sleep(wait).await;
    }
}

/// Listens on one connection; ends in an error, or when nobody wants to hear any more.
async fn session(
    connection: &Connection,
    known: &KnownQueues,
    set: &impl Fn(Option<ShortString>),
    heard: &mpsc::Sender<Heard>,
    backoff: &mut Backoff,
) -> Result<(), Error> {
    // Somebody may have deleted the exchange since the connection was made.
    declare_all(connection, known).await?;
    let opened = timeout(ANSWER_LIMIT, open(connection)).await;
    let (channel, queue, mut deliveries) =
        opened.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))?;
    backoff.reset();
    set(Some(queue));
    if heard.send(Heard::Tuned).await.is_err() {
        return Ok(());
    }
    while let Some(delivery) = deliveries.next().await {
        if let Some(what) = read(&delivery?)
            && heard.send(what).await.is_err()
        {
            return Ok(());
        }
    }
    Err(ErrorKind::InvalidChannel(channel.id()).into())
}

/// A queue that only this connection may use, and that goes with it.
async fn open(connection: &Connection) -> Result<(Channel, ShortString, lapin::Consumer), Error> {
    let channel = connection.create_channel().await?;
    let own = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(KEPT));
    let queue = channel.queue_declare(ShortString::default(), own, arguments).await?.name().clone();
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let none = FieldTable::default;
    let deliveries = channel.basic_consume(queue.clone(), ShortString::default(), no_ack, none()).await?;
    let (exchange, any) = (ShortString::from(PULSE), ShortString::default());
    channel.queue_bind(queue.clone(), exchange, any, QueueBindOptions::default(), none()).await?;
    Ok((channel, queue, deliveries))
}

fn read(delivery: &Delivery) -> Option<Heard> {
    if delivery.exchange.as_str() == PULSE {
        return Some(Heard::Pulse);
    }
    let number = <[u8; 8]>::try_from(delivery.data.as_slice()).ok()?;
    Some(Heard::Echo(u64::from_be_bytes(number)))
}
