//! What an idle fleet asks of everyone: statements at the database, messages at the broker and processor time, of each
//! process, while nothing is due. Beside it, in the same run, what one connection can do.
//!
//! `cargo build --release --workspace --bins && target/release/bench-idle [--workers 10] [--seconds 60]`
//!
//! Each process reaches the servers through taps of its own, which count; transactions are also what PostgreSQL says.

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for people")]

mod frames;
mod tap;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use harness::ports::Port;
use harness::process::Program;
use harness::services::{Broker, Database, address_of, through};
use harness::stack::Service;
use harness::usage::Usage;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::frames::{Kind, Protocol};
use crate::tap::{Counts, Tap};

/// What happens soon after a start must be over.
const SETTLE: Duration = Duration::from_secs(10);
/// Over which it is measured how many statements one connection can do.
const BUSY: Duration = Duration::from_secs(2);

const DEFINITIONS: &str =
    "version: 1\njobs:\n  noop: { function: noop }\nschedules:\n  yearly: { cron: \"0 0 1 1 *\", trigger: noop }\n";

/// Measures an idle fleet
#[derive(Debug, clap::Parser)]
#[command(name = "bench-idle")]
struct Arguments {
    /// Workers beside the one scheduler
    #[arg(long, default_value_t = 10)]
    workers: usize,

    /// For how long they are watched
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

/// A process and its ways to the servers.
struct Member {
    name: String,
    service: Service,
    database: Tap,
    broker: Tap,
}

/// What one has used so far.
struct Used {
    statements: Counts,
    messages: Counts,
    usage: Usage,
}

/// Of one process, per second.
struct Figures {
    name: String,
    rates: [f64; Kind::ALL.len()],
    cpu_percent: f64,
    resident: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (database, broker) = tokio::try_join!(Database::private(), Broker::private())?;
    let folder = TempDir::with_prefix("reveille-idle-")?;
    let schedules = folder.path().join("schedules");
    std::fs::create_dir(&schedules)?;
    std::fs::write(schedules.join("idle.yaml"), DEFINITIONS)?;

    harness::key::give(database.url()).await?;
    let mut fleet = Vec::new();
    let scheduler = Member::start("reveille-scheduler", "scheduler", &database, &broker, folder.path(), &schedules);
    fleet.push(scheduler.await?);
    for number in 1..=arguments.workers {
        let name = format!("worker-{number}");
        fleet.push(Member::start("reveille-worker", &name, &database, &broker, folder.path(), &schedules).await?);
    }
    sleep(SETTLE).await;

    let (before, transactions_before) = (look(&fleet)?, transactions(database.url()).await?);
    let begun = Instant::now();
    // Nothing is waited for: this is the time over which they are watched.
    sleep(Duration::from_secs(arguments.seconds)).await;
    let (after, took) = (look(&fleet)?, begun.elapsed());
    let transactions = transactions(database.url()).await? - transactions_before;
    let figures: Vec<_> = fleet
        .iter()
        .zip(before.iter().zip(&after))
        .map(|(member, (before, after))| Figures::between(&member.name, before, after, took))
        .collect();
    drop(fleet);
    let possible = possible(database.url()).await?;
    print(&figures, transactions as f64 / took.as_secs_f64(), possible, took);
    Ok(())
}

impl Member {
    async fn start(
        binary: &str,
        name: &str,
        database: &Database,
        broker: &Broker,
        folder: &Path,
        schedules: &Path,
    ) -> Result<Self> {
        let to_database = Tap::open(address_of(database.url())?, Protocol::Postgres).await?;
        let to_broker = Tap::open(address_of(broker.url())?, Protocol::Amqp).await?;
        let port = Port::claim()?;
        let mut program = Program::of_workspace(binary, name, folder)?
            .env("REVEILLE_DATABASE_URL", through(database.url(), to_database.address())?)
            .env("REVEILLE_BROKER_URL", through(broker.url(), to_broker.address())?)
            .env("REVEILLE_LISTEN", port.address().to_string())
            .quiet();
        if binary == "reveille-scheduler" {
            program = program.env("REVEILLE_SCHEDULES", schedules.to_string_lossy());
        }
        let mut service = Service::start(program, port)?;
        service.wait_ready().await?;
        Ok(Self { name: name.to_owned(), service, database: to_database, broker: to_broker })
    }
}

impl Figures {
    fn between(name: &str, before: &Used, after: &Used, took: Duration) -> Self {
        let rate = |kind: Kind| {
            let count = |used: &Used| used.statements.of(kind) + used.messages.of(kind);
            (count(after) - count(before)) as f64 / took.as_secs_f64()
        };
        Self {
            name: name.to_owned(),
            rates: Kind::ALL.map(rate),
            cpu_percent: after.usage.cpu_percent(&before.usage, took),
            resident: after.usage.resident,
        }
    }
}

fn look(fleet: &[Member]) -> Result<Vec<Used>> {
    let used = |member: &Member| {
        let usage = Usage::of(member.service.pid()).with_context(|| format!("{} has ended", member.name))?;
        Ok(Used { statements: member.database.counts(), messages: member.broker.counts(), usage })
    };
    fleet.iter().map(used).collect()
}

/// All that PostgreSQL has counted in this database; asked in another one, so that the question is not among them.
async fn transactions(url: &str) -> Result<i64> {
    let (server, name) = url.rsplit_once('/').context("a database URL without a path")?;
    let mut connection = PgConnection::connect(&format!("{server}/postgres")).await?;
    let count = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1";
    let count = sqlx::query_scalar(count).bind(name).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(count)
}

/// Statements per second of one connection that does nothing else.
async fn possible(url: &str) -> Result<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let (begun, mut done) = (Instant::now(), 0_u32);
    while begun.elapsed() < BUSY {
        sqlx::query("SELECT 1").execute(&mut connection).await?;
        done += 1;
    }
    Ok(f64::from(done) / begun.elapsed().as_secs_f64())
}

fn print(figures: &[Figures], transactions: f64, possible: f64, took: Duration) {
    println!("idle for {:.0} s; per second:\n", took.as_secs_f64());
    print!("{:12}", "");
    Kind::ALL.iter().for_each(|kind| print!("{:>12}", kind.name()));
    println!("{:>16}{:>10}", "CPU of a core", "memory");
    let row = |name: &str, rates: &[f64], cpu_percent: f64, resident: u64| {
        print!("{name:12}");
        rates.iter().for_each(|rate| print!("{rate:12.2}"));
        println!("{cpu_percent:14.2} %{:6} MiB", resident >> 20);
    };
    figures.iter().for_each(|of| row(&of.name, &of.rates, of.cpu_percent, of.resident));
    let sum = |figure: &dyn Fn(&Figures) -> f64| figures.iter().map(figure).sum::<f64>();
    let all: Vec<_> = (0..Kind::ALL.len()).map(|kind| sum(&|of| of.rates[kind])).collect();
    row("all", &all, sum(&|of| of.cpu_percent), figures.iter().map(|of| of.resident).sum());
    println!("\ntransactions by PostgreSQL's own count: {transactions:.2}/s");
    let statements = all[0];
    println!(
        "one connection can do {possible:.0} statements/s one after the other: the fleet's {statements:.2} are {:.2} % of it",
        statements * 100.0 / possible
    );
}
