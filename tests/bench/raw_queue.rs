//! A quorum queue of its own on the broker, beside Reveille: what a message costs at the least.

use anyhow::Result;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, PublisherConfirm};

const QUEUE: &str = "bench-raw";

/// Published to on one connection, consumed from on another.
pub(crate) struct RawQueue {
    pub(crate) publishing: Channel,
    pub(crate) consumer: Consumer,
    /// They last as long as their channels are used.
    _connections: [Connection; 2],
}

impl RawQueue {
    /// Opens it for a consumer that may hold so many messages unacknowledged; any number, if 0.
    pub(crate) async fn open(url: &str, prefetch: u16) -> Result<Self> {
        let producing = Connection::connect(url, ConnectionProperties::default()).await?;
        let consuming = Connection::connect(url, ConnectionProperties::default()).await?;
        let publishing = producing.create_channel().await?;
        publishing.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        publishing.queue_declare(QUEUE.into(), durable, quorum).await?;
        let channel = consuming.create_channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(QUEUE.into(), "bench".into(), options, FieldTable::default()).await?;
        Ok(Self { publishing, consumer, _connections: [producing, consuming] })
    }
}

/// Publishes a persistent message that has to reach the queue.
pub(crate) async fn publish(channel: &Channel, body: &[u8]) -> Result<PublisherConfirm> {
    let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
    let persistent = BasicProperties::default().with_delivery_mode(2);
    Ok(channel.basic_publish("".into(), QUEUE.into(), mandatory, body, persistent).await?)
}
