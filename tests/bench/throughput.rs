//! Runs per second from end to end beside what the broker alone can do and what a peer says of itself, with and without
//! events out, and how late 10,000 fires of one second are, on a private PostgreSQL and RabbitMQ.
//!
//! `cargo build --release --workspace --bins && target/release/bench-throughput [--peer "COMMAND"]`
//!
//! The peer's command is run by `sh` with the number of runs behind it, and finds the servers in `PEERS_AMQP` and
//! `PEERS_PG`.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod peer;
mod raw_queue;
mod runs;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use futures_util::StreamExt as _;
use harness::client::Client;
use harness::ports::Port;
use harness::process::{Process, Program};
use harness::services::{Broker, Database};
use harness::wait::eventually;
use jiff::{Timestamp, ToSpan as _, Unit};
use lapin::options::BasicAckOptions;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::trigger::{self, Trigger};
use reveille_shared::work_request::WorkRequestId;
use tempfile::TempDir;

use crate::raw_queue::RawQueue;
use crate::runs::{NOOP, end_to_end, median, per_second};

/// Publishes in flight in the raw measurement: as many as the dispatcher has.
const CONFIRMS_IN_FLIGHT: usize = 1_000;

/// Measures throughput
#[derive(Debug, clap::Parser)]
#[command(name = "bench-throughput")]
struct Arguments {
    /// Runs of one round
    #[arg(long, default_value_t = 40_000)]
    runs: usize,

    /// Rounds; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,

    /// Schedules that are due at one second; 0 leaves that part out
    #[arg(long, default_value_t = 10_000)]
    schedules: usize,

    /// A command that measures a peer; the number of runs is added to it
    #[arg(long)]
    peer: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { runs, rounds, schedules, peer } = Arguments::parse();
    let (database, broker) = tokio::try_join!(Database::private(), Broker::private())?;
    let folder = TempDir::with_prefix("reveille-bench-")?;

    let [mut raw, mut silent, mut telling] = [const { Vec::new() }; 3];
    for round in 1..=rounds {
        raw.push(raw_broker(broker.url(), runs).await?);
        for (transitions, rates) in [(false, &mut silent), (true, &mut telling)] {
            let system = System::start(&database, &broker, NOOP, Role::EndToEnd { transitions }).await?;
            rates.push(end_to_end(database.url(), runs).await?);
            system.stop().await?;
        }
        let last = |rates: &[f64]| rates.last().copied().unwrap_or_default();
        println!(
            "round {round}: raw broker {:.0}/s, end to end {:.0} runs/s, with events out {:.0} runs/s",
            last(&raw),
            last(&silent),
            last(&telling)
        );
        if let Some(command) = &peer {
            println!("{}", peer::run(command, runs, folder.path(), database.url(), broker.url()).await?);
        }
    }
    let [raw, silent, telling] = [&mut raw, &mut silent, &mut telling].map(|rates| median(rates));
    println!("\nmedian of {rounds} rounds of {runs}:");
    println!("  raw lapin, confirmed publish and acknowledged consume of one message each: {raw:>8.0}/s");
    println!("  Reveille, stored trigger to stored end, PostgreSQL and RabbitMQ:           {silent:>8.0}/s");
    println!("  the same, every transition told on an exchange:                            {telling:>8.0}/s");
    println!("  ratios to raw lapin: {:.2} and {:.2}\n", silent / raw, telling / raw);

    if schedules > 0 { lateness(&database, &broker, schedules).await } else { Ok(()) }
}

/// What a system is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Run what it is given.
    EndToEnd { transitions: bool },
    /// Only send.
    Send,
}

/// A scheduler and, for throughput, a worker, as processes of their own.
struct System {
    scheduler: Process,
    worker: Option<Process>,
    api: Client,
    folder: TempDir,
    _ports: Vec<Port>,
}

impl System {
    async fn start(database: &Database, broker: &Broker, yaml: &str, role: Role) -> Result<Self> {
        harness::key::give(database.url()).await?;
        let folder = TempDir::with_prefix("reveille-bench-")?;
        let schedules = folder.path().join("schedules");
        std::fs::create_dir(&schedules)?;
        std::fs::write(schedules.join("bench.yaml"), yaml)?;
        let port = Port::claim()?;
        let program = |binary: &str| {
            anyhow::Ok(
                Program::of_workspace(binary, binary, folder.path())?
                    .env("REVEILLE_DATABASE_URL", database.url())
                    .env("REVEILLE_BROKER_URL", broker.url())
                    .quiet(),
            )
        };
        let scheduler = program("reveille-scheduler")?
            .env("REVEILLE_LISTEN", port.address().to_string())
            .env("REVEILLE_SCHEDULES", schedules.to_string_lossy())
            .env("REVEILLE_TRANSITIONS", (role != Role::EndToEnd { transitions: false }).to_string())
            .start()?;
        let worker = matches!(role, Role::EndToEnd { .. })
            .then(|| program("bench-noop-worker")?.env("REVEILLE_SLOTS", "1000").start())
            .transpose()?;
        let api = Client::new(port.address())?;
        api.wait_ready(Duration::from_secs(60)).await.with_context(|| scheduler.log())?;
        if let Some(worker) = &worker {
            eventually("the worker to be alive", Duration::from_secs(30), async || {
                let workers = api.get_path("/v1/workers").await.map_err(|error| error.to_string())?;
                if workers["items"][0]["live"] == true { Ok(()) } else { Err(worker.log()) }
            })
            .await?;
        }
        Ok(Self { scheduler, worker, api, folder, _ports: vec![port] })
    }

    async fn stop(mut self) -> Result<()> {
        for process in self.worker.iter_mut().chain([&mut self.scheduler]) {
            process.signal(rustix::process::Signal::TERM)?;
            process.wait_exit(Duration::from_secs(30)).await?;
        }
        Ok(())
    }
}

/// Every message published with a confirm, consumed and acknowledged, both at the same time.
async fn raw_broker(url: &str, messages: usize) -> Result<f64> {
    let mut queue = RawQueue::open(url, CONFIRMS_IN_FLIGHT as u16).await?;
    let body = Trigger {
        v: trigger::VERSION,
        id: WorkRequestId::new(SystemClock.now()),
        n: 1,
        namespace: "default".into(),
        job: "noop".into(),
    }
    .encode();

    let start = Instant::now();
    let publish = async {
        let mut left = messages;
        while left > 0 {
            let batch = left.min(CONFIRMS_IN_FLIGHT);
            let mut confirms = Vec::with_capacity(batch);
            for _ in 0..batch {
                confirms.push(raw_queue::publish(&queue.publishing, &body).await?);
            }
            for confirm in confirms {
                ensure!(confirm.await?.is_ack(), "a publish was refused");
            }
            left -= batch;
        }
        anyhow::Ok(())
    };
    let consume = async {
        for _ in 0..messages {
            let delivery = queue.consumer.next().await.context("the consumer ended")??;
            delivery.ack(BasicAckOptions::default()).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(publish, consume)?;
    Ok(per_second(messages, start.elapsed()))
}

/// How late the triggers of many schedules that are due at the same second are with the broker, by the scheduler's
/// own measure, while nobody consumes. With a consumer: see `bench-lateness`.
#[allow(clippy::disallowed_methods, reason = "a benchmark lives in real time")]
async fn lateness(database: &Database, broker: &Broker, schedules: usize) -> Result<()> {
    // A folder that was in force before would be taken for an old one.
    let jobs = NOOP.replace("{ function", "{ description: of many schedules, function");
    let system = System::start(database, broker, &jobs, Role::Send).await?;
    let due = Timestamp::now().round(Unit::Second)? + 20.seconds();
    let mut yaml = jobs;
    yaml.push_str("schedules:\n");
    for n in 0..schedules {
        writeln!(yaml, "  s{n}: {{ at: {due}, trigger: noop }}")?;
    }
    let file = system.folder.path().join("schedules/bench.yaml");
    std::fs::write(file.with_extension("next"), yaml)?;
    std::fs::rename(file.with_extension("next"), &file)?;

    println!("{schedules} schedules due at one second:");
    let confirmed = format!("reveille_fire_lateness_seconds_count {schedules}");
    let metrics = eventually("all triggers to be confirmed", Duration::from_secs(120), async || {
        let answer = system.api.request(reqwest::Method::GET, "/metrics").send().await;
        let text = answer.map_err(|error| error.to_string())?.text().await.map_err(|error| error.to_string())?;
        if text.contains(&confirmed) { Ok(text) } else { Err("not all".to_owned()) }
    })
    .await?;
    println!("  due to confirmed by the broker, cumulative:");
    for line in metrics.lines().filter_map(|line| line.strip_prefix("reveille_fire_lateness_seconds_bucket{le=")) {
        let (bound, count) = line.trim_start_matches('"').split_once("\"} ").context("a bucket")?;
        let share = count.parse::<f64>()? * 100.0 / schedules as f64;
        if share > 0.0 {
            println!("    {share:5.1} % within {bound} s");
        }
        if share >= 100.0 {
            break;
        }
    }
    system.stop().await
}
