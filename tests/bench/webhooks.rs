//! How many webhooks a second go out to a local receiver, and how long after what they tell; beside bare posts of the same
//! client to the same receiver in the same run.
//!
//! `cargo build --release --workspace --bins && target/release/bench-webhooks [RUNS] [SECONDS]`

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for people")]

mod sample;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use futures_util::StreamExt as _;
use harness::client::Client;
use harness::ports::Port;
use harness::process::Program;
use harness::stack::{Service, Stack};
use harness::usage::Usage;
use harness::wait::eventually;
use jiff::Timestamp;
use reqwest::Method;
use reveille_shared::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::sample::{Sample, millis};

const JOBS: &str = "version: 1\njobs:\n  noop: { function: noop }\n";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Posts at one time, as the scheduler has them to one target.
const AT_ONCE: usize = 64;
/// Runs per second in the second part.
const RATE: usize = 1_000;
const LIMIT: Duration = Duration::from_secs(300);

/// What has come, and how late.
#[derive(Default)]
struct Arrivals {
    count: AtomicUsize,
    late: Mutex<Vec<f64>>,
}

impl Arrivals {
    fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn take_late(&self) -> Vec<f64> {
        std::mem::take(&mut *self.late.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn wait(&self, count: usize) -> Result<()> {
        eventually(&format!("{count} posts"), LIMIT, async || {
            let seen = self.count();
            if seen >= count { Ok(()) } else { Err(format!("{seen} have come")) }
        })
        .await
    }
}

async fn arrive(State(arrivals): State<Arc<Arrivals>>, body: Bytes) {
    let now = SystemClock.now();
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    if let Some(at) = event["time"].as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        let late = Duration::try_from(now.duration_since(at)).map_or(0.0, millis);
        arrivals.late.lock().unwrap_or_else(PoisonError::into_inner).push(late);
    }
    arrivals.count.fetch_add(1, Ordering::Relaxed);
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let runs = args.next().transpose()?.unwrap_or(20_000);
    let seconds = args.next().transpose()?.unwrap_or(20);
    let arrivals = Arc::new(Arrivals::default());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    let router = Router::new().route("/hook", post(arrive)).with_state(Arc::clone(&arrivals));
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await });

    let builder = Stack::postgres_rabbit().private_services().workers(0).schedules(JOBS);
    let stack = builder.env("REVEILLE_SECRET_KEY", KEY).env("REVEILLE_WEBHOOK_ALLOW", "127.0.0.1").start().await?;
    let program = Program::of_workspace("bench-noop-worker", "noop-worker", stack.folder())?
        .env("REVEILLE_DATABASE_URL", stack.database.as_ref().context("a database")?.url())
        .env("REVEILLE_BROKER_URL", stack.broker.as_ref().context("a broker")?.url())
        .env("REVEILLE_SLOTS", "1000")
        .quiet();
    let port = Port::claim()?;
    let mut worker = Service::start(program.env("REVEILLE_LISTEN", port.address().to_string()), port)?;
    worker.wait_ready().await?;
    let made = stack.api.request(Method::POST, "/v1/webhooks").json(&json!({ "url": url })).send().await?;
    let (status, made) = (made.status(), made.json::<Value>().await?);
    ensure!(status == 201, "{status}: {made}");
    println!("PostgreSQL, RabbitMQ, one scheduler, one worker, the receiver in this program, all on one machine:");

    // Warm: connections are opened and statements prepared.
    ends(&stack.api, 500).await?;
    arrivals.wait(501).await?;
    arrivals.take_late();

    let before = arrivals.count();
    let usage = Usage::of(stack.schedulers[0].pid())?;
    let begun = Instant::now();
    ends(&stack.api, runs).await?;
    arrivals.wait(before + runs + 1).await?;
    let took = begun.elapsed();
    let rate = (runs + 1) as f64 / took.as_secs_f64();
    let late = Sample::of(arrivals.take_late())?;
    println!(
        "  {runs} runs end as fast as they can, one webhook each: {rate:.0}/s, the last one {:.1} s after the request",
        took.as_secs_f64()
    );
    println!("    behind what they tell: median {:.0} ms, p99 {:.0} ms", late.at(0.5), late.at(0.99));
    let cpu = Usage::of(stack.schedulers[0].pid())?.cpu_percent(&usage, took);
    println!("    scheduler, which also dispatches them: {cpu:.0} % of a core");

    let before = arrivals.count();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let begun = Instant::now();
    for _ in 0..seconds {
        tick.tick().await;
        ask(&stack.api, RATE - 1).await?;
    }
    arrivals.wait(before + seconds * RATE).await?;
    let late = Sample::of(arrivals.take_late())?;
    println!(
        "  {RATE} runs each second for {seconds} s: all told {:.1} s after the first, behind what they tell: median {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
        begun.elapsed().as_secs_f64(),
        late.at(0.5),
        late.at(0.99),
        late.at(1.0)
    );

    let bare = bare(&url, runs, &made).await?;
    println!("  bare posts, {AT_ONCE} at a time: {bare:.0}/s");
    println!("  ratio {:.2}", rate / bare);
    Ok(())
}

/// Asks for a run with so many children, each of which ends at once.
async fn ask(api: &Client, children: usize) -> Result<String> {
    let inputs: Vec<Value> = (0..children).map(|number| json!({ "number": number })).collect();
    let answer = api.request(Method::POST, "/v1/jobs/noop/trigger").json(&json!({ "inputs": inputs })).send().await?;
    let (status, accepted) = (answer.status(), answer.json::<Value>().await?);
    ensure!(status == 202, "{status}: {accepted}");
    Ok(accepted["id"].as_str().context("an id")?.to_owned())
}

async fn ends(api: &Client, children: usize) -> Result<()> {
    let id = ask(api, children).await?;
    api.wait_status_within(&id, "SUCCEEDED", LIMIT).await.map(drop)
}

/// Posts a second of a bare client, with a body of about the same size.
async fn bare(url: &str, count: usize, like: &Value) -> Result<f64> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let body = json!({"data": like, "padding": "x".repeat(300)}).to_string();
    let begun = Instant::now();
    let posts = futures_util::stream::iter(0..count).map(|_| {
        let request = client.post(url).header("content-type", "application/cloudevents+json").body(body.clone());
        async { request.send().await?.error_for_status()?.bytes().await }
    });
    let mut posts = posts.buffer_unordered(AT_ONCE);
    while let Some(posted) = posts.next().await {
        posted?;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}
