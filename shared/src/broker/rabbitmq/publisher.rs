//! Publishing with confirms: many messages on the way at a time, one verdict for each.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::link::LinkWatch;
use super::topology::{self, KnownQueues};
use crate::broker::PublishError;
use crate::crash::{self, Act};
use crate::telemetry::chain;

/// How long one call may take until the last confirm.
const CONFIRM_LIMIT: Duration = Duration::from_secs(10);
/// Messages that wait for their confirm at a time.
const WINDOW: usize = 1000;
/// AMQP's number for a message that survives a restart of the broker.
const PERSISTENT: u8 = 2;

type Verdict = Result<(), PublishError>;

/// What to publish.
#[derive(Debug)]
pub(super) struct Message {
    exchange: &'static str,
    /// RabbitMQ's name of the queue, or by what subscribers choose.
    key: String,
    content_type: &'static str,
    /// A queue must take it.
    is_mandatory: bool,
    body: Vec<u8>,
}

impl Message {
    /// To a queue, by RabbitMQ's name of it.
    pub(super) const fn to_queue(queue: String, body: Vec<u8>) -> Self {
        Self { exchange: "", key: queue, content_type: "application/json", is_mandatory: true, body }
    }

    /// A CloudEvent to whoever has subscribed.
    pub(super) const fn to_subscribers(exchange: &'static str, key: String, body: Vec<u8>) -> Self {
        Self { exchange, key, content_type: "application/cloudevents+json; charset=utf-8", is_mandatory: false, body }
    }
}

/// Publishes over the present connection, or fails at once when there is none.
#[derive(Debug)]
pub(super) struct Publisher {
    link: LinkWatch,
    queues: Arc<KnownQueues>,
    /// Open channels without anything on the way. A call has one to itself: a returned message
    /// names no call, so it must be clear whose it is.
    idle: Mutex<Vec<Channel>>,
}

impl Publisher {
    pub(super) fn new(link: LinkWatch, queues: Arc<KnownQueues>) -> Self {
        Self { link, queues, idle: Mutex::default() }
    }

    /// One verdict for each message, in order, within [`CONFIRM_LIMIT`].
    pub(super) async fn publish(&self, messages: &[Message]) -> Vec<Verdict> {
        let deadline = Instant::now() + CONFIRM_LIMIT;
        let mut verdicts = self.attempt(&messages.iter().collect::<Vec<_>>(), deadline).await;
        let returned: Vec<_> = (0..messages.len()).filter(|&index| is_returned(&verdicts[index])).collect();
        // Somebody may have deleted a queue that should be there: made again, it gets one more chance.
        let names: BTreeSet<_> = returned.iter().map(|&index| topology::plain_name(&messages[index].key)).collect();
        if !names.is_empty() && self.redeclare(&names, deadline).await {
            let again: Vec<_> = returned.iter().map(|&index| &messages[index]).collect();
            for (index, verdict) in returned.into_iter().zip(self.attempt(&again, deadline).await) {
                verdicts[index] = verdict;
            }
        }
        verdicts
    }

    async fn attempt(&self, messages: &[&Message], deadline: Instant) -> Vec<Verdict> {
        let channel = match timeout_at(deadline, self.channel()).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(why)) => return unconfirmed(messages.len(), &why),
            Err(_) => return unconfirmed(messages.len(), &"the broker does not open a channel".into()),
        };
        let verdicts = publish_all(&channel, messages, deadline).await;
        // With a confirm still to come the channel is of no more use; dropping it closes it.
        if verdicts.iter().all(|verdict| !matches!(verdict, Err(PublishError::Unconfirmed(_)))) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(channel);
        }
        verdicts
    }

    async fn channel(&self) -> Result<Channel, Arc<str>> {
        let connection = self.link.connection()?;
        if let Some(channel) = self.idle_channel() {
            return Ok(channel);
        }
        open_channel(&connection).await.map_err(|error| chain(&error).into())
    }

    fn idle_channel(&self) -> Option<Channel> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of an earlier connection are forgotten here.
        idle.retain(|channel| channel.status().connected());
        idle.pop()
    }

    /// Declares those of the queues that should be there, if any; says whether it did.
    async fn redeclare(&self, names: &BTreeSet<&str>, deadline: Instant) -> bool {
        let known = self.queues.all();
        let ours = names.contains(topology::UNREADABLE) || known.iter().any(|queue| names.contains(queue.as_str()));
        let Ok(connection) = self.link.connection() else { return false };
        if !ours {
            return false;
        }
        warn!(?names, "queues have gone from the broker; declaring them again");
        matches!(timeout_at(deadline, topology::declare_all(&connection, &self.queues)).await, Ok(Ok(())))
    }
}

async fn open_channel(connection: &Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Publishes all on a channel that nobody else publishes on.
async fn publish_all(channel: &Channel, messages: &[&Message], deadline: Instant) -> Vec<Verdict> {
    let late: Arc<str> = format!("no confirm within {} s", CONFIRM_LIMIT.as_secs()).into();
    let mut verdicts = unconfirmed(messages.len(), &late);
    let mut returned = HashSet::new();
    let mut rest = messages.iter().enumerate();
    let mut on_the_way = FuturesUnordered::new();
    let all = async {
        loop {
            while on_the_way.len() < WINDOW
                && let Some((index, message)) = rest.next()
            {
                on_the_way.push(publish_one(channel, index, message));
            }
            let Some((index, confirmation)) = on_the_way.next().await else { break };
            verdicts[index] = verdict(confirmation, &mut returned);
            crash::at(Act::PublishHalfway);
        }
    };
    // What has not been confirmed by then keeps its first verdict.
    let _ = timeout_at(deadline, all).await;
    if !returned.is_empty() {
        // When one confirm is for several messages, lapin hands a returned message to any of them:
        // whose it is only its content tells.
        for (message, verdict) in messages.iter().zip(&mut verdicts) {
            if verdict.is_ok() && returned.contains(&(message.key.as_str().into(), message.body.clone())) {
                *verdict = Err(PublishError::Returned);
            }
        }
    }
    verdicts
}

/// Publishes one message and waits for its confirm; hands back its index.
async fn publish_one(
    channel: &Channel,
    index: usize,
    message: &Message,
) -> (usize, Result<Confirmation, lapin::Error>) {
    let options = BasicPublishOptions { mandatory: message.is_mandatory, immediate: false };
    let properties =
        BasicProperties::default().with_delivery_mode(PERSISTENT).with_content_type(message.content_type.into());
    let (exchange, key) = (ShortString::from(message.exchange), message.key.as_str().into());
    let written = channel.basic_publish(exchange, key, options, &message.body, properties).await;
    let confirmation = match written {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    (index, confirmation)
}

/// What a confirm says about its own message; a returned message that came with it is put aside.
fn verdict(
    confirmation: Result<Confirmation, lapin::Error>,
    returned: &mut HashSet<(ShortString, Vec<u8>)>,
) -> Verdict {
    let (acked, message) = match confirmation {
        Ok(Confirmation::Ack(message)) => (true, message),
        Ok(Confirmation::Nack(message)) => (false, message),
        Ok(Confirmation::NotRequested) => {
            return Err(PublishError::Unconfirmed("the channel does not confirm".into()));
        }
        Err(error) => return Err(PublishError::Unconfirmed(chain(&error).into())),
    };
    if let Some(message) = message {
        returned.insert((message.delivery.routing_key, message.delivery.data));
    }
    if acked { Ok(()) } else { Err(PublishError::Nacked) }
}

fn unconfirmed(count: usize, why: &Arc<str>) -> Vec<Verdict> {
    vec![Err(PublishError::Unconfirmed(Arc::clone(why))); count]
}

fn is_returned(verdict: &Verdict) -> bool {
    matches!(verdict, Err(PublishError::Returned))
}
