//! What is to run meanwhile: jobs of every kind, started by schedules and, at a steady rate, by callers who repeat what
//! was not answered and sometimes change their mind.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use harness::client::Client;
use harness::process::workspace_binary;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::trouble::Diary;

/// How long a caller waits for an answer before it asks another scheduler.
const ANSWER: Duration = Duration::from_secs(2);
/// How long it waits after an answer that it can't use.
const PAUSE: Duration = Duration::from_millis(200);
/// How long it goes on asking. In the worst case database and broker are restarted one after the other meanwhile.
const STAMINA: Duration = Duration::from_secs(300);

/// What works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    Command,
    Function,
    Http,
}

/// A job of the drill.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) handler: Handler,
    /// How many of a hundred or so runs that callers start.
    weight: u32,
    /// How long it works at least and at most, in milliseconds.
    works: (u64, u64),
    /// It fails for good whatever happens.
    pub(crate) is_doomed: bool,
    /// It is not repeated when it is lost.
    pub(crate) fails_when_lost: bool,
}

const fn job(name: &'static str, handler: Handler, weight: u32, works: (u64, u64)) -> Job {
    Job { name, handler, weight, works, is_doomed: false, fails_when_lost: false }
}

/// All of them. `stubborn` runs under a shell that ignores SIGTERM, as does what it starts.
pub(crate) const JOBS: [Job; 14] = [
    job("short", Handler::Command, 26, (20, 200)),
    job("long", Handler::Command, 8, (2_000, 12_000)),
    job("flaky", Handler::Command, 7, (50, 400)),
    job("stubborn", Handler::Command, 4, (1_000, 4_000)),
    job("chatty", Handler::Command, 5, (100, 1_000)),
    Job { is_doomed: true, ..job("doomed", Handler::Command, 3, (20, 200)) },
    Job { fails_when_lost: true, ..job("once", Handler::Command, 6, (500, 3_000)) },
    job("call", Handler::Http, 12, (20, 300)),
    job("slow-call", Handler::Http, 5, (1_000, 10_000)),
    job("broken-call", Handler::Http, 4, (50, 500)),
    job("function", Handler::Function, 12, (20, 200)),
    job("long-function", Handler::Function, 4, (1_000, 10_000)),
    job("deaf-function", Handler::Function, 3, (500, 3_000)),
    Job { fails_when_lost: true, ..job("function-once", Handler::Function, 3, (500, 2_000)) },
];

/// A schedule of the drill, due at every instant whose Unix time is a multiple of so many seconds.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) name: &'static str,
    pub(crate) every: i64,
    pub(crate) jobs: &'static [&'static str],
}

/// All of them.
pub(crate) const SCHEDULES: [Schedule; 3] = [
    Schedule { name: "second", every: 1, jobs: &["short"] },
    Schedule { name: "pair", every: 3, jobs: &["function", "call"] },
    Schedule { name: "slow", every: 5, jobs: &["long"] },
];

/// The schedule file: the jobs, and the schedules if they are wanted.
pub(crate) fn definitions(ledger: &Path, callee: SocketAddr, with_schedules: bool) -> Result<String> {
    let handler = workspace_binary("drill-handler")?;
    let call = [handler.to_str().context("a path")?, "--ledger", ledger.to_str().context("a path")?];
    let command = |more: &[&str]| {
        let work = ["--work-ms", "{{ input.ms }}"];
        json!(call.iter().chain(&work).chain(more).collect::<Vec<_>>())
    };
    // A shell that starts what it is given as a child, and stays.
    let shell = ["sh", "-c", "trap '' TERM; \"$0\" \"$@\"; exit $?"].map(Value::from);
    let mut stubborn = shell.to_vec();
    stubborn.extend(command(&[]).as_array().cloned().unwrap_or_default());
    let url = |manner: &str| json!({ "url": format!("http://{callee}/{{{{ input.ms }}}}/{manner}") });
    let mut jobs = json!({
        "short": { "command": command(&[]) },
        "long": { "command": command(&[]) },
        "flaky": { "command": command(&["--fail-up-to", "1"]) },
        "stubborn": { "command": stubborn },
        "chatty": { "command": command(&["--lines", "3000"]) },
        "doomed": { "command": command(&["--fail-up-to", "1000"]), "retry": { "max_attempts": 2, "initial": "100ms" } },
        "once": { "command": command(&[]), "on_lost": "fail" },
        "call": { "http": url("well") },
        "slow-call": { "http": url("well") },
        "broken-call": { "http": url("early") },
        "function": { "function": "work" },
        "long-function": { "function": "work" },
        "deaf-function": { "function": "deaf" },
        "function-once": { "function": "work", "on_lost": "fail" },
    });
    // A run may be lost again and again under a thousand faults: that is no reason to give it up.
    let retry = json!({ "max_attempts": 200, "initial": "100ms", "max": "1s" });
    jobs["doomed"]["retry"]["max"] = json!("1s");
    let schedules: serde_json::Map<String, Value> = SCHEDULES
        .iter()
        .filter(|_| with_schedules)
        .map(|Schedule { name, every, jobs }| {
            let works = jobs.iter().filter_map(|job| find(job)).map(|job| job.works.0).max().unwrap_or_default();
            let catch_up = json!({ "policy": "all", "window": "1h" });
            let spec = json!({
                "every": format!("{every}s"), "trigger": jobs, "input": { "ms": works }, "overlap": "allow",
                "catch_up": catch_up,
            });
            ((*name).to_owned(), spec)
        })
        .collect();
    let defaults = json!({ "timeout": "60s", "retry": retry });
    // JSON is YAML.
    Ok(json!({ "version": 1, "defaults": defaults, "jobs": jobs, "schedules": schedules }).to_string())
}

/// The job of this name.
pub(crate) fn find(name: &str) -> Option<&'static Job> {
    JOBS.iter().find(|job| job.name == name)
}

/// What callers know of a run that they have started.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) id: Uuid,
    /// Whether they have asked for it to stop; it may have ended before.
    pub(crate) canceled: bool,
}

/// The callers.
#[derive(Debug)]
pub(crate) struct Callers {
    pub(crate) apis: Vec<Client>,
    pub(crate) diary: Arc<Diary>,
    /// How many runs to start in a second.
    pub(crate) rate: f64,
    pub(crate) seed: u64,
}

impl Callers {
    /// Starts runs until `stop`; answers, by the callers' key, with all that were accepted. Everything is asked for until it
    /// is answered.
    pub(crate) async fn call(self, stop: CancellationToken) -> Result<HashMap<String, Asked>> {
        let mut rng = Rng::with_seed(self.seed);
        let mut ticks = interval(Duration::from_secs_f64(1.0 / self.rate));
        let (mut calls, mut asked) = (JoinSet::new(), HashMap::new());
        for number in 0_u64.. {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let caller = Caller { apis: self.apis.clone(), rng: rng.fork(), key: format!("{}-{number}", self.seed) };
            let diary = Arc::clone(&self.diary);
            calls.spawn(async move {
                let key = caller.key.clone();
                match caller.call().await {
                    Ok(done) => Some((key, done)),
                    Err(error) => {
                        diary.violation(format!("the caller of {key}: {error:#}"));
                        None
                    }
                }
            });
            while let Some(done) = calls.try_join_next() {
                asked.extend(done?);
            }
        }
        while let Some(done) = calls.join_next().await {
            asked.extend(done?);
        }
        Ok(asked)
    }
}

/// Who starts one run.
struct Caller {
    apis: Vec<Client>,
    rng: Rng,
    key: String,
}

impl Caller {
    async fn call(mut self) -> Result<Asked> {
        let job = self.any_job();
        let ms = self.rng.u64(job.works.0..=job.works.1);
        let (path, input) = (format!("/v1/jobs/{}/trigger", job.name), json!({ "ms": ms, "key": self.key }));
        let mut asked = Asked { id: self.trigger(&path, &input).await?, canceled: false };
        if self.rng.u32(0..10) == 0 {
            sleep(Duration::from_millis(self.rng.u64(0..3_000))).await;
            let again = self.trigger(&path, &input).await?;
            anyhow::ensure!(again == asked.id, "asked again under one key, it got {again} after {}", asked.id);
        }
        if self.rng.u32(0..12) == 0 {
            sleep(Duration::from_millis(self.rng.u64(0..4_000))).await;
            asked.canceled = true;
            let path = format!("/v1/workRequests/{}", asked.id);
            let fits = |status| matches!(status, StatusCode::ACCEPTED | StatusCode::CONFLICT);
            self.ask(&Method::DELETE, &path, None, fits).await?;
        }
        Ok(asked)
    }

    async fn trigger(&mut self, path: &str, input: &Value) -> Result<Uuid> {
        let body = json!({ "input": input });
        let answer = self.ask(&Method::POST, path, Some(&body), |status| status == StatusCode::ACCEPTED).await?;
        Ok(answer["id"].as_str().context("no id")?.parse()?)
    }

    /// Asks one scheduler after the other until an answer fits.
    async fn ask(
        &mut self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        fits: impl Fn(StatusCode) -> bool,
    ) -> Result<Value> {
        let began = Instant::now();
        let mut api = self.rng.usize(0..self.apis.len());
        loop {
            let request = self.apis[api].request(method.clone(), path).timeout(ANSWER);
            let request = match body {
                Some(body) => request.header("Idempotency-Key", &self.key).json(body),
                None => request,
            };
            let said = match answer(request).await {
                Ok((status, body)) if fits(status) => return Ok(body),
                // What is refused for good will not be granted later.
                Ok((status, body)) if status.is_client_error() => anyhow::bail!("{method} {path}: {status} {body}"),
                Ok((status, body)) => format!("{status} {body}"),
                Err(error) => format!("{error:#}"),
            };
            anyhow::ensure!(began.elapsed() < STAMINA, "{method} {path} for {STAMINA:?}; at last: {said}");
            api = (api + 1) % self.apis.len();
            sleep(PAUSE).await;
        }
    }

    fn any_job(&mut self) -> &'static Job {
        let mut luck = self.rng.u32(0..JOBS.iter().map(|job| job.weight).sum());
        let chosen = JOBS.iter().find(|job| {
            let hit = luck < job.weight;
            luck = luck.saturating_sub(job.weight);
            hit
        });
        chosen.unwrap_or(&JOBS[0])
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Result<(StatusCode, Value)> {
    let answer = request.send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}
