//! How late the triggers of many schedules are that are all due every five seconds, and what that costs the scheduler;
//! beside it, for each size, what a peer says of itself on the same RabbitMQ.
//!
//! `cargo build --release --workspace --bins && target/release/bench-lateness [--peer "COMMAND"]`
//!
//! The peer's command is run by `sh` with the number of schedules behind it, and finds the servers in `PEERS_AMQP` and
//! `PEERS_PG`. It runs after our scheduler has ended, so that neither takes the other's time.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod peer;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser as _;
use futures_util::FutureExt as _;
use harness::stack::Stack;
use harness::usage::Usage;
use jiff::Timestamp;
use reqwest::Method;
use reveille_shared::broker::{self, Subscription};
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::definition::Priority;
use reveille_shared::store::{Claim, Outcome, Report, Store};
use reveille_shared::trigger::Trigger;
use reveille_shared::work_request::WorkRequestId;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Due times after the start that are not counted.
const WARM_UP: i64 = 2;
/// The most triggers claimed at once.
const BATCH: usize = 256;
const LATENESS: &str = "reveille_fire_lateness_seconds_bucket{le=\"";

/// Measures how late triggers are
#[derive(Debug, clap::Parser)]
#[command(name = "bench-lateness")]
struct Arguments {
    /// Numbers of schedules, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "200,1000,10000")]
    sizes: Vec<usize>,

    /// Seconds from one due time to the next
    #[arg(long, default_value_t = 5)]
    every: i64,

    /// Due times that count
    #[arg(long, default_value_t = 6)]
    bursts: i64,

    /// A command that measures a peer; the number of schedules is added to it
    #[arg(long)]
    peer: Option<String>,
}

/// Of one size.
struct Figures {
    schedules: usize,
    confirmed: Vec<(f64, f64)>,
    /// In order.
    received: Vec<f64>,
    /// Of the first and of the last quarter of what arrived: lateness that grows shows here.
    quarters: [f64; 2],
    cpu_percent: f64,
    usage: Usage,
    peer: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut all = Vec::new();
    for &schedules in &arguments.sizes {
        println!("measuring with {schedules} schedules …");
        all.push(measure(schedules, arguments.every, arguments.bursts, arguments.peer.as_deref()).await?);
    }
    table(&all, arguments.every);
    Ok(())
}

async fn measure(schedules: usize, every: i64, bursts: i64, peer: Option<&str>) -> Result<Figures> {
    let mut yaml = "version: 1\njobs:\n  noop: { function: noop }\nschedules:\n".to_owned();
    for n in 0..schedules {
        writeln!(yaml, "  s{n}: {{ cron: \"*/{every} * * * * *\", trigger: noop, overlap: allow }}")?;
    }
    let mut stack = Stack::postgres_rabbit().private_services().workers(0).schedules(yaml).start().await?;
    let (database, broker) =
        (stack.database.as_ref().context("a database")?, stack.broker.as_ref().context("a broker")?);
    let (database_url, broker_url) = (database.url().to_owned(), broker.url().to_owned());
    let stop = CancellationToken::new();
    let mut consumer = JoinSet::new();
    // Room for all: they are counted at the end, and whoever ends them must not wait for that.
    let (started, lateness) = mpsc::channel(schedules * usize::try_from(bursts + 2 * WARM_UP)? + (1 << 16));
    let store = Store::connect(&database_url, "bench", Arc::new(SystemClock)).await?;
    let deliveries = broker::connect(&broker_url, "bench", stop.clone())?
        .subscribe(&["default".to_owned()], Priority::Normal)
        .await?;
    let (hand_over, taken) = mpsc::channel(1 << 16);
    consumer.spawn(receive(deliveries, hand_over));
    consumer.spawn(end_all(store, taken, started));

    // From the middle between two due times to the middle between two others.
    let first = (SystemClock.now().as_second() / every + 1 + WARM_UP) * every;
    wait_until(Timestamp::from_millisecond(first * 1000 - every * 500)?).await;
    let (before, since) = (confirmed(&stack).await?, Instant::now());
    let pid = stack.schedulers[0].pid();
    let usage_before = Usage::of(pid)?;
    let last = first + (bursts - 1) * every;
    wait_until(Timestamp::from_millisecond(last * 1000 + every * 500)?).await;
    let usage = Usage::of(pid)?;
    let cpu_percent = usage.cpu_percent(&usage_before, since.elapsed());

    let counted = Counted { first, last, expected: schedules * usize::try_from(bursts)?, lateness };
    let received = tokio::select! {
        received = counted.collect() => received?,
        Some(ended) = consumer.join_next() => { ended??; anyhow::bail!("the consumer ended") }
    };
    let mut received = received;
    let quarter = |part: &[f64]| {
        let mut part = part.to_vec();
        part.sort_by(f64::total_cmp);
        at(&part, 0.99)
    };
    let quarters = [quarter(&received[..received.len() / 4]), quarter(&received[received.len() * 3 / 4..])];
    received.sort_by(f64::total_cmp);
    let confirmed = difference(&before, &confirmed(&stack).await?);
    stop.cancel();
    consumer.shutdown().await;
    let scheduler = &mut stack.schedulers[0];
    scheduler.signal(Signal::TERM)?;
    scheduler.wait_exit(Duration::from_secs(30)).await?;
    let peer = match peer {
        // Our own figures stand all the same.
        Some(command) => Some(
            peer::run(command, schedules, stack.folder(), &database_url, &broker_url)
                .await
                .unwrap_or_else(|error| format!("the peer gave no figures with {schedules} schedules: {error:#}")),
        ),
        None => None,
    };
    Ok(Figures { schedules, confirmed, received, quarters, cpu_percent, usage, peer })
}

async fn wait_until(instant: Timestamp) {
    let left = instant.duration_since(SystemClock.now());
    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
}

/// A consumer that acknowledges at once, as it has nothing else to do.
async fn receive(mut deliveries: Box<dyn Subscription>, hand_over: mpsc::Sender<(Trigger, Timestamp)>) -> Result<()> {
    deliveries.demand(u16::MAX).await;
    while let Some(delivery) = deliveries.next().await {
        let mut batch = vec![(delivery, SystemClock.now())];
        while batch.len() < BATCH
            && let Some(Some(delivery)) = deliveries.next().now_or_never()
        {
            batch.push((delivery, SystemClock.now()));
        }
        // What had to wait for room may share a message.
        let all =
            batch.iter().flat_map(|(delivery, at)| delivery.triggers.iter().map(|trigger| (trigger.clone(), *at)));
        let triggers: Vec<_> = all.collect();
        deliveries.ack(batch.into_iter().map(|(delivery, _)| delivery).collect()).await;
        for trigger in triggers {
            hand_over.send(trigger).await?;
        }
    }
    Ok(())
}

/// Ends each run, as a trigger that nobody claims is sent again. Tells due times and lateness in milliseconds.
async fn end_all(
    store: Store,
    mut taken: mpsc::Receiver<(Trigger, Timestamp)>,
    tell: mpsc::Sender<(Timestamp, f64)>,
) -> Result<()> {
    let worker = Uuid::new_v4();
    let mut batch = Vec::new();
    while taken.recv_many(&mut batch, BATCH).await > 0 {
        let received: HashMap<WorkRequestId, Timestamp> =
            batch.iter().map(|(trigger, received)| (trigger.id, *received)).collect();
        let claims = batch.drain(..).map(|(trigger, _)| Claim { id: trigger.id, n: trigger.n, token: Uuid::new_v4() });
        let claims: Vec<_> = claims.collect();
        // A refused one was claimed before.
        let claimed: Vec<_> = store.claim(worker, &claims).await?.into_iter().flatten().collect();
        let outcome = Outcome::Succeeded { output: Value::Null };
        let reports = claimed.iter().map(|lease| Report::new(lease.id, lease.token, outcome.clone())).collect();
        store.report(reports).await?;
        for lease in claimed {
            let (due, received) = (lease.fire.context("a fire")?.due_at, received[&lease.id]);
            tell.send((due, received.duration_since(due).as_secs_f64() * 1e3)).await?;
        }
    }
    Ok(())
}

/// What is waited for.
struct Counted {
    first: i64,
    last: i64,
    expected: usize,
    lateness: mpsc::Receiver<(Timestamp, f64)>,
}

impl Counted {
    /// The lateness of every trigger that counts, in order.
    async fn collect(mut self) -> Result<Vec<f64>> {
        let mut received = Vec::with_capacity(self.expected);
        while received.len() < self.expected {
            let next = tokio::time::timeout(Duration::from_secs(120), self.lateness.recv()).await;
            let (due, late) = next
                .with_context(|| format!("only {} of {} triggers arrived", received.len(), self.expected))?
                .context("the consumer ended")?;
            if (self.first..=self.last).contains(&due.as_second()) {
                received.push(late);
            }
        }
        Ok(received)
    }
}

/// The scheduler's own measure: upper bounds in seconds and how many triggers were confirmed within them.
async fn confirmed(stack: &Stack) -> Result<Vec<(f64, f64)>> {
    let text = stack.api.request(Method::GET, "/metrics").send().await?.text().await?;
    let lines = text.lines().filter_map(|line| line.strip_prefix(LATENESS)?.split_once("\"} "));
    lines.map(|(bound, count)| Ok((bound.parse()?, count.parse()?))).collect()
}

fn difference(before: &[(f64, f64)], after: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let count = |bound: f64| before.iter().find(|(known, _)| known.total_cmp(&bound).is_eq()).map_or(0.0, |(_, n)| *n);
    after.iter().map(|(bound, n)| (*bound, n - count(*bound))).collect()
}

/// In milliseconds, as if lateness were spread evenly within a bucket.
fn quantile(buckets: &[(f64, f64)], part: f64) -> f64 {
    let wanted = buckets.last().map_or(0.0, |(_, all)| all * part);
    let (mut bound_below, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= wanted {
            let share = if *count > below { (wanted - below) / (count - below) } else { 1.0 };
            return (bound_below + (bound - bound_below) * share) * 1e3;
        }
        (bound_below, below) = (*bound, *count);
    }
    f64::INFINITY
}

fn at(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

fn table(all: &[Figures], every: i64) {
    println!("\nall due every {every} s; lateness in ms, of the confirmed ones from a histogram");
    println!(
        "schedules  confirmed p50    p99  received p50    p99    max  p99 at first and last  CPU of a core  memory    peak"
    );
    all.iter().for_each(row);
    for peer in all.iter().filter_map(|figures| figures.peer.as_ref()) {
        println!("{peer}");
    }
}

fn row(figures: &Figures) {
    let (confirmed, received) = (&figures.confirmed, &figures.received);
    println!(
        "{:9} {:14.0} {:6.0} {:13.0} {:6.0} {:6.0} {:13.0} {:8.0} {:13.1} % {:4} MiB {:3} MiB",
        figures.schedules,
        quantile(confirmed, 0.5),
        quantile(confirmed, 0.99),
        at(received, 0.5),
        at(received, 0.99),
        at(received, 1.0),
        figures.quarters[0],
        figures.quarters[1],
        figures.cpu_percent,
        figures.usage.resident >> 20,
        figures.usage.peak >> 20,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let buckets = [(0.1, 0.0), (0.25, 50.0), (0.5, 100.0), (f64::INFINITY, 100.0)];
        assert!((quantile(&buckets, 0.5) - 250.0).abs() < 0.1);
        assert!((quantile(&buckets, 0.75) - 375.0).abs() < 0.1);
        assert_eq!(difference(&buckets, &buckets), buckets.map(|(bound, _)| (bound, 0.0)));
    }
}
