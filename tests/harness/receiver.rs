//! Where webhooks are posted to: it remembers what came, and answers as the test says.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::wait::eventually;

/// How posts to a path are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// With this status, and when to come again, in seconds.
    RetryAfter(u16, u32),
    /// By sending the caller to this URL.
    Redirect(String),
    /// Not at all.
    Never,
}

/// A post that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signature: String,
    /// `content-type`.
    pub content_type: String,
    /// The body as it came.
    pub body: String,
}

impl Received {
    /// The event that was posted; null if that is no JSON.
    #[must_use]
    pub fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

#[derive(Debug, Default)]
struct Known {
    received: BTreeMap<String, Vec<Received>>,
    answers: BTreeMap<String, VecDeque<Answer>>,
}

type Shared = Arc<Mutex<Known>>;

/// The receiver. It ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    /// Its URL; each path has posts and answers of its own.
    pub base: String,
    known: Shared,
    _server: JoinSet<()>,
}

impl Receiver {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start() -> Result<Self> {
        let known = Shared::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let base = format!("http://{}", listener.local_addr()?);
        let router = Router::new().route("/{*path}", post(receive)).with_state(Arc::clone(&known));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ends_with_the_set = axum::serve(listener, router).await.is_ok();
        });
        Ok(Self { base, known, _server: server })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// Answers the next posts to a path with these, all further ones with the last of them; until then with 200.
    pub fn answer(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.known().answers.insert(path.to_owned(), answers.into_iter().collect());
    }

    /// What has come to a path.
    #[must_use]
    pub fn received(&self, path: &str) -> Vec<Received> {
        self.known().received.get(path).cloned().unwrap_or_default()
    }

    /// Waits until so many posts have come to a path, and gives them.
    ///
    /// # Errors
    /// Fewer have within `limit`.
    pub async fn wait(&self, path: &str, count: usize, limit: Duration) -> Result<Vec<Received>> {
        eventually(&format!("{count} posts to {path}"), limit, async || {
            let received = self.received(path);
            if received.len() >= count { Ok(received) } else { Err(format!("{} have come", received.len())) }
        })
        .await
    }
}

fn lock(known: &Shared) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(State(known): State<Shared>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let answer = {
        let mut known = lock(&known);
        known.received.entry(uri.path().to_owned()).or_default().push(Received {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
            content_type: header("content-type"),
            body,
        });
        match known.answers.get_mut(uri.path()) {
            Some(answers) if answers.len() > 1 => answers.pop_front(),
            Some(answers) => answers.front().cloned(),
            None => None,
        }
    };
    let status = |status: u16| StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match answer.unwrap_or(Answer::Status(200)) {
        Answer::Status(code) => status(code).into_response(),
        Answer::RetryAfter(code, seconds) => (status(code), [("retry-after", seconds.to_string())]).into_response(),
        Answer::Redirect(to) => (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response(),
        Answer::Never => std::future::pending().await,
    }
}
