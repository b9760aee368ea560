//! What proves to be the database, and what is refused.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::certificates::Authority;
use harness::postgres::Postgres;
use harness::process::Program;
use harness::services::Database;
use reveille_shared::clock::SystemClock;
use reveille_shared::store::{Store, StoreError};
use reveille_shared::telemetry::chain;
use tempfile::TempDir;
use tokio::time::Instant;

/// The URL with another host, to be verified by this authority.
fn verified(url: &str, host: &str, authority: &Path) -> String {
    format!("{}?sslmode=verify-full&sslrootcert={}", url.replacen("127.0.0.1", host, 1), authority.display())
}

async fn connect(url: &str) -> Result<Store, StoreError> {
    Store::connect(url, "test", Arc::new(SystemClock)).await
}

/// Why there is no connection: by a fault of TLS, without the password.
async fn refusal(url: &str) -> Result<String> {
    let Err(error) = connect(url).await else { anyhow::bail!("connected to {url}") };
    let text = chain(&error);
    ensure!(error.is_about_tls(), "not about TLS: {text}");
    let password = url.split(['@', ':']).nth(2).unwrap_or_default();
    ensure!(!text.contains(password), "the password is in {text}");
    Ok(text)
}

#[tokio::test]
async fn the_right_authority_and_name_are_taken_and_no_others() -> Result<()> {
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let server = Postgres::start_over_tls(&authority.certify(&["localhost"], 2040)?).await?;
    let url = server.create_database().await?;

    let store = connect(&verified(&url, "localhost", &authority.file())).await?;
    ensure!(store.in_force().await?.is_none());

    let unknown = refusal(&verified(&url, "localhost", &stranger.file())).await?;
    ensure!(unknown.contains("UnknownIssuer") || unknown.contains("BadSignature"), "{unknown}");
    let public = url.replacen("127.0.0.1", "localhost", 1) + "?sslmode=verify-full";
    let unknown = refusal(&public).await?;
    ensure!(unknown.contains("UnknownIssuer"), "{unknown}");
    let elsewhere = refusal(&verified(&url, "127.0.0.1", &authority.file())).await?;
    ensure!(elsewhere.contains("not valid for name"), "{elsewhere}");
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_refused_at_once() -> Result<()> {
    let authority = Authority::new()?;
    let server = Postgres::start_over_tls(&authority.certify(&["localhost"], 2020)?).await?;
    let url = verified(&server.create_database().await?, "localhost", &authority.file());
    let ended = refusal(&url).await?;
    ensure!(ended.contains("expired"), "{ended}");

    // A scheduler waits for a database that is not there yet, and not for this.
    let folder = TempDir::new()?;
    let program = Program::of_workspace("reveille-scheduler", "scheduler", folder.path())?
        .env("REVEILLE_DATABASE_URL", url)
        .env("REVEILLE_BROKER_URL", "amqp://127.0.0.1:1")
        .env("REVEILLE_LISTEN", "127.0.0.1:0")
        .quiet();
    let begun = Instant::now();
    let mut process = program.start()?;
    let status = process.wait_exit(Duration::from_secs(60)).await?;
    ensure!(status.code() == Some(1) && begun.elapsed() < Duration::from_secs(20), "{status}: {}", process.log());
    ensure!(process.log().contains("expired"), "{}", process.log());
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_verified_is_never_connected_to() -> Result<()> {
    let (database, authority) = (Database::fresh().await?, Authority::new()?);
    let plain = refusal(&verified(database.url(), "localhost", &authority.file())).await?;
    ensure!(plain.contains("does not support TLS"), "{plain}");
    let missing = Path::new("/nowhere/ca.pem");
    let Err(error) = connect(&verified(database.url(), "localhost", missing)).await else { anyhow::bail!("connected") };
    ensure!(error.to_string().contains("sslrootcert=/nowhere/ca.pem"), "{error}");
    Ok(())
}
