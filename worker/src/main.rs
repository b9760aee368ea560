//! `reveille-worker`: HTTP calls and commands. For Rust functions, make a program of your own from this crate.

use std::process::ExitCode;

use reveille_worker::{Functions, Guard};

fn main() -> ExitCode {
    // Before there is a runtime: a guard needs none.
    let _guard = Guard::answer();
    run()
}

#[tokio::main]
async fn run() -> ExitCode {
    reveille_worker::main(Functions::default()).await
}
