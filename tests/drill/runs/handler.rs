//! The program that the drill's `command` jobs run: it works for a while, and writes down that it does.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use serde_json::Value;

mod ledger;
mod pen;

use self::ledger::{TICK, What};
use self::pen::Pen;

/// Works for a while
#[derive(Debug, clap::Parser)]
#[command(name = "drill-handler")]
struct Arguments {
    /// Where to write down what it does
    #[arg(long)]
    ledger: PathBuf,

    /// For how long to work
    #[arg(long)]
    work_ms: u64,

    /// The work request
    #[arg(long, env = "REVEILLE_WORK_REQUEST_ID")]
    id: uuid::Uuid,

    /// The attempt
    #[arg(long, env = "REVEILLE_ATTEMPT")]
    attempt: u32,

    /// Fail in this attempt and all before it
    #[arg(long, default_value_t = 0)]
    fail_up_to: u32,

    /// How many lines to print
    #[arg(long, default_value_t = 0)]
    lines: u32,

    /// What it is given; each of its `children` is handed over
    #[arg(long, env = "REVEILLE_INPUT", default_value = "{}", value_parser = |text: &str| Value::from_str(text))]
    input: Value,

    /// For how long to go on when it has taken effect
    #[arg(long, default_value_t = 0)]
    linger_ms: u64,
}

#[allow(clippy::print_stdout, reason = "printing is what it is asked for")]
fn main() -> Result<ExitCode> {
    let Arguments { ledger, work_ms, id, attempt, fail_up_to, lines, input, linger_ms } = Arguments::parse();
    let mut ledger = Pen::open(&ledger, id, attempt).context("opening the ledger")?;
    ledger.note(What::Start)?;
    for line in 0..lines {
        println!("line {line} of what a run may have to say, which is more than anyone reads");
    }
    for child in input["children"].as_array().into_iter().flatten() {
        println!("::child {child}");
    }
    work(&mut ledger, Duration::from_millis(work_ms))?;
    if attempt <= fail_up_to {
        ledger.note(What::Failed)?;
        return Ok(ExitCode::from(3));
    }
    ledger.note(What::Done)?;
    work(&mut ledger, Duration::from_millis(linger_ms))?;
    Ok(ExitCode::SUCCESS)
}

fn work(ledger: &mut Pen, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(TICK));
        ledger.note(What::Tick)?;
    }
}
