//! A worker in another language: it claims, gives signs of life and reports, and repeats what is not answered.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use harness::client::Client;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// A trigger is tried with so many numbers: who plays here does not look into the queue, which `reveille dev` has not.
const MOST_NUMBERS: u32 = 8;

/// What is known of a run.
struct Run {
    n: u32,
    token: Uuid,
    held: bool,
}

/// Runs all runs of job `outside`, for ever.
pub(super) async fn play(api: Client, broker: Option<String>) {
    let (mut runs, mut channel) = (HashMap::new(), None);
    loop {
        if look(&api, broker.as_deref(), &mut channel, &mut runs).await.is_err() {
            // Whoever was asked has died: that is what this is for.
            channel = None;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn look(
    api: &Client,
    broker: Option<&str>,
    channel: &mut Option<(Connection, Channel)>,
    runs: &mut HashMap<String, Run>,
) -> Result<()> {
    for run in api.list("job=outside&status=ACCEPTED,IN_PROGRESS").await? {
        let id = run["id"].as_str().context("an id")?;
        let known = runs.entry(id.to_owned()).or_insert_with(|| Run { n: 1, token: Uuid::new_v4(), held: false });
        let path = format!("/v1/workRequests/{id}");
        if !known.held {
            let claim = json!({"n": known.n, "worker": "outside", "token": known.token});
            match post(api, &format!("{path}:claim"), &claim).await? {
                StatusCode::OK => known.held = true,
                // Not this number, or not yet.
                _ => known.n = known.n % MOST_NUMBERS + 1,
            }
        }
        if !known.held {
            continue;
        }
        post(api, &format!("{path}:heartbeat"), &json!({"token": known.token})).await?;
        let event = |name: &str, data: Value| {
            json!({
                "specversion": "1.0", "type": format!("io.reveille.run.{name}"), "source": "/outside", "id": name,
                "subject": id, "time": jiff::Timestamp::UNIX_EPOCH, "leasetoken": known.token, "data": data,
            })
        };
        if let Some(url) = broker {
            if channel.is_none() {
                let connection = Connection::connect(url, ConnectionProperties::default()).await?;
                let fresh = connection.create_channel().await?;
                *channel = Some((connection, fresh));
            }
            let (_, channel) = channel.as_ref().context("a channel")?;
            let body = event("progress", json!({"percent": 50})).to_string();
            let properties = BasicProperties::default().with_content_type("application/cloudevents+json".into());
            let options = BasicPublishOptions::default();
            channel
                .basic_publish("reveille.events".into(), "".into(), options, body.as_bytes(), properties)
                .await?
                .await?;
        }
        match post(api, &format!("{path}/events"), &event("succeeded", json!({"output": 1}))).await? {
            StatusCode::OK => {}
            status => bail!("the end of {id} was answered {status}"),
        }
    }
    Ok(())
}

async fn post(api: &Client, path: &str, body: &Value) -> Result<StatusCode> {
    let content_type = if path.ends_with("/events") { "application/cloudevents+json" } else { "application/json" };
    let request = api.request(Method::POST, path).header("Content-Type", content_type).body(body.to_string());
    let status = request.send().await?.status();
    if status.is_server_error() { bail!("answered {status}") } else { Ok(status) }
}
