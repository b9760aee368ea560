//! Entries of a history that are of one kind.

use reveille_shared::work_request::{HistoryEvent, WorkRequestId};

use crate::api::ApiState;
use crate::api::error::Problem;

/// Events that are read at once, at least.
const BATCH: u16 = 100;

/// Up to one more than `limit` entries that `pick` makes of events, with the events' numbers: behind number `from`, or before
/// it, the last one first.
pub(crate) async fn entries<T>(
    state: &ApiState,
    id: WorkRequestId,
    mut from: i32,
    ascending: bool,
    limit: u16,
    pick: impl Fn(HistoryEvent) -> Option<T>,
) -> Result<Vec<(i32, T)>, Problem> {
    let most = usize::from(limit) + 1;
    let batch = i64::from(limit.max(BATCH)) + 1;
    let mut found = Vec::new();
    loop {
        let events = match ascending {
            true => state.store.events(id, from, batch).await?,
            false => state.store.events_before(id, from, batch).await?,
        };
        let Some(last) = events.last().map(|event| event.seq) else { break };
        from = last;
        found.extend(events.into_iter().filter_map(|event| Some((event.seq, pick(event)?))));
        if found.len() >= most {
            break;
        }
    }
    found.truncate(most);
    Ok(found)
}
