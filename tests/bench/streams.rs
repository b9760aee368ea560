//! What readers of streams cost that hear nothing, in memory and processor time, and how long it takes until all have heard one
//! thing. Beside them, in the same run, as many connections that were asked something once, and that poll once.
//!
//! `cargo build --release --workspace --bins && target/release/bench-streams [--readers 5000] [--seconds 10]`

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for people")]

#[path = "connection.rs"]
mod connection;
#[path = "sample.rs"]
mod sample;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use harness::stack::Stack;
use harness::usage::Usage;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::connection::{Connection, request};
use crate::sample::{Sample, millis};

/// Connections that are opened side by side.
const TOGETHER: usize = 100;
/// After a start, and after so many connections were opened.
const SETTLE: Duration = Duration::from_secs(3);
/// No worker runs them.
const JOBS: &str = "version: 1\njobs:\n  nobody: { function: nobody, queue: nobodys }\n";
/// By then all have heard.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures idle streams
#[derive(Debug, clap::Parser)]
#[command(name = "bench-streams")]
struct Arguments {
    /// How many read at a time
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=30_000))]
    readers: u32,

    /// For how long they are watched while nothing happens
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Connections that poll.
    Polls,
    /// All that happens in the namespace.
    All,
    /// One run each.
    Run,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Polls, Self::All, Self::Run];

    const fn name(self) -> &'static str {
        match self {
            Self::Polls => "connections that poll, once",
            Self::All => "streams of all runs",
            Self::Run => "streams of a run each",
        }
    }
}

struct Figures {
    kind: Kind,
    before: Usage,
    after: Usage,
    cpu_percent: f64,
    /// From the request that makes it happen until each reader has heard of it, in ms.
    heard: Sample,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    ensure!(most.is_none_or(|most| most > u64::from(arguments.readers) + 200), "only {most:?} files may be open");
    let mut stack = Stack::postgres_rabbit().private_services().workers(0).schedules(JOBS).start().await?;
    let mut all = Vec::new();
    for kind in Kind::ALL {
        println!("measuring {} {} …", arguments.readers, kind.name());
        all.push(measure(&mut stack, kind, &arguments).await?);
    }
    print(&all, arguments.readers);
    Ok(())
}

async fn measure(stack: &mut Stack, kind: Kind, arguments: &Arguments) -> Result<Figures> {
    // What another kind has taken is not given back by the allocator.
    let scheduler = &mut stack.schedulers[0];
    scheduler.restart().await?;
    let address = scheduler.address();
    let readers = arguments.readers as usize;
    let runs = trigger(address, if kind == Kind::Run { readers } else { 1 }).await?;
    sleep(SETTLE).await;
    let before = Usage::of(scheduler.pid())?;
    let connections: Vec<Connection> =
        stream::iter((0..readers).map(|reader| open(address, kind, &runs[reader % runs.len()])))
            .buffer_unordered(TOGETHER)
            .try_collect()
            .await?;
    sleep(SETTLE).await;
    let (after, begun) = (Usage::of(scheduler.pid())?, Instant::now());
    // Nothing is waited for: this is the time over which they are watched.
    sleep(Duration::from_secs(arguments.seconds)).await;
    let cpu_percent = Usage::of(scheduler.pid())?.cpu_percent(&after, begun.elapsed());
    let heard =
        tokio::time::timeout(LIMIT, hear(address, kind, connections, &runs)).await.context("some heard nothing")??;
    Ok(Figures { kind, before, after, cpu_percent, heard })
}

/// Asks for runs that wait for long, and answers their paths.
async fn trigger(address: SocketAddr, count: usize) -> Result<Vec<String>> {
    let mut connections = try_join_all((0..count.min(TOGETHER)).map(|_| Connection::open(address))).await?;
    let body = r#"{"delay": "10h"}"#;
    let each = count.div_ceil(connections.len());
    let asked = try_join_all(connections.iter_mut().map(async |connection| {
        let mut paths = Vec::new();
        for _ in 0..each {
            connection.send(&request(address, "POST /v1/jobs/nobody/trigger", "", body)).await?;
            let head = String::from_utf8(connection.until(b"\r\n\r\n").await?)?;
            let path =
                head.lines().find_map(|line| line.strip_prefix("operation-location: http://")).context("no path")?;
            paths.push(path.split_once('/').map(|(_, path)| format!("/{path}")).context("no path")?);
            connection.until(b"}}").await?;
        }
        anyhow::Ok(paths)
    }))
    .await?;
    Ok(asked.into_iter().flatten().take(count).collect())
}

/// Opens one, and reads what there is to begin with.
async fn open(address: SocketAddr, kind: Kind, run: &str) -> Result<Connection> {
    let mut connection = Connection::open(address).await?;
    let accept = "accept: text/event-stream\r\n";
    match kind {
        Kind::Polls => ensure!(connection.ask(&request(address, "GET /livez", "", "")).await? == 200),
        Kind::All => {
            connection.send(&request(address, "GET /v1/workRequests:stream", accept, "")).await?;
            connection.until(b"\nid: ").await?;
        }
        Kind::Run => {
            connection.send(&request(address, &format!("GET {run}/stream"), accept, "")).await?;
            connection.until(b"\nevent: accepted\n").await?;
        }
    }
    Ok(connection)
}

/// Lets something happen, and waits until all have heard of it.
async fn hear(address: SocketAddr, kind: Kind, connections: Vec<Connection>, runs: &[String]) -> Result<Sample> {
    let barrier = Arc::new(Barrier::new(connections.len() + 1));
    let mut readers = JoinSet::new();
    let poll = request(address, &format!("GET {}", runs[0]), "", "");
    for mut connection in connections {
        let (barrier, poll) = (Arc::clone(&barrier), poll.clone());
        readers.spawn(async move {
            barrier.wait().await;
            if kind == Kind::Polls {
                ensure!(connection.ask(&poll).await? == 200);
            } else {
                connection.until(b"\nevent: canceled\n").await?;
            }
            anyhow::Ok(Instant::now())
        });
    }
    let mut caller = Connection::open(address).await?;
    barrier.wait().await;
    let begun = Instant::now();
    if kind != Kind::Polls {
        let cancel = request(address, "POST /v1/workRequests:cancel", "", r#"{"job": "nobody"}"#);
        ensure!(caller.ask(&cancel).await? == 200);
    }
    let mut heard = Vec::new();
    while let Some(at) = readers.join_next().await {
        heard.push(millis(at??.duration_since(begun)));
    }
    Sample::of(heard)
}

fn print(all: &[Figures], readers: u32) {
    println!(
        "\n{:30}{:>12}{:>12}{:>14}{:>8}{:>16}{:>12}{:>10}{:>8}",
        "", "MiB before", "MiB after", "MB per 1,000", "ratio", "CPU of a core", "heard p50", "all, ms", "ratio"
    );
    let each = |of: &Figures| of.after.resident.saturating_sub(of.before.resident) as f64 / f64::from(readers) / 1e3;
    for of in all {
        println!(
            "{:30}{:12.1}{:12.1}{:14.1}{:8.2}{:14.2} %{:12.0}{:10.0}{:8.2}",
            of.kind.name(),
            of.before.resident as f64 / f64::from(1 << 20),
            of.after.resident as f64 / f64::from(1 << 20),
            each(of),
            each(of) / each(&all[0]),
            of.cpu_percent,
            of.heard.at(0.5),
            of.heard.at(1.0),
            of.heard.at(1.0) / all[0].heard.at(1.0),
        );
    }
    println!("\n(a stream of a run each hears of its own: {readers} runs are canceled with one request)");
}
