//! Lists in any order, and what those read who wait for many runs at once.

use jiff::SignedDuration;
use reveille_shared::duration::HumanDuration;
use reveille_shared::state::Status;
use reveille_shared::store::{ListFilter, NewWorkRequest, Order, SortBy, Standing, StoreError};
use reveille_shared::work_request::{WorkRequest, WorkRequestId};
use serde_json::json;
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, failed, on_both, succeeded};

on_both!(
    every_order_is_paged_from_either_end,
    one_of_an_id_and_those_of_a_resource,
    a_list_of_some_states_is_all_of_them_wherever_it_is_read,
    standings_and_outputs_of_many_at_once,
    a_history_is_read_from_either_end,
    a_run_tells_until_when_it_may_start,
    ids_of_clocks_that_are_off_are_found_by_time_or_refused,
);

fn all() -> ListFilter {
    ListFilter { namespace: NAMESPACE.into(), ..ListFilter::default() }
}

/// All pages of two.
async fn pages(bed: &Bed, order: Order) -> Vec<WorkRequest> {
    let mut filter = ListFilter { order, ..all() };
    let mut seen: Vec<WorkRequest> = Vec::new();
    loop {
        let page = bed.store.work_requests(&filter, 2).await.unwrap();
        let Some(last) = page.last() else { return seen };
        filter.after = Some(last.id);
        seen.extend(page);
    }
}

async fn a_list_of_some_states_is_all_of_them_wherever_it_is_read(bed: Bed) {
    for outcome in [succeeded(), failed(None), failed(Some(std::time::Duration::ZERO))] {
        let run = bed.running().await;
        bed.report(&run, outcome).await.unwrap();
    }
    let leading = bed.running().await;
    bed.store.cancel(NAMESPACE, leading.id, "ann".into()).await.unwrap();
    bed.running().await;
    let parent = WorkRequestId(Uuid::from_u128(7));
    for (job, parent) in [("archive", None), ("copy", Some(parent)), ("copy", None)] {
        for is_canceled in [true, false] {
            let request = reveille_shared::store::NewWorkRequest { job: job.into(), parent, ..bed.new_request().await };
            let id = bed.accept(request).await;
            if is_canceled {
                bed.store.cancel(NAMESPACE, id, "ann".into()).await.unwrap();
            }
        }
    }
    let every = bed.store.work_requests(&all(), 100).await.unwrap();
    assert_eq!(every.len(), 11);
    let some = [every[3].id, every[9].id, every[3].id, parent, every[0].id];
    let mut found = bed.store.work_requests_of(&some).await.unwrap();
    found.sort_by_key(|run| std::cmp::Reverse(run.id));
    assert_eq!(found, [&every[0], &every[3], &every[9]].map(Clone::clone));
    assert_eq!(bed.store.work_requests_of(&[]).await.unwrap(), []);
    let states =
        [Status::Accepted, Status::InProgress, Status::Canceling, Status::Succeeded, Status::Failed, Status::Canceled];
    let middle = every[5].accepted_at;
    let narrower = [
        all(),
        ListFilter { job: Some("copy".into()), ..all() },
        ListFilter { job: Some("copy".into()), parent: Some(parent), ..all() },
        ListFilter { parent: Some(parent), ..all() },
        ListFilter { accepted_after: Some(middle), ..all() },
        ListFilter { accepted_before: Some(middle), job: Some("archive".into()), ..all() },
        ListFilter { namespace: "other".into(), ..all() },
        ListFilter { after: Some(every[4].id), ..all() },
        ListFilter { after: Some(every[4].id), order: Order { by: SortBy::Accepted, ascending: true }, ..all() },
        ListFilter { order: Order { by: SortBy::Job, ascending: true }, ..all() },
    ];
    for filter in narrower {
        let unfiltered: Vec<_> = bed.store.work_requests(&filter, 100).await.unwrap();
        // Every set of states.
        for set in 1..1_u32 << states.len() {
            let status: Vec<_> =
                (0..).zip(states).filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, state)| state).collect();
            let expected: Vec<_> = unfiltered.iter().filter(|run| status.contains(&run.status)).cloned().collect();
            let filter = ListFilter { status, ..filter.clone() };
            assert_eq!(bed.store.work_requests(&filter, 100).await.unwrap(), expected, "{filter:?}");
        }
    }
}

async fn every_order_is_paged_from_either_end(bed: Bed) {
    for outcome in [succeeded(), failed(None)] {
        let run = bed.running().await;
        bed.report(&run, outcome).await.unwrap();
    }
    let running = bed.running().await;
    let mut request = bed.new_request().await;
    request.job = "archive".into();
    bed.accept(request).await;
    bed.accepted().await;
    bed.store.cancel(NAMESPACE, bed.accepted().await, "ann".into()).await.unwrap();
    for by in [SortBy::Accepted, SortBy::Status, SortBy::Job, SortBy::Started, SortBy::Finished] {
        let up = pages(&bed, Order { by, ascending: true }).await;
        let mut down = pages(&bed, Order { by, ascending: false }).await;
        down.reverse();
        assert_eq!((up.len(), &up), (6, &down), "{by:?}");
        let is_sorted = match by {
            SortBy::Accepted => up.is_sorted_by_key(|run| run.id),
            SortBy::Status => up.is_sorted_by_key(|run| (run.status.as_str(), run.id)),
            SortBy::Job => up.is_sorted_by_key(|run| (run.job.clone(), run.id)),
            SortBy::Started => up.is_sorted_by_key(|run| (run.started_at.is_none(), run.started_at)),
            SortBy::Finished => up.is_sorted_by_key(|run| (run.finished_at.is_none(), run.finished_at)),
        };
        assert!(is_sorted, "{by:?}: {up:?}");
    }
    assert!(pages(&bed, Order::default()).await.iter().any(|run| run.id == running.id));
}

async fn one_of_an_id_and_those_of_a_resource(bed: Bed) {
    let plain = bed.accepted().await;
    let mut named = Vec::new();
    for resource in [json!({"name": "s1"}), json!({"name": "s2"}), json!(["s1"]), json!("s1")] {
        let mut request = bed.new_request().await;
        request.resource = Some(resource);
        named.push(bed.accept(request).await);
    }
    let list = async |filter: ListFilter| -> Vec<WorkRequestId> {
        bed.store.work_requests(&filter, 10).await.unwrap().into_iter().map(|run| run.id).collect()
    };
    assert_eq!(list(ListFilter { resource: Some("s1".into()), ..all() }).await, [named[0]]);
    assert_eq!(list(ListFilter { id: Some(plain), ..all() }).await, [plain]);
    assert!(list(ListFilter { id: Some(plain), resource: Some("s1".into()), ..all() }).await.is_empty());
    assert!(list(ListFilter { id: Some(plain), namespace: "other".into(), ..all() }).await.is_empty());
}

async fn standings_and_outputs_of_many_at_once(bed: Bed) {
    let ended = bed.running().await;
    bed.report(&ended, succeeded()).await.unwrap();
    let running = bed.running().await.id;
    let unknown = WorkRequestId(Uuid::from_u128(9));
    let mut standings = bed.store.standings(&[ended.id, running, unknown]).await.unwrap();
    standings.sort_unstable_by_key(|(_, standing)| standing.status.as_str());
    let standing = |status, last| Standing { status, last };
    // Accepted and started.
    let expected = [(running, standing(Status::InProgress, Some(2))), (ended.id, standing(Status::Succeeded, None))];
    assert_eq!(standings, expected);
    let output = bed.store.output(ended.id).await.unwrap().unwrap();
    assert_eq!(bed.store.outputs(&[running, ended.id, unknown]).await.unwrap(), [(ended.id, output)]);
    assert!(bed.store.standings(&[]).await.unwrap().is_empty() && bed.store.outputs(&[]).await.unwrap().is_empty());
}

async fn a_history_is_read_from_either_end(bed: Bed) {
    let run = bed.running().await;
    bed.report(&run, failed(None)).await.unwrap();
    let up = bed.store.events(run.id, 0, 10).await.unwrap();
    let mut down = bed.store.events_before(run.id, i32::MAX, 2).await.unwrap();
    down.extend(bed.store.events_before(run.id, down[1].seq, 10).await.unwrap());
    down.reverse();
    assert_eq!((up.len(), up), (3, down));
}

async fn a_run_tells_until_when_it_may_start(bed: Bed) {
    let mut request = bed.new_request().await;
    request.expires = Some(HumanDuration::from_secs(600));
    let id = bed.accept(request).await;
    let waiting = bed.get(id).await;
    let left = waiting.expires_at.unwrap().duration_since(waiting.accepted_at);
    assert_eq!(left.as_secs(), 600);
    let trigger = bed.take().await.remove(0).trigger;
    assert_eq!(bed.get(id).await.expires_at, waiting.expires_at, "nobody has claimed it yet");
    bed.claim(&trigger).await.unwrap();
    assert_eq!(bed.get(id).await.expires_at, None);
}

async fn ids_of_clocks_that_are_off_are_found_by_time_or_refused(bed: Bed) {
    let off = async |seconds: i64| {
        let id = WorkRequestId::new(bed.now().await.saturating_add(SignedDuration::from_secs(seconds)).unwrap());
        NewWorkRequest { id, ..bed.new_request().await }
    };
    // The next second but a few: what it takes until it is accepted counts as well.
    let mut runs = Vec::new();
    for seconds in [-290, 0, 299] {
        runs.push(bed.accept(off(seconds).await).await);
    }
    for run in &runs {
        let accepted = bed.get(*run).await.accepted_at;
        let after = accepted.saturating_add(SignedDuration::from_micros(1)).unwrap();
        let filter = ListFilter { accepted_after: Some(accepted), accepted_before: Some(after), ..all() };
        let found: Vec<_> = bed.store.work_requests(&filter, 10).await.unwrap().iter().map(|found| found.id).collect();
        assert!(found.contains(run), "{run} of {runs:?}: {found:?}");
    }
    for seconds in [-310, 330] {
        let request = off(seconds).await;
        let id = request.id;
        for error in [
            bed.store.accept(request.clone(), None).await.unwrap_err(),
            bed.store.accept_and_send(request, None).await.unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::ClocksApart(_)), "{error:?}");
        }
        assert_eq!(bed.store.work_request(NAMESPACE, id).await.unwrap(), None);
    }
}
