//! Operations that are followed over many leases: a callee that answers as it is told, and whoever leads a call to its end.

mod conventions;
mod ends;
mod places;
mod trouble;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use reveille_shared::definition::CancelCall;
use reveille_shared::duration::HumanDuration;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::report::tests::{lines, run_with};
use crate::runs::Why;

/// Status, headers and body; `None` is silence.
type Reply = Option<(u16, Vec<(&'static str, String)>, String)>;

fn reply(status: u16, headers: &[(&'static str, &str)], body: impl ToString) -> Reply {
    Some((status, headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(), body.to_string()))
}

/// Answers to each path as it is told, one reply after the other, the last one again and again.
struct Callee {
    base: String,
    script: Arc<Mutex<HashMap<String, VecDeque<Reply>>>>,
    /// `METHOD path authorization`
    seen: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Callee {
    async fn start() -> Self {
        let script = Arc::new(Mutex::new(HashMap::<String, VecDeque<Reply>>::new()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (told, heard) = (Arc::clone(&script), Arc::clone(&seen));
        let serve = move |request: Request| {
            let key = request.headers().get("authorization").map_or("-", |value| value.to_str().unwrap()).to_owned();
            let path = request.uri().path_and_query().unwrap().to_string();
            heard.lock().unwrap().push(format!("{} {path} {key}", request.method()));
            let next = {
                let mut script = told.lock().unwrap();
                let replies = script.entry(path).or_default();
                if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() }
            };
            async move {
                let (status, headers, body) = match next {
                    Some(Some(reply)) => reply,
                    Some(None) => std::future::pending().await,
                    None => (404, vec![], "no such thing".into()),
                };
                let response = Response::builder().status(status);
                let response =
                    headers.into_iter().fold(response, |response, (name, value)| response.header(name, value));
                response.body(Body::from(body)).unwrap()
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await.unwrap() });
        Self { base, script, seen, _server: server }
    }

    fn on(&self, path: &str, replies: impl IntoIterator<Item = Reply>) -> &Self {
        self.script.lock().unwrap().insert(path.to_owned(), replies.into_iter().collect());
        self
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// A call of `/begin` that is followed.
    fn call(&self, follow: Follow) -> HttpCall {
        let headers = BTreeMap::from([("Authorization".to_owned(), "Bearer ${env:TOKEN}".to_owned())]);
        HttpCall { headers, follow: Some(Box::new(follow)), ..HttpCall::new("POST", format!("{}/begin", self.base)) }
    }
}

fn variables() -> Variables {
    Variables::of(&[("TOKEN", "s3cret"), ("DIR", "hidden")])
}

/// What became of a call, and how long each lease wanted to wait.
struct Story {
    result: RunResult,
    waits: Vec<u64>,
    notes: Vec<Value>,
    said: Vec<String>,
    progress: Vec<(f32, Option<String>)>,
}

/// Leads a call through as many leases as it takes, without the waiting.
async fn lead(call: &HttpCall) -> Story {
    lead_for(call, Duration::from_secs(86_400)).await
}

/// The same, with so much time.
async fn lead_for(call: &HttpCall, time: Duration) -> Story {
    let (run, mut told) = run_with(json!({"day": 7}));
    let run = Run { deadline: std::time::Instant::now() + time, ..run };
    lead_run(call, &run, &mut told).await
}

async fn lead_run(call: &HttpCall, run: &Run, told: &mut tokio::sync::mpsc::Receiver<crate::report::Note>) -> Story {
    let (caller, variables) = (Caller::new(crate::policy::Policy::default()).unwrap(), variables());
    let (mut waits, mut kept) = (Vec::new(), Vec::new());
    let result = loop {
        match caller.call(call, run, &variables, kept.last().cloned()).await {
            Left::Ended(result) => break result,
            Left::Untouched => panic!("nobody stops it"),
            Left::Parked { after, notes } => {
                waits.push(u64::try_from(after.as_millis()).unwrap());
                kept.push(notes);
                assert!(kept.len() < 100, "it never ends");
            }
        }
    };
    let (mut said, mut progress) = (Vec::new(), Vec::new());
    while let Ok(note) = told.try_recv() {
        match note {
            crate::report::Note::Line(_, line) => said.push(line.text),
            crate::report::Note::Progress(step) => progress.push((step.percent, step.message)),
            crate::report::Note::End(end) => panic!("{end:?}"),
        }
    }
    Story { result, waits, notes: kept, said, progress }
}

async fn result(call: &HttpCall) -> RunResult {
    lead(call).await.result
}

/// Both the code of a failure and whether it may be retried.
async fn fails(call: &HttpCall) -> (String, bool, String) {
    let failure = result(call).await.unwrap_err();
    (failure.code, failure.retryable, failure.message)
}
