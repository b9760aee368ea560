//! Lists and cancels.

use std::collections::BTreeSet;
use std::time::Duration;

use reveille_shared::state::{Phase, Refusal, Status};
use reveille_shared::store::{Cancellation, ListFilter, Loss, Outcome, QueueDepth};
use reveille_shared::work_request::{FireRef, Happening, Origin, WorkRequestId};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, error, failed, on_both, succeeded, worker};

on_both!(
    what_waits_is_canceled_at_once,
    what_runs_is_asked_to_stop,
    a_canceling_run_never_retries,
    cancel_and_claim_at_once,
    filters_narrow_the_list,
    pages_have_no_gaps_and_no_repeats_while_others_insert,
    depths_count_what_has_not_ended,
);

async fn cancel(bed: &Bed, id: WorkRequestId) -> Cancellation {
    bed.store.cancel(NAMESPACE, id, "ann".into()).await.unwrap()
}

async fn what_waits_is_canceled_at_once(bed: Bed) {
    let due = bed.accepted().await;
    assert_eq!(bed.store.cancel("other", due, "eve".into()).await.unwrap(), Cancellation::Unknown);
    assert_eq!(bed.status(due).await, Status::Accepted, "canceled from another namespace");
    assert_eq!(cancel(&bed, due).await, Cancellation::Canceled);
    assert_eq!(cancel(&bed, due).await, Cancellation::Ended);
    assert_eq!(bed.store.cancel("other", due, "eve".into()).await.unwrap(), Cancellation::Unknown);
    assert!(bed.take().await.is_empty());
    let ended = bed.get(due).await;
    assert_eq!((ended.status, ended.phase, ended.started_at), (Status::Canceled, Phase::Done, None));
    assert!(ended.finished_at.is_some());
    assert_eq!(bed.told(due).await, ["accepted", "canceled"]);

    let sent = bed.sent().await;
    assert_eq!(cancel(&bed, sent.id).await, Cancellation::Canceled);
    assert_eq!(bed.claim(&sent).await.unwrap_err(), Refusal::Ended);

    let run = bed.running().await;
    bed.report(&run, failed(Some(Duration::from_secs(600)))).await.unwrap();
    assert_eq!(cancel(&bed, run.id).await, Cancellation::Canceled, "while it waits for its retry");

    let unknown = WorkRequestId(Uuid::from_u128(5));
    assert_eq!(cancel(&bed, unknown).await, Cancellation::Unknown);
}

async fn what_runs_is_asked_to_stop(bed: Bed) {
    let run = bed.running().await;
    assert_eq!(cancel(&bed, run.id).await, Cancellation::Canceling);
    assert_eq!(cancel(&bed, run.id).await, Cancellation::Canceling, "a repeat");
    let lease = bed.store.leases_of(worker()).await.unwrap().remove(0);
    assert_eq!((lease.id, lease.token, lease.canceling), (run.id, run.token, true));
    assert_eq!(bed.status(run.id).await, Status::Canceling);
    bed.report(&run, Outcome::Stopped).await.unwrap();
    assert_eq!(bed.status(run.id).await, Status::Canceled);
    assert_eq!(bed.history(run.id).await[2], Happening::CancelRequested { by: "ann".into() });
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "cancelRequested", "canceled"]);

    let run = bed.running().await;
    cancel(&bed, run.id).await;
    bed.report(&run, succeeded()).await.unwrap();
    assert_eq!(bed.status(run.id).await, Status::Succeeded, "the business logic was faster");
}

async fn a_canceling_run_never_retries(bed: Bed) {
    let retry = Some(Duration::ZERO);
    for (ending, expected) in [("fail", Status::Failed), ("lose", Status::Canceled), ("release", Status::Canceled)] {
        let run = bed.running().await;
        cancel(&bed, run.id).await;
        match ending {
            "fail" => bed.report(&run, failed(retry)).await.unwrap(),
            "release" => bed.report(&run, Outcome::Released { doubt: false }).await.unwrap(),
            _ => {
                let loss = Loss {
                    id: run.id,
                    token: run.token,
                    error: error("dead"),
                    retry,
                    verify: false,
                    if_overdue: false,
                };
                assert_eq!(bed.store.lose(vec![loss]).await.unwrap(), 1);
            }
        }
        let ended = bed.get(run.id).await;
        assert_eq!((ended.status, ended.phase), (expected, Phase::Done), "{ending}");
    }
    assert!(bed.take().await.is_empty());
}

async fn cancel_and_claim_at_once(bed: Bed) {
    for _ in 0..10 {
        let trigger = bed.sent().await;
        let id = trigger.id;
        let other = bed.second().await;
        let mut canceling = JoinSet::new();
        canceling.spawn(async move { other.cancel(NAMESPACE, id, "ann".into()).await.unwrap() });
        let claimed = bed.claim(&trigger).await;
        match (canceling.join_next().await.unwrap().unwrap(), claimed) {
            (Cancellation::Canceled, Err(Refusal::Ended)) => assert_eq!(bed.status(id).await, Status::Canceled),
            (Cancellation::Canceling, Ok(_)) => assert_eq!(bed.status(id).await, Status::Canceling),
            other => panic!("{other:?}"),
        }
    }
}

async fn filters_narrow_the_list(bed: Bed) {
    let plain = bed.accepted().await;
    bed.pass(Duration::from_millis(5)).await;
    let between = bed.now().await;
    bed.pass(Duration::from_millis(5)).await;
    let mut request = bed.new_request().await;
    request.job = "move".into();
    let due_at = bed.now().await;
    let fire = FireRef { schedule: "nightly".into(), due_at, origin: Origin::Schedule };
    request.fire = Some(fire.clone());
    let fired = bed.accept(request).await;
    let mut request = bed.new_request().await;
    request.namespace = "other".into();
    let foreign = bed.accept(request).await;
    cancel(&bed, plain).await;

    let list = async |filter: ListFilter| -> Vec<WorkRequestId> {
        let filter = ListFilter {
            namespace: if filter.namespace.is_empty() { NAMESPACE.into() } else { filter.namespace },
            ..filter
        };
        bed.store.work_requests(&filter, 10).await.unwrap().into_iter().map(|found| found.id).collect()
    };
    let all = ListFilter::default();
    assert_eq!(list(all.clone()).await, [fired, plain], "newest first");
    assert_eq!(list(ListFilter { namespace: "other".into(), ..all.clone() }).await, [foreign]);
    assert_eq!(list(ListFilter { job: Some("move".into()), ..all.clone() }).await, [fired]);
    assert_eq!(list(ListFilter { schedule: Some("nightly".into()), ..all.clone() }).await, [fired]);
    assert_eq!(list(ListFilter { status: vec![Status::Canceled], ..all.clone() }).await, [plain]);
    let both = vec![Status::Canceled, Status::Accepted];
    assert_eq!(list(ListFilter { status: both, ..all.clone() }).await, [fired, plain]);
    assert_eq!(list(ListFilter { accepted_after: Some(between), ..all.clone() }).await, [fired]);
    assert_eq!(list(ListFilter { accepted_before: Some(between), ..all.clone() }).await, [plain]);
    let exact = bed.get(fired).await.accepted_at;
    assert_eq!(list(ListFilter { accepted_after: Some(exact), ..all.clone() }).await, [fired], "at or later");
    assert_eq!(list(ListFilter { accepted_before: Some(exact), ..all.clone() }).await, [plain], "before");
    let none = ListFilter { job: Some("move".into()), status: vec![Status::Canceled], ..all };
    assert!(list(none).await.is_empty());
    assert_eq!(bed.get(fired).await.fire, Some(fire));
}

async fn pages_have_no_gaps_and_no_repeats_while_others_insert(bed: Bed) {
    let mut expected = BTreeSet::new();
    for _ in 0..25 {
        expected.insert(bed.accepted().await);
    }
    bed.pass(Duration::from_millis(5)).await;
    let mut filter = ListFilter { namespace: NAMESPACE.into(), ..ListFilter::default() };
    let mut seen = Vec::new();
    loop {
        let page = bed.store.work_requests(&filter, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        seen.extend(page.iter().map(|found| found.id));
        bed.accepted().await;
    }
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first, none twice");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
}

async fn depths_count_what_has_not_ended(bed: Bed) {
    let depth = |queue: &str, phase: &str, count| QueueDepth { queue: queue.into(), phase: phase.into(), count };
    assert!(bed.store.depths().await.unwrap().is_empty());
    let run = bed.running().await;
    bed.sent().await;
    bed.accepted().await;
    let mut request = bed.new_request().await;
    request.queue = "billing".into();
    bed.accept(request).await;
    let expected =
        [depth("billing", "due", 1), depth("main", "due", 1), depth("main", "leased", 1), depth("main", "sent", 1)];
    assert_eq!(bed.store.depths().await.unwrap(), expected);
    assert_eq!(bed.store.queues().await.unwrap(), ["billing", "main"]);
    bed.report(&run, succeeded()).await.unwrap();
    assert_eq!(bed.store.depths().await.unwrap().len(), 3);
}
