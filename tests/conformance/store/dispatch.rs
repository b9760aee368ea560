//! Which triggers go out, and when.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use reveille_shared::broker::Route;
use reveille_shared::definition::Priority;
use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Phase, Refusal, Status};
use reveille_shared::store::{Marker, NewWorkRequest, Report};
use reveille_shared::trigger;
use reveille_shared::work_request::{Happening, WorkRequestId};
use tokio::task::JoinSet;

use crate::bed::{Bed, NAMESPACE, error, failed, on_both, succeeded};

on_both!(
    due_triggers_go_out_once_and_earliest_first,
    a_delay_is_respected,
    concurrent_dispatchers_share_the_work,
    what_the_broker_returned_goes_out_again,
    an_undeliverable_trigger_ends_the_run,
    lost_triggers_are_sent_again_with_growing_patience,
    a_marker_tells_of_its_own_route_and_of_what_was_before_it,
    a_nudge_crosses_processes,
    how_long_runs_take_is_known_behind_any_backlog,
);

async fn due_triggers_go_out_once_and_earliest_first(bed: Bed) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(bed.accepted().await);
        bed.pass(Duration::from_millis(1)).await;
    }
    let first = bed.store.take_due(2).await.unwrap();
    let rest = bed.store.take_due(10).await.unwrap();
    assert_eq!(first.len(), 2);
    let taken: Vec<_> = first.iter().chain(&rest).map(|out| out.trigger.id).collect();
    assert_eq!(taken, ids);
    let out = &first[0];
    assert_eq!((out.trigger.v, out.trigger.n, &*out.trigger.job), (trigger::VERSION, 1, "copy"));
    assert_eq!((&*out.trigger.namespace, &*out.route.queue), ("default", "main"));
    assert_eq!(out.due_at, bed.get(ids[0]).await.accepted_at);
    assert!(matches!(bed.get(ids[0]).await.phase, Phase::Sent { .. }));
    assert!(bed.take().await.is_empty(), "a trigger went out twice");
    assert_eq!(bed.status(ids[0]).await, Status::Accepted);
}

async fn a_delay_is_respected(bed: Bed) {
    let mut request = bed.new_request().await;
    request.delay = HumanDuration::from_secs(3600);
    let id = bed.accept(request).await;
    assert!(bed.take().await.is_empty());
    let Phase::Due { at } = bed.get(id).await.phase else { panic!("not due") };
    assert_eq!(bed.store.next_due().await.unwrap(), Some(at));
    assert_eq!(at.duration_since(bed.get(id).await.accepted_at).as_secs(), 3600);
    bed.age(3600).await;
    let out = bed.take().await;
    assert_eq!(out[0].trigger.id, id);
    assert_eq!(bed.store.next_due().await.unwrap(), None);
}

async fn concurrent_dispatchers_share_the_work(bed: Bed) {
    let mut ids = BTreeSet::new();
    for _ in 0..60 {
        ids.insert(bed.accepted().await);
    }
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let store = bed.second().await;
        tasks.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let some = store.take_due(7).await.unwrap();
                if some.is_empty() {
                    return mine;
                }
                mine.extend(some.into_iter().map(|out| out.trigger.id));
            }
        });
    }
    // A dispatcher passes over what another one has locked, so the last look is ours.
    let mut taken: Vec<WorkRequestId> = tasks.join_all().await.concat();
    taken.extend(bed.take().await.into_iter().map(|out| out.trigger.id));
    assert_eq!(taken.len(), 60, "a trigger was taken twice, or not at all");
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), ids);
}

async fn what_the_broker_returned_goes_out_again(bed: Bed) {
    let first = bed.sent().await;
    let wait = Duration::from_secs(3600);
    bed.store.unsend(&[(first.clone(), wait, Some("no route".into()))]).await.unwrap();
    assert!(bed.take().await.is_empty(), "before the wait is over");
    assert_eq!(bed.claim(&first).await.unwrap_err(), Refusal::OldTrigger, "a trigger that was taken back");
    bed.age(3600).await;
    let again = bed.take().await.remove(0).trigger;
    assert_eq!((again.id, again.n), (first.id, 2));
    assert_eq!(bed.claim(&first).await.unwrap_err(), Refusal::OldTrigger);

    // Too late, or for another one: nothing is taken back.
    bed.store.unsend(&[(first.clone(), Duration::ZERO, None)]).await.unwrap();
    bed.claim(&again).await.unwrap();
    bed.store.unsend(&[(again.clone(), Duration::ZERO, Some("late".into()))]).await.unwrap();
    assert!(matches!(bed.get(first.id).await.phase, Phase::Leased(_)));
    let returned = Happening::Returned { reason: "no route".into() };
    assert_eq!(bed.history(first.id).await[1], returned);
    assert_eq!(bed.told(first.id).await, ["accepted", "returned", "started"]);
}

async fn an_undeliverable_trigger_ends_the_run(bed: Bed) {
    let mut trigger = bed.sent().await;
    trigger.n += 1;
    assert!(!bed.store.give_up(&trigger, error("wrong number")).await.unwrap());
    trigger.n -= 1;
    assert!(bed.store.give_up(&trigger, error("no such queue")).await.unwrap());
    assert!(!bed.store.give_up(&trigger, error("again")).await.unwrap());
    let ended = bed.get(trigger.id).await;
    assert_eq!((ended.status, ended.phase), (Status::Failed, Phase::Done));
    assert_eq!(ended.error, Some(error("no such queue")));
    assert_eq!(ended.started_at, None, "it never started");
    assert!(ended.finished_at.is_some());
    let running = bed.sent().await;
    bed.claim(&running).await.unwrap();
    assert!(!bed.store.give_up(&running, error("late")).await.unwrap(), "a worker has it");
}

/// A marker on the way of the ordinary triggers of queue `main` that has come back.
async fn marker_back(bed: &Bed) -> Vec<Marker> {
    let route = Route { queue: "main".into(), priority: Priority::Normal };
    let marker = bed.store.put_marker(&route).await.unwrap();
    assert!(
        marker.is_marker() && bed.claim(&marker).await == Err(Refusal::Ended),
        "an old worker finds nothing to claim"
    );
    bed.store.marker_back(&marker).await.unwrap();
    let markers = bed.store.markers().await.unwrap();
    markers.into_iter().filter(|known| known.id == marker.id.0 && known.back_at.is_some()).collect()
}

async fn lost_triggers_are_sent_again_with_growing_patience(bed: Bed) {
    let patience = Duration::from_secs(3600);
    let first = bed.sent().await;
    let resend = async |back: &[Marker]| bed.store.resend_lost(back, patience, 10).await.unwrap();
    assert!(resend(&marker_back(&bed).await).await.is_empty(), "before its time");
    bed.age(3600).await;
    assert!(resend(&[]).await.is_empty(), "no marker has come through");
    let again = resend(&marker_back(&bed).await).await.remove(0).trigger;
    assert_eq!(again, first, "under the same number");
    assert_eq!(bed.told(first.id).await, ["accepted", "resent"]);
    bed.age(3600).await;
    assert!(resend(&marker_back(&bed).await).await.is_empty(), "the second time takes twice the patience");
    bed.age(3600).await;
    assert_eq!(resend(&marker_back(&bed).await).await.len(), 1);

    // A new trigger starts with the first patience.
    bed.store.unsend(&[(first, Duration::ZERO, None)]).await.unwrap();
    let second = bed.take().await.remove(0).trigger;
    bed.age(3600).await;
    assert_eq!(resend(&marker_back(&bed).await).await.remove(0).trigger, second);

    // What a worker has is not lost.
    let run = bed.claim(&second).await.unwrap();
    bed.age(7200).await;
    assert!(resend(&marker_back(&bed).await).await.is_empty());
    bed.report(&run, failed(None)).await.unwrap();
    assert!(resend(&marker_back(&bed).await).await.is_empty());

    let later = bed.now().await.saturating_add(jiff::SignedDuration::from_secs(1)).unwrap();
    bed.store.purge_markers(later).await.unwrap();
    assert_eq!(bed.store.markers().await.unwrap(), []);
}

async fn a_marker_tells_of_its_own_route_and_of_what_was_before_it(bed: Bed) {
    let slow = bed.sent().await;
    let mut requests = [bed.new_request().await, bed.new_request().await];
    requests[0].queue = "rare".into();
    requests[1].priority = Priority::High;
    let [rare, high] = requests;
    let (rare, high) = (bed.accept(rare).await, bed.accept(high).await);
    assert_eq!(bed.take().await.iter().map(|out| out.trigger.id).collect::<Vec<_>>(), [high, rare], "by priority");
    bed.pass(Duration::from_millis(50)).await;
    let route = |queue: &str, priority| Route { queue: queue.into(), priority };
    let waiting = bed.store.unclaimed(bed.now().await).await.unwrap();
    let expected = [route("main", Priority::High), route("main", Priority::Normal), route("rare", Priority::Normal)];
    assert_eq!(waiting, expected);
    let back = marker_back(&bed).await;
    bed.pass(Duration::from_millis(1)).await;
    let later = bed.sent().await;
    bed.pass(Duration::from_millis(50)).await;
    let resent = bed.store.resend_lost(&back, Duration::from_millis(10), 10).await.unwrap();
    assert_eq!(resent.iter().map(|out| out.trigger.id).collect::<Vec<_>>(), [slow.id]);
    let between = bed.store.resend_between(Timestamp::UNIX_EPOCH, bed.now().await, 10).await.unwrap();
    let mut between: Vec<_> = between.iter().map(|out| out.trigger.id).collect();
    between.sort_unstable();
    let mut all = [slow.id, rare, high, later.id];
    all.sort_unstable();
    assert_eq!(between, all);
    assert_eq!(bed.told(rare).await, ["accepted"], "that its dispatcher died is nothing to tell");
}

async fn a_nudge_crosses_processes(bed: Bed) {
    let other = bed.second().await;
    let nudge = other.nudge(reveille_shared::store::Hint::Due);
    let mut listening = JoinSet::new();
    listening.spawn(async move { other.listen().await });
    harness::wait::eventually("a nudge from another process", Duration::from_secs(20), async || {
        // The listener may not listen yet, so that a first hint can be lost.
        bed.accepted().await;
        tokio::time::timeout(Duration::from_millis(200), nudge.notified()).await.map_err(|_| "silence".to_owned())
    })
    .await
    .unwrap();
}

async fn how_long_runs_take_is_known_behind_any_backlog(bed: Bed) {
    assert_eq!(bed.store.usual_duration(NAMESPACE, "copy").await.unwrap(), None, "none has run");
    // What waits for its time bounds nothing.
    bed.accept(NewWorkRequest { delay: HumanDuration::from_secs(3600), ..bed.new_request().await }).await;
    bed.pass(Duration::from_millis(2)).await;
    let run = bed.running().await;
    bed.pass(Duration::from_millis(20)).await;
    let took = Some(Duration::from_millis(3));
    let report = Report { took, known: run.known.clone(), ..Report::new(run.id, run.token, succeeded()) };
    assert_eq!(bed.store.report(vec![report]).await.unwrap(), [Ok(())]);
    let known = bed.store.usual_duration(NAMESPACE, "copy").await.unwrap();
    assert!(known.is_some_and(|known| known >= Duration::from_millis(20)), "{known:?}");
    let usual = bed.store.usual_attempt(NAMESPACE, "copy").await.unwrap().unwrap();
    assert_eq!((Some(usual.duration), usual.is_told), (took, true), "by the worker's own measure");
    // Also one whose worker does not measure.
    let another = bed.running().await;
    assert_eq!(bed.report(&another, succeeded()).await, Ok(()));
    assert!(!bed.store.usual_attempt(NAMESPACE, "copy").await.unwrap().unwrap().is_told);
    let known = bed.store.usual_duration(NAMESPACE, "copy").await.unwrap();
    // More than are looked through, and none of them has ended.
    bed.pass(Duration::from_millis(2)).await;
    bed.sent().await;
    bed.pass(Duration::from_millis(2)).await;
    let (waiting, now) = (bed.new_request().await, bed.now().await);
    let waiting: Vec<_> =
        (0..1_000).map(|_| NewWorkRequest { id: WorkRequestId::new(now), ..waiting.clone() }).collect();
    bed.store.accept_all(&waiting).await.unwrap();
    assert_eq!(bed.store.usual_duration(NAMESPACE, "copy").await.unwrap(), known);
}
