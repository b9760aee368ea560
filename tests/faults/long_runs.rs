//! Runs that are longer than the broker's patience, and workers that have no slot left: neither keeps a trigger from
//! whoever could run it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::StreamExt as _;
use harness::stack::Stack;
use harness::wait::eventually;
use jiff::SignedDuration;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

/// How long the broker of these tests waits for an acknowledgement.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the long runs last at least, from when the last of them has started: five times that.
const LONG: Duration = Duration::from_secs(10);
/// What a trigger that finds a worker with a free slot may take until its run starts; usually some milliseconds. Behind a long run it
/// would be longer.
const SOON: SignedDuration = SignedDuration::from_secs(8);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(60);
/// AMQP's number for PRECONDITION_FAILED.
const PRECONDITION_FAILED: u16 = 406;

/// A long run goes on until there is a file `go`.
const JOBS: &str = r#"
version: 1
jobs:
  long: { command: [sh, -c, 'until [ -e FOLDER/go ]; do sleep 0.1; done'] }
  short: { command: ['true'] }
"#;

/// A folder for the file, and the jobs that look for it there.
fn scene() -> Result<(TempDir, String)> {
    let folder = TempDir::new()?;
    let jobs = JOBS.replace("FOLDER", &folder.path().to_string_lossy());
    Ok((folder, jobs))
}

async fn channel(stack: &Stack) -> Result<Channel> {
    let url = stack.broker.as_ref().context("a broker")?.url();
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    Ok(connection.create_channel().await?)
}

/// How often the broker has lost patience with a consumer.
fn lost_patience(stack: &mut Stack) -> Result<usize> {
    let log = stack.broker.as_mut().context("a broker")?.server()?.log();
    Ok(log.matches("has timed out waiting").count())
}

/// Holds a delivery from a quorum queue back until the broker closes the channel for that.
async fn hold_a_delivery_back(stack: &Stack) -> Result<()> {
    let channel = channel(stack).await?;
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString(LongString::from("quorum")));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare("held".into(), durable, quorum).await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume("held".into(), "holder".into(), options, table).await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), "held".into(), options, b"hold me", properties).await?.await?;
    consumer.next().await.context("no delivery")??;
    let error = match timeout(LIMIT, consumer.next()).await.context("the broker's patience has no end")? {
        Some(Err(error)) => error,
        other => bail!("not an error: {other:?}"),
    };
    match error.kind() {
        ErrorKind::ProtocolError(closed) if closed.get_id() == PRECONDITION_FAILED => Ok(()),
        _ => Err(error.into()),
    }
}

/// The workers that opened the attempts of a run, one after the other.
async fn workers_of(stack: &Stack, id: &str) -> Result<Vec<String>> {
    let events = stack.api.part(id, "events").await?;
    let started = events.iter().filter(|event| event["type"] == "started");
    Ok(started.map(|event| event["worker"].as_str().unwrap_or_default().to_owned()).collect())
}

/// From acceptance to the first attempt.
fn wait_of(run: &Value) -> Result<SignedDuration> {
    let instant = |name: &str| anyhow::Ok(run[name].as_str().context("an instant")?.parse::<jiff::Timestamp>()?);
    Ok(instant("timeStarted")?.duration_since(instant("timeAccepted")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_neither_trips_the_consumer_timeout_nor_keeps_a_trigger_behind_it() -> Result<()> {
    let (folder, jobs) = scene()?;
    let builder = Stack::postgres_rabbit().schedules(jobs).slots(2).impatient_broker(PATIENCE);
    let mut stack = builder.start().await?;
    hold_a_delivery_back(&stack).await?;
    eventually("the broker to say why it closed the channel", LIMIT, async || match lost_patience(&mut stack) {
        Ok(1) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;

    let long = stack.api.trigger("long", json!({})).await?;
    stack.api.wait_status(&long, "IN_PROGRESS").await?;
    let (started, mut behind) = (Instant::now(), 0);
    while started.elapsed() < LONG || behind <= 10 {
        let short = stack.api.trigger("short", json!({})).await?;
        let ended = stack.api.wait_status(&short, "SUCCEEDED").await?;
        let wait = wait_of(&ended)?;
        ensure!(wait < SOON, "a trigger waited for {wait:#}");
        ensure!(workers_of(&stack, &short).await? == workers_of(&stack, &long).await?, "another worker ran it");
        behind += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    std::fs::write(folder.path().join("go"), "")?;
    let done = stack.api.wait_status(&long, "SUCCEEDED").await?;
    ensure!(done["attempt"] == 1, "{done}");
    ensure!(workers_of(&stack, &long).await?.len() == 1);
    ensure!(lost_patience(&mut stack)? == 1, "the broker closed a channel of ours");
    let log = stack.workers[0].log();
    ensure!(!log.contains("consuming has broken off"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saturated_worker_gives_back_what_another_can_start() -> Result<()> {
    let (folder, jobs) = scene()?;
    let builder = Stack::postgres_rabbit().schedules(jobs).workers(2).slots(2).impatient_broker(PATIENCE);
    let mut stack = builder.start().await?;
    stack.workers[1].kill9()?;
    let mut long = Vec::new();
    for _ in 0..2 {
        long.push(stack.api.trigger("long", json!({})).await?);
    }
    for id in &long {
        stack.api.wait_status(id, "IN_PROGRESS").await?;
    }
    let started = Instant::now();
    let short = stack.api.trigger("short", json!({})).await?;
    // The first worker may take it, but keeps it no longer than about half a second.
    let channel = channel(&stack).await?;
    eventually("the trigger to lie in its queue", LIMIT, async || {
        let look = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = channel.queue_declare("reveille.q.default".into(), look, FieldTable::default()).await;
        let queue = queue.map_err(|error| error.to_string())?;
        // The one that is killed took its consumer with it, a shut one has cancelled its own.
        if (queue.message_count(), queue.consumer_count()) == (1, 0) { Ok(()) } else { Err(format!("{queue:?}")) }
    })
    .await?;
    stack.workers[1].restart().await?;
    stack.api.wait_status(&short, "SUCCEEDED").await?;

    // With both there, whichever is asked first, the one that can does it.
    let mut runners: BTreeSet<_> = workers_of(&stack, &short).await?.into_iter().collect();
    for _ in 0..10 {
        let short = stack.api.trigger("short", json!({})).await?;
        let wait = wait_of(&stack.api.wait_status(&short, "SUCCEEDED").await?)?;
        ensure!(wait < SOON, "a trigger waited for {wait:#}");
        runners.extend(workers_of(&stack, &short).await?);
    }
    ensure!(runners.len() == 1 && !runners.contains(&workers_of(&stack, &long[0]).await?[0]), "{runners:?}");
    tokio::time::sleep(LONG.saturating_sub(started.elapsed())).await;
    std::fs::write(folder.path().join("go"), "")?;
    for id in &long {
        stack.api.wait_status(id, "SUCCEEDED").await?;
    }
    ensure!(lost_patience(&mut stack)? == 0, "the broker closed a channel of ours");
    Ok(())
}
