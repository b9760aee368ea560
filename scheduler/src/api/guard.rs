//! Whose requests are looked at, for how long, and the headers that every answer has.
//!
//! Where callers need no keys, the listener is on loopback and every local process may call. A web page in the operator's
//! browser must not: it is told by its `Origin`, and after DNS rebinding by its `Host`. Where they do, no browser sends a
//! key by itself.

use std::any::Any;
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::ApiState;
use super::access::Access;
use super::error::{Problem, printable};

/// How long a request may take, its body included: longer than the longest wait for a change.
const TIME_LIMIT: Duration = Duration::from_secs(45);
const REQUEST_ID: HeaderName = HeaderName::from_static("opc-request-id");
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Refuses requests for another host, and those that a web page of another origin makes.
pub(crate) async fn only_our_own(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let refused = match state.access {
        Access::Open => refusal(&request, state.address.port()),
        Access::Keys(_) => None,
    };
    match refused {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(request: &Request, port: u16) -> Option<Problem> {
    let headers = request.headers();
    let mut hosts: Vec<_> = headers.get_all(HOST).iter().map(|value| value.to_str().unwrap_or("\u{fffd}")).collect();
    hosts.extend(request.uri().authority().map(Authority::as_str));
    if hosts.is_empty() {
        return Some(Problem::new(StatusCode::BAD_REQUEST, "MissingHost", "the request has no Host header"));
    }
    if let Some(strange) = hosts.into_iter().find(|host| !is_ours(host, port)) {
        let message = format!("this is not {}: call localhost:{port} or 127.0.0.1:{port}", printable(strange));
        return Some(Problem::new(StatusCode::MISDIRECTED_REQUEST, "MisdirectedRequest", message));
    }
    let foreign = headers.get_all(ORIGIN).iter().find(|origin| {
        let authority = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        !authority.is_some_and(|authority| is_ours(authority, port))
    });
    // Browsers say where a request comes from even where they send no Origin; links from elsewhere are fine.
    let crossing = headers.get(FETCH_SITE).is_some_and(|site| site == "cross-site" || site == "same-site")
        && headers.get("sec-fetch-mode").is_none_or(|mode| mode != "navigate");
    (foreign.is_some() || crossing).then(|| {
        let message = "web pages of other origins may not call this service";
        Problem::new(StatusCode::FORBIDDEN, "ForbiddenOrigin", message)
    })
}

/// Whether `authority` is a loopback name or address with our port.
fn is_ours(authority: &str, port: u16) -> bool {
    let Ok(parsed) = authority.parse::<Authority>() else { return false };
    if authority.contains('@') || parsed.port_u16().unwrap_or(80) != port {
        return false;
    }
    let host = parsed.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Ends what takes too long.
pub(crate) async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(TIME_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::unavailable("the request took too long", 5).into_response(),
    }
}

/// The answer when a handler panicked; the panic itself has been reported.
pub(crate) fn panicked(_: Box<dyn Any + Send>) -> Response {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "an internal error; the log has the details")
        .into_response()
}

/// Adds the headers that every answer has.
pub(crate) async fn headers(request: Request, next: Next) -> Response {
    let id = request.headers().get(&REQUEST_ID).cloned().unwrap_or_else(fresh_id);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn fresh_id() -> HeaderValue {
    HeaderValue::try_from(Uuid::new_v4().simple().to_string()).expect("hexadecimal digits are a header value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_with_our_port_is_ours() {
        for ours in ["localhost:8080", "LOCALHOST:8080", "127.0.0.1:8080", "127.1.2.3:8080", "[::1]:8080"] {
            assert!(is_ours(ours, 8080), "{ours}");
        }
        for foreign in [
            "",
            "localhost",
            "localhost:81",
            "evil.example:8080",
            "localhost.evil.example:8080",
            "10.0.0.1:8080",
            "user@localhost:8080",
            "127.0.0.1.evil.example:8080",
            "0.0.0.0:8080",
            "[::]:8080",
            "a b:8080",
        ] {
            assert!(!is_ours(foreign, 8080), "{foreign}");
        }
        assert!(is_ours("localhost", 80));
    }
}
