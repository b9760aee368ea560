//! What a run can't be faster than: one message through a quorum queue, and one commit, each at the given pace.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::trigger::{self, Trigger};
use reveille_shared::work_request::WorkRequestId;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::pace::Pace;
use crate::sample::millis;

const QUEUE: &str = "bench-raw";
/// Commits that may be under way at one time, so that a slow one holds up no other.
const CONNECTIONS: u32 = 8;

/// From publishing a trigger to its arrival on another connection, in ms; publishes are confirmed, deliveries
/// acknowledged.
pub(crate) async fn messages(url: &str, warm_up: &Pace, pace: &Pace) -> Result<Vec<f64>> {
    let publishing = Connection::connect(url, ConnectionProperties::default()).await?;
    let consuming = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = publishing.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(QUEUE.into(), durable, quorum).await?;
    let options = BasicConsumeOptions::default();
    let consumer_channel = consuming.create_channel().await?;
    let mut consumer =
        consumer_channel.basic_consume(QUEUE.into(), "bench".into(), options, FieldTable::default()).await?;
    round_trips(&channel, &mut consumer, warm_up).await?;
    round_trips(&channel, &mut consumer, pace).await
}

async fn round_trips(channel: &Channel, consumer: &mut Consumer, pace: &Pace) -> Result<Vec<f64>> {
    let publish = pace.keep(|_| publish(channel.clone()));
    let receive = async {
        let mut received = HashMap::new();
        for _ in 0..pace.rate * pace.seconds {
            let delivery = consumer.next().await.context("the consumer ended")??;
            let now = Instant::now();
            received.insert(Trigger::decode(&delivery.data)?.id, now);
            delivery.ack(BasicAckOptions::default()).await?;
        }
        anyhow::Ok(received)
    };
    let (published, received) = tokio::try_join!(publish, receive)?;
    let trip = |(id, sent)| Ok(millis(received.get(&id).context("a message is missing")?.duration_since(sent)));
    published.into_iter().map(trip).collect()
}

async fn publish(channel: Channel) -> Result<(WorkRequestId, Instant)> {
    let trigger = trigger();
    let body = trigger.encode();
    let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let sent = Instant::now();
    let confirm = channel.basic_publish("".into(), QUEUE.into(), mandatory, &body, persistent).await?;
    ensure!(confirm.await?.is_ack(), "a publish was refused");
    Ok((trigger.id, sent))
}

/// An INSERT with its commit, in ms.
pub(crate) async fn commits(url: &str, warm_up: &Pace, pace: &Pace) -> Result<Vec<f64>> {
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .min_connections(CONNECTIONS)
        .test_before_acquire(false)
        .connect(url)
        .await?;
    sqlx::query("CREATE TABLE bench_commits (id uuid PRIMARY KEY, note text NOT NULL)").execute(&pool).await?;
    prepare(&pool).await?;
    warm_up.keep(|_| insert(pool.clone())).await?;
    let took = pace.keep(|_| insert(pool.clone())).await?;
    pool.close().await;
    Ok(took)
}

/// On every connection, as a first use takes longer.
async fn prepare(pool: &PgPool) -> Result<()> {
    let mut inserts = JoinSet::new();
    (0..CONNECTIONS).for_each(|_| drop(inserts.spawn(insert(pool.clone()))));
    while let Some(done) = inserts.join_next().await {
        done??;
    }
    Ok(())
}

async fn insert(pool: PgPool) -> Result<f64> {
    let trigger = trigger();
    let mut connection = pool.acquire().await?;
    let begun = Instant::now();
    sqlx::query("INSERT INTO bench_commits (id, note) VALUES ($1, $2)")
        .bind(trigger.id.0)
        .bind(String::from_utf8(trigger.encode())?)
        .execute(&mut *connection)
        .await?;
    Ok(millis(begun.elapsed()))
}

fn trigger() -> Trigger {
    let id = WorkRequestId::new(SystemClock.now());
    Trigger { v: trigger::VERSION, id, n: 1, namespace: "default".into(), job: "clock".into() }
}
