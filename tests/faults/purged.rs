//! Queues that lose their messages: whatever the priority, a marker that comes through tells which triggers are lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::stack::Stack;
use harness::wait::eventually;
use jiff::{SignedDuration, Timestamp};
use lapin::options::QueuePurgeOptions;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;

/// How soon a lost trigger is found: its marker goes out after five seconds, or ten more if that is lost too, and has five
/// seconds of grace.
const FOUND: SignedDuration = SignedDuration::from_secs(22);

const JOBS: &str = r#"
version: 1
jobs:
  high: { command: ['true'], priority: high }
  normal: { command: ['true'] }
  low: { command: ['true'], priority: low }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn triggers_are_sent_again_whose_queue_was_purged() -> Result<()> {
    let mut stack = Stack::postgres_rabbit().schedules(JOBS).start().await?;
    // With nobody to take them the triggers stay where they can be lost.
    stack.workers[0].kill9()?;
    let mut ids = Vec::new();
    for job in ["high", "normal", "low"] {
        ids.push(stack.api.trigger(job, json!({})).await?);
        ids.push(stack.api.trigger(job, json!({})).await?);
    }
    let url = stack.broker.as_ref().context("a broker")?.url().to_owned();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for queue in ["reveille.high.default", "reveille.q.default", "reveille.low.default"] {
        let mut lost = 0;
        eventually(&format!("two messages of {queue} to lose"), Duration::from_secs(60), async || {
            let purged = channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await;
            lost += purged.map_err(|error| error.to_string())?;
            if lost >= 2 { Ok(()) } else { Err(format!("{lost} purged")) }
        })
        .await?;
    }
    let purged: Timestamp = now();
    stack.workers[0].restart().await?;
    for id in &ids {
        let run = stack.api.wait_status(id, "SUCCEEDED").await?;
        ensure!(run["attempt"] == 1, "run twice: {run}");
        let events = stack.api.part(id, "events").await?;
        let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
        ensure!(types == ["accepted", "resent", "started", "succeeded"], "{events:?}");
        let resent: Timestamp = events[1]["timestamp"].as_str().context("an instant")?.parse()?;
        let after = resent.duration_since(purged);
        ensure!(after < FOUND, "sent again only after {after:#}");
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a test of real processes lives in real time")]
fn now() -> Timestamp {
    Timestamp::now()
}
