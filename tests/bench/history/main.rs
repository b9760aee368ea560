//! Whether a run costs more when there is much history: runs per second from end to end, pages of work requests and
//! single ones through the API, on an empty database and again on the same one with 10 million ended runs.
//!
//! `cargo build --release --workspace --bins && target/release/bench-history [--rows 10000000]`
//!
//! About 1 GB of disk for each million runs, in the folder for temporary files; it is removed at the end, also after
//! Ctrl-C.

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for people")]

mod fill;
mod reads;
#[path = "../runs.rs"]
mod runs;
#[path = "../sample.rs"]
mod sample;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use harness::ports::Port;
use harness::process::Program;
use harness::stack::{Service, Stack};
use sqlx::{Connection as _, PgConnection};
use tokio::signal::unix::{SignalKind, signal};

use crate::reads::Reads;
use crate::runs::{NOOP, end_to_end, median};

/// What a worker of the throughput's measurement has.
const SLOTS: &str = "1000";
/// Whose sizes are printed.
const TABLES: [&str; 4] = ["work_requests", "events", "deliveries", "unsuccessful"];

/// Measures runs with much history
#[derive(Debug, clap::Parser)]
#[command(name = "bench-history")]
struct Arguments {
    /// Ended runs in the history
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,

    /// Runs of one round
    #[arg(long, default_value_t = 20_000)]
    runs: usize,

    /// Rounds before and after; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,

    /// Requests of each kind to the API
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..))]
    requests: u16,
}

/// Of one state of the database.
struct Figures {
    runs_per_second: f64,
    reads: Reads,
    /// Table, all of it and its indexes' part, in bytes.
    sizes: Vec<(&'static str, i64, i64)>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // What is dropped here removes its data.
    tokio::select! {
        done = measure(&arguments) => done,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("told to end"),
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    fill::ensure_room(arguments.rows)?;
    let stack = Stack::postgres_rabbit().private_services().workers(0).schedules(NOOP).start().await?;
    let database = stack.database.as_ref().context("a database")?.url();
    let port = Port::claim()?;
    let program = Program::of_workspace("bench-noop-worker", "noop-worker", stack.folder())?
        .env("REVEILLE_DATABASE_URL", database)
        .env("REVEILLE_BROKER_URL", stack.broker.as_ref().context("a broker")?.url())
        .env("REVEILLE_LISTEN", port.address().to_string())
        .env("REVEILLE_SLOTS", SLOTS)
        .quiet();
    let mut worker = Service::start(program, port)?;
    worker.wait_ready().await?;

    let before = figures(&stack, database, arguments).await?;
    fill::fill(database, arguments.rows).await?;
    let after = figures(&stack, database, arguments).await?;
    print(arguments.rows, &before, &after);
    Ok(())
}

async fn figures(stack: &Stack, database: &str, arguments: &Arguments) -> Result<Figures> {
    settle(database).await?;
    let mut rates = Vec::new();
    for round in 1..=arguments.rounds {
        rates.push(end_to_end(database, arguments.runs).await?);
        println!("round {round}: {:.0} runs/s", rates[rates.len() - 1]);
    }
    let reads = Reads::measure(&stack.api, database, arguments.requests).await?;
    Ok(Figures { runs_per_second: median(&mut rates), reads, sizes: sizes(database).await? })
}

/// Both measurements begin with statistics, without dead rows and with nothing left to be written.
async fn settle(database: &str) -> Result<()> {
    let mut connection = PgConnection::connect(database).await?;
    for statement in ["VACUUM (ANALYZE)", "CHECKPOINT"] {
        sqlx::raw_sql(statement).execute(&mut connection).await?;
    }
    Ok(())
}

async fn sizes(database: &str) -> Result<Vec<(&'static str, i64, i64)>> {
    let mut connection = PgConnection::connect(database).await?;
    let mut sizes = Vec::new();
    for table in TABLES {
        let (all, indexes): (i64, i64) =
            sqlx::query_as("SELECT pg_total_relation_size($1::regclass), pg_indexes_size($1::regclass)")
                .bind(table)
                .fetch_one(&mut connection)
                .await?;
        sizes.push((table, all, indexes));
    }
    Ok(sizes)
}

fn print(rows: u32, before: &Figures, after: &Figures) {
    println!("\n{:52}{:>10}{:>16}{:>8}", "", "empty", format!("+{rows} runs"), "ratio");
    let row = |name: &str, before: f64, after: f64, digits: usize| {
        println!("{name:52}{before:10.digits$}{after:16.digits$}{:8.2}", after / before);
    };
    row("runs/s from end to end", before.runs_per_second, after.runs_per_second, 0);
    for ((name, before), (_, after)) in before.reads.0.iter().zip(&after.reads.0) {
        row(&format!("{name}: p50, ms"), before.at(0.5), after.at(0.5), 2);
        row("  p99", before.at(0.99), after.at(0.99), 2);
    }
    for ((table, before, _), (_, after, indexes)) in before.sizes.iter().zip(&after.sizes) {
        let mebibytes = |bytes: i64| bytes as f64 / f64::from(1 << 20);
        let name = format!("{table}, MiB ({:.0} of them in indexes with all runs)", mebibytes(*indexes));
        row(&name, mebibytes(*before), mebibytes(*after), 0);
    }
}
