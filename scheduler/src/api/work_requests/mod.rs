//! Work requests: one run of one job each, from acceptance to its end.

pub(crate) mod cancel;
pub(crate) mod cancel_all;
pub(crate) mod claim;
pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod get;
pub(crate) mod heartbeat;
pub(crate) mod late_reports;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod result;
pub(crate) mod retry_failed;
pub(crate) mod tell;
pub(crate) mod view;

use axum::extract::FromRequestParts;
use axum::http::header::{HOST, LOCATION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use reveille_shared::work_request::{WorkRequest, WorkRequestId};

use super::ApiState;
use super::error::Problem;

/// Scheme, host and port by which the caller reaches this service; absolute URLs begin with it.
#[derive(Debug)]
pub(crate) struct Base(String);

impl<S: Send + Sync> FromRequestParts<S> for Base {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        // The guard has seen to it that there is one and that it is ours.
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(axum::http::uri::Authority::as_str));
        Ok(Self(format!("http://{}", host.unwrap_or("localhost"))))
    }
}

/// The headers by which clients of several kinds follow a work request that was just started or asked to stop.
pub(crate) fn follow(Base(base): &Base, request: &WorkRequest) -> HeaderMap {
    let monitor = format!("{base}/v1/workRequests/{}", request.id);
    let mut headers = HeaderMap::new();
    let mut put = |name, text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    put(LOCATION, format!("{monitor}/result"));
    put(HeaderName::from_static("operation-location"), monitor.clone());
    put(HeaderName::from_static("azure-asyncoperation"), monitor);
    put(HeaderName::from_static("opc-work-request-id"), request.id.to_string());
    headers.extend(poll_again(request));
    headers
}

/// When to look again at a work request that has not ended.
pub(crate) fn poll_again(request: &WorkRequest) -> Option<(HeaderName, HeaderValue)> {
    (!request.status.is_terminal()).then(|| (RETRY_AFTER, HeaderValue::from(1)))
}

/// The work request that a path names. Ids are opaque to callers: what is no id does not exist.
pub(crate) async fn find(state: &ApiState, namespace: &str, id: &str) -> Result<WorkRequest, Problem> {
    let unknown = || Problem::not_found("work request", id);
    let parsed: WorkRequestId = id.parse().map_err(|_| unknown())?;
    state.store.work_request(namespace, parsed).await?.ok_or_else(unknown)
}
