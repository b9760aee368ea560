//! The one shape of every error answer: an RFC 9457 problem with the members that third-party clients read beside it.

pub(crate) mod pages;

use axum::Json;
use axum::extract::Request;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use reveille_shared::store::StoreError;
use reveille_shared::telemetry;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::openapi;
use crate::queued::Full;

/// When some of what is queued may have started, in seconds.
const QUEUED_RETRY: u32 = 10;

/// Media type of every error answer.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was refused or could not be served. Its texts never hold a secret.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: String,
    message: String,
    faults: Vec<Fault>,
    retry_after: Option<u32>,
    members: Map<String, Value>,
}

/// One wrong field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub(crate) struct Fault {
    /// Name of the field, query parameter or header.
    pub(crate) field: String,
    /// What is wrong with it and what was expected.
    pub(crate) message: String,
}

/// An error answer: RFC 9457 with extra members for clients that look for `code`, `message` or `error`.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body {
    /// Where this kind of error is explained; `about:blank` for what a run itself has failed with.
    r#type: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, for people.
    #[schema(min_length = 1)]
    detail: String,
    /// A stable word for programs.
    #[schema(min_length = 1)]
    code: String,
    /// The same as `detail`.
    #[schema(min_length = 1)]
    message: String,
    /// The same once more, in the envelope that some clients expect.
    error: Envelope,
    /// Every wrong field of the request at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<Fault>,
    #[serde(flatten)]
    #[schema(ignore)]
    members: Map<String, Value>,
}

/// The same error for clients that expect a `google.rpc.Status`.
#[derive(Serialize, ToSchema)]
#[schema(as = ProblemEnvelope)]
struct Envelope {
    /// The HTTP status.
    code: u16,
    /// What is wrong, for people.
    message: String,
    /// Name of the nearest `google.rpc.Code`.
    status: &'static str,
    /// Always empty.
    details: Vec<Value>,
}

impl Problem {
    /// A refusal with a stable word for programs and a sentence for people.
    pub(crate) fn new(status: StatusCode, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
            faults: Vec::new(),
            retry_after: None,
            members: Map::new(),
        }
    }

    /// `what` does not exist.
    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{what} {} does not exist", printable(name)))
    }

    /// Fields of the request are wrong: all of them at once.
    pub(crate) fn invalid(status: StatusCode, faults: Vec<Fault>) -> Self {
        let list: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        Self { faults, ..Self::new(status, "InvalidParameter", list.join("; ")) }
    }

    /// Not now, but worth another try after `seconds`.
    pub(crate) fn unavailable(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message).retry_after(seconds)
    }

    /// Another try is worth it after so many seconds.
    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Names the fields that it is about.
    pub(crate) fn with_faults(self, faults: Vec<Fault>) -> Self {
        Self { faults, ..self }
    }

    /// Adds a member to the document.
    pub(crate) fn with_member(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }
}

/// A text from outside, short and without characters that would garble a terminal.
pub(crate) fn printable(text: &str) -> String {
    let cut: String = text.chars().take(80).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("\"{cut}\"")
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let body = Body {
            r#type: pages::kind(&self.code),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.message.clone(),
            code: self.code,
            message: self.message.clone(),
            error: Envelope {
                code: status.as_u16(),
                message: self.message,
                status: rpc_status(status),
                details: Vec::new(),
            },
            errors: self.faults,
            members: self.members,
        };
        let mut response = (status, [(CONTENT_TYPE, PROBLEM_JSON)], Json(body)).into_response();
        // `Json` names its own media type; the problem's is the right one.
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        let Full { queued, most } = full;
        let message = format!(
            "{queued} runs of this namespace wait for their start, of the {most} that may: start fewer, let workers catch up, \
             or cancel what is not needed"
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyQueued", message).retry_after(QUEUED_RETRY)
    }
}

/// The store's failures are ours, not the caller's: told in full to the log, in short to the caller.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = telemetry::chain(&error), "a request failed in the store");
        match error {
            StoreError::Malformed { .. } | StoreError::Timing { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string())
            }
            StoreError::ClocksApart(_) => Self::unavailable(error.to_string(), 30),
            _ => Self::unavailable("the database did not answer; try again", 2),
        }
    }
}

fn rpc_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 | 421 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        405 | 501 => "UNIMPLEMENTED",
        409 | 412 => "FAILED_PRECONDITION",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500..=599 => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

/// Turns what the router and its layers refuse by themselves (unknown path, wrong method) into problems, so that no
/// answer of 400 or more has another shape. Headers such as `Allow` stay.
pub(crate) async fn all_errors_are_problems(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let status = response.status();
    let is_problem = response.headers().get(CONTENT_TYPE).is_some_and(|value| value == PROBLEM_JSON);
    if is_problem || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem = match status {
        StatusCode::NOT_FOUND => {
            Problem::new(status, "NotFound", format!("there is no path {}: see /openapi.json", printable(&path)))
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            // The router adds that header further out.
            let (path, method) = (printable(&path), printable(method.as_str()));
            let message = format!("{path} does not take {method}: the header Allow says what it does take");
            Problem::new(status, "MethodNotAllowed", message)
        }
        _ => {
            let reason = status.canonical_reason().unwrap_or("Error");
            Problem::new(status, reason.replace(' ', ""), reason)
        }
    };
    let (mut parts, _) = response.into_parts();
    let mut response = problem.into_response();
    if let (StatusCode::METHOD_NOT_ALLOWED, Some(allowed)) = (status, openapi::allowed(&path)) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    parts.headers.remove(CONTENT_TYPE);
    parts.headers.remove(axum::http::header::CONTENT_LENGTH);
    response.headers_mut().extend(parts.headers);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_failures_are_told_in_short_and_may_pass() {
        let leaky = StoreError::Malformed { what: "row", source: "postgres://user:hunter2@host".into() };
        for (error, status) in
            [(StoreError::Deposed, 503), (StoreError::InvalidUrl("hunter2".into()), 503), (leaky, 500)]
        {
            let problem = Problem::from(error);
            assert!(!format!("{problem:?}").contains("hunter2"));
            let response = problem.into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
        }
    }
}
