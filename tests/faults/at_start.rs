//! What may be missing or wrong when a process starts, and what it says then.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::process::Program;
use harness::services::{Broker, Database};
use harness::stack::Stack;
use harness::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

const JOB: &str = "version: 1\njobs:\n  hello: { command: [echo, hello] }\n";

/// Starts a scheduler that can't start, and gives what it says.
async fn refusal(database: &str, broker: &str, listen: &str) -> Result<String> {
    let folder = TempDir::new()?;
    let program = Program::of_workspace("reveille-scheduler", "scheduler", folder.path())?
        .env("REVEILLE_DATABASE_URL", database)
        .env("REVEILLE_BROKER_URL", broker)
        .env("REVEILLE_LISTEN", listen)
        .quiet();
    let mut process = program.start()?;
    let status = process.wait_exit(Duration::from_secs(90)).await?;
    ensure!(status.code() == Some(1), "ended with {status}: {}", process.log());
    Ok(process.log())
}

#[tokio::test]
async fn an_unreachable_database_is_named_without_its_password() -> Result<()> {
    let log = refusal("postgres://reveille:s3cret@127.0.0.1:1/reveille", "amqp://127.0.0.1:1", "127.0.0.1:0").await?;
    ensure!(log.contains("127.0.0.1:1/reveille") && !log.contains("s3cret"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_shown() -> Result<()> {
    let database = Database::fresh().await?;
    let url = database.url();
    let (scheme, rest) = url.split_once("://").context("a URL")?;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let log = refusal(&format!("{scheme}://nobody:s3cret@{host}"), "amqp://127.0.0.1:1", "127.0.0.1:0").await?;
    ensure!(log.contains("nobody") && !log.contains("s3cret"), "{log}");
    Ok(())
}

#[tokio::test]
async fn malformed_urls_are_refused_without_their_password() -> Result<()> {
    let log = refusal("mysql://root:s3cret@localhost/x", "amqp://127.0.0.1:1", "127.0.0.1:0").await?;
    ensure!(log.contains("postgres://") && !log.contains("s3cret"), "{log}");
    let database = Database::fresh().await?;
    let log = refusal(database.url(), "http://user:s3cret@localhost", "127.0.0.1:0").await?;
    ensure!(log.contains("amqp") && !log.contains("s3cret"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_taken_port_is_named() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let database = Database::fresh().await?;
    let broker = Broker::fresh().await?;
    let log = refusal(database.url(), broker.url(), &address).await?;
    ensure!(log.contains(&address) && log.to_lowercase().contains("in use"), "{log}");
    Ok(())
}

#[tokio::test]
async fn where_nobody_needs_a_key_an_address_beyond_loopback_is_refused() -> Result<()> {
    let folder = TempDir::new()?;
    let schedules = folder.path().join("jobs.yaml");
    std::fs::write(&schedules, JOB)?;
    let program = Program::of_workspace("reveille", "dev", folder.path())?
        .arg("dev")
        .arg("--listen")
        .arg("0.0.0.0:0")
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .arg("--schedules")
        .arg(&schedules)
        .quiet();
    let mut process = program.start()?;
    let status = process.wait_exit(Duration::from_secs(60)).await?;
    ensure!(!status.success() && process.log().contains("loopback"), "{status}: {}", process.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_at_the_start_is_waited_for() -> Result<()> {
    let stack = Stack::postgres_rabbit().schedules(JOB).without_broker().without_waiting().start().await?;
    let id = eventually("the job to be in force, broker or not", Duration::from_secs(60), async || {
        stack.api.trigger("hello", json!({})).await.map_err(|error| format!("{error:#}"))
    })
    .await?;
    eventually("/readyz to name the broker", Duration::from_secs(60), async || {
        let answer = stack.api.request(Method::GET, "/readyz").send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if status == StatusCode::SERVICE_UNAVAILABLE && text.contains("broker") { Ok(()) } else { Err(text) }
    })
    .await?;
    ensure!(stack.api.get(&id).await?["status"] == "ACCEPTED");
    stack.broker_proxy.as_ref().context("a proxy")?.heal();
    stack.api.wait_status(&id, "SUCCEEDED").await?;
    Ok(())
}
