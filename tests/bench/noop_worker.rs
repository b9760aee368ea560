//! A worker whose only function does nothing: what is left is what Reveille costs.

use std::process::ExitCode;

use reveille_worker::{Functions, Run, RunResult};
use serde_json::Value;

async fn noop(_run: Run) -> RunResult {
    Ok(Value::Null)
}

#[tokio::main]
async fn main() -> ExitCode {
    let functions = Functions::builder().register("noop", noop).build().expect("one name can't differ from itself");
    reveille_worker::main(functions).await
}
