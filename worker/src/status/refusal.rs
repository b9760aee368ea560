//! Why a request for a worker's status is refused: in the words and the form of the scheduler's API.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use reveille_shared::access::CHALLENGE;
use reveille_shared::store::StoreError;
use reveille_shared::telemetry::chain;
use serde_json::json;

/// Why a request is refused.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// The stable words for programs: ours, and those of `google.rpc.Code`.
    codes: (&'static str, &'static str),
    message: String,
}

impl Refusal {
    /// Nobody knows who asks.
    pub(super) fn unauthorized(message: String) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, codes: ("Unauthorized", "UNAUTHENTICATED"), message }
    }

    /// Who asks is known, and may not.
    pub(super) fn forbidden(message: String) -> Self {
        Self { status: StatusCode::FORBIDDEN, codes: ("Forbidden", "PERMISSION_DENIED"), message }
    }

    /// Whose key it is can't be told at the moment.
    pub(super) fn unavailable(error: &StoreError) -> Self {
        tracing::warn!(error = chain(error), "can't look for a key");
        let message = "the database did not answer; try again".to_owned();
        Self { status: StatusCode::SERVICE_UNAVAILABLE, codes: ("ServiceUnavailable", "UNAVAILABLE"), message }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, codes: (code, rpc), message } = self;
        let problem = json!({
            "type": format!("/errors/{code}"),
            "title": status.canonical_reason(),
            "status": status.as_u16(),
            "detail": message,
            "code": code,
            "message": message,
            "error": { "code": status.as_u16(), "message": message, "status": rpc, "details": [] },
        });
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE)),
            StatusCode::SERVICE_UNAVAILABLE => headers.insert(RETRY_AFTER, HeaderValue::from_static("2")),
            _ => None,
        };
        response
    }
}
