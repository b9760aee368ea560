//! A leader that can't renew its lease, and then leads once more: what it has sent is sent, and nothing of that goes out again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::stack::Stack;
use harness::wait::eventually;
use lapin::options::BasicGetOptions;
use lapin::{Connection, ConnectionProperties};
use reqwest::Method;
use reveille_shared::trigger;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
/// From when a leader stops leading until its lease ends.
const MARGIN: Duration = Duration::from_millis(700);

const JOBS: &str = r#"
version: 1
jobs:
  wait: { command: ['true'] }
"#;

async fn leader(stack: &Stack, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<i64> {
    eventually(what, LIMIT, async || {
        // It answers also when it is not ready.
        let answer = stack.api.request(Method::GET, "/readyz").send().await;
        let seen: Value = answer.map_err(|e| e.to_string())?.json().await.map_err(|e| e.to_string())?;
        let leader = &seen["leader"];
        if is_it(leader) { Ok(leader["generation"].as_i64().unwrap_or_default()) } else { Err(seen.to_string()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_leads_once_more_sends_nothing_again() -> Result<()> {
    let stack = Stack::postgres_rabbit().schedules(JOBS).workers(0).proxied().start().await?;
    let leads = |leader: &Value| leader["leading"] == true;
    let first = leader(&stack, "it to lead", leads).await?;
    let mut ids = Vec::new();
    let database = stack.database_proxy.as_ref().context("a proxy")?;
    eventually("its lease to end, and another one to begin", LIMIT, async || {
        // Only what was sent within some seconds before a lease ended would go out again.
        for _ in 0..5 {
            ids.push(stack.api.trigger("wait", json!({})).await.map_err(|error| format!("{error:#}"))?);
        }
        for id in &ids {
            stack.api.wait_in_queue(id).await.map_err(|error| format!("{error:#}"))?;
        }
        database.stall();
        leader(&stack, "it to lead no more", |leader| !leads(leader)).await.map_err(|error| format!("{error:#}"))?;
        tokio::time::sleep(MARGIN).await;
        database.heal();
        let now = leader(&stack, "it to lead again", leads).await.map_err(|error| format!("{error:#}"))?;
        if now > first { Ok(()) } else { Err(format!("generation {now}")) }
    })
    .await?;

    // It is found in the database, after whatever is to be sent again.
    let request = stack.api.request(Method::POST, "/v1/jobs/wait/trigger").json(&json!({"delay": "1s"}));
    let accepted: Value = request.send().await?.json().await?;
    let last = accepted["id"].as_str().context("an id")?.to_owned();
    stack.api.wait_in_queue(&last).await?;
    let url = stack.broker.as_ref().context("a broker")?.url().to_owned();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    eventually("the last one to be in its queue", LIMIT, async || {
        while let Some(message) = channel
            .basic_get("reveille.q.default".into(), BasicGetOptions::default())
            .await
            .map_err(|error| error.to_string())?
        {
            for trigger in trigger::decode(&message.data).map_err(|error| error.to_string())? {
                *seen.entry(trigger.id.to_string()).or_default() += 1;
            }
        }
        if seen.contains_key(&last) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await?;
    for id in ids.iter().chain([&last]) {
        ensure!(seen.get(id) == Some(&1), "{id} is not there once: {seen:?}");
    }
    Ok(())
}
