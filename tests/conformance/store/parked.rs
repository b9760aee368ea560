//! Runs that are parked: what their attempt has begun elsewhere goes on, without a lease and with everything else.

use std::time::Duration;

use reveille_shared::definition::Priority;
use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Hold, Phase, Refusal, Status};
use reveille_shared::store::{
    Cancellation, Claim, Claimed, Limit, Loss, Marker, NewWorkRequest, Outcome, Outgoing, Progress,
};
use reveille_shared::work_request::{Happening, WorkRequestId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, claim, error, failed, on_both, succeeded, worker};

on_both!(
    the_next_lease_goes_on_with_the_same_attempt,
    each_lease_leaves_notes_for_the_next,
    a_lost_lease_or_a_release_parks_again_and_keeps_the_notes,
    a_new_attempt_knows_nothing_of_the_operation_before,
    a_parked_run_keeps_its_slot,
    a_rate_counts_the_first_start_only,
    a_trigger_that_is_lost_goes_out_again,
    a_trigger_that_is_returned_parks_again,
    a_cancel_is_due_at_once_and_the_next_lease_is_told,
    what_nobody_asks_after_ends_with_its_time,
    a_canceled_one_that_nobody_asks_after_is_canceled,
    progress_goes_on_over_leases,
    notes_are_kept_as_evidence_only,
);

const HOUR: Duration = Duration::from_secs(3600);

fn parked(after: Duration, step: u32) -> Outcome {
    Outcome::Parked { after, notes: json!({ "step": step }) }
}

/// A run whose first lease has parked it, to be asked after at once.
async fn parked_run(bed: &Bed) -> Claimed {
    let run = bed.running().await;
    bed.report(&run, parked(Duration::ZERO, 1)).await.unwrap();
    run
}

/// The only trigger that goes out now.
async fn the_trigger(bed: &Bed) -> Outgoing {
    let mut out = bed.take().await;
    assert_eq!(out.len(), 1, "{out:?}");
    out.remove(0)
}

/// The next lease of the only run that is to be asked after.
async fn next_lease(bed: &Bed) -> Claimed {
    bed.claim(&the_trigger(bed).await.trigger).await.unwrap()
}

async fn phase(bed: &Bed, id: WorkRequestId) -> Phase {
    bed.get(id).await.phase
}

async fn is_parked(bed: &Bed, id: WorkRequestId) -> bool {
    matches!(phase(bed, id).await, Phase::Parked { .. })
}

fn loss(run: &Claimed, retry: Option<Duration>, verify: bool) -> Loss {
    Loss { id: run.id, token: run.token, error: error("its worker died"), retry, verify, if_overdue: false }
}

async fn the_next_lease_goes_on_with_the_same_attempt(bed: Bed) {
    let run = bed.running().await;
    let Phase::Leased(first) = phase(&bed, run.id).await else { panic!() };
    assert_eq!((run.operation.as_ref(), run.canceling), (None, false));
    bed.report(&run, parked(HOUR, 1)).await.unwrap();
    assert!(is_parked(&bed, run.id).await && bed.take().await.is_empty(), "before it is to be asked after");
    assert!(bed.store.leases_of(worker()).await.unwrap().is_empty());
    let depths = bed.store.depths().await.unwrap();
    assert_eq!((depths.len(), &*depths[0].phase, depths[0].count), (1, "parked", 1));
    let next = bed.store.next_due().await.unwrap().unwrap();
    assert!(next.duration_since(bed.now().await).as_secs() > 3500, "{next}");

    // A repeated report is one.
    assert_eq!(bed.report(&run, parked(HOUR, 9)).await, Err(Refusal::Repeated));
    assert_eq!(bed.report(&run, succeeded()).await, Err(Refusal::Repeated), "the first answer stands");
    bed.age(3600).await;
    let out = the_trigger(&bed).await;
    assert_eq!((out.trigger.id, out.trigger.n), (run.id, 2));
    let again = claim(&out.trigger);
    let claimed = bed.store.claim(worker(), &[again]).await.unwrap().remove(0).unwrap();
    let repeated = bed.store.claim(worker(), &[again]).await.unwrap().remove(0).unwrap();
    assert_eq!((claimed.attempt, claimed.failures, claimed.operation.clone()), (1, 0, Some(json!({"step": 1}))));
    assert_eq!((repeated.token, repeated.operation), (claimed.token, claimed.operation.clone()));
    let Phase::Leased(second) = phase(&bed, run.id).await else { panic!() };
    let until = |deadline: jiff::Timestamp| deadline.duration_since(first.deadline).as_secs();
    // On PostgreSQL the hour has not passed; what was moved is the row.
    let moved = if bed.clock.is_some() { 0 } else { -3600 };
    assert_eq!(until(second.deadline), moved, "the attempt's time is not prolonged");
    bed.report(&claimed, succeeded()).await.unwrap();
    let ended = bed.get(run.id).await;
    assert_eq!((ended.status, ended.attempt, ended.started_at), (Status::Succeeded, 1, Some(run.claimed_at)));
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "parked", "succeeded"]);
}

async fn each_lease_leaves_notes_for_the_next(bed: Bed) {
    let run = parked_run(&bed).await;
    for step in 2..5 {
        let lease = next_lease(&bed).await;
        assert_eq!(lease.operation, Some(json!({"step": step - 1})));
        bed.report(&lease, parked(Duration::ZERO, step)).await.unwrap();
    }
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "parked"], "told once, however often it is asked after");
}

async fn a_lost_lease_or_a_release_parks_again_and_keeps_the_notes(bed: Bed) {
    let run = parked_run(&bed).await;
    let lost = next_lease(&bed).await;
    assert_eq!(bed.store.lose(vec![loss(&lost, None, true)]).await.unwrap(), 1);
    assert!(is_parked(&bed, run.id).await);
    assert_eq!(bed.report(&lost, succeeded()).await, Err(Refusal::StaleToken), "another one asks after it");
    let released = next_lease(&bed).await;
    assert_eq!((released.attempt, released.doubt, released.operation.clone()), (1, false, Some(json!({"step": 1}))));
    bed.report(&released, Outcome::Released { doubt: false }).await.unwrap();
    let third = next_lease(&bed).await;
    assert_eq!((third.attempt, third.failures, third.operation.clone()), (1, 0, Some(json!({"step": 1}))));
    let told = bed.history(run.id).await;
    assert!(
        matches!(&told[..], [_, _, Happening::Parked { token: Some(_), .. }, Happening::Parked { token: None, reason: Some(why), .. }]
            if why.contains("its worker died")),
        "{told:?}"
    );
    assert_eq!(bed.get(run.id).await.error, None, "nothing has failed");
}

async fn a_new_attempt_knows_nothing_of_the_operation_before(bed: Bed) {
    let run = parked_run(&bed).await;
    let lease = next_lease(&bed).await;
    bed.report(&lease, failed(Some(Duration::ZERO))).await.unwrap();
    let retry = next_lease(&bed).await;
    assert_eq!((retry.attempt, retry.failures, retry.operation.clone()), (2, 1, None));
    bed.report(&retry, parked(Duration::ZERO, 7)).await.unwrap();
    assert_eq!(next_lease(&bed).await.operation, Some(json!({"step": 7})));
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "parked", "attemptFailed", "started", "parked"]);
}

async fn a_parked_run_keeps_its_slot(bed: Bed) {
    let limit = Some(Limit { key: "a".into(), most: 1, per: None });
    let accept = async || {
        bed.pass(Duration::from_millis(2)).await;
        let request = bed.new_request().await;
        bed.accept(NewWorkRequest { concurrency: limit.clone(), priority: Priority::Normal, ..request }).await
    };
    let (first, second) = (accept().await, accept().await);
    let run = next_lease(&bed).await;
    assert_eq!(run.id, first);
    bed.report(&run, parked(HOUR, 1)).await.unwrap();
    assert!(bed.take().await.is_empty(), "the slot is taken");
    assert!(matches!(phase(&bed, second).await, Phase::Held { hold: Hold::Concurrency, .. }));
    // Asked after once more, and taken back by the broker: still.
    bed.age(3600).await;
    let out = the_trigger(&bed).await;
    bed.store.unsend(&[(out.trigger, Duration::ZERO, None)]).await.unwrap();
    let run = next_lease(&bed).await;
    assert_eq!(run.id, first);
    bed.report(&run, succeeded()).await.unwrap();
    assert_eq!(the_trigger(&bed).await.trigger.id, second, "its end lets the next one go");
}

async fn a_rate_counts_the_first_start_only(bed: Bed) {
    let limit = Some(Limit { key: "r".into(), most: 2, per: Some(HumanDuration::from_secs(86_400)) });
    let accept = async || {
        bed.pass(Duration::from_millis(2)).await;
        let request = bed.new_request().await;
        bed.accept(NewWorkRequest { rate: limit.clone(), ..request }).await
    };
    let first = accept().await;
    let mut run = next_lease(&bed).await;
    for step in 1..4 {
        bed.report(&run, parked(Duration::ZERO, step)).await.unwrap();
        run = next_lease(&bed).await;
        assert_eq!(run.id, first);
    }
    let (second, third) = (accept().await, accept().await);
    assert_eq!(the_trigger(&bed).await.trigger.id, second, "only one start was counted");
    assert!(matches!(phase(&bed, third).await, Phase::Held { hold: Hold::Rate, .. }));
    bed.report(&run, parked(Duration::ZERO, 9)).await.unwrap();
    assert_eq!(the_trigger(&bed).await.trigger.id, first, "a full rate keeps nobody from being asked after");
}

async fn a_trigger_that_is_lost_goes_out_again(bed: Bed) {
    let run = parked_run(&bed).await;
    let out = the_trigger(&bed).await;
    bed.age(60).await;
    let now = bed.now().await;
    let marker = Marker { id: Uuid::from_u128(1), route: out.route.clone(), sent_at: now, back_at: Some(now) };
    let again = bed.store.resend_lost(&[marker], Duration::from_secs(30), 10).await.unwrap();
    assert_eq!(again.iter().map(|out| (out.trigger.id, out.trigger.n)).collect::<Vec<_>>(), [(run.id, 2)]);
    let lease = bed.claim(&out.trigger).await.unwrap();
    assert_eq!((lease.attempt, lease.operation), (1, Some(json!({"step": 1}))));
    assert_eq!(bed.claim(&again[0].trigger).await.unwrap_err(), Refusal::OldTrigger, "the other one finds nothing");
}

async fn a_trigger_that_is_returned_parks_again(bed: Bed) {
    let run = parked_run(&bed).await;
    let out = the_trigger(&bed).await;
    bed.store.unsend(&[(out.trigger.clone(), HOUR, Some("no route".into()))]).await.unwrap();
    assert!(is_parked(&bed, run.id).await && bed.take().await.is_empty());
    bed.age(3600).await;
    let out = the_trigger(&bed).await;
    assert!(!bed.store.give_up(&out.trigger, error("undeliverable")).await.unwrap(), "its time ends it, nothing else");
    assert_eq!(bed.claim(&out.trigger).await.unwrap().operation, Some(json!({"step": 1})));
}

async fn a_cancel_is_due_at_once_and_the_next_lease_is_told(bed: Bed) {
    // While it is parked for long; while its trigger is out; while it is asked after.
    let parked_for_long = async || {
        let run = bed.running().await;
        bed.report(&run, parked(HOUR, 1)).await.unwrap();
        run.id
    };
    let cancel = async |id| {
        assert_eq!(bed.store.cancel(NAMESPACE, id, "ann".into()).await.unwrap(), Cancellation::Canceling);
        assert_eq!(bed.status(id).await, Status::Canceling);
    };
    let id = parked_for_long().await;
    cancel(id).await;
    let lease = next_lease(&bed).await;
    assert_eq!((lease.id, lease.canceling, lease.operation.clone()), (id, true, Some(json!({"step": 1}))));
    // Who drains meanwhile leaves it to the next one.
    bed.report(&lease, Outcome::Released { doubt: false }).await.unwrap();
    let lease = next_lease(&bed).await;
    assert!(lease.canceling);
    bed.report(&lease, Outcome::Stopped).await.unwrap();
    assert_eq!(bed.told(id).await, ["accepted", "started", "parked", "cancelRequested", "canceled"]);

    let id = parked_run(&bed).await.id;
    let out = the_trigger(&bed).await;
    cancel(id).await;
    let lease = bed.claim(&out.trigger).await.unwrap();
    assert!(lease.canceling);
    bed.report(&lease, succeeded()).await.unwrap();
    assert_eq!(bed.status(id).await, Status::Succeeded, "it had ended first: its true end");

    let id = parked_run(&bed).await.id;
    let lease = next_lease(&bed).await;
    cancel(id).await;
    assert!(bed.store.leases_of(worker()).await.unwrap()[0].canceling, "its beat tells the worker");
    bed.report(&lease, parked(HOUR, 2)).await.unwrap();
    let lease = next_lease(&bed).await;
    assert!(lease.canceling, "who had not heard of it parks it, and the next lease comes at once");
    assert_eq!(bed.store.lose(vec![loss(&lease, Some(Duration::ZERO), true)]).await.unwrap(), 1);
    assert_eq!(bed.status(id).await, Status::Canceled, "who dies over it ends it");
}

async fn what_nobody_asks_after_ends_with_its_time(bed: Bed) {
    let found = async || {
        let found = bed.store.abandoned(10).await.unwrap();
        found.into_iter().map(|lease| (lease.id, lease.token)).collect::<Vec<_>>()
    };
    let run = parked_run(&bed).await;
    assert!(found().await.is_empty(), "within its time");
    let verdict = bed.store.abandon(vec![loss(&run, None, false)]).await.unwrap();
    assert_eq!(verdict, 0, "nor can it be ended");
    bed.age(3600).await;
    assert_eq!(found().await, [(run.id, run.token)]);
    // One that is in a queue is found as well, and one that is asked after is its worker's.
    let out = the_trigger(&bed).await;
    assert_eq!(found().await.len(), 1);
    let lease = bed.claim(&out.trigger).await.unwrap();
    assert!(found().await.is_empty());
    assert_eq!(bed.store.abandon(vec![loss(&lease, None, false)]).await.unwrap(), 0);
    let overdue = bed.store.overdue_leases(10).await.unwrap();
    assert_eq!(overdue.iter().map(|lease| lease.token).collect::<Vec<_>>(), [lease.token]);
    bed.report(&lease, Outcome::Released { doubt: false }).await.unwrap();
    assert_eq!(found().await, [(run.id, lease.token)], "under its last lease");

    assert_eq!(bed.store.abandon(vec![loss(&lease, Some(HOUR), true)]).await.unwrap(), 1);
    assert!(found().await.is_empty());
    let shown = bed.get(run.id).await;
    assert!(matches!(shown.phase, Phase::Due { .. }) && shown.error.is_some(), "{shown:?}");
    bed.age(3600).await;
    let retry = next_lease(&bed).await;
    assert_eq!((retry.attempt, retry.failures, retry.doubt, retry.operation.clone()), (2, 1, true, None));
    bed.report(&retry, parked(Duration::ZERO, 1)).await.unwrap();
    bed.age(3600).await;
    assert_eq!(bed.store.abandon(vec![loss(&retry, None, false)]).await.unwrap(), 1);
    assert_eq!(bed.status(run.id).await, Status::Failed);
}

async fn a_canceled_one_that_nobody_asks_after_is_canceled(bed: Bed) {
    let run = parked_run(&bed).await;
    bed.store.cancel(NAMESPACE, run.id, "ann".into()).await.unwrap();
    bed.age(50).await;
    assert!(bed.store.abandoned(10).await.unwrap().is_empty(), "a worker may still tell the callee");
    bed.age(15).await;
    let [lease] = &bed.store.abandoned(10).await.unwrap()[..] else { panic!() };
    assert!(lease.canceling);
    assert_eq!(bed.store.abandon(vec![loss(&run, Some(Duration::ZERO), true)]).await.unwrap(), 1);
    assert_eq!(bed.status(run.id).await, Status::Canceled);
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "parked", "cancelRequested", "canceled"]);
}

async fn progress_goes_on_over_leases(bed: Bed) {
    let run = bed.running().await;
    let tell = async |token, percent: f32, message: &str| {
        let message = Some(message.to_owned());
        bed.store.progress(&[Progress { id: run.id, token, percent, message }]).await.unwrap();
        bed.get(run.id).await.percent
    };
    assert_eq!(tell(run.token, 40.0, "Running").await, 40.0);
    bed.report(&run, parked(Duration::ZERO, 1)).await.unwrap();
    assert_eq!(tell(run.token, 60.0, "late").await, 40.0, "its lease has ended");
    let lease = next_lease(&bed).await;
    assert_eq!(tell(lease.token, 30.0, "Running").await, 40.0, "never backward");
    assert_eq!(tell(lease.token, 70.0, "Running").await, 70.0);
}

async fn notes_are_kept_as_evidence_only(bed: Bed) {
    let run = bed.running().await;
    bed.store.lose(vec![loss(&run, Some(Duration::ZERO), false)]).await.unwrap();
    assert_eq!(bed.report(&run, parked(Duration::ZERO, 1)).await, Err(Refusal::StaleToken));
    let late = bed.store.late_reports(run.id).await.unwrap();
    assert_eq!(late[0].outcome, parked(Duration::ZERO, 1));
    let lease = next_lease(&bed).await;
    assert_eq!((lease.attempt, lease.operation), (2, None));
    let stale = Claim { id: run.id, n: 1, token: run.token };
    assert_eq!(bed.store.claim(worker(), &[stale]).await.unwrap(), [Err(Refusal::OldTrigger)]);
    assert_eq!(bed.store.output(run.id).await.unwrap(), None::<Value>);
}
