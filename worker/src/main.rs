//! `reveille-worker`: HTTP calls and commands. For Rust functions, make a program of your own from this crate.

use std::process::ExitCode;

use reveille_worker::Functions;

#[tokio::main]
async fn main() -> ExitCode {
    reveille_worker::main(Functions::default()).await
}
