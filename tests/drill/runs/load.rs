//! Who starts runs, beside the schedules: callers, at a steady rate, who repeat what was not answered and sometimes change
//! their mind.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use harness::client::Client;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::jobs::{CHILD, Children, Fail, JOBS, Job, find};
use crate::trouble::Diary;

/// How long a caller waits for an answer before it asks another scheduler.
const ANSWER: Duration = Duration::from_secs(2);
/// How long it waits after an answer that it can't use, doubled with each one: else those that wait for the end of a long
/// trouble would be the next one.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest such wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long it goes on asking. In the worst case database and broker are restarted one after the other meanwhile.
const STAMINA: Duration = Duration::from_secs(300);
/// Callers are of so many tenants.
const TENANTS: u32 = 3;
/// How many children a run has at least and at most, if it has any.
const CHILDREN: (usize, usize) = (10, 30);

/// What callers know of a run that they have started.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) id: Uuid,
    /// Whether they have asked for it to stop; it may have ended before.
    pub(crate) canceled: bool,
    /// The children that it is to have.
    pub(crate) children: Option<Siblings>,
}

/// The children of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Siblings {
    pub(crate) count: usize,
    /// What failed ones mean.
    pub(crate) fail: Fail,
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
        let path = format!("/v1/jobs/{}/trigger", job.name);
        let input = json!({ "ms": ms, "key": self.key, "tenant": self.rng.u32(0..TENANTS) });
        let (body, children) = self.with_children(job, input);
        let mut asked = Asked { id: self.trigger(&path, &body).await?, canceled: false, children };
        if self.rng.u32(0..10) == 0 {
            sleep(Duration::from_millis(self.rng.u64(0..3_000))).await;
            let again = self.trigger(&path, &body).await?;
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

    /// What to send for a run with this input, and with children if it is to have some.
    fn with_children(&mut self, job: &Job, mut input: Value) -> (Value, Option<Siblings>) {
        let Some(children) = job.children else { return (json!({ "input": input }), None) };
        let count = self.rng.usize(CHILDREN.0..=CHILDREN.1);
        // None, one or several of them are doomed.
        let doomed = [0, 1, 5][self.rng.usize(0..3)];
        let works = find(CHILD).map_or((0, 0), |child| child.works);
        let mut inputs: Vec<Value> = (0..count)
            .map(|number| json!({ "ms": self.rng.u64(works.0..=works.1), "doomed": number < doomed }))
            .collect();
        self.rng.shuffle(&mut inputs);
        match children {
            Children::OfCaller => {
                let fail = Fail::ALL[self.rng.usize(0..Fail::ALL.len())];
                (json!({ "inputs": inputs, "fail": fail.json() }), Some(Siblings { count, fail }))
            }
            Children::OfHandler(fail) => {
                input["children"] = Value::Array(inputs);
                (json!({ "input": input }), Some(Siblings { count, fail }))
            }
        }
    }

    async fn trigger(&mut self, path: &str, body: &Value) -> Result<Uuid> {
        let answer = self.ask(&Method::POST, path, Some(body), |status| status == StatusCode::ACCEPTED).await?;
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
        let mut pause = PAUSE;
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
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
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
