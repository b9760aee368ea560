//! The queue of dead letters: what they were, where they were, and where they go in the end.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::sleep;
use tracing::warn;

use super::consumer::{Consumer, Fate, Message};
use super::publisher::{self, Publisher};
use super::topology::{self, plain_name};
use crate::broker::{DeadLetter, DeadLetters};
use crate::telemetry::chain;
use crate::trigger;

/// Letters handed out and not settled at a time.
pub(super) const UNSETTLED: u16 = 100;
/// Before a letter that could not be moved is seen again.
const PAUSE: Duration = Duration::from_secs(1);

/// The scheduler's view of the dead letters.
pub(super) struct RabbitDeadLetters {
    consumer: Consumer,
    publisher: Arc<Publisher>,
}

impl RabbitDeadLetters {
    pub(super) fn new(consumer: Consumer, publisher: Arc<Publisher>) -> Self {
        Self { consumer, publisher }
    }

    async fn keep_for_people(&mut self, body: Vec<u8>) -> bool {
        let message = publisher::Message::to_queue(topology::UNREADABLE.to_owned(), body);
        match self.publisher.publish(&[message]).await.remove(0) {
            Ok(()) => true,
            Err(error) => {
                warn!(error = chain(&error), "an unreadable message stays with the dead letters");
                sleep(PAUSE).await;
                false
            }
        }
    }
}

#[async_trait]
impl DeadLetters for RabbitDeadLetters {
    async fn next(&mut self) -> Option<DeadLetter> {
        let Message { session, delivery } = self.consumer.next().await?;
        let (reason, queue) = death(delivery.properties.headers().as_ref());
        Some(DeadLetter {
            content: trigger::decode(&delivery.data).map_err(|malformed| chain(&malformed)),
            queue,
            reason,
            body: delivery.data,
            session,
            tag: delivery.delivery_tag,
        })
    }

    async fn settle(&mut self, letter: DeadLetter) {
        let gone = letter.content.is_ok() || self.keep_for_people(letter.body).await;
        let fate = if gone { Fate::Ack } else { Fate::GiveBack };
        self.consumer.settle([(letter.session, letter.tag)].into_iter(), fate).await;
    }
}

/// Why and in which queue a message died last, by RabbitMQ's headers. The newest death comes first in
/// `x-death`; the headers of the first death serve where that is missing.
fn death(headers: Option<&FieldTable>) -> (String, Option<String>) {
    let headers = headers.map(FieldTable::inner);
    let header = |name: &str| headers.and_then(|headers| headers.get(name));
    let last = match header("x-death") {
        Some(AMQPValue::FieldArray(deaths)) => deaths.as_slice().first(),
        _ => None,
    };
    let of_last = |name: &str| match last {
        Some(AMQPValue::FieldTable(death)) => death.inner().get(name),
        _ => None,
    };
    let reason = of_last("reason").or_else(|| header("x-first-death-reason")).and_then(text);
    let queue = of_last("queue").or_else(|| header("x-first-death-queue")).and_then(text);
    (reason.unwrap_or_else(|| "unknown".into()), queue.map(|name| plain_name(&name).to_owned()))
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::{FieldArray, LongString};

    use super::*;

    fn table(entries: &[(&str, &str)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in entries {
            table.insert((*name).into(), AMQPValue::LongString(LongString::from(*value)));
        }
        table
    }

    #[test]
    fn reads_the_newest_death_else_the_first_else_nothing() {
        let mut headers = table(&[("x-first-death-reason", "rejected"), ("x-first-death-queue", "reveille.q.old")]);
        assert_eq!(death(Some(&headers)), ("rejected".into(), Some("old".into())));
        let newest = table(&[("reason", "delivery_limit"), ("queue", "reveille.q.new")]);
        let deaths = vec![AMQPValue::FieldTable(newest), AMQPValue::FieldTable(table(&[("reason", "expired")]))];
        headers.insert("x-death".into(), AMQPValue::FieldArray(FieldArray::from(deaths)));
        assert_eq!(death(Some(&headers)), ("delivery_limit".into(), Some("new".into())));
        assert_eq!(death(None), ("unknown".into(), None));
    }
}
