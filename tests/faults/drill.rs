//! A short run of the drill of `tests/drill/schedulers.rs`; a long one is for people, before a release.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::process::Program;
use tempfile::TempDir;

/// Everything but a clock an hour ahead.
const MOST: &str = "kill,freeze,cut-database,cut-broker,stall-database,stall-broker,step,hour-behind";

async fn drill(rounds: u32, seed: u32, only: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let program = Program::of_workspace("drill-schedulers", "drill", folder.path())?;
    let options = [("--rounds", rounds.to_string()), ("--seed", seed.to_string()), ("--only", only.to_owned())];
    let program = options.into_iter().fold(program, |program, (name, value)| program.arg(name).arg(value));
    let ended = program.start()?.wait_exit(Duration::from_secs(240)).await?;
    ensure!(ended.success(), "the drill ended with {ended}");
    Ok(())
}

#[tokio::test]
async fn replicas_in_trouble_decide_every_due_time_once() -> Result<()> {
    // One clock is behind, and each of a kill, a stalled database and a freeze beside a cut hits a leader.
    drill(4, 3520, MOST).await
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_decides_nothing_early() -> Result<()> {
    drill(3, 4, "hour-ahead").await
}
