//! What an endpoint has answered.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use reveille_shared::work_request::MAX_OUTPUT;
use serde_json::{Value, json};

use super::{RunFailure, connection};
use crate::report::cut;

/// How much of an answer is kept: what fits into an output beside the members around it.
pub(super) const MAX_BODY: usize = MAX_OUTPUT - 1024;

/// An answer, with as much of its body as is kept.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    truncated: bool,
}

impl Answer {
    /// Reads the body up to what is kept, and no further.
    pub(super) async fn read(response: Response) -> Result<Self, RunFailure> {
        let (answer, read) = Self::read_some(response).await;
        read.map(|()| answer)
    }

    /// The same, with what has come of a body that is cut off, and why it was.
    pub(super) async fn read_some(mut response: Response) -> (Self, Result<(), RunFailure>) {
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut answer = Self { status, headers, body: Vec::new(), truncated: false };
        while !answer.truncated {
            match response.chunk().await {
                Ok(Some(chunk)) => answer.keep(&chunk),
                Ok(None) => break,
                Err(error) => return (answer, Err(connection(error))),
            }
        }
        (answer, Ok(()))
    }

    fn keep(&mut self, chunk: &[u8]) {
        let room = MAX_BODY - self.body.len();
        self.truncated = chunk.len() > room;
        self.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }

    /// As a run's output.
    pub(super) fn output(&self) -> Value {
        output(self.status, &self.body, self.truncated)
    }

    /// A header's value, if it is a text that says something.
    pub(super) fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        let value = self.headers.get(name.into())?.to_str().ok()?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// Why it is not what was hoped for.
    pub(super) fn failure(&self, now: Timestamp) -> RunFailure {
        let retryable = !self.status.is_client_error() || self.is_passing();
        RunFailure {
            retryable,
            not_before: self.retry_after(now).filter(|_| retryable),
            ..RunFailure::retry(self.words()).code("HttpStatus")
        }
    }

    /// Its status, and the beginning of its body.
    pub(super) fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(1024)]);
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = if text.is_empty() { String::new() } else { format!(": {}", cut(&text, 300)) };
        let hint = if self.status.is_redirection() { " (redirects are not followed: name the final URL)" } else { "" };
        format!("answered {}{hint}{said}", self.status)
    }

    /// Whether the same question may have a better answer later.
    pub(super) fn is_passing(&self) -> bool {
        let again = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        self.status.is_server_error() || again.contains(&self.status)
    }

    /// `Retry-After` in seconds or as a date.
    pub(super) fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let text = self.header(RETRY_AFTER)?;
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at: Timestamp = rfc2822::parse(text).ok()?.timestamp();
        Duration::try_from(at.duration_since(now)).ok()
    }
}

fn output(status: StatusCode, body: &[u8], truncated: bool) -> Value {
    let status = status.as_u16();
    if body.is_empty() {
        return json!({ "status": status, "body": null });
    }
    if !truncated && let Ok(body) = serde_json::from_slice::<Value>(body) {
        let output = json!({ "status": status, "body": body });
        // Numbers can be longer than they came.
        if output.to_string().len() <= MAX_OUTPUT {
            return output;
        }
    }
    // Escapes make a text longer, by a factor of six at most.
    let text = String::from_utf8_lossy(body);
    let (mut kept, mut truncated) = (&*text, truncated);
    loop {
        let mut output = json!({ "status": status, "body": kept });
        if truncated {
            output["truncated"] = true.into();
        }
        let length = output.to_string().len();
        if length <= MAX_OUTPUT {
            return output;
        }
        kept = cut(kept, kept.len() * MAX_BODY / length);
        truncated = true;
    }
}
