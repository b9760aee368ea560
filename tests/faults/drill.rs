//! Short runs of the drills of `tests/drill`; long ones are for people, before a release.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::process::Program;
use tempfile::TempDir;

/// Everything but a clock an hour ahead.
const MOST: &str = "kill,freeze,cut-database,cut-broker,stall-database,stall-broker,step,hour-behind";

async fn drill(rounds: u32, seed: u32, only: &str) -> Result<()> {
    run("drill-schedulers", &[("--rounds", &rounds.to_string()), ("--seed", &seed.to_string()), ("--only", only)]).await
}

async fn run(drill: &str, options: &[(&str, &str)]) -> Result<()> {
    let folder = TempDir::new()?;
    let program = Program::of_workspace(drill, "drill", folder.path())?;
    let program = options.iter().fold(program, |program, (name, value)| program.arg(name).arg(value));
    let ended = program.start()?.wait_exit(Duration::from_secs(420)).await?;
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

#[tokio::test]
async fn runs_in_trouble_end_once_and_by_one_at_a_time() -> Result<()> {
    let hurry = [("--gap", "1500"), ("--longest", "8000"), ("--ttl", "4")];
    run("drill-runs", &[&[("--faults", "20"), ("--seed", "1")], &hurry[..]].concat()).await
}
