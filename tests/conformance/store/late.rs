//! What comes too late: reports under lost leases, starts after the time; and doubts about lost attempts.

use std::time::Duration;

use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Phase, Refusal, Status};
use reveille_shared::store::{Cancellation, Loss, Outcome};
use reveille_shared::work_request::{Happening, WorkRequestId};
use serde_json::json;

use crate::bed::{Bed, NAMESPACE, error, failed, on_both, succeeded};

on_both!(
    a_report_under_a_lost_lease_is_evidence,
    what_a_worker_calls_lost_is_as_what_others_find_lost,
    what_has_not_started_in_time_expires,
    what_has_started_does_not_expire,
    a_lost_attempt_is_asked_after_before_another_runs,
    what_its_worker_broke_off_as_it_was_to_end_is_asked_after_at_once,
    a_cancel_that_nobody_answers_ends,
    many_are_canceled_at_once,
);

async fn lose(bed: &Bed, run: &reveille_shared::store::Claimed, verify: bool) {
    let loss =
        Loss { id: run.id, token: run.token, error: error("its worker died"), retry: None, verify, if_overdue: false };
    assert_eq!(bed.store.lose(vec![loss]).await.unwrap(), 1);
}

async fn a_report_under_a_lost_lease_is_evidence(bed: Bed) {
    let run = bed.running().await;
    lose(&bed, &run, false).await;
    assert_eq!(bed.report(&run, succeeded()).await, Err(Refusal::Ended));
    // The same again, or another under the same token: the first stays.
    assert_eq!(bed.report(&run, succeeded()).await, Err(Refusal::Ended));
    assert_eq!(bed.report(&run, failed(None)).await, Err(Refusal::Ended));
    let late = bed.store.late_reports(run.id).await.unwrap();
    assert_eq!(late.iter().map(|late| (late.token, &late.outcome)).collect::<Vec<_>>(), [(run.token, &succeeded())]);
    assert_eq!(bed.status(run.id).await, Status::Failed);
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "failed"], "outside of the history");

    // A report on nothing is nothing, and a repeated one is no evidence.
    let ended = bed.running().await;
    bed.report(&ended, succeeded()).await.unwrap();
    assert_eq!(bed.report(&ended, succeeded()).await, Err(Refusal::Repeated));
    assert_eq!(bed.store.late_reports(ended.id).await.unwrap(), []);
    let nothing = WorkRequestId::new(bed.now().await);
    let nobody = reveille_shared::store::Claimed { id: nothing, ..ended };
    assert_eq!(bed.report(&nobody, succeeded()).await, Err(Refusal::Ended));
    assert_eq!(bed.store.late_reports(nothing).await.unwrap(), []);
}

async fn what_a_worker_calls_lost_is_as_what_others_find_lost(bed: Bed) {
    let lost = |verify| Outcome::Lost { error: error("was broken off"), retry: None, verify };
    let run = bed.running().await;
    bed.report(&run, lost(false)).await.unwrap();
    assert_eq!(bed.status(run.id).await, Status::Failed);
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "failed"]);

    let asked = bed.running().await;
    bed.report(&asked, lost(true)).await.unwrap();
    let asking = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    assert_eq!((asking.id, asking.attempt, asking.failures, asking.doubt), (asked.id, 2, 1, true));
    // Under a lost lease, or once more as the answer was lost, it says nothing new.
    for (run, refusal) in [(&run, Refusal::Ended), (&asked, Refusal::StaleToken)] {
        assert_eq!(bed.report(run, lost(false)).await, Err(refusal));
        assert_eq!(bed.store.late_reports(run.id).await.unwrap(), []);
    }
}

async fn what_has_not_started_in_time_expires(bed: Bed) {
    let expiring = async |delay| {
        let request = bed.new_request().await;
        let expires = Some(HumanDuration::from_millis(5_000));
        bed.accept(reveille_shared::store::NewWorkRequest { expires, delay, ..request }).await
    };
    // One waits, one is in a queue, one is claimed too late; a delay is not part of the time.
    let delayed = expiring(HumanDuration::from_secs(3600)).await;
    let queued = expiring(HumanDuration::ZERO).await;
    let claimed = expiring(HumanDuration::ZERO).await;
    let sent = bed.take().await;
    assert_eq!(sent.len(), 2);
    let due = expiring(HumanDuration::ZERO).await;
    assert_eq!(bed.store.expire(10).await.unwrap(), 0);
    bed.pass(Duration::from_millis(5_100)).await;
    assert_eq!(bed.take().await, [], "what is due has expired");
    let trigger = &sent.iter().find(|out| out.trigger.id == claimed).unwrap().trigger;
    assert_eq!(bed.claim(trigger).await, Err(Refusal::Ended));
    assert_eq!(bed.store.expire(10).await.unwrap(), 1, "the one in the queue");
    for id in [queued, claimed, due] {
        let ended = bed.get(id).await;
        assert_eq!((ended.status, ended.attempt, ended.phase), (Status::Failed, 0, Phase::Done));
        assert_eq!(ended.error.unwrap().code, "Expired");
        assert_eq!(bed.told(id).await, ["accepted", "failed"]);
    }
    assert_eq!(bed.status(delayed).await, Status::Accepted);
}

async fn what_has_started_does_not_expire(bed: Bed) {
    let request = bed.new_request().await;
    let expires = Some(HumanDuration::from_millis(5_000));
    let id = bed.accept(reveille_shared::store::NewWorkRequest { expires, ..request }).await;
    let run = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    bed.report(&run, failed(Some(Duration::ZERO))).await.unwrap();
    bed.pass(Duration::from_millis(5_100)).await;
    assert_eq!(bed.store.expire(10).await.unwrap(), 0);
    let retried = bed.take().await.remove(0).trigger;
    assert_eq!(bed.claim(&retried).await.unwrap().attempt, 2);
    assert_eq!(bed.status(id).await, Status::InProgress);
}

async fn a_lost_attempt_is_asked_after_before_another_runs(bed: Bed) {
    let first = bed.running().await;
    assert!(!first.doubt);
    lose(&bed, &first, true).await;
    assert_eq!(bed.status(first.id).await, Status::InProgress, "though no retry is granted");
    let again = async || bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();

    // Still running: asked again later, and that is no failure.
    let asking = again().await;
    assert_eq!((asking.attempt, asking.failures, asking.doubt), (2, 1, true));
    let deferred = Outcome::Deferred { after: Duration::ZERO, reason: "still running".into() };
    bed.report(&asking, deferred.clone()).await.unwrap();
    assert_eq!(bed.report(&asking, deferred).await, Err(Refusal::Repeated));
    let asking = again().await;
    assert_eq!((asking.attempt, asking.failures, asking.doubt), (3, 1, true));
    assert_eq!(asking.questions, 1);
    // Given up while it asks: the doubt stays, and that was no question.
    let mut asking = asking;
    for _ in 0..3 {
        bed.report(&asking, Outcome::Released { doubt: false }).await.unwrap();
        asking = again().await;
        assert_eq!((asking.doubt, asking.questions), (true, 1));
    }
    bed.report(&asking, Outcome::Verified { output: json!({"found": true}) }).await.unwrap();
    assert_eq!(bed.status(first.id).await, Status::Succeeded);
    assert_eq!(bed.store.output(first.id).await.unwrap(), Some(json!({"found": true})));
    let Some(Happening::Succeeded { verified: true, attempt: 6, .. }) = bed.history(first.id).await.pop() else {
        panic!("{:?}", bed.history(first.id).await)
    };

    // It did not take effect and was run again: what fails then is in no doubt.
    let second = bed.running().await;
    lose(&bed, &second, true).await;
    bed.report(&again().await, failed(Some(Duration::ZERO))).await.unwrap();
    assert!(!again().await.doubt);
}

async fn what_its_worker_broke_off_as_it_was_to_end_is_asked_after_at_once(bed: Bed) {
    let run = bed.running().await;
    let again = async || bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    bed.report(&run, Outcome::Deferred { after: Duration::ZERO, reason: "x".into() }).await.unwrap();
    let broken_off = again().await;
    bed.report(&broken_off, Outcome::Released { doubt: true }).await.unwrap();
    assert_eq!(bed.report(&broken_off, Outcome::Released { doubt: true }).await, Err(Refusal::Repeated));
    let next = again().await;
    assert_eq!((next.attempt, next.failures, next.doubt, next.questions), (3, 0, true, 0), "nothing counts");
    assert!(matches!(bed.history(run.id).await[4], Happening::Released { attempt: 2, doubt: true, .. }));
    bed.report(&next, failed(Some(Duration::ZERO))).await.unwrap();
    assert!(!again().await.doubt, "it is known how that one ended");
}

async fn a_cancel_that_nobody_answers_ends(bed: Bed) {
    let run = bed.running().await;
    assert_eq!(bed.store.cancel(NAMESPACE, run.id, "ann".into()).await.unwrap(), Cancellation::Canceling);
    assert_eq!(bed.store.overdue_leases(10).await.unwrap(), []);
    bed.age(61).await;
    let overdue = bed.store.overdue_leases(10).await.unwrap();
    assert_eq!(overdue.iter().map(|lease| (lease.id, lease.canceling)).collect::<Vec<_>>(), [(run.id, true)]);
    lose(&bed, &run, true).await;
    assert_eq!(bed.status(run.id).await, Status::Canceled, "never asked after, never retried");
}

async fn many_are_canceled_at_once(bed: Bed) {
    let (waiting, queued, running, ended) =
        (bed.accepted().await, bed.sent().await, bed.running().await, bed.running().await);
    bed.report(&ended, succeeded()).await.unwrap();
    let mut foreign = bed.new_request().await;
    foreign.namespace = "other".into();
    let foreign = bed.accept(foreign).await;
    let these = [waiting, queued.id, running.id, ended.id, foreign, WorkRequestId::new(bed.now().await)];
    for repeated in [false, true] {
        let canceled = bed.store.cancel_all(NAMESPACE, &these, "ann").await.unwrap();
        // The two that waited have ended, and are passed over the second time.
        assert_eq!((canceled.canceled, canceled.canceling), (if repeated { 0 } else { 2 }, 1));
    }
    for (id, status) in [
        (waiting, Status::Canceled),
        (queued.id, Status::Canceled),
        (running.id, Status::Canceling),
        (ended.id, Status::Succeeded),
    ] {
        assert_eq!(bed.status(id).await, status);
    }
    let spared = bed.store.work_request("other", foreign).await.unwrap().unwrap();
    assert_eq!(spared.status, Status::Accepted);
}
