//! What happens to runs, as a subscriber of the broker's exchange hears it while schedulers die and the broker is cut off.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use harness::stack::Stack;
use harness::wait::eventually;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, Consumer};
use serde_json::{Value, json};
use tokio::time::timeout;

const FILE: &str = r#"
version: 1
namespace: default
jobs:
  good: { command: ['true'] }
  flaky: { command: [sh, -c, 'test $REVEILLE_ATTEMPT = 2'], retry: { max_attempts: 2, initial: 50ms } }
  bad: { command: ['false'], retry: { max_attempts: 2, initial: 50ms } }
"#;

/// A queue of a subscriber's own.
async fn subscribe(url: &str, queue: &str, key: &str) -> Result<(Connection, Consumer)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await?;
    let (bound, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.into(), "reveille.transitions".into(), key.into(), bound, none).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.into(), "test".into(), options, FieldTable::default()).await?;
    Ok((connection, consumer))
}

/// What a subscriber that forgets repetitions has heard of each run, in the order in which it came.
#[derive(Default)]
struct Heard {
    ids: HashSet<String>,
    runs: BTreeMap<String, Vec<Value>>,
}

impl Heard {
    async fn next(&mut self, consumer: &mut Consumer) -> Result<()> {
        let next = timeout(Duration::from_secs(60), consumer.next()).await.context("nothing more is heard")?;
        let delivery = next.context("the consumer has ended")??;
        let content_type = delivery.properties.content_type().as_ref().map(ToString::to_string);
        ensure!(content_type.is_some_and(|kind| kind.starts_with("application/cloudevents+json")), "no CloudEvent");
        let event: Value = serde_json::from_slice(&delivery.data)?;
        if self.ids.insert(event["id"].as_str().context("an id")?.to_owned()) {
            let run = event["subject"].as_str().context("a subject")?.to_owned();
            self.runs.entry(run).or_default().push(event["data"]["event"].clone());
        }
        delivery.ack(BasicAckOptions::default()).await?;
        Ok(())
    }

    fn ended(&self) -> usize {
        let is_end = |event: &&Value| matches!(event["type"].as_str(), Some("succeeded" | "failed" | "canceled"));
        self.runs.values().filter(|events| events.last().is_some_and(|last| is_end(&last))).count()
    }
}

#[tokio::test]
async fn a_subscriber_hears_each_history_whole_and_in_order_whoever_dies() -> Result<()> {
    let mut stack = Stack::postgres_rabbit().schedulers(2).proxied().schedules(FILE).start().await?;
    let url = stack.broker.as_ref().context("a broker")?.url().to_owned();
    let (_all, mut all) = subscribe(&url, "all", "#").await?;
    let (_failures, mut failures) = subscribe(&url, "failures", "failed.default.*").await?;
    let mut asked = BTreeMap::new();
    for round in 0..4_usize {
        for (number, job) in ["good", "flaky", "bad"].into_iter().cycle().take(30).enumerate() {
            let api = &stack.schedulers[number % 2].api;
            asked.insert(api.trigger(job, json!({})).await?, job);
        }
        match round {
            0 | 2 => {
                stack.schedulers[round / 2].kill9()?;
                stack.schedulers[round / 2].restart().await?;
            }
            1 => {
                let proxy = stack.broker_proxy.as_ref().context("a proxy")?;
                proxy.cut().await;
                // While the broker is away the histories go on.
                let id = stack.api.trigger("good", json!({})).await?;
                let accepted = async || match stack.api.part(&id, "events").await {
                    Ok(events) if !events.is_empty() => Ok(()),
                    other => Err(format!("{other:?}")),
                };
                eventually("the run is in the history", Duration::from_secs(30), accepted).await?;
                asked.insert(id, "good");
                proxy.heal();
            }
            _ => {}
        }
    }
    for (id, job) in &asked {
        stack.api.wait_status(id, if *job == "bad" { "FAILED" } else { "SUCCEEDED" }).await?;
    }
    let mut heard = Heard::default();
    while heard.ended() < asked.len() {
        heard.next(&mut all).await?;
    }
    for (id, events) in &heard.runs {
        ensure!(asked.contains_key(id), "{id} is nobody's");
        ensure!(*events == stack.api.part(id, "events").await?, "of {id} was heard {events:#?}");
    }
    // Who asks for failures only hears those.
    let bad = asked.values().filter(|job| **job == "bad").count();
    let mut failed = Heard::default();
    while failed.runs.len() < bad {
        failed.next(&mut failures).await?;
    }
    let is_failure = |events: &Vec<Value>| events.len() == 1 && events[0]["type"] == "failed";
    ensure!(failed.runs.values().all(is_failure), "{:#?}", failed.runs);
    Ok(())
}
