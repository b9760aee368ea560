//! Each child is born once, whoever makes it and whatever breaks off.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reveille_shared::broker::Route;
use reveille_shared::fan_out::{End, FailPolicy, MAX_DEPTH, Verdict};
use reveille_shared::state::{Phase, Refusal, Status};
use reveille_shared::store::{Acceptance, Claimed, IdempotencyKey, ListFilter, Outcome};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{at_end, bear_all, births, counts, end_all, follow_all, open, parent, stage};
use crate::bed::{Bed, NAMESPACE, on_both, succeeded};
use crate::definitions::{apply, definitions};
use crate::idempotency::named;
use crate::overlap::follow;

on_both!(
    of_several_expanders_one_makes_each_child,
    a_birth_that_breaks_off_leaves_nothing_and_is_made_up_for,
    children_for_whom_there_is_room_count_as_sent_from_their_birth,
    a_handler_makes_children_with_its_report,
    a_report_that_can_not_make_children_fails_its_run,
    a_repeated_request_is_one_run,
    inputs_that_nobody_needs_are_forgotten,
);

async fn of_several_expanders_one_makes_each_child(bed: Bed) {
    let id = parent(&bed, 730, FailPolicy::AtEnd).await;
    let mut racing = JoinSet::new();
    for _ in 0..5 {
        let store = bed.second().await;
        racing.spawn(async move { bear_all(&store, id).await });
    }
    assert_eq!(racing.join_all().await.iter().sum::<usize>(), 730);
    let mut numbers = BTreeSet::new();
    let filter = ListFilter { namespace: NAMESPACE.into(), parent: Some(id), ..ListFilter::default() };
    let children = bed.store.work_requests(&filter, 1_000).await.unwrap();
    assert_eq!(children.len(), 730);
    for child in children {
        assert_eq!(child.parent, Some(id));
        assert!(numbers.insert(child.input["number"].as_u64().unwrap()), "twice: {:?}", child.input);
    }
    assert_eq!((numbers.len(), counts(&bed, id).await.born), (730, 730));
    assert_eq!(bed.told(id).await, ["accepted", "split"]);
    assert_eq!(bed.store.next_chunk(id.0, -1).await.unwrap(), None);
}

/// Lets every insertion into `deliveries` fail, or takes that back.
async fn break_births(bed: &Bed, broken: bool) {
    let sql = match (bed.clock.is_some(), broken) {
        (true, true) => "CREATE TRIGGER broken BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'broken'); END",
        (true, false) => "DROP TRIGGER broken",
        (false, true) => {
            "CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
             CREATE TRIGGER broken BEFORE INSERT ON deliveries FOR EACH ROW EXECUTE FUNCTION broken()"
        }
        (false, false) => "DROP TRIGGER broken ON deliveries; DROP FUNCTION broken",
    };
    bed.tamper(sql).await;
}

async fn a_birth_that_breaks_off_leaves_nothing_and_is_made_up_for(bed: Bed) {
    let id = parent(&bed, 150, FailPolicy::AtEnd).await;
    let first = births(&bed.store, id, -1).await.unwrap();
    break_births(&bed, true).await;
    bed.store.bear(first.clone(), &|_| false).await.unwrap_err();
    assert_eq!((bed.status(id).await, counts(&bed, id).await.born), (Status::Accepted, 0));
    assert_eq!(bed.told(id).await, ["accepted"]);
    assert!(bed.store.next_chunk(id.0, -1).await.unwrap().is_some(), "the chunk is still there");
    break_births(&bed, false).await;
    let at_once = bed.store.kind().births();
    assert_eq!(bed.store.bear(first.clone(), &|_| false).await.unwrap().count, at_once);
    assert_eq!(bed.store.bear(first, &|_| false).await.unwrap().count, 0, "once");
    assert_eq!(bear_all(&bed.store, id).await, 150 - at_once);
    assert_eq!(bed.take().await.len(), 150);
}

async fn children_for_whom_there_is_room_count_as_sent_from_their_birth(bed: Bed) {
    let id = parent(&bed, 5, FailPolicy::AtEnd).await;
    let room = AtomicUsize::new(3);
    let admits =
        |_: &Route| room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let born = bed.store.bear(births(&bed.store, id, -1).await.unwrap(), &admits).await.unwrap();
    assert_eq!((born.count, born.sent.len()), (5, 3));
    let due = bed.take().await;
    assert_eq!(due.len(), 2, "no dispatcher sends the others again");
    for out in born.sent.iter().chain(&due) {
        let run = bed.claim(&out.trigger).await.unwrap();
        bed.report(&run, succeeded()).await.unwrap();
    }
    assert_eq!(follow(&bed.store).await.ended, 5);
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::End(End::Succeeded));
}

fn split(children: u32) -> Outcome {
    Outcome::Split { output: json!({"found": children}), job: "copy".into(), fail: FailPolicy::AtEnd, children }
}

async fn a_handler_makes_children_with_its_report(bed: Bed) {
    apply(&bed, &definitions(vec![]), "d1").await;
    let run = bed.running().await;
    stage(&bed, run.token, 3).await;
    bed.report(&run, split(3)).await.unwrap();
    assert_eq!(bed.report(&run, split(3)).await, Err(Refusal::Repeated));
    let seen = bed.get(run.id).await;
    assert_eq!((seen.status, seen.phase, seen.attempt), (Status::InProgress, Phase::Children, 1));
    assert_eq!(bear_all(&bed.store, run.id).await, 3);
    assert_eq!(bed.report(&run, split(3)).await, Err(Refusal::Repeated), "its inputs are gone, and it is the same");
    end_all(&bed, &[]).await;
    follow_all(&bed.store).await;
    assert_eq!(bed.store.settle(run.id).await.unwrap(), Verdict::End(End::Succeeded));
    let children = json!({"total": 3, "succeeded": 3, "failed": 0, "canceled": 0});
    let output = json!({ "children": children, "output": {"found": 3} });
    assert_eq!(bed.store.output(run.id).await.unwrap(), Some(output));
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "split", "succeeded"]);

    // One that calls for none has ended.
    let run = bed.running().await;
    bed.report(&run, split(0)).await.unwrap();
    assert_eq!(bed.status(run.id).await, Status::Succeeded);

    // One that was canceled meanwhile has no children.
    let run = bed.running().await;
    stage(&bed, run.token, 3).await;
    bed.store.cancel(NAMESPACE, run.id, "ann".into()).await.unwrap();
    bed.report(&run, split(3)).await.unwrap();
    assert_eq!((bed.status(run.id).await, bed.store.fan_out(run.id).await.unwrap()), (Status::Canceled, None));
}

async fn a_report_that_can_not_make_children_fails_its_run(bed: Bed) {
    let code = async |run: &Claimed| {
        assert_eq!(bed.store.fan_out(run.id).await.unwrap(), None, "nothing half made");
        bed.get(run.id).await.error.unwrap().code
    };
    let run = bed.running().await;
    stage(&bed, run.token, 2).await;
    bed.report(&run, split(2)).await.unwrap();
    assert_eq!(code(&run).await, "UnknownJob");
    apply(&bed, &definitions(vec![]), "d1").await;
    let run = bed.running().await;
    stage(&bed, run.token, 2).await;
    bed.report(&run, split(3)).await.unwrap();
    assert_eq!(code(&run).await, "InputsLost");
    let run = bed.running().await;
    bed.report(&run, split(100_001)).await.unwrap();
    assert_eq!(code(&run).await, "TooManyChildren");

    // Children of children of children, and no deeper.
    let mut run = bed.running().await;
    for _ in 0..MAX_DEPTH {
        stage(&bed, run.token, 1).await;
        bed.report(&run, split(1)).await.unwrap();
        assert_eq!(bear_all(&bed.store, run.id).await, 1);
        run = bed.claim(&bed.take().await[0].trigger).await.unwrap();
    }
    stage(&bed, run.token, 1).await;
    bed.report(&run, split(1)).await.unwrap();
    assert_eq!(code(&run).await, "TooDeep");
    for _ in 0..MAX_DEPTH {
        follow_all(&bed.store).await;
        for run in open(&bed).await {
            bed.store.settle(run.fan_out.parent).await.unwrap();
        }
    }
    assert!(open(&bed).await.is_empty(), "each has failed with the one that it had");
}

async fn a_repeated_request_is_one_run(bed: Bed) {
    let key = |hash: &str| IdempotencyKey { fields: [("inputs".to_owned(), hash.to_owned())].into(), ..named("k") };
    let ask = async |hash: &str| {
        let request = bed.new_request().await;
        let batch = request.id.0;
        stage(&bed, batch, 120).await;
        let answer = bed.store.accept_fan_out(request, &at_end(batch, 120), Some(&key(hash))).await.unwrap();
        if !matches!(answer, Acceptance::New(_)) {
            bed.store.discard_inputs(batch).await.unwrap();
            assert_eq!(bed.store.next_chunk(batch, -1).await.unwrap(), None);
        }
        answer
    };
    let Acceptance::New(id) = ask("h1").await else { panic!("not new") };
    assert_eq!(ask("h1").await, Acceptance::Repeated(id));
    assert_eq!(ask("h2").await, Acceptance::KeyReused(vec!["inputs".into()]));
    assert_eq!(bear_all(&bed.store, id).await, 120);
    assert_eq!(open(&bed).await.len(), 1);
}

async fn inputs_that_nobody_needs_are_forgotten(bed: Bed) {
    let orphans = Uuid::new_v4();
    // Two chunks.
    stage(&bed, orphans, u32::try_from(bed.store.kind().births()).unwrap() + 20).await;
    let run = bed.running().await;
    stage(&bed, run.token, 3).await;
    let growing = parent(&bed, 3, FailPolicy::AtEnd).await;
    let canceled = parent(&bed, 3, FailPolicy::AtEnd).await;
    bed.store.cancel(NAMESPACE, canceled, "ann".into()).await.unwrap();
    bed.store.settle(canceled).await.unwrap();
    bed.pass(Duration::from_millis(20)).await;
    let (now, never) = (bed.now().await, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(bed.store.purge_inputs(never, never, 100).await.unwrap(), 0, "they may still be on their way");
    assert_eq!(bed.store.purge_inputs(now, never, 1).await.unwrap(), 1, "beyond the limit");
    assert_eq!(bed.store.purge_inputs(now, never, 100).await.unwrap(), 1);
    let left = async |batch: Uuid| bed.store.next_chunk(batch, -1).await.unwrap().is_some();
    assert!(!left(orphans).await && left(run.token).await && left(growing.0).await && left(canceled.0).await);
    assert_eq!(bed.store.purge_inputs(now, now, 100).await.unwrap(), 1);
    assert!(!left(canceled.0).await && left(run.token).await && left(growing.0).await);
}
