//! Runs with children: each child is born once and counted once, and the run ends with them.

mod births;

use std::time::Duration;

use harness::wait::eventually;
use reveille_shared::fan_out::{Counts, End, FailPolicy, Stop, Tolerance, Verdict};
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{
    Acceptance, Births, Claimed, FollowUp, ListFilter, NewFanOut, NewWorkRequest, OpenFanOut, Outcome, Staging, Store,
    UniqueKey,
};
use reveille_shared::work_request::WorkRequestId;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, failed, on_both, succeeded};
use crate::overlap::follow;

on_both!(
    a_run_with_children_ends_as_they_do,
    several_followers_count_each_end_once_and_never_backward,
    the_first_failure_ends_it_fast,
    a_run_that_is_canceled_ends_when_its_children_have,
    what_is_canceled_before_it_begins_has_no_children,
    a_child_for_which_another_run_stands_ends_as_that_does,
    ends_that_were_not_counted_are_counted_anew,
    children_are_listed_and_those_that_did_not_succeed_can_be_read,
);

fn at_end(batch: Uuid, total: u32) -> NewFanOut {
    NewFanOut { job: "copy".into(), job_version: 1, policy: FailPolicy::AtEnd, batch, total }
}

async fn stage(bed: &Bed, batch: Uuid, total: u32) {
    let mut staging = Staging::new(bed.store.clone(), batch);
    for number in 0..total {
        staging.add(json!({ "number": number }), 20);
        if staging.is_full() {
            staging.keep().await.unwrap();
        }
    }
    staging.finish().await.unwrap();
    assert_eq!(staging.given().0, total);
}

/// An accepted run that is to have so many children.
async fn parent(bed: &Bed, total: u32, policy: FailPolicy) -> WorkRequestId {
    let request = bed.new_request().await;
    let id = request.id;
    stage(bed, id.0, total).await;
    let fan_out = NewFanOut { policy, ..at_end(id.0, total) };
    assert_eq!(bed.store.accept_fan_out(request, &fan_out, None).await.unwrap(), Acceptance::New(id));
    id
}

/// The children of the next chunk behind a number, and the chunk's number.
async fn births(store: &Store, parent: WorkRequestId, after: i32) -> Option<Births> {
    let fan_out = store.fan_out(parent).await.unwrap().unwrap();
    let chunk = store.next_chunk(fan_out.batch, after).await.unwrap()?;
    let now = store.now().await.unwrap();
    let request = |input: Value| NewWorkRequest {
        input,
        parent: Some(parent),
        follow: true,
        ..NewWorkRequest::new(WorkRequestId::new(now), &super::definitions::job("copy", ""), 1, "test")
    };
    Some(Births { parent, chunk: chunk.number, requests: chunk.inputs.into_iter().map(request).collect() })
}

/// Makes all children that there are inputs for.
async fn bear_all(store: &Store, parent: WorkRequestId) -> usize {
    let (mut born, mut after) = (0, -1);
    while let Some(births) = births(store, parent, after).await {
        after = births.chunk;
        born += store.bear(births, &|_| false).await.unwrap().count;
    }
    born
}

/// Lets all children that wait run to their end; the first ones as it is said.
async fn end_all(bed: &Bed, first: &[Outcome]) -> Vec<Claimed> {
    let mut first = first.iter().cloned();
    let mut ended = Vec::new();
    loop {
        let taken = bed.take().await;
        if taken.is_empty() {
            return ended;
        }
        for out in taken {
            let run = bed.claim(&out.trigger).await.unwrap();
            bed.report(&run, first.next().unwrap_or_else(succeeded)).await.unwrap();
            ended.push(run);
        }
    }
}

async fn follow_all(store: &Store) -> usize {
    let mut all = 0;
    loop {
        match follow(store).await.ended {
            0 => return all,
            some => all += some,
        }
    }
}

async fn counts(bed: &Bed, parent: WorkRequestId) -> Counts {
    bed.store.fan_out(parent).await.unwrap().unwrap().counts
}

async fn open(bed: &Bed) -> Vec<OpenFanOut> {
    bed.store.open_fan_outs(None, 100).await.unwrap()
}

async fn a_run_with_children_ends_as_they_do(bed: Bed) {
    let id = parent(&bed, 250, FailPolicy::AtEnd).await;
    let accepted = bed.get(id).await;
    assert_eq!((accepted.status, accepted.phase, accepted.attempt), (Status::Accepted, Phase::Children, 0));
    assert!(bed.take().await.is_empty(), "of its own nothing is delivered");
    assert_eq!(bear_all(&bed.store, id).await, 250);
    let begun = bed.get(id).await;
    assert_eq!((begun.status, begun.percent, begun.started_at.is_some()), (Status::InProgress, 0.0, true));
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::GoOn);
    assert_eq!(end_all(&bed, &[]).await.len(), 250);
    assert_eq!(follow_all(&bed.store).await, 250);
    assert_eq!(bed.get(id).await.percent, 100.0);
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::End(End::Succeeded));
    let ended = bed.get(id).await;
    assert_eq!((ended.status, ended.started_at), (Status::Succeeded, begun.started_at));
    let children = json!({"total": 250, "succeeded": 250, "failed": 0, "canceled": 0});
    assert_eq!(bed.store.output(id).await.unwrap(), Some(json!({ "children": children })));
    assert_eq!(bed.told(id).await, ["accepted", "split", "succeeded"]);
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::GoOn, "it ends once");
    assert!(open(&bed).await.is_empty());
}

async fn several_followers_count_each_end_once_and_never_backward(bed: Bed) {
    const CHILDREN: u32 = 300;
    let id = parent(&bed, CHILDREN, FailPolicy::Tolerate(Tolerance::Number(2))).await;
    bear_all(&bed.store, id).await;
    let done = tokio_util::sync::CancellationToken::new();
    let mut looking = JoinSet::new();
    let (watcher, stop) = (bed.second().await, done.clone());
    looking.spawn(async move {
        let (mut last, mut looks) = (0.0, 0);
        while !stop.is_cancelled() {
            let seen = watcher.work_request(NAMESPACE, id).await.unwrap().unwrap();
            assert!(seen.percent >= last, "{} after {last}", seen.percent);
            (last, looks) = (seen.percent, looks + 1);
            tokio::task::yield_now().await;
        }
        (last, looks)
    });
    let mut racing = JoinSet::new();
    for _ in 0..4 {
        let (store, stop) = (bed.second().await, done.clone());
        racing.spawn(async move {
            let mut ended = 0;
            loop {
                let is_last = stop.is_cancelled();
                for run in store.ended_runs(20).await.unwrap() {
                    ended += store.follow(vec![FollowUp { run, births: vec![] }], &|_| false).await.unwrap().ended;
                }
                store.settle(id).await.unwrap();
                if is_last {
                    return ended;
                }
                tokio::task::yield_now().await;
            }
        });
    }
    end_all(&bed, &[failed(None), failed(None)]).await;
    eventually("it to end", Duration::from_secs(60), async || {
        let seen = bed.get(id).await;
        if seen.status.is_terminal() { Ok(()) } else { Err(format!("{:?}", seen.children)) }
    })
    .await
    .unwrap();
    done.cancel();
    assert_eq!(racing.join_all().await.iter().sum::<usize>(), CHILDREN as usize, "each end is followed up once");
    let (last, looks) = looking.join_all().await.remove(0);
    assert!(last > 0.0 && looks > 3, "{looks} looks, the last at {last} %");
    let Counts { succeeded, failed, canceled, .. } = counts(&bed, id).await;
    assert_eq!((succeeded, failed, canceled), (CHILDREN - 2, 2, 0));
    assert_eq!(bed.status(id).await, Status::Succeeded, "two may fail");
    assert_eq!(bed.told(id).await, ["accepted", "split", "succeeded"]);
}

async fn the_first_failure_ends_it_fast(bed: Bed) {
    let at_once = bed.store.kind().births();
    let id = parent(&bed, 350, FailPolicy::Fast).await;
    bed.store.bear(births(&bed.store, id, -1).await.unwrap(), &|_| false).await.unwrap();
    let taken = bed.take().await;
    let bad = bed.claim(&taken[3].trigger).await.unwrap();
    let running = bed.claim(&taken[4].trigger).await.unwrap();
    bed.report(&bad, failed(None)).await.unwrap();
    follow_all(&bed.store).await;
    assert_eq!(open(&bed).await[0].verdict(), Verdict::Stop(Stop::Failed));
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::Stop(Stop::Failed));
    let late = births(&bed.store, id, -1).await.unwrap();
    assert_eq!(bed.store.bear(late, &|_| false).await.unwrap().count, 0, "no more births");

    let filter = ListFilter { namespace: NAMESPACE.into(), parent: Some(id), ..ListFilter::default() };
    let unended = bed.store.unended(&filter, 1_000).await.unwrap();
    assert_eq!(unended.len(), at_once - 1);
    bed.store.cancel_all(NAMESPACE, &unended, "its parent").await.unwrap();
    follow_all(&bed.store).await;
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::GoOn, "one is still at work");
    bed.report(&running, Outcome::Stopped).await.unwrap();
    follow_all(&bed.store).await;
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::End(End::Failed));
    let ended = bed.get(id).await;
    let error = ended.error.unwrap();
    assert_eq!((ended.status, error.code.as_str()), (Status::Failed, "ChildFailed"));
    assert!(error.message.contains(&bad.id.to_string()), "names the first: {}", error.message);
    assert!(error.message.contains("1 of 350 children failed"), "{}", error.message);
    let children = ended.children.unwrap();
    let expected = u32::try_from(at_once - 1).unwrap();
    assert_eq!((children.counts.canceled, children.counts.unborn()), (expected, 350 - expected - 1));
    assert!(children.is_stopped);
}

async fn a_run_that_is_canceled_ends_when_its_children_have(bed: Bed) {
    let id = parent(&bed, 150, FailPolicy::AtEnd).await;
    bed.store.bear(births(&bed.store, id, -1).await.unwrap(), &|_| false).await.unwrap();
    let running = bed.claim(&bed.take().await[0].trigger).await.unwrap();
    bed.store.cancel(NAMESPACE, id, "ann".into()).await.unwrap();
    assert_eq!(bed.status(id).await, Status::Canceling);
    let late = births(&bed.store, id, -1).await.unwrap();
    assert_eq!(bed.store.bear(late, &|_| false).await.unwrap().count, 0, "no more births from the cancel on");
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::Stop(Stop::Canceled));
    let filter = ListFilter { namespace: NAMESPACE.into(), parent: Some(id), ..ListFilter::default() };
    let unended = bed.store.unended(&filter, 1_000).await.unwrap();
    bed.store.cancel_all(NAMESPACE, &unended, "its parent").await.unwrap();
    follow_all(&bed.store).await;
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::GoOn);
    bed.report(&running, succeeded()).await.unwrap();
    follow_all(&bed.store).await;
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::End(End::Canceled));
    assert_eq!(bed.told(id).await, ["accepted", "split", "cancelRequested", "canceled"]);

    // All of whose children were faster has its true end.
    let fast = parent(&bed, 2, FailPolicy::AtEnd).await;
    bear_all(&bed.store, fast).await;
    end_all(&bed, &[]).await;
    bed.store.cancel(NAMESPACE, fast, "ann".into()).await.unwrap();
    follow_all(&bed.store).await;
    assert_eq!(bed.store.settle(fast).await.unwrap(), Verdict::End(End::Succeeded));
    assert_eq!(bed.status(fast).await, Status::Succeeded);
}

async fn what_is_canceled_before_it_begins_has_no_children(bed: Bed) {
    let id = parent(&bed, 10, FailPolicy::AtEnd).await;
    bed.store.cancel(NAMESPACE, id, "ann".into()).await.unwrap();
    assert_eq!(bed.status(id).await, Status::Canceled);
    let late = births(&bed.store, id, -1).await.unwrap();
    assert_eq!(bed.store.bear(late, &|_| false).await.unwrap().count, 0);
    let [left] = &open(&bed).await[..] else { panic!("not one") };
    assert!(left.status.is_terminal() && !left.is_to_grow());
    bed.store.settle(id).await.unwrap();
    assert!(open(&bed).await.is_empty());
    assert_eq!(bed.told(id).await, ["accepted", "canceled"]);
}

async fn a_child_for_which_another_run_stands_ends_as_that_does(bed: Bed) {
    let key = |key: &str| {
        let span = reveille_shared::definition::UniqueSpan::Running;
        Some(UniqueKey { key: key.into(), span })
    };
    let other = bed.accept(NewWorkRequest { unique: key("a"), ..bed.new_request().await }).await;
    let id = parent(&bed, 5, FailPolicy::AtEnd).await;
    let mut new = births(&bed.store, id, -1).await.unwrap();
    // Two are the same as one that there is, two the same as each other, and one is its own.
    for (request, key) in new.requests.iter_mut().zip([key("a"), key("a"), key("b"), key("b"), None]) {
        request.unique = key;
    }
    assert_eq!(bed.store.bear(new, &|_| false).await.unwrap().count, 5);
    assert_eq!(counts(&bed, id).await.born, 5);
    let runs = bed.take().await;
    assert_eq!(runs.len(), 3, "one that there was, and two children");
    for out in &runs {
        let run = bed.claim(&out.trigger).await.unwrap();
        bed.report(&run, if run.id == other { failed(None) } else { succeeded() }).await.unwrap();
    }
    assert_eq!(follow_all(&bed.store).await, 3);
    let Counts { succeeded, failed, .. } = counts(&bed, id).await;
    assert_eq!((succeeded, failed), (3, 2), "each as the run that stands for it");
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::End(End::Failed));

    // What goes on for others as well is not waited for by one that is canceled.
    bed.accept(NewWorkRequest { unique: key("c"), ..bed.new_request().await }).await;
    let id = parent(&bed, 1, FailPolicy::AtEnd).await;
    let mut new = births(&bed.store, id, -1).await.unwrap();
    new.requests[0].unique = key("c");
    bed.store.bear(new, &|_| false).await.unwrap();
    bed.store.cancel(NAMESPACE, id, "ann".into()).await.unwrap();
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::Stop(Stop::Canceled));
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::End(End::Canceled));
    assert_eq!(bed.take().await.len(), 1, "the other one goes on");
}

async fn ends_that_were_not_counted_are_counted_anew(bed: Bed) {
    let id = parent(&bed, 4, FailPolicy::AtEnd).await;
    bear_all(&bed.store, id).await;
    end_all(&bed, &[failed(None)]).await;
    assert!(!bed.store.recount(id).await.unwrap(), "their ends are still to be followed up");
    bed.tamper("DELETE FROM follow_ups").await;
    assert_eq!(follow_all(&bed.store).await, 0);
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::GoOn, "nobody has told it");
    assert!(bed.store.recount(id).await.unwrap());
    assert!(!bed.store.recount(id).await.unwrap(), "once is enough");
    let Counts { succeeded, failed, .. } = counts(&bed, id).await;
    assert_eq!((succeeded, failed), (3, 1));
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::End(End::Failed));

    let id = parent(&bed, 2, FailPolicy::AtEnd).await;
    bear_all(&bed.store, id).await;
    assert!(!bed.store.recount(id).await.unwrap(), "they are under way");
}

async fn children_are_listed_and_those_that_did_not_succeed_can_be_read(bed: Bed) {
    let id = parent(&bed, 120, FailPolicy::AtEnd).await;
    bed.accepted().await;
    bear_all(&bed.store, id).await;
    let other = bed.store.unended(&ListFilter { namespace: NAMESPACE.into(), ..ListFilter::default() }, 1_000).await;
    assert_eq!(other.unwrap().len(), 122);
    let filter = ListFilter { namespace: NAMESPACE.into(), parent: Some(id), ..ListFilter::default() };
    assert_eq!(bed.store.work_requests(&filter, 1_000).await.unwrap().len(), 120);
    let alone = bed.store.work_requests(&filter, 1).await.unwrap().remove(0);
    bed.store.cancel(NAMESPACE, alone.id, "ann".into()).await.unwrap();
    end_all(&bed, &[succeeded(), failed(None), failed(None)]).await;
    let mut unfinished = Vec::new();
    let mut after = None;
    loop {
        let page = bed.store.unfinished_children(id, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        unfinished.extend(page);
    }
    let failures = unfinished.len();
    assert!((2..=3).contains(&failures), "{failures}");
    assert!(unfinished.iter().any(|child| child.id == alone.id && child.input == alone.input));
    follow_all(&bed.store).await;
    let Counts { failed, canceled, .. } = counts(&bed, id).await;
    assert_eq!((failed as usize + 1, canceled), (failures, 1));
    assert_eq!(bed.store.settle(id).await.unwrap(), Verdict::End(End::Failed));
}
