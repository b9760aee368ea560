//! Runs with many children: how long it takes to accept them and until they have ended, what a look at their parent costs,
//! and how long other runs wait meanwhile; on SQLite, how long its writer is held.
//!
//! `cargo build --release --workspace --bins && target/release/bench-fan-out [CHILDREN]`

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for people")]

mod sample;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use harness::client::Client;
use harness::ports::Port;
use harness::process::Program;
use harness::stack::{Service, Stack};
use reqwest::Method;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::definition::{Handler, Job};
use reveille_shared::fan_out::{FailPolicy, Verdict};
use reveille_shared::store::{Births, Claim, FollowUp, NewFanOut, NewWorkRequest, Outcome, Report, Staging, Store};
use reveille_shared::work_request::WorkRequestId;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::sample::{Sample, millis};

const JOBS: &str = "version: 1\njobs:\n  noop: { function: noop }\n";
/// Looks at a parent that has ended.
const LOOKS: usize = 300;
/// Between two looks at one that goes on.
const PAUSE: Duration = Duration::from_millis(20);
const LIMIT: Duration = Duration::from_secs(900);

#[tokio::main]
async fn main() -> Result<()> {
    let children = std::env::args().nth(1).map(|arg| arg.parse()).transpose()?.unwrap_or(100_000);
    let stack = Stack::postgres_rabbit().private_services().workers(0).schedules(JOBS).start().await?;
    let program = Program::of_workspace("bench-noop-worker", "noop-worker", stack.folder())?
        .env("REVEILLE_DATABASE_URL", stack.database.as_ref().context("a database")?.url())
        .env("REVEILLE_BROKER_URL", stack.broker.as_ref().context("a broker")?.url())
        .env("REVEILLE_SLOTS", "1000")
        .quiet();
    let port = Port::claim()?;
    let mut worker = Service::start(program.env("REVEILLE_LISTEN", port.address().to_string()), port)?;
    worker.wait_ready().await?;
    println!("PostgreSQL and RabbitMQ, one scheduler, one worker with 1,000 slots, a function that does nothing:");
    let mut looks = Vec::new();
    for count in [1_000, 10_000, children] {
        let id = whole(&stack.api, count).await?;
        looks.push(Sample::of(look(&stack.api, &id).await?)?.at(0.5));
    }
    println!(
        "  a look at the parent, median of {LOOKS}: {:.2} ms of 1,000, {:.2} ms of {children}",
        looks[0], looks[2]
    );
    println!("  ratio {:.2}", looks[2] / looks[0]);
    drop(stack);
    writer(10_000).await
}

/// Asks for so many children and waits for their end; meanwhile others ask for single runs.
async fn whole(api: &Client, count: usize) -> Result<String> {
    let inputs: Vec<Value> = (0..count).map(|number| json!({ "number": number })).collect();
    let begun = Instant::now();
    let request = api.request(Method::POST, "/v1/jobs/noop/trigger").json(&json!({ "inputs": inputs }));
    let answer = request.send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status == 202, "{status}: {text}");
    let accepted = begun.elapsed();
    let id = serde_json::from_str::<Value>(&text)?["id"].as_str().context("an id")?.to_owned();
    let stop = CancellationToken::new();
    let followed = async {
        let _stops = stop.clone().drop_guard();
        let (mut last, mut polled) = (0.0, 0_u32);
        loop {
            let seen = api.get(&id).await?;
            let percent = seen["percentComplete"].as_f64().context("a percentage")?;
            ensure!(percent >= last, "{percent} after {last}");
            (last, polled) = (percent, polled + 1);
            match seen["status"].as_str() {
                Some("SUCCEEDED") => return Ok((begun.elapsed(), polled)),
                Some("ACCEPTED" | "IN_PROGRESS") if begun.elapsed() < LIMIT => tokio::time::sleep(PAUSE).await,
                _ => bail!("{seen}"),
            }
        }
    };
    let ((ended, polled), others) = tokio::try_join!(followed, others(api, &stop))?;
    let rate = count as f64 / (ended - accepted).as_secs_f64();
    println!(
        "  {count:>7} children: accepted in {:.0} ms, ended in {:.1} s ({rate:.0}/s)",
        millis(accepted),
        ended.as_secs_f64()
    );
    println!("          {polled} looks, the percentage never went backward");
    if let Ok(others) = Sample::of(others) {
        println!(
            "          other runs meanwhile, request to end: median {:.0} ms, longest {:.0} ms",
            others.at(0.5),
            others.at(1.0)
        );
    }
    Ok(id)
}

/// How long single runs take from the request to their end, one after the other.
async fn others(api: &Client, stop: &CancellationToken) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let id = api.trigger("noop", json!({})).await?;
        while api.get(&id).await?["status"] != "SUCCEEDED" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        took.push(millis(begun.elapsed()));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(took)
}

async fn look(api: &Client, id: &str) -> Result<Vec<f64>> {
    let mut took = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        let begun = Instant::now();
        api.get(id).await?;
        took.push(millis(begun.elapsed()));
    }
    Ok(took)
}

/// How long each transaction takes on SQLite, from its beginning to its answer.
async fn writer(count: u32) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store =
        Store::connect(&format!("sqlite://{}", folder.path().display()), "bench", Arc::new(SystemClock)).await?;
    println!("SQLite, {count} children, the store alone:");
    let noop = Job::new("default", "noop", Handler::Function("noop".into()));
    let request = || NewWorkRequest::new(WorkRequestId::new(SystemClock.now()), &noop, 1, "bench");
    let parent = request();
    let id = parent.id;
    let begun = Instant::now();
    let (mut keep, mut bear, mut follow) = (Vec::new(), Vec::new(), Vec::new());
    let mut staging = Staging::new(store.clone(), id.0);
    for number in 0..count {
        staging.add(json!({ "number": number }), 16);
        if staging.is_full() {
            timed(&mut keep, staging.keep()).await?;
        }
    }
    timed(&mut keep, staging.finish()).await?;
    let fan_out =
        NewFanOut { job: "noop".into(), job_version: 1, policy: FailPolicy::AtEnd, batch: id.0, total: count };
    store.accept_fan_out(parent, &fan_out, None).await?;
    println!("  accepted in {:.0} ms", millis(begun.elapsed()));
    while let Some(chunk) = store.next_chunk(id.0, -1).await? {
        let child = |input| NewWorkRequest { input, parent: Some(id), follow: true, ..request() };
        let requests = chunk.inputs.into_iter().map(child).collect();
        timed(&mut bear, store.bear(Births { parent: id, chunk: chunk.number, requests }, &|_| false)).await?;
    }
    let worker = Uuid::new_v4();
    loop {
        let taken = store.take_due(500).await?;
        if taken.is_empty() {
            break;
        }
        let claims: Vec<_> =
            taken.iter().map(|out| Claim { id: out.trigger.id, n: out.trigger.n, token: Uuid::new_v4() }).collect();
        store.claim(worker, &claims).await?;
        let outcome = Outcome::Succeeded { output: Value::Null };
        let report = |claim: &Claim| Report::new(claim.id, claim.token, outcome.clone());
        store.report(claims.iter().map(report).collect()).await?;
    }
    let births = store.kind().births();
    loop {
        let ended = store.ended_runs(i64::try_from(2 * births)?).await?;
        if ended.is_empty() {
            break;
        }
        let follow_ups = ended.into_iter().map(|run| FollowUp { run, births: Vec::new() }).collect();
        timed(&mut follow, store.follow(follow_ups, &|_| false)).await?;
    }
    ensure!(matches!(store.settle(id).await?, Verdict::End(_)), "it does not end");
    let (makes, counts) = (format!("makes {births} children"), format!("counts {} ends", 2 * births));
    for (what, took) in [("keeps inputs", keep), (&makes, bear), (&counts, follow)] {
        let took = Sample::of(took)?;
        println!("  what {what}: median {:.1} ms, longest {:.1} ms", took.at(0.5), took.at(1.0));
    }
    Ok(())
}

async fn timed<T, E>(took: &mut Vec<f64>, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let begun = Instant::now();
    let done = work.await;
    took.push(millis(begun.elapsed()));
    done
}
