//! A reader of server-sent events, as a client reads them (HTML, section 9.2).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use crate::client::Client;

/// Longer than any silence: a living stream says something each 15 s.
const SILENCE: Duration = Duration::from_secs(40);
/// How long one connection is read at most.
const CONNECTION: Duration = Duration::from_secs(600);

/// What was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// What has happened.
    pub event: String,
    /// All of it.
    pub data: Value,
}

/// A stream that can be taken up where it was left, at any scheduler.
#[derive(Debug)]
pub struct Reader {
    path: String,
    /// The id that came last.
    last: Option<String>,
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    response: Response,
    text: Vec<u8>,
}

impl Reader {
    /// A reader of this path.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), last: None, connection: None }
    }

    /// The id that came last, if any did.
    #[must_use]
    pub fn last_id(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Leaves where it is, and goes on at this scheduler. Answers with the status.
    ///
    /// # Errors
    /// There is no answer, or 200 without a stream.
    pub async fn connect(&mut self, api: &Client) -> Result<StatusCode> {
        self.connection = None;
        let mut request =
            api.request(Method::GET, &self.path).header("accept", "text/event-stream").timeout(CONNECTION);
        if let Some(last) = &self.last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.with_context(|| format!("no answer to {}", self.path))?;
        let status = response.status();
        if status == StatusCode::OK {
            let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or("");
            ensure!(kind.starts_with("text/event-stream"), "{kind} is no stream");
            self.connection = Some(Connection { response, text: Vec::new() });
        }
        Ok(status)
    }

    /// The next event that tells anything; none when the stream has ended, in good order or not.
    ///
    /// # Errors
    /// It is silent for too long, or what it tells is no JSON.
    pub async fn next(&mut self) -> Result<Option<Event>> {
        while let Some(connection) = &mut self.connection {
            let Some(block) = connection.block().await? else {
                self.connection = None;
                break;
            };
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            if let Some(id) = field("id") {
                self.last = Some(id.to_owned());
            }
            if let Some(data) = field("data") {
                let data = serde_json::from_str(data).with_context(|| format!("no JSON: {block}"))?;
                let id = field("id").with_context(|| format!("no id: {block}"))?.to_owned();
                return Ok(Some(Event { id, event: field("event").unwrap_or("message").to_owned(), data }));
            }
        }
        Ok(None)
    }
}

impl Connection {
    /// The lines up to the next empty one. What is cut off in the middle was not told.
    async fn block(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = self.text.windows(2).position(|two| two == b"\n\n") {
                let rest = self.text.split_off(end + 2);
                let block = std::mem::replace(&mut self.text, rest);
                return Ok(Some(String::from_utf8(block)?));
            }
            let more = timeout(SILENCE, self.response.chunk()).await.context("the stream is silent")?;
            match more {
                Ok(Some(more)) => self.text.extend_from_slice(&more),
                Ok(None) | Err(_) => return Ok(None),
            }
        }
    }
}
