//! The queue of what workers in other languages tell.

use async_trait::async_trait;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};

use super::consumer::{Consumer, Fate, Message};
use crate::broker::{EventMessage, Events};

/// Messages handed out and not settled at a time; each may be large.
pub(super) const UNSETTLED: u16 = 200;
/// What the AMQP binding of CloudEvents puts before the name of an attribute. The second is for clients whose headers can't
/// hold a colon.
const PREFIXES: [&str; 2] = ["cloudEvents:", "cloudEvents_"];

/// The scheduler's view of it.
pub(super) struct RabbitEvents(pub(super) Consumer);

#[async_trait]
impl Events for RabbitEvents {
    async fn next(&mut self) -> Option<EventMessage> {
        let Message { session, delivery } = self.0.next().await?;
        let Delivery { properties, data, delivery_tag: tag, .. } = delivery;
        let content_type = properties.content_type().as_ref().map(ToString::to_string);
        let attributes = properties.headers().as_ref().map(attributes).unwrap_or_default();
        Some(EventMessage { content_type, attributes, body: data, session, tag })
    }

    async fn settle(&mut self, messages: Vec<EventMessage>) {
        let tags = messages.into_iter().map(|message| (message.session, message.tag));
        self.0.settle(tags, Fate::Ack).await;
    }
}

/// The attributes of binary mode.
fn attributes(headers: &FieldTable) -> Vec<(String, String)> {
    let attribute = |(name, value): (&_, &AMQPValue)| {
        let name: &lapin::types::ShortString = name;
        let name = PREFIXES.into_iter().find_map(|prefix| name.as_str().strip_prefix(prefix))?;
        Some((name.to_owned(), text(value)?))
    };
    headers.inner().iter().filter_map(attribute).collect()
}

fn text(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(flag) => flag.to_string(),
        AMQPValue::ShortShortInt(number) => number.to_string(),
        AMQPValue::ShortInt(number) => number.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        // Whole seconds, as AMQP has them.
        AMQPValue::Timestamp(seconds) => jiff::Timestamp::from_second(i64::try_from(*seconds).ok()?).ok()?.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use lapin::types::LongString;

    use super::*;

    #[test]
    fn headers_with_either_prefix_are_attributes() {
        let mut table = FieldTable::default();
        let long = |text: &str| AMQPValue::LongString(LongString::from(text));
        table.insert("cloudEvents:id".into(), long("7"));
        table.insert("cloudEvents_source".into(), long("/w"));
        table.insert("cloudEvents:time".into(), AMQPValue::Timestamp(0));
        table.insert("cloudEvents:subject".into(), AMQPValue::Void);
        table.insert("x-other".into(), long("x"));
        let mut read = attributes(&table);
        read.sort();
        let pairs = [("id", "7"), ("source", "/w"), ("time", "1970-01-01T00:00:00Z")];
        assert_eq!(read, pairs.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }
}
