//! Large bodies: as many at a time as there is memory for. Parsed, a body takes several times its size, so that a few callers
//! could take all memory otherwise.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::error::Problem;

/// A body of no more bytes than this goes its way, whatever else does.
const LIGHT: usize = 256 * 1024;
/// So many bytes of larger ones are in hand at a time, each from its first byte to the answer.
const ROOM: u32 = 96 << 20;
/// What a large body is taken for that does not say how large it is.
const UNKNOWN: u32 = 33 << 20;
/// How long a large body waits for others.
const PATIENCE: Duration = Duration::from_secs(2);
/// Seconds until another try is worth it.
const RETRY_AFTER: u32 = 5;

/// The room for large bodies of one process.
pub(super) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ROOM as usize))
}

/// Lets a request with a large body through when there is room for it; refuses it if there is none for a while.
pub(super) async fn by_turns(State(room): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let (body, weight) = weighed(body).await;
    let request = Request::from_parts(parts, body);
    if weight == 0 {
        return next.run(request).await;
    }
    match timeout(PATIENCE, room.acquire_many(weight)).await {
        Ok(Ok(_held)) => next.run(request).await,
        _ => {
            metrics::counter!("reveille_large_bodies_refused_total").increment(1);
            Problem::unavailable("too many large bodies at a time: try again later", RETRY_AFTER).into_response()
        }
    }
}

/// The body, and how much room it needs: none if it is not large.
async fn weighed(body: Body) -> (Body, u32) {
    if let Some(size) = body.size_hint().exact() {
        let is_light = size <= LIGHT as u64;
        // More than there is room for is more than any reader takes.
        return (body, if is_light { 0 } else { u32::try_from(size).unwrap_or(ROOM).min(ROOM) });
    }
    let mut rest = body.into_data_stream();
    let (mut begun, mut length): (Vec<Result<Bytes, axum::Error>>, usize) = (Vec::new(), 0);
    while length <= LIGHT {
        let Some(chunk) = rest.next().await else {
            return (Body::from_stream(stream::iter(begun)), 0);
        };
        length += chunk.as_ref().map_or(0, Bytes::len);
        let has_failed = chunk.is_err();
        begun.push(chunk);
        if has_failed {
            return (Body::from_stream(stream::iter(begun)), 0);
        }
    }
    (Body::from_stream(stream::iter(begun).chain(rest)), UNKNOWN)
}
