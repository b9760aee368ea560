//! A worker whose only function answers when it started, in microseconds since 1970: what a run tells of itself costs the
//! measured path nothing more.

use std::process::ExitCode;

use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_worker::{Functions, Run, RunResult};

async fn clock(_run: Run) -> RunResult {
    Ok(SystemClock.now().as_microsecond().into())
}

#[tokio::main]
async fn main() -> ExitCode {
    let functions = Functions::builder().register("clock", clock).build().expect("one name can't differ from itself");
    reveille_worker::main(functions).await
}
