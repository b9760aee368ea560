//! How many callers the API serves while a fleet works and schedules fire: looks at single runs, and triggers with idempotency
//! keys, per second over kept connections. Beside them, in the same run, looks at a path that does nothing, and what the
//! fleet does and how late fires are without callers.
//!
//! `cargo build --release --workspace --bins && target/release/bench-api [--connections 64] [--seconds 10] [--rate 200]`

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../connection.rs"]
mod connection;
mod fleet;
mod load;
#[path = "../sample.rs"]
mod sample;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use harness::ports::Port;
use harness::process::Program;
use harness::stack::{Service, Stack};

use crate::fleet::{Fleet, Work};
use crate::load::{Load, Served};

/// Measures the API under load
#[derive(Debug, clap::Parser)]
#[command(name = "bench-api")]
struct Arguments {
    /// Callers at a time, each over a connection of its own
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,

    /// How long each part takes
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Runs per second that the fleet is given
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// Schedules that are due each second
    #[arg(long, default_value_t = 50)]
    schedules: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { connections, seconds, rate, schedules } = Arguments::parse();
    let time = Duration::from_secs(seconds);
    let stack =
        Stack::postgres_rabbit().private_services().workers(0).schedules(fleet::definitions(schedules)).start().await?;
    let database = stack.database.as_ref().context("a database")?.url();
    let port = Port::claim()?;
    let program = Program::of_workspace("bench-noop-worker", "noop-worker", stack.folder())?
        .env("REVEILLE_DATABASE_URL", database)
        .env("REVEILLE_BROKER_URL", stack.broker.as_ref().context("a broker")?.url())
        .env("REVEILLE_LISTEN", port.address().to_string())
        .env("REVEILLE_QUEUES", "default,fires")
        .env("REVEILLE_SLOTS", "1000")
        .quiet();
    let mut worker = Service::start(program, port)?;
    worker.wait_ready().await?;

    let fleet = Fleet::new(database, rate).await?;
    let load = Load::open(stack.schedulers[0].address(), connections).await?;
    let runs = load.runs(&stack.api).await?;
    fleet.works(time / 3).await?;

    let nothing = load.gets(&["/livez".to_owned()], time).await?;
    let alone = load.gets(&runs, time).await?;
    let undisturbed = fleet.works(time).await?;
    let (under_load, disturbed) = tokio::join!(load.gets(&runs, time), fleet.works(time));
    let (under_load, disturbed) = (under_load?, disturbed?);
    let triggers = load.triggers(time).await?;

    println!("\n{connections} connections, {rate} runs/s given to the fleet, {schedules} schedules due each second\n");
    println!("{:52}{:>10}{:>10}{:>10}{:>8}", "", "per second", "p50, ms", "p99, ms", "ratio");
    let row = |name: &str, served: &Served| {
        let rate = served.per_second();
        println!(
            "{name:52}{rate:10.0}{:10.2}{:10.2}{:8.2}",
            served.took.at(0.5),
            served.took.at(0.99),
            rate / nothing.per_second()
        );
    };
    row("GET /livez, only schedules fire", &nothing);
    row("GET of a work request, only schedules fire", &alone);
    row("GET of a work request, the fleet works", &under_load);
    row("POST of a trigger with a key, only schedules fire", &triggers);
    println!("\n{:52}{:>10}{:>22}{:>22}", "", "runs/s", "due to decided p50 p99", "due to started p50 p99");
    let row = |name: &str, work: &Work| {
        let Work { ended, decided, started } = work;
        println!(
            "{name:52}{ended:10.0}{:15.0}{:7.0}{:15.0}{:7.0}",
            decided.at(0.5),
            decided.at(0.99),
            started.at(0.5),
            started.at(0.99)
        );
    };
    row("the fleet alone", &undisturbed);
    row("the fleet, while runs are looked at", &disturbed);
    println!("its throughput under load, of what it is alone: {:.2}", disturbed.ended / undisturbed.ended);
    Ok(())
}
