//! The Python worker of the examples, on the real stack: it runs, is killed, hears of a cancel, drains, and its events count
//! once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::process::{Process, Program};
use harness::stack::Stack;
use harness::wait::eventually;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use reqwest::Method;
use reveille_shared::access::KeyText;
use rustix::process::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

/// Debian's, which has the package that the worker needs.
const PYTHON: &str = "/usr/bin/python3";
const LONG: Duration = Duration::from_secs(60);
const JOBS: &str = "
version: 1
jobs:
  resize: { queue: thumbnails, external: { lease: 10s }, retry: { initial: 100ms, max: 100ms } }
";

fn worker(stack: &Stack, name: &str) -> Result<Process> {
    worker_with(stack, name, &harness::key::text())
}

/// One that calls with this key.
fn worker_with(stack: &Stack, name: &str, key: &str) -> Result<Process> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let script: PathBuf = root.join("deploy/examples/python-worker/worker.py");
    let broker = stack.broker.as_ref().context("a broker")?.url();
    Program::new(PYTHON, name, stack.folder())
        .arg(script)
        .env("QUEUE", "thumbnails")
        .env("WORKER_NAME", name)
        .env("GRACE", "1")
        .env("REVEILLE_KEY", key)
        .env("REVEILLE_URL", format!("http://{}", stack.schedulers[0].address()))
        .env("REVEILLE_BROKER_URL", broker)
        .start()
}

async fn wait(stack: &Stack, id: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<()> {
    eventually(&format!("{id} to be {what}"), LONG, async || {
        let run = stack.api.get(id).await.map_err(|error| format!("{error:#}"))?;
        if is_it(&run) { Ok(()) } else { Err(run.to_string()) }
    })
    .await
}

async fn types(stack: &Stack, id: &str) -> Result<Vec<String>> {
    let events = stack.api.part(id, "events").await?;
    Ok(events.iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_python_runs_is_killed_is_canceled_and_drains() -> Result<()> {
    let stack = Stack::postgres_rabbit().schedules(JOBS).workers(0).start().await?;
    let api = &stack.api;
    let mut first = worker(&stack, "thumb-1")?;
    let quick = api.trigger("resize", json!({"steps": 3, "pause": 0.05})).await?;
    let failing = api.trigger("resize", json!({"steps": 1, "pause": 0.01, "fail": true})).await?;
    let run = api.wait_status(&quick, "SUCCEEDED").await?;
    ensure!(run["message"] == "step 3", "{run}");
    let result = api.get_path(&format!("/v1/workRequests/{quick}/result")).await?;
    ensure!(result == json!({"steps": 3, "by": "thumb-1"}), "{result}");
    ensure!(api.part(&quick, "logs").await?.len() == 3, "a line for each step");
    ensure!(types(&stack, &quick).await? == ["accepted", "started", "succeeded"], "its history");
    let run = api.wait_status(&failing, "FAILED").await?;
    ensure!(run["error"]["code"] == "ValueError" && run["attempt"] == 3, "{run}");

    // Killed in mid-run: the lease ends in silence, and another one has the next attempt.
    let long = api.trigger("resize", json!({"steps": 8, "pause": 0.25})).await?;
    wait(&stack, &long, "under way", |run| run["message"].is_string()).await?;
    first.kill9()?;
    let mut second = worker(&stack, "thumb-2")?;
    let run = api.wait_status(&long, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 2, "{run}");
    ensure!(
        types(&stack, &long).await? == ["accepted", "started", "attemptFailed", "started", "succeeded"],
        "its history"
    );
    let errors = api.part(&long, "errors").await?;
    ensure!(errors[0]["code"] == "Lost" && errors[0]["message"].to_string().contains("thumb-1"), "{errors:?}");

    let endless = api.trigger("resize", json!({"steps": 1000, "pause": 0.1})).await?;
    wait(&stack, &endless, "under way", |run| run["message"].is_string()).await?;
    api.cancel(&endless).await?;
    api.wait_status(&endless, "CANCELED").await?;

    // Told to stop, it hands back what it can't end within its grace.
    let handed = api.trigger("resize", json!({"steps": 60, "pause": 0.1})).await?;
    wait(&stack, &handed, "under way", |run| run["message"].is_string()).await?;
    second.signal(Signal::TERM)?;
    let status = second.wait_exit(LONG).await?;
    ensure!(status.success(), "{status}: it drains in good order");
    let mut third = worker(&stack, "thumb-3")?;
    let run = api.wait_status(&handed, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 2 && types(&stack, &handed).await?.contains(&"released".to_owned()), "{run}");
    let workers = api.get_path("/v1/workers").await?;
    let kinds: Vec<_> = workers["items"].as_array().context("workers")?.iter().map(|worker| &worker["kind"]).collect();
    ensure!(kinds == ["external"; 3], "{workers}");
    third.kill9()
}

/// The API answers to its own port alone. Whoever calls it by another one can claim nothing, and must not keep the triggers.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_can_claim_nothing_gives_triggers_back() -> Result<()> {
    let stack = Stack::postgres_rabbit().schedules(JOBS).workers(0).start().await?;
    let mut lost = worker_with(&stack, "thumb-lost", &KeyText::generate()?.reveal())?;
    let id = stack.api.trigger("resize", json!({"steps": 1, "pause": 0.01})).await?;
    eventually("a claim that is refused", LONG, async || {
        let log = lost.log();
        if log.contains(&format!("claim of {id}: 401 ")) { Ok(()) } else { Err(log) }
    })
    .await?;
    lost.kill9()?;
    let mut found = worker(&stack, "thumb-found")?;
    let run = stack.api.wait_status(&id, "SUCCEEDED").await?;
    // Had the trigger been acknowledged, it would have been sent again as a lost one.
    ensure!(types(&stack, &id).await? == ["accepted", "started", "succeeded"], "{run}");
    found.kill9()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_over_the_exchange_count_once_and_bad_ones_stand_in_nobodys_way() -> Result<()> {
    let stack = Stack::postgres_rabbit().schedules(JOBS).workers(0).schedulers(2).start().await?;
    let api = &stack.api;
    let id = api.trigger("resize", json!({})).await?;
    api.wait_in_queue(&id).await?;
    let token = Uuid::new_v4().to_string();
    let claim = json!({"n": 1, "worker": "test", "token": token});
    let answer = api.request(Method::POST, &format!("/v1/workRequests/{id}:claim")).json(&claim).send().await?;
    ensure!(answer.status() == 200, "{}", answer.text().await?);

    let connection =
        Connection::connect(stack.broker.as_ref().context("a broker")?.url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let publish = async |properties: BasicProperties, body: &[u8]| {
        channel
            .basic_publish("reveille.events".into(), "".into(), BasicPublishOptions::default(), body, properties)
            .await
    };
    let event = |token: &str, name: &str, kind: &str, data: Value| {
        json!({
            "specversion": "1.0", "id": name, "source": "/test", "type": format!("io.reveille.run.{kind}"), "subject": id,
            "time": "2026-01-01T00:00:00Z", "leasetoken": token, "data": data,
        })
        .to_string()
    };
    let structured = || BasicProperties::default().with_content_type("application/cloudevents+json".into());
    // What is no event, what is too large, and a stale one; then the same good ones again and again.
    publish(BasicProperties::default(), b"\xff\x00").await?;
    publish(structured(), &vec![b' '; 10_000_000]).await?;
    publish(structured(), event(&Uuid::new_v4().to_string(), "0", "failed", Value::Null).as_bytes()).await?;
    for _ in 0..50 {
        publish(structured(), event(&token, "1", "progress", json!({"percent": 40, "message": "m"})).as_bytes())
            .await?;
        let mut headers = FieldTable::default();
        for (name, text) in [
            ("specversion", "1.0"),
            ("id", "2"),
            ("source", "/test"),
            ("type", "io.reveille.run.log"),
            ("subject", &id),
            ("time", "2026-01-01T00:00:00Z"),
            ("leasetoken", &token),
        ] {
            headers.insert(format!("cloudEvents:{name}").into(), AMQPValue::LongString(text.into()));
        }
        publish(BasicProperties::default().with_headers(headers), br#"{"seq": 1, "text": "a"}"#).await?;
        publish(structured(), event(&token, "3", "succeeded", json!({"output": 7})).as_bytes()).await?;
    }
    let run = api.wait_status(&id, "SUCCEEDED").await?;
    ensure!(types(&stack, &id).await? == ["accepted", "started", "succeeded"], "{run}");
    eventually("what was refused", LONG, async || {
        let refused = api.get_path("/v1/refusedEvents").await.map_err(|error| format!("{error:#}"))?;
        let codes: Vec<_> =
            refused["items"].as_array().into_iter().flatten().filter_map(|item| item["code"].as_str()).collect();
        let all = ["Malformed", "TooLarge", "StaleToken"].iter().all(|code| codes.contains(code)) && codes.len() == 3;
        if all { Ok(()) } else { Err(refused.to_string()) }
    })
    .await?;
    wait(&stack, &id, "told of", |run| run["message"] == "m").await?;
    let lines = api.part(&id, "logs").await?;
    ensure!(lines.len() == 1 && lines[0]["message"] == "a", "{lines:?}");
    for service in &stack.schedulers {
        ensure!(!service.log().contains(&token), "a log shows the token");
    }
    Ok(())
}
