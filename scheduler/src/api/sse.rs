//! What streams of server-sent events (HTML, section 9.2) have in common.

use std::time::Duration;

use axum::http::HeaderMap;

/// How long a client waits before it connects again.
pub(crate) const RECONNECT: Duration = Duration::from_secs(2);
/// How often a stream in which nothing happens says that it is alive: proxies give up after a minute or so.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Entries of histories that are read at once.
pub(crate) const BATCH: i64 = 100;

/// The id of the event that the caller has seen last, if it says so.
pub(crate) fn last_event_id(asked: &HeaderMap) -> Option<&str> {
    asked.get("last-event-id").map(|id| id.to_str().unwrap_or("\u{fffd}")).filter(|id| !id.is_empty())
}
