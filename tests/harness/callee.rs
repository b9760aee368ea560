//! An endpoint whose calls begin long-running operations: each goes on until the test says how it ends.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What the callee knows of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// `Running`, `Succeeded`, `Failed` or `Canceled`; a DELETE makes `Canceled` of `Running`.
    pub status: &'static str,
    /// How far it is.
    pub percent: u32,
    /// How often it was begun: by calls with the same idempotency key.
    pub begun: u32,
    /// How often it was asked after.
    pub asked: u32,
    /// It ends well when it is asked for the so-and-so-manieth time.
    pub ends_after: Option<u32>,
}

impl Operation {
    const fn new(ends_after: Option<u32>) -> Self {
        Self { status: "Running", percent: 0, begun: 0, asked: 0, ends_after }
    }
}

#[derive(Debug, Default)]
struct Known {
    operations: BTreeMap<String, Operation>,
    is_out_of_order: bool,
    retry_after: Option<u32>,
}

type Shared = Arc<Mutex<Known>>;

/// The endpoint. It ends when it is dropped. `POST /begin` and `POST /begin/N` begin an operation, the latter one that
/// ends when it was asked after N times; `GET` and `DELETE /operations/ID` are its monitor; `POST /once` begins one that
/// goes on for ever, unless it is a later attempt; `POST /done` begins none.
#[derive(Debug)]
pub struct Callee {
    /// Its URL.
    pub base: String,
    known: Shared,
    _server: JoinSet<()>,
}

impl Callee {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start() -> Result<Self> {
        let known = Shared::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let base = format!("http://{}", listener.local_addr()?);
        let router = Router::new()
            .route("/begin", post(begin))
            .route("/begin/{asked}", post(begin_short))
            .route("/once", post(begin_once))
            .route("/done", post(async || StatusCode::OK))
            .route("/operations/{id}", get(monitor).delete(cancel))
            .with_state(Arc::clone(&known));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ends_with_the_set = axum::serve(listener, router).await.is_ok();
        });
        Ok(Self { base, known, _server: server })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// The operation that a work request has begun.
    #[must_use]
    pub fn operation(&self, id: &str) -> Option<Operation> {
        self.known().operations.get(id).cloned()
    }

    /// Changes an operation, as the business logic does.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Operation)) {
        if let Some(operation) = self.known().operations.get_mut(id) {
            change(operation);
        }
    }

    /// Forgets all operations.
    pub fn forget(&self) {
        self.known().operations.clear();
    }

    /// Answers 503 to everything, or does not any more.
    pub fn is_out_of_order(&self, it_is: bool) {
        self.known().is_out_of_order = it_is;
    }

    /// Says with each answer when to ask again, in seconds.
    pub fn retry_after(&self, seconds: u32) {
        self.known().retry_after = Some(seconds);
    }
}

fn lock(known: &Shared) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(known: &Shared, headers: &HeaderMap, ends_after: Option<u32>) -> Response {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let mut known = lock(known);
    if known.is_out_of_order {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    known.operations.entry(key.clone()).or_insert(Operation::new(ends_after)).begun += 1;
    (StatusCode::ACCEPTED, [("operation-location", format!("/operations/{key}?signature=hunter2"))]).into_response()
}

async fn begin(State(known): State<Shared>, headers: HeaderMap, _body: Bytes) -> Response {
    start(&known, &headers, None)
}

async fn begin_short(State(known): State<Shared>, Path(asked): Path<u32>, headers: HeaderMap) -> Response {
    start(&known, &headers, Some(asked))
}

async fn begin_once(State(known): State<Shared>, headers: HeaderMap) -> Response {
    match headers.get("x-reveille-attempt").is_some_and(|attempt| attempt == "1") {
        true => start(&known, &headers, None),
        false => Json(json!({"begun": "again"})).into_response(),
    }
}

async fn monitor(State(known): State<Shared>, Path(id): Path<String>) -> Response {
    let mut known = lock(&known);
    if known.is_out_of_order {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let wait = known.retry_after.map(|seconds| [("retry-after", seconds.to_string())]);
    let Some(operation) = known.operations.get_mut(&id) else { return StatusCode::NOT_FOUND.into_response() };
    operation.asked += 1;
    if operation.status == "Running" && operation.ends_after.is_some_and(|most| operation.asked >= most) {
        operation.status = "Succeeded";
    }
    let mut document: Value = json!({"status": operation.status, "percentComplete": operation.percent});
    if operation.status == "Failed" {
        document["error"] = json!({"code": "NoDisk", "message": "the disk is full"});
    }
    (wait, Json(document)).into_response()
}

async fn cancel(State(known): State<Shared>, Path(id): Path<String>) -> StatusCode {
    match lock(&known).operations.get_mut(&id) {
        Some(operation) if operation.status == "Running" => {
            operation.status = "Canceled";
            StatusCode::ACCEPTED
        }
        Some(_) => StatusCode::CONFLICT,
        None => StatusCode::NOT_FOUND,
    }
}
