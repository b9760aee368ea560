//! A worker with Rust functions of its own. Copy this file, replace the functions, and name them in your jobs:
//!
//! ```yaml
//! jobs:
//!   close-books: { function: close-books, timeout: 10m }
//! ```
//!
//! Flags and environment are those of `reveille-worker`:
//! `REVEILLE_DATABASE_URL=… REVEILLE_BROKER_URL=… cargo run -p reveille-worker --example rust_worker`

use std::process::ExitCode;
use std::time::Duration;

use reveille_worker::{Functions, Run, RunFailure, RunResult, Stream};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Books {
    accounts: Vec<String>,
}

/// Runs may be repeated after a crash, so use `run.id` as an idempotency key towards other systems.
async fn close_books(run: Run) -> RunResult {
    // An input that does not fit fails for good; no retry would mend it.
    let books: Books = run.input()?;
    if books.accounts.is_empty() {
        return Err(RunFailure::fatal("there are no accounts to close").code("NoAccounts"));
    }
    for (index, account) in books.accounts.iter().enumerate() {
        // Someone may have canceled the run, or its time is over.
        if run.stop.is_cancelled() {
            return Err(RunFailure::retry("stopped between two accounts"));
        }
        run.log(Stream::Stdout, &format!("closing {account}")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        #[allow(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = 100.0 * (index + 1) as f32 / books.accounts.len() as f32;
        run.progress(percent, account);
    }
    Ok(json!({ "closed": books.accounts.len() }))
}

/// Every standard error turns into a failure that the job's retry policy may repeat.
async fn count_hosts(_run: Run) -> RunResult {
    let hosts = tokio::fs::read_to_string("/etc/hosts").await?;
    Ok(json!({ "lines": hosts.lines().count() }))
}

#[tokio::main]
async fn main() -> ExitCode {
    let functions = Functions::builder()
        .register("close-books", close_books)
        .register("count-hosts", count_hosts)
        .build()
        .expect("the names differ");
    reveille_worker::main(functions).await
}
