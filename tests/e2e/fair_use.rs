//! One tenant's backlog does not bury another's run.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::client::Client;
use harness::stack::{Builder, Stack};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);
const JOBS: &str = "jobs:\n  nap: { command: [sleep, '0.2'] }\n";
/// At 0.2 s each and eight at a time it takes over half a minute.
const BACKLOG: usize = 1_500;

/// Asks for a run, again if the database was too busy: one too many does no harm here.
async fn post(api: &Client, namespace: &str) -> Result<Value> {
    loop {
        let request = api.request(Method::POST, "/v1/jobs/nap/trigger").header("x-reveille-namespace", namespace);
        let answer = request.json(&json!({})).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if status != StatusCode::SERVICE_UNAVAILABLE {
            ensure!(status == StatusCode::ACCEPTED, "{status}: {text}");
            return Ok(serde_json::from_str(&text)?);
        }
    }
}

async fn get(api: &Client, namespace: &str, id: &str) -> Result<Value> {
    let request = api.request(Method::GET, &format!("/v1/workRequests/{id}?wait=20s"));
    Ok(request.header("x-reveille-namespace", namespace).send().await?.json().await?)
}

async fn one_run_beside_a_backlog(builder: Builder) -> Result<()> {
    let yaml = format!("version: 1\nnamespace: many\n{JOBS}");
    let stack = builder.schedules(yaml).slots(8).env("REVEILLE_MAX_QUEUED", "1000000").start().await?;
    let another = stack.schedules_folder().join("another.yaml");
    std::fs::write(another, format!("version: 1\nnamespace: one\n{JOBS}"))?;
    harness::wait::eventually("the other tenant's job", LIMIT, async || {
        let request = stack.api.request(Method::GET, "/v1/jobs/nap").header("x-reveille-namespace", "one");
        match request.send().await.map_err(|error| error.to_string())?.status() {
            StatusCode::OK => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await?;

    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let api = stack.api.clone();
        callers.spawn(async move {
            for _ in 0..BACKLOG / 10 {
                post(&api, "many").await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    let last = post(&stack.api, "many").await?;
    let asked = tokio::time::Instant::now();
    let one = post(&stack.api, "one").await?;
    let id = one["id"].as_str().context("an id")?;
    while get(&stack.api, "one", id).await?["status"] != "SUCCEEDED" {
        ensure!(asked.elapsed() < LIMIT, "not even within {LIMIT:?}");
    }
    let before = stack.api.request(Method::GET, "/v1/workRequests?status=SUCCEEDED&limit=1000");
    let before: Value = before.header("x-reveille-namespace", "many").send().await?.json().await?;
    let before = before["items"].as_array().context("items")?.len();
    let last = last["id"].as_str().context("an id")?;
    let left = stack.api.request(Method::GET, &format!("/v1/workRequests/{last}"));
    let left: Value = left.header("x-reveille-namespace", "many").send().await?.json().await?;
    ensure!(left["status"] == "ACCEPTED", "there was no backlog: {left}");
    let waits_for = left["waitingFor"].as_str().unwrap_or_default();
    ensure!(waits_for.contains("its queue is full"), "{left}");
    // What was sent before goes before it, some seconds' work; in order it would be all of them.
    ensure!(before < BACKLOG / 2, "{before} others went before it");
    Ok(())
}

#[tokio::test]
async fn one_run_is_not_buried_under_thousands() -> Result<()> {
    one_run_beside_a_backlog(Stack::postgres_rabbit()).await
}
