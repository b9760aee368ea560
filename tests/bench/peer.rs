//! What a peer says of itself on the same servers: a program that prints its figures.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::process::{Program, tail};
use harness::services::address_of;

/// How long a peer may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs `command` by `sh`, with `count` behind it. It finds the servers in `PEERS_PG` and `PEERS_AMQP`.
///
/// # Errors
///
/// It did not end well, or not within [`LIMIT`].
pub(crate) async fn run(command: &str, count: usize, folder: &Path, database: &str, broker: &str) -> Result<String> {
    println!("running the peer with {count} …");
    let program = Program::new("sh", "peer", folder)
        .arg("-c")
        .arg(format!("{command} {count}"))
        .env("PEERS_AMQP", format!("amqp://guest:guest@{}//", address_of(broker)?))
        .env("PEERS_PG", database)
        .quiet();
    let mut process = program.start()?;
    let ended = process.wait_exit(LIMIT).await?;
    let said = process.log();
    ensure!(ended.success(), "the peer ended with {ended}: {}", tail(&said, 2_000));
    Ok(said.trim().to_owned())
}
