//! Lost triggers: a marker follows them on their route, and what was sent before one that has come back and is still not
//! claimed is sent again.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::broker::{Broker, Route};
use reveille_shared::store::{Marker, Outgoing, Store, StoreError};

use crate::backlog::Backlog;

/// A trigger that nobody has claimed for so long is asked after, and sent again no earlier; doubled with each time.
const PATIENCE: SignedDuration = SignedDuration::from_secs(5);
/// How long after its marker has come back a trigger may be in the hands of a worker that has not claimed it yet.
const GRACE: SignedDuration = SignedDuration::from_secs(5);
/// How often a route is asked, doubled with each marker that does not come back.
const INTERVAL: SignedDuration = SignedDuration::from_secs(10);
/// The longest such interval.
const LONGEST: SignedDuration = SignedDuration::from_mins(10);
/// For how long markers are remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(30);

/// Sends markers where triggers have waited for long. Answers up to `limit` triggers that are lost, marked as sent again and
/// to be published.
///
/// # Errors
/// [`StoreError::Query`]: the next look finds the same.
pub(crate) async fn look(
    store: &Store,
    broker: &Arc<dyn Broker>,
    backlog: &mut Backlog,
    limit: usize,
) -> Result<Vec<Outgoing>, StoreError> {
    let now = store.now().await?;
    let until = now.saturating_sub(PATIENCE).unwrap_or(Timestamp::MIN);
    let mut routes = store.unclaimed(until).await?;
    let mut unmarked = backlog.unclaimed(until);
    unmarked.retain(|route| !routes.contains(route));
    routes.extend(unmarked);
    if routes.is_empty() {
        return Ok(Vec::new());
    }
    let markers = store.markers().await?;
    let (ask, back) = judge(routes, &markers, now);
    let mut news = Vec::with_capacity(ask.len());
    for route in ask {
        news.push((route.clone(), store.put_marker(&route).await?));
    }
    if !news.is_empty() {
        // One that does not get through is like one that does not come back.
        let _unconfirmed = broker.publish(&news).await;
    }
    let forgotten = now.saturating_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
    if markers.first().is_some_and(|oldest| oldest.sent_at < forgotten) {
        store.purge_markers(forgotten).await?;
    }
    let lost = backlog.resend_lost(store, &back, PATIENCE, limit).await?;
    // What is marked is to be published before anything else can fail.
    if !lost.is_empty() {
        return Ok(lost);
    }
    store.resend_lost(&back, PATIENCE.unsigned_abs(), i64::try_from(limit).unwrap_or(i64::MAX)).await
}

/// Of these routes, where triggers wait: those to be asked now, and for those that have answered their latest answer.
fn judge(routes: Vec<Route>, markers: &[Marker], now: Timestamp) -> (Vec<Route>, Vec<Marker>) {
    let (mut ask, mut back) = (Vec::new(), Vec::new());
    for route in routes {
        let of_route = || markers.iter().filter(|marker| marker.route == route);
        let answer = of_route().filter(|marker| marker.back_at.is_some_and(|at| now.duration_since(at) >= GRACE));
        let answer = answer.max_by_key(|marker| marker.sent_at).cloned();
        let since = of_route().filter_map(|marker| marker.back_at.and(Some(marker.sent_at))).max();
        let silent = of_route().filter(|marker| Some(marker.sent_at) > since).count();
        let interval = INTERVAL.saturating_mul(1 << silent.saturating_sub(1).min(10)).min(LONGEST);
        let last = of_route().map(|marker| marker.sent_at).max();
        if last.is_none_or(|last| now.duration_since(last) >= interval) {
            ask.push(route);
        }
        back.extend(answer);
    }
    (ask, back)
}

#[cfg(test)]
mod tests {
    use reveille_shared::definition::Priority;
    use uuid::Uuid;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn route(queue: &str) -> Route {
        Route { queue: queue.into(), priority: Priority::Normal }
    }

    fn marker(sent: i64, back: Option<i64>) -> Marker {
        Marker { id: Uuid::from_u128(1), route: route("a"), sent_at: at(sent), back_at: back.map(at) }
    }

    /// Whether the route is asked at this second, and by which marker it is judged.
    fn judged(markers: &[Marker], now: i64) -> (bool, Option<i64>) {
        let (ask, back) = judge(vec![route("a")], markers, at(now));
        (!ask.is_empty(), back.first().map(|marker| marker.sent_at.as_second()))
    }

    #[test]
    fn a_route_where_triggers_wait_is_asked_at_growing_intervals_until_it_answers() {
        assert_eq!(judged(&[], 0), (true, None));
        assert_eq!(judged(&[marker(0, None)], 9), (false, None));
        assert_eq!(judged(&[marker(0, None)], 10), (true, None));
        assert_eq!(judged(&[marker(0, None), marker(10, None)], 29), (false, None));
        assert_eq!(judged(&[marker(0, None), marker(10, None)], 30), (true, None));
        let many: Vec<_> = (0..30).map(|second| marker(second, None)).collect();
        assert_eq!(judged(&many, 629), (true, None), "ten minutes at most");
        // Another route's markers say nothing.
        assert_eq!(judge(vec![route("b")], &[marker(0, Some(1))], at(100)).1, []);
    }

    #[test]
    fn an_answer_counts_after_a_grace_and_the_latest_one_decides() {
        assert_eq!(judged(&[marker(0, Some(2))], 6), (false, None));
        assert_eq!(judged(&[marker(0, Some(2))], 7), (false, Some(0)));
        assert_eq!(judged(&[marker(0, Some(2)), marker(10, Some(11))], 16), (false, Some(10)));
        // The second one is lost: the first still holds for what was sent before it, and the interval is the first one.
        assert_eq!(judged(&[marker(0, Some(2)), marker(10, None)], 20), (true, Some(0)));
    }
}
