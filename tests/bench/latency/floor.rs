//! What a run can't be faster than: one message through a quorum queue, and one commit, each at the given pace.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use lapin::Channel;
use lapin::options::BasicAckOptions;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::trigger::{self, Trigger};
use reveille_shared::work_request::WorkRequestId;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::pace::Pace;
use crate::raw_queue::{self, RawQueue};
use crate::sample::millis;

/// Commits that may be under way at one time, so that a slow one holds up no other.
const CONNECTIONS: u32 = 8;

/// From publishing a trigger to its arrival on another connection, in ms; publishes are confirmed, deliveries
/// acknowledged.
pub(crate) async fn messages(url: &str, warm_up: &Pace, pace: &Pace) -> Result<Vec<f64>> {
    let mut queue = RawQueue::open(url, 0).await?;
    round_trips(&mut queue, warm_up).await?;
    round_trips(&mut queue, pace).await
}

async fn round_trips(queue: &mut RawQueue, pace: &Pace) -> Result<Vec<f64>> {
    let publish = pace.keep(|_| publish(queue.publishing.clone()));
    let receive = async {
        let mut received = HashMap::new();
        for _ in 0..pace.rate * pace.seconds {
            let delivery = queue.consumer.next().await.context("the consumer ended")??;
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
    let sent = Instant::now();
    let confirm = raw_queue::publish(&channel, &body).await?;
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
