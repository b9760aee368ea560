//! Runs whose worker is lost: whether they took effect is asked before anything is run again, what reports too late changes
//! nothing, and what was told to stop is not begun anew.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use harness::process_tree::descendants;
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const LONG: Duration = Duration::from_secs(60);

/// A program writes that it has run, waits until it may go on, and then takes effect, unless it has at once. Its verify
/// looks for the effect.
const PROGRAMS: &str = r#"
version: 1
defaults: { retry: { max_attempts: 3, initial: 100ms, max: 100ms } }
jobs:
  pay:
    command:
      - sh
      - -c
      - |
        [ "$0" = early ] && touch FOLDER/$0.effect
        echo "$REVEILLE_ATTEMPT" >> FOLDER/$0.runs
        until [ -e FOLDER/go ]; do sleep 0.05; done
        touch FOLDER/$0.effect
      - "{{ input.case }}"
    verify:
      command:
        - sh
        - -c
        - 'if [ -e FOLDER/$0.running ]; then exit 2; fi; [ -e FOLDER/$0.effect ]'
        - "{{ input.case }}"
  pay-once:
    command: [sh, -c, 'echo "$REVEILLE_ATTEMPT" >> FOLDER/once.runs; until [ -e FOLDER/go ]; do sleep 0.05; done']
    verify: { command: ['false'] }
    on_lost: fail
"#;

/// The process that runs programs is killed, and started again.
async fn crash(stack: &mut Stack) -> Result<()> {
    let service = stack.workers.first_mut().or(stack.schedulers.first_mut()).context("a process")?;
    service.kill9()?;
    service.restart().await
}

/// What happened to a run, as if it had been asked after again but once, and the code of its first error.
async fn story(stack: &Stack, id: &str) -> Result<(Vec<String>, Value)> {
    let events = stack.api.part(id, "events").await?;
    let code = events.iter().find(|event| event["error"].is_object()).map(|event| event["error"]["code"].clone());
    let mut types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect();
    let again =
        |types: &[String]| types.windows(4).position(|four| four == ["deferred", "started", "deferred", "started"]);
    while let Some(at) = again(&types) {
        types.drain(at..at + 2);
    }
    Ok((types, code.unwrap_or_default()))
}

/// A run of which this has happened, and whose first attempt was lost.
async fn is_told(stack: &Stack, id: &str, expected: &[&str]) -> Result<()> {
    let (types, code) = story(stack, id).await?;
    ensure!(types == expected && code == "Lost", "{types:?}, {code}");
    Ok(())
}

/// Waits until a run was found to be still running.
async fn is_asked_after_again(stack: &Stack, id: &str) -> Result<()> {
    eventually("the run that goes on to be asked after again", LONG, async || {
        let (types, _) = story(stack, id).await.map_err(|error| format!("{error:#}"))?;
        let expected = ["accepted", "started", "attemptFailed", "started", "deferred"];
        let is_told = types.iter().map(String::as_str).take(expected.len()).eq(expected);
        if is_told { Ok(()) } else { Err(format!("{types:?}")) }
    })
    .await
}

/// The attempts in which the program of a case has begun.
fn begun(folder: &Path, case: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(format!("{case}.runs"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn a_program_is_asked(builder: Builder) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let builder = builder.schedules(PROGRAMS.replace("FOLDER", &at.to_string_lossy()));
    let mut stack = builder.env("REVEILLE_LEASE_TTL", "4s").start().await?;
    std::fs::write(at.join("busy.running"), "")?;
    let early = stack.api.trigger("pay", json!({"case": "early"})).await?;
    let late = stack.api.trigger("pay", json!({"case": "late"})).await?;
    let busy = stack.api.trigger("pay", json!({"case": "busy"})).await?;
    let once = stack.api.trigger("pay-once", json!({})).await?;
    eventually("all programs to have begun", LONG, async || {
        let missing: Vec<_> =
            ["early", "late", "busy", "once"].into_iter().filter(|c| begun(at, c).is_empty()).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} have not")) }
    })
    .await?;
    crash(&mut stack).await?;
    std::fs::write(at.join("go"), "")?;

    let lost = |rest: &[&'static str]| [&["accepted", "started", "attemptFailed", "started"], rest].concat();
    let run = stack.api.wait_status(&early, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 2 && begun(at, "early") == ["1"], "it had taken effect: {run}");
    is_told(&stack, &early, &lost(&["succeeded"])).await?;
    let run = stack.api.wait_status(&late, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 2 && begun(at, "late") == ["1", "2"], "it had not: {run}");
    is_told(&stack, &late, &lost(&["succeeded"])).await?;
    let run = stack.api.wait_status(&once, "FAILED").await?;
    ensure!(run["error"]["code"] == "Lost" && begun(at, "once") == ["1"], "it may not be run again: {run}");
    is_told(&stack, &once, &lost(&["failed"])).await?;

    is_asked_after_again(&stack, &busy).await?;
    std::fs::write(at.join("busy.effect"), "")?;
    std::fs::remove_file(at.join("busy.running"))?;
    stack.api.wait_status(&busy, "SUCCEEDED").await?;
    ensure!(begun(at, "busy") == ["1"], "run again: {:?}", begun(at, "busy"));
    is_told(&stack, &busy, &lost(&["deferred", "started", "succeeded"])).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_says_whether_a_lost_run_took_effect() -> Result<()> {
    a_program_is_asked(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_says_whether_a_lost_run_took_effect_embedded() -> Result<()> {
    a_program_is_asked(Stack::embedded()).await
}

/// The worker comes back after it has broken its runs off and before anyone has ended their leases: the only scheduler
/// stands still meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_that_was_cut_off_has_broken_off_is_asked_after_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = folder.path();
    let builder =
        Stack::postgres_rabbit().proxied_workers().schedules(PROGRAMS.replace("FOLDER", &at.to_string_lossy()));
    let mut stack = builder.env("REVEILLE_LEASE_TTL", "4s").start().await?;
    let early = stack.api.trigger("pay", json!({"case": "early"})).await?;
    let once = stack.api.trigger("pay-once", json!({})).await?;
    eventually("both programs to have begun", LONG, async || match (begun(at, "early"), begun(at, "once")) {
        (early, once) if early.len() == 1 && once.len() == 1 => Ok(()),
        begun => Err(format!("{begun:?}")),
    })
    .await?;
    stack.schedulers[0].signal(Signal::STOP)?;
    let network = &stack.worker_networks[0];
    network.database.stall();
    network.broker.stall();
    eventually("the worker to break its runs off", LONG, async || match descendants(stack.workers[0].pid()).len() {
        0 => Ok(()),
        left => Err(format!("{left} processes are left")),
    })
    .await?;
    network.database.heal();
    network.broker.heal();
    stack.workers[0].wait_ready().await?;
    stack.schedulers[0].signal(Signal::CONT)?;
    std::fs::write(at.join("go"), "")?;

    let run = stack.api.wait_status(&early, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 2 && begun(at, "early") == ["1"], "it had taken effect: {run}");
    is_told(&stack, &early, &["accepted", "started", "attemptFailed", "started", "succeeded"]).await?;
    let run = stack.api.wait_status(&once, "FAILED").await?;
    ensure!(run["error"]["code"] == "Lost" && begun(at, "once") == ["1"], "it may not be run again: {run}");
    is_told(&stack, &once, &["accepted", "started", "attemptFailed", "started", "failed"]).await
}

const ENDPOINT: &str = r#"
version: 1
defaults: { retry: { max_attempts: 3, initial: 100ms, max: 100ms } }
jobs:
  invoice:
    http: { method: PUT, url: "BASE/invoices/{{ work_request_id }}" }
    verify:
      http:
        url: "BASE/invoices/{{ work_request_id }}"
        succeeded: status == 200 and body.state == 'done'
        failed: status == 404
        running: status == 200 and body.state == 'running'
"#;

/// What the callee knows of an invoice: what it says of it, and how often it was asked to make it.
#[derive(Debug, Clone, Default)]
struct Invoice {
    state: Option<&'static str>,
    asked: usize,
}

type Invoices = Arc<Mutex<HashMap<String, Invoice>>>;

/// The first call of each invoice gets no answer.
async fn make(State(invoices): State<Invoices>, UrlPath(id): UrlPath<String>) -> StatusCode {
    let is_first = {
        let mut invoices = invoices.lock().unwrap();
        let invoice = invoices.entry(id).or_default();
        invoice.asked += 1;
        invoice.asked == 1
    };
    if is_first {
        std::future::pending::<()>().await;
    }
    StatusCode::OK
}

async fn look(State(invoices): State<Invoices>, UrlPath(id): UrlPath<String>) -> (StatusCode, Json<Value>) {
    let state = invoices.lock().unwrap().get(&id).and_then(|invoice| invoice.state);
    let status = if state.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    (status, Json(json!({ "state": state })))
}

async fn an_endpoint_is_asked(builder: Builder) -> Result<()> {
    let invoices = Invoices::default();
    let router = Router::new().route("/invoices/{id}", get(look).put(make)).with_state(Arc::clone(&invoices));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let yaml = ENDPOINT.replace("BASE", &format!("http://{}", listener.local_addr()?));
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });

    let mut stack = builder.schedules(yaml).env("REVEILLE_LEASE_TTL", "4s").start().await?;
    let mut ids = Vec::new();
    for state in [Some("done"), None, Some("running")] {
        let id = stack.api.trigger("invoice", json!({})).await?;
        eventually("the endpoint to be called", LONG, async || {
            invoices.lock().unwrap().get_mut(&id).map(|invoice| invoice.state = state).ok_or("not yet".to_owned())
        })
        .await?;
        ids.push(id);
    }
    crash(&mut stack).await?;
    let asked = |id: &str| invoices.lock().unwrap().get(id).cloned().unwrap_or_default().asked;
    for (id, times) in [(&ids[0], 1), (&ids[1], 2)] {
        let run = stack.api.wait_status(id, "SUCCEEDED").await?;
        ensure!(run["attempt"] == 2 && asked(id) == times, "called {} times: {run}", asked(id));
    }
    is_asked_after_again(&stack, &ids[2]).await?;
    invoices.lock().unwrap().entry(ids[2].clone()).or_default().state = Some("done");
    let run = stack.api.wait_status(&ids[2], "SUCCEEDED").await?;
    ensure!(run["attempt"].as_u64() >= Some(3) && asked(&ids[2]) == 1, "called {} times: {run}", asked(&ids[2]));
    let events = ["accepted", "started", "attemptFailed", "started", "deferred", "started", "succeeded"];
    is_told(&stack, &ids[2], &events).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_says_whether_a_lost_run_took_effect() -> Result<()> {
    an_endpoint_is_asked(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_says_whether_a_lost_run_took_effect_embedded() -> Result<()> {
    an_endpoint_is_asked(Stack::embedded()).await
}

/// Runs until there is a file `go`.
const PATIENT: &str = r#"
version: 1
jobs:
  patient:
    command: [sh, -c, 'touch FOLDER/begun-$REVEILLE_ATTEMPT; until [ -e FOLDER/go ]; do sleep 0.02; done']
    retry: { max_attempts: 3, initial: 100ms, max: 100ms }
"#;

/// A run is under way, on the worker of this number.
async fn under_way(builder: Builder) -> Result<(Stack, tempfile::TempDir, String, usize)> {
    let folder = tempfile::tempdir()?;
    let builder = builder.schedules(PATIENT.replace("FOLDER", &folder.path().to_string_lossy()));
    let stack = builder.env("REVEILLE_LEASE_TTL", "4s").start().await?;
    let id = stack.api.trigger("patient", json!({})).await?;
    eventually("the run to begin", LONG, async || match folder.path().join("begun-1").exists() {
        true => Ok(()),
        false => Err("it has not".to_owned()),
    })
    .await?;
    let holder = stack.workers.iter().position(|worker| !descendants(worker.pid()).is_empty());
    Ok((stack, folder, id, holder.context("no worker runs a program")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_after_the_loss_of_the_lease_is_kept_and_changes_nothing() -> Result<()> {
    let (stack, folder, id, holder) = under_way(Stack::postgres_rabbit().workers(2).proxied_workers()).await?;
    let database = &stack.worker_networks[holder].database;
    // The program ends while its worker can still know that it has the lease, and the report does not get through.
    database.stall();
    std::fs::write(folder.path().join("go"), "")?;
    let run = stack.api.wait_status(&id, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 2, "the first report got through: {run}");
    let before = stack.api.part(&id, "events").await?;
    database.heal();
    let late = eventually("the late report", LONG, async || match stack.api.part(&id, "lateReports").await {
        Ok(late) if !late.is_empty() => Ok(late),
        other => Err(format!("{other:?}")),
    })
    .await?;
    ensure!(late.len() == 1 && late[0]["outcome"] == "succeeded" && late[0]["output"]["exitCode"] == 0, "{late:?}");
    ensure!(stack.api.part(&id, "events").await? == before, "it has changed the history");
    ensure!(stack.api.get(&id).await? == run, "it has changed the run");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_worker_is_lost_while_it_is_canceled_is_not_begun_anew() -> Result<()> {
    let (mut stack, folder, id, holder) = under_way(Stack::postgres_rabbit().workers(2)).await?;
    stack.workers[holder].signal(Signal::STOP)?;
    stack.api.cancel(&id).await?;
    ensure!(stack.api.get(&id).await?["status"] == "CANCELING");
    let run = stack.api.wait_status_within(&id, "CANCELED", LONG).await?;
    ensure!(run["attempt"] == 1, "{run}");
    stack.workers[holder].signal(Signal::CONT)?;
    stack.workers[holder].wait_ready().await?;
    let events = stack.api.part(&id, "events").await?;
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
    ensure!(types == ["accepted", "started", "cancelRequested", "canceled"], "{events:?}");
    ensure!(!folder.path().join("begun-2").exists(), "it was begun anew");
    Ok(())
}
