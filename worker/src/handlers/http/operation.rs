//! What an answer says about what a call has begun: by the conventions that callees keep without being told, or by
//! the conditions of the job.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::LOCATION;
use reveille_shared::definition::Follow;
use reveille_shared::template::Engine;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RunFailure;
use super::answer::Answer;
use crate::report::cut;

/// How much of a callee's word for a state, or for a failure, is kept.
const LONGEST_WORD: usize = 100;
const LONGEST_REASON: usize = 300;
/// The code of Google's for what was canceled.
const GOOGLE_CANCELED: i64 = 1;

/// By what the callee tells how far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// A document about the operation.
    Monitor,
    /// The status of the place where its result will be.
    Location,
}

/// What an answer says.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// It goes on.
    Running {
        /// How far it is.
        percent: Option<f64>,
        /// The callee's own word for that.
        word: Option<String>,
        /// When to ask again, if the callee says so.
        wait: Option<Duration>,
    },
    /// It has succeeded.
    Succeeded(Found),
    /// It has failed, or was canceled over there.
    Ended(RunFailure),
    /// The callee does not know it.
    Unknown(RunFailure),
    /// Nothing for now.
    Failing(RunFailure),
    /// Nothing, and asking again is likely to give the same.
    Refused(RunFailure),
}

/// Where the result is.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    Here(Value),
    At {
        /// As the callee wrote it.
        url: String,
        /// What serves as the result if there is none.
        instead: Option<Value>,
    },
}

impl Said {
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Running { .. } => "running",
            Self::Succeeded(_) => "succeeded",
            Self::Ended(_) => "failed",
            Self::Unknown(_) => "unknown",
            Self::Failing(_) => "failing",
            Self::Refused(_) => "refused",
        }
    }
}

/// What the conditions of the job make of an answer.
pub(super) fn by_condition(follow: &Follow, engine: &Engine, answer: &Answer, now: Timestamp) -> Said {
    let mut doubts = Vec::new();
    let mut holds = |condition: &Option<String>| match condition.as_ref().map(|text| engine.holds(text)) {
        Some(Ok(answer)) => answer,
        Some(Err(error)) => {
            doubts.push(error.reason);
            false
        }
        None => false,
    };
    if holds(&follow.succeeded) {
        return Said::Succeeded(Found::Here(answer.output()));
    }
    if holds(&follow.failed) {
        return Said::Ended(failed(&answer.words()));
    }
    let goes_on = holds(&follow.running) || follow.running.is_none() && answer.status.is_success();
    if goes_on {
        return Said::Running { percent: None, word: None, wait: answer.retry_after(now) };
    }
    if answer.status.is_success() {
        let doubts = if doubts.is_empty() { String::new() } else { format!(" ({})", doubts.join("; ")) };
        return Said::Refused(unclear(&format!(
            "no condition holds for the answer with status {}{doubts}",
            answer.status
        )));
    }
    by_status(answer, now)
}

/// What the conventions make of an answer. `result` is where the callee has said that its result will be.
pub(super) fn by_convention(way: Way, result: Option<&str>, answer: &Answer, now: Timestamp) -> Said {
    let document = stated(&answer.body);
    let running = |percent, word| Said::Running { percent, word, wait: answer.retry_after(now) };
    match (way, answer.status) {
        (_, status) if !status.is_success() => match (way, by_status(answer, now)) {
            // The place of a result that there will not be.
            (Way::Location, Said::Refused(_)) if is_verdict(status) => Said::Ended(failed(&answer.words())),
            (_, said) => said,
        },
        (Way::Location, StatusCode::ACCEPTED) => match document {
            Some(Stated::Running { percent, word } | Stated::Odd { percent, word }) => running(percent, Some(word)),
            _ => running(None, None),
        },
        (Way::Location, _) => match document {
            Some(Stated::Running { percent, word }) => running(percent, Some(word)),
            Some(Stated::Failed(why)) => Said::Ended(failed(&why)),
            Some(Stated::Canceled) => Said::Ended(canceled()),
            Some(Stated::Succeeded { .. } | Stated::Odd { .. }) | None => Said::Succeeded(Found::Here(answer.output())),
        },
        (Way::Monitor, status) => match document {
            Some(Stated::Running { percent, word } | Stated::Odd { percent, word }) => running(percent, Some(word)),
            Some(Stated::Failed(why)) => Said::Ended(failed(&why)),
            Some(Stated::Canceled) => Said::Ended(canceled()),
            Some(Stated::Succeeded { response, at }) => {
                Said::Succeeded(found(answer, response, at.as_deref().or(result)))
            }
            None if status == StatusCode::ACCEPTED => running(None, None),
            None => Said::Refused(unclear(&format!("{}: no document about an operation", answer.words()))),
        },
    }
}

/// What the answer that began it says already of its end.
pub(super) fn ended_at_once(answer: &Answer) -> Option<Said> {
    match stated(&answer.body)? {
        Stated::Succeeded { response, .. } => Some(Said::Succeeded(found(answer, response, None))),
        Stated::Failed(why) => Some(Said::Ended(failed(&why))),
        Stated::Canceled => Some(Said::Ended(canceled())),
        Stated::Running { .. } | Stated::Odd { .. } => None,
    }
}

/// How far a document says that its operation is.
pub(super) fn percent_of(body: &[u8]) -> Option<f64> {
    match stated(body)? {
        Stated::Running { percent, .. } | Stated::Odd { percent, .. } => percent,
        _ => None,
    }
}

fn found(answer: &Answer, response: Option<Value>, at: Option<&str>) -> Found {
    let mut here = answer.output();
    if let Some(response) = response {
        here["body"] = response;
    }
    match at {
        Some(url) => Found::At { url: url.to_owned(), instead: Some(here) },
        None => Found::Here(here),
    }
}

/// What an answer says that is neither good nor of a kind of its own.
fn by_status(answer: &Answer, now: Timestamp) -> Said {
    let failure = answer.failure(now);
    match answer.status {
        StatusCode::SEE_OTHER if let Some(url) = answer.header(LOCATION) => {
            Said::Succeeded(Found::At { url: url.to_owned(), instead: None })
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => Said::Unknown(failure),
        _ if answer.is_passing() => Said::Failing(failure),
        _ => Said::Refused(failure),
    }
}

/// Whether a status is about what was asked after, and not about who asks.
fn is_verdict(status: StatusCode) -> bool {
    status.is_client_error()
        && !matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::METHOD_NOT_ALLOWED
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        )
}

/// What a document says about its operation.
enum Stated {
    Running {
        percent: Option<f64>,
        word: String,
    },
    /// The same, in a word of its own: of an operation it says that it goes on, of anything else nothing.
    Odd {
        percent: Option<f64>,
        word: String,
    },
    Succeeded {
        response: Option<Value>,
        at: Option<String>,
    },
    Failed(String),
    Canceled,
}

/// Reads the documents of Azure (`status`), of OCI (the same in capitals) and of Google (`done`).
fn stated(body: &[u8]) -> Option<Stated> {
    let Ok(Value::Object(document)) = serde_json::from_slice::<Value>(body) else { return None };
    let percent = document.get("percentComplete").and_then(Value::as_f64);
    let error = document.get("error").filter(|error| !error.is_null());
    if let Some(done) = document.get("done").and_then(Value::as_bool) {
        return Some(match (done, error) {
            (false, _) => Stated::Running { percent, word: "running".into() },
            (true, Some(error)) if error["code"].as_i64() == Some(GOOGLE_CANCELED) => Stated::Canceled,
            (true, Some(error)) => Stated::Failed(reason(error)),
            (true, None) => {
                Stated::Succeeded { response: document.get("response").filter(|it| !it.is_null()).cloned(), at: None }
            }
        });
    }
    let Some(status) = document.get("status").and_then(Value::as_str) else {
        // Google leaves `done` out where it is false.
        let name = document.get("name").and_then(Value::as_str).unwrap_or_default();
        let is_operation = name.starts_with("operations/") || name.contains("/operations/");
        return is_operation.then(|| Stated::Running { percent, word: "running".into() });
    };
    let word = cut(status.trim(), LONGEST_WORD).to_owned();
    let plain: String = word.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect();
    Some(match plain.as_str() {
        "succeeded" => {
            let at = document.get("resourceLocation").and_then(Value::as_str).filter(|url| !url.is_empty());
            Stated::Succeeded { response: None, at: at.map(str::to_owned) }
        }
        "failed" => Stated::Failed(error.map(reason).unwrap_or_default()),
        "canceled" | "cancelled" => Stated::Canceled,
        "accepted" | "inprogress" | "running" | "pending" | "queued" | "notstarted" | "started" | "processing"
        | "waiting" | "canceling" | "cancelling" => Stated::Running { percent, word },
        _ => Stated::Odd { percent, word },
    })
}

/// `CODE: message` of an error object, as far as it has them.
fn reason(error: &Value) -> String {
    let text = |key: &str| match &error[key] {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    [text("code"), text("message")].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

fn failed(why: &str) -> RunFailure {
    let why = cut(why, LONGEST_REASON);
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    RunFailure::retry(format!("what was begun has failed{why}")).code("OperationFailed")
}

fn canceled() -> RunFailure {
    RunFailure::fatal("what was begun was canceled over there").code("OperationCanceled")
}

fn unclear(what: &str) -> RunFailure {
    RunFailure::fatal(what).code("OperationUnclear")
}
