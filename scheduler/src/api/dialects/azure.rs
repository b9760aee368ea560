//! How Azure's clients follow a run: the work request itself is the status monitor, and its result has a URL of its own.

use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::api::error::Problem;
use crate::api::extract::Base;
use crate::api::known::Known;

/// The headers of an answer that starts a run, or tells that it goes on. OCI's clients follow `opc-work-request-id`.
pub(crate) fn headers(Base(base): &Base, known: &Known) -> HeaderMap {
    let id = known.request.id;
    let monitor = format!("{base}/v1/workRequests/{id}");
    let mut headers = HeaderMap::new();
    let mut put = |name, text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    put(LOCATION, format!("{monitor}/result"));
    put(HeaderName::from_static("operation-location"), monitor.clone());
    put(HeaderName::from_static("azure-asyncoperation"), monitor);
    put(HeaderName::from_static("opc-work-request-id"), id.to_string());
    headers.extend(known.retry_after());
    headers
}

/// What the result's URL answers about a run that has no result, and will have none.
pub(crate) fn no_result(known: &Known) -> Option<Problem> {
    known.failure().map(|error| Problem::new(StatusCode::CONFLICT, error.code, error.message))
}
