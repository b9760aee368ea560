//! The drill's worker: the ordinary one, with Rust functions that write down what they do.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use reveille_worker::{Functions, Run, RunFailure, RunResult};
use serde_json::Value;
use tokio::time::sleep;

mod ledger;
mod pen;

use self::ledger::{TICK, What};
use self::pen::Pen;

/// Where to write it down.
const LEDGER: &str = "DRILL_LEDGER";

/// Works until its end, or until it is told to stop.
async fn work(run: Run) -> RunResult {
    perform(run, true).await
}

/// Works until its end, whatever it is told.
async fn deaf(run: Run) -> RunResult {
    perform(run, false).await
}

/// Works until its end, and calls for the children that its input names.
async fn gather(run: Run) -> RunResult {
    run.fan_out(run.input["children"].as_array().cloned().unwrap_or_default()).await?;
    perform(run, true).await
}

async fn perform(run: Run, listens: bool) -> RunResult {
    let path = std::env::var(LEDGER)?;
    let mut ledger = Pen::open(Path::new(&path), run.id.0, run.attempt)?;
    let work = Duration::from_millis(run.input["ms"].as_u64().unwrap_or_default());
    let end = Instant::now() + work;
    ledger.note(What::Start)?;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() && run.input["doomed"] == true {
            ledger.note(What::Failed)?;
            return Err(RunFailure::fatal("is doomed"));
        }
        if left.is_zero() {
            ledger.note(What::Done)?;
            return Ok(Value::Null);
        }
        tokio::select! {
            () = run.stop.cancelled(), if listens => {
                ledger.note(What::Failed)?;
                return Err(RunFailure::retry("was told to stop"));
            }
            () = sleep(left.min(TICK)) => ledger.note(What::Tick)?,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let functions =
        Functions::builder().register("work", work).register("deaf", deaf).register("gather", gather).build();
    reveille_worker::main(functions.expect("the names differ")).await
}
