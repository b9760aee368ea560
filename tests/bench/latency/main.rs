//! How long a run waits on an idle system, from the request to trigger it until its function starts, and where the time
//! goes; beside it, at the same rate in the same run, what one message through the broker and one commit take.
//!
//! `cargo build --release --workspace --bins && target/release/bench-latency [--rate 100] [--seconds 60]`
//!
//! All instants are of one machine's clock, which the database, the processes and this program share.

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for people")]

mod floor;
mod pace;
#[path = "../raw_queue.rs"]
mod raw_queue;
#[path = "../sample.rs"]
mod sample;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use harness::client::Client;
use harness::ports::Port;
use harness::process::Program;
use harness::stack::{Service, Stack};
use harness::wait::eventually;
use jiff::Timestamp;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::state::Status;
use reveille_shared::store::Store;
use reveille_shared::work_request::WorkRequestId;
use serde_json::json;
use tokio::time::Instant;

use crate::pace::Pace;
use crate::sample::{Sample, millis};

/// Before anything counts: connections are opened and statements prepared.
const WARM_UP: u32 = 2;
/// From the request to the start of the function, in ms: half of all, and 99 of 100.
const AIM: (f64, f64) = (5.0, 25.0);
/// Accepting, marking as sent and claiming: the commits between a request and its run.
const COMMITS: f64 = 3.0;

const JOBS: &str = "version: 1\njobs:\n  clock: { function: clock }\n";

/// Measures how long a run waits on an idle system
#[derive(Debug, clap::Parser)]
#[command(name = "bench-latency")]
struct Arguments {
    /// Requests per second, at even distances
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,

    /// For how long, each of the three measurements
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// A request for a run.
struct Asked {
    id: WorkRequestId,
    /// How long after its time the request went out, in ms.
    late: f64,
    sent: Timestamp,
    answered: Timestamp,
}

/// What became of one, in ms.
struct Ran {
    answer: f64,
    accept: f64,
    claim: f64,
    start: f64,
    report: f64,
    /// From the request to the start of the function.
    whole: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Arguments { rate, seconds } = Arguments::parse();
    let pace = Pace { rate, seconds };
    let warm_up = Pace { rate, seconds: WARM_UP };
    let stack = Stack::postgres_rabbit().private_services().workers(0).schedules(JOBS).start().await?;
    let broker = stack.broker.as_ref().context("a broker")?.url();
    let database = stack.database.as_ref().context("a database")?.url();
    let program = Program::of_workspace("bench-clock-worker", "clock-worker", stack.folder())?
        .env("REVEILLE_DATABASE_URL", database)
        .env("REVEILLE_BROKER_URL", broker)
        .quiet();
    let port = Port::claim()?;
    let mut worker = Service::start(program.env("REVEILLE_LISTEN", port.address().to_string()), port)?;
    worker.wait_ready().await?;

    println!("{rate}/s for {seconds} s, one thing after the other: messages, commits, runs");
    let message = Sample::of(floor::messages(broker, &warm_up, &pace).await?)?;
    let commit = Sample::of(floor::commits(database, &warm_up, &pace).await?)?;
    let store = Store::connect(database, "bench", Arc::new(SystemClock)).await?;
    ended(&store, ask(&stack.api, &warm_up).await?).await?;
    let asked = ask(&stack.api, &pace).await?;
    let late = Sample::of(asked.iter().map(|asked| asked.late))?;
    let ran = ended(&store, asked).await?;
    print(&ran, &message, &commit)?;
    println!("\n{} runs; this program sent its requests up to {:.2} ms after their time", ran.len(), late.at(1.0));
    Ok(())
}

/// Triggers the job at this pace, whether earlier requests were answered or not.
async fn ask(api: &Client, pace: &Pace) -> Result<Vec<Asked>> {
    pace.keep(|due| {
        let api = api.clone();
        async move {
            let late = millis(Instant::now().duration_since(due));
            let sent = SystemClock.now();
            let id = api.trigger("clock", json!({})).await?;
            Ok(Asked { id: id.parse()?, late, sent, answered: SystemClock.now() })
        }
    })
    .await
}

/// Waits for the runs' ends, and reads when what happened.
async fn ended(store: &Store, asked: Vec<Asked>) -> Result<Vec<Ran>> {
    eventually("all runs to end", Duration::from_secs(60), async || {
        let depths = store.depths().await.map_err(|error| error.to_string())?;
        let open: i64 = depths.iter().map(|depth| depth.count).sum();
        if open == 0 { Ok(()) } else { Err(format!("{open} have not ended")) }
    })
    .await?;
    let mut ran = Vec::with_capacity(asked.len());
    for Asked { id, sent, answered, .. } in asked {
        let run = store.work_request("default", id).await?.context("an accepted run")?;
        ensure!(run.status == Status::Succeeded && run.attempt == 1, "run {id} is {} at {}", run.status, run.attempt);
        let micros = store.output(id).await?.and_then(|output| output.as_i64()).context("the function's start")?;
        let started = Timestamp::from_microsecond(micros)?;
        let claimed = run.started_at.context("the claim's time")?;
        let finished = run.finished_at.context("the end's time")?;
        ran.push(Ran {
            answer: between(sent, answered),
            accept: between(sent, run.accepted_at),
            claim: between(run.accepted_at, claimed),
            start: between(claimed, started),
            report: between(started, finished),
            whole: between(sent, started),
        });
    }
    Ok(ran)
}

fn between(earlier: Timestamp, later: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64() * 1e3
}

type Part = (&'static str, fn(&Ran) -> f64);

fn print(ran: &[Ran], message: &Sample, commit: &Sample) -> Result<()> {
    // The transactions' times are those of their first statements.
    let parts: [Part; 6] = [
        ("request sent to function started", |ran| ran.whole),
        ("  request sent to accepted", |ran| ran.accept),
        ("  accepted to claimed (accept, send, message)", |ran| ran.claim),
        ("  claimed to function started", |ran| ran.start),
        ("function started to reported", |ran| ran.report),
        ("request sent to answered", |ran| ran.answer),
    ];
    println!("\n{:48}{:>9}{:>9}{:>9}{:>9}", "ms", "p50", "p90", "p99", "max");
    for (name, part) in parts {
        row(name, &Sample::of(ran.iter().map(part))?);
    }
    row("one message, published to received (raw lapin)", message);
    row("one commit of an INSERT (raw sqlx)", commit);

    let whole = Sample::of(ran.iter().map(|ran| ran.whole))?;
    println!("\n{:48}{:>9}{:>9}{:>9}", "request sent to function started, as multiple of", "p50", "p90", "p99");
    let ratios = |name: &str, floor: &dyn Fn(f64) -> f64| {
        print!("{name:48}");
        [0.5, 0.9, 0.99].into_iter().for_each(|part| print!("{:9.2}", whole.at(part) / floor(part)));
        println!();
    };
    ratios("  one message", &|part| message.at(part));
    ratios("  one commit", &|part| commit.at(part));
    ratios("  the message and the three commits of a run", &|part| message.at(part) + COMMITS * commit.at(part));

    let met = |figure: f64, aim: f64| if figure <= aim { "met" } else { "missed" };
    let (p50, p99) = (whole.at(0.5), whole.at(0.99));
    println!("\naim p50 {} ms: {}; aim p99 {} ms: {}", AIM.0, met(p50, AIM.0), AIM.1, met(p99, AIM.1));
    Ok(())
}

fn row(name: &str, sample: &Sample) {
    print!("{name:48}");
    [0.5, 0.9, 0.99, 1.0].into_iter().for_each(|part| print!("{:9.2}", sample.at(part)));
    println!();
}
