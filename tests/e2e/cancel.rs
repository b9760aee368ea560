//! Runs that are told to stop: whatever they wait for, while they run, one by one and many at once.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::http::Uri;
use axum::routing::{delete, post};
use harness::process::Program;
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::scenario::all_at_once;

const LONG: Duration = Duration::from_secs(60);

/// Every program says in a file that it has begun.
const JOBS: &str = r#"
version: 1
jobs:
  later: { command: ['true'], rate: 1/h }
  broken: { command: ['false'], retry: { max_attempts: 5, initial: 5m } }
  nap: { command: [sleep, '600'] }
  obliging:
    command:
      - sh
      - -c
      - |
        trap 'echo ok > FOLDER/told; exit 0' TERM
        touch FOLDER/obliging
        while :; do sleep 0.02; done
  stubborn: { command: [sh, -c, "trap '' TERM; touch FOLDER/stubborn; while :; do sleep 0.02; done"] }
  export:
    http:
      url: "BASE/exports"
      body: { id: "{{ work_request_id }}" }
      cancel: { method: DELETE, url: "BASE/exports/{{ work_request_id }}" }
"#;

/// An endpoint that never answers, and what it was told.
struct Callee {
    base: String,
    told: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Callee {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let base = format!("http://{}", listener.local_addr()?);
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = |what: &'static str| {
            let told = Arc::clone(&told);
            move |uri: Uri| {
                told.lock().unwrap().push(format!("{what} {}", uri.path()));
                async {}
            }
        };
        let (begin, end) = (tell("begin"), tell("end"));
        let endless = move |uri: Uri| {
            let said = begin(uri);
            async move {
                said.await;
                std::future::pending::<()>().await;
            }
        };
        let router = Router::new().route("/exports", post(endless)).route("/exports/{id}", delete(end));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Ok(Self { base, told, _server: server })
    }

    async fn is_told(&self, words: &[String]) -> Result<()> {
        eventually("the callee to be told", LONG, async || {
            let told = self.told.lock().unwrap().clone();
            if told == words { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await
    }
}

async fn exists(file: &Path) -> Result<()> {
    eventually(&format!("{}", file.display()), LONG, async || match file.exists() {
        true => Ok(()),
        false => Err("it is not there".to_owned()),
    })
    .await
}

/// What holds no lease is canceled with the call itself.
async fn cancel_at_once(stack: &Stack, id: &str) -> Result<()> {
    let attempt = stack.api.get(id).await?["attempt"].clone();
    stack.api.cancel(id).await?;
    let run = stack.api.get(id).await?;
    ensure!(run["status"] == "CANCELED" && run["attempt"] == attempt, "{run}");
    Ok(())
}

async fn one_by_one(builder: Builder) -> Result<()> {
    let (folder, callee) = (tempfile::tempdir()?, Callee::start().await?);
    let yaml = JOBS.replace("FOLDER", &folder.path().to_string_lossy()).replace("BASE", &callee.base);
    let stack = builder.schedules(yaml).slots(3).start().await?;
    let api = &stack.api;

    // What runs: a program that heeds TERM, one that doesn't, and an endpoint.
    let obliging = api.trigger("obliging", json!({})).await?;
    let stubborn = api.trigger("stubborn", json!({})).await?;
    let export = api.trigger("export", json!({})).await?;
    exists(&folder.path().join("obliging")).await?;
    exists(&folder.path().join("stubborn")).await?;
    callee.is_told(&["begin /exports".to_owned()]).await?;
    // What waits: in the queue, as all slots are taken.
    let queued = api.trigger("nap", json!({})).await?;
    api.wait_in_queue(&queued).await?;
    cancel_at_once(&stack, &queued).await?;

    for id in [&stubborn, &obliging, &export] {
        api.cancel(id).await?;
    }
    for id in [&stubborn, &obliging, &export] {
        let run = api.wait_status(id, "CANCELED").await?;
        ensure!(run["attempt"] == 1 && run["lastError"].is_null(), "to obey is no failure: {run}");
    }
    ensure!(folder.path().join("told").exists(), "it was killed before it had tidied up");
    callee.is_told(&["begin /exports".to_owned(), format!("end /exports/{export}")]).await?;

    // What waits for its retry, or is held by a limit.
    let broken = api.trigger("broken", json!({})).await?;
    eventually("its first failure", LONG, async || {
        let run = api.get(&broken).await.map_err(|error| format!("{error:#}"))?;
        if run["waitingFor"].is_string() && run["attempt"] == 1 { Ok(()) } else { Err(run.to_string()) }
    })
    .await?;
    let first = api.trigger("later", json!({})).await?;
    api.wait_status(&first, "SUCCEEDED").await?;
    let held = api.trigger("later", json!({})).await?;
    for id in [&broken, &held] {
        cancel_at_once(&stack, id).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_canceled_wherever_it_is() -> Result<()> {
    one_by_one(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_canceled_wherever_it_is_embedded() -> Result<()> {
    one_by_one(Stack::embedded()).await
}

/// What `reveille cancel` prints.
async fn reveille_cancel(stack: &Stack, arguments: &[&str]) -> Result<String> {
    let name = format!("cancel-{}", arguments.join(""));
    let program = Program::of_workspace("reveille", &name, stack.folder())?.arg("cancel");
    let program = arguments.iter().fold(program, |program, argument| program.arg(argument));
    let server = format!("http://{}", stack.schedulers[0].address());
    let mut process =
        program.env("REVEILLE_SERVER", server).env("REVEILLE_KEY", harness::key::text()).quiet().start()?;
    let status = process.wait_exit(LONG).await?;
    let printed = process.log();
    ensure!(status.success(), "{status}: {printed}");
    Ok(printed.trim().to_owned())
}

/// Two that run and three that wait, of one job; another job's runs are left alone.
async fn many_at_once(builder: Builder) -> Result<()> {
    let stack = builder.schedules(JOBS.replace("BASE", "http://127.0.0.1:1")).slots(2).start().await?;
    for _ in 0..2 {
        stack.api.trigger("nap", json!({})).await?;
    }
    all_at_once(&stack, "IN_PROGRESS", 2, LONG).await?;
    for _ in 0..3 {
        stack.api.trigger("nap", json!({})).await?;
    }
    let other = stack.api.trigger("later", json!({})).await?;
    let said = reveille_cancel(&stack, &["--job", "nap", "--dry-run"]).await?;
    ensure!(said == "5 runs would be canceled", "{said}");
    ensure!(stack.api.list("status=CANCELED").await?.is_empty(), "a dry run has canceled something");
    let said = reveille_cancel(&stack, &["--job", "nap", "--status", "accepted"]).await?;
    ensure!(said == "3 runs canceled, 0 asked to stop", "{said}");
    let said = reveille_cancel(&stack, &["--job", "nap"]).await?;
    ensure!(said == "0 runs canceled, 2 asked to stop", "{said}");
    all_at_once(&stack, "CANCELED", 5, LONG).await?;
    stack.api.wait_status(&other, "SUCCEEDED").await.context("the run of another job")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_are_canceled_at_once() -> Result<()> {
    many_at_once(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runs_are_canceled_at_once_embedded() -> Result<()> {
    many_at_once(Stack::embedded()).await
}
