//! Tenants have their turns, whatever the others have.

use std::collections::HashMap;
use std::time::Duration;

use reveille_shared::broker::Route;
use reveille_shared::definition::Priority;
use reveille_shared::store::{NewWorkRequest, Outgoing};
use reveille_shared::work_request::WorkRequestId;
use uuid::Uuid;

use crate::bed::{Bed, on_both};

on_both!(
    one_run_goes_out_with_the_first_of_a_backlog,
    tenants_share_a_batch_and_what_one_leaves_the_others_have,
    a_higher_priority_goes_first_whosever_it_is,
    room_bounds_a_route_and_no_other,
    what_is_due_later_is_in_nobodys_way,
    how_many_go_first_can_be_told,
    what_waits_for_its_start_is_counted,
);

/// Accepts runs of a tenant at once.
async fn accept(bed: &Bed, namespace: &str, count: usize) -> Vec<WorkRequestId> {
    accept_like(bed, count, |request| request.namespace = namespace.to_owned()).await
}

async fn accept_like(bed: &Bed, count: usize, change: impl Fn(&mut NewWorkRequest)) -> Vec<WorkRequestId> {
    let mut requests = Vec::with_capacity(count);
    for _ in 0..count {
        let mut request = bed.new_request().await;
        change(&mut request);
        requests.push(request);
    }
    bed.store.accept_all(&requests).await.unwrap();
    requests.into_iter().map(|request| request.id).collect()
}

fn shares(batch: &[Outgoing]) -> HashMap<&str, usize> {
    let mut shares = HashMap::new();
    for out in batch {
        *shares.entry(&*out.trigger.namespace).or_default() += 1;
    }
    shares
}

async fn one_run_goes_out_with_the_first_of_a_backlog(bed: Bed) {
    accept(&bed, "many", 300).await;
    bed.pass(Duration::from_millis(1)).await;
    let [one] = accept(&bed, "one", 1).await[..] else { panic!() };
    let batch = bed.store.take_due(10).await.unwrap();
    assert_eq!(batch.len(), 10);
    assert!(batch[..2].iter().any(|out| out.trigger.id == one), "{:?}", shares(&batch));
}

async fn tenants_share_a_batch_and_what_one_leaves_the_others_have(bed: Bed) {
    for (namespace, count) in [("a", 100), ("b", 100), ("c", 4)] {
        accept(&bed, namespace, count).await;
    }
    let batch = bed.store.take_due(60).await.unwrap();
    assert_eq!(shares(&batch), HashMap::from([("a", 28), ("b", 28), ("c", 4)]));
    // Side by side, so that a slow queue serves them in turns.
    let first = shares(&batch[..9]);
    assert_eq!(first, HashMap::from([("a", 3), ("b", 3), ("c", 3)]));
    let mut rest = Vec::new();
    loop {
        let batch = bed.store.take_due(50).await.unwrap();
        if batch.is_empty() {
            break;
        }
        rest.extend(batch);
    }
    assert_eq!(shares(&rest), HashMap::from([("a", 72), ("b", 72)]));
    let of_a: Vec<_> = batch.iter().chain(&rest).filter(|out| out.trigger.namespace == "a").collect();
    assert!(of_a.is_sorted_by_key(|out| out.due_at), "a tenant's runs go in order");
}

async fn a_higher_priority_goes_first_whosever_it_is(bed: Bed) {
    accept(&bed, "many", 50).await;
    let urgent = accept_like(&bed, 20, |request| {
        request.namespace = "urgent".to_owned();
        request.priority = Priority::High;
    });
    assert_eq!(urgent.await.len(), 20);
    let batch = bed.store.take_due(25).await.unwrap();
    assert!(batch[..20].iter().all(|out| out.route.priority == Priority::High));
    assert_eq!(shares(&batch), HashMap::from([("urgent", 20), ("many", 5)]));
}

async fn room_bounds_a_route_and_no_other(bed: Bed) {
    accept(&bed, "a", 40).await;
    accept(&bed, "b", 40).await;
    accept_like(&bed, 30, |request| request.queue = "other".to_owned()).await;
    let room = |route: &Route| if route.queue == "main" { 6 } else { 1_000 };
    let taken = bed.store.take_due_within(100, &room, Uuid::nil()).await.unwrap();
    assert!(taken.held_back);
    assert_eq!(shares(&taken.outgoing), HashMap::from([("a", 3), ("b", 3), ("default", 30)]));
    let main = Route { queue: "main".into(), priority: Priority::Normal };
    assert_eq!(bed.store.unclaimed_on(&main).await.unwrap(), 6);
    assert_eq!(bed.store.unclaimed_on(&Route { priority: Priority::Low, ..main.clone() }).await.unwrap(), 0);
    let closed = bed.store.take_due_within(100, &|_| -5, Uuid::nil()).await.unwrap();
    assert!(closed.held_back && closed.outgoing.is_empty());
    // Of many tenants and little room each has its turn sooner or later.
    let mut waited = 0;
    while !shares(&bed.store.take_due_within(100, &|_| 1, Uuid::nil()).await.unwrap().outgoing).contains_key("b") {
        waited += 1;
        assert!(waited < 60, "one of two is never served");
    }
    let rest = bed.store.take_due_within(100, &|_| 1_000, Uuid::nil()).await.unwrap();
    assert!(!rest.held_back && !rest.outgoing.is_empty());
}

async fn what_is_due_later_is_in_nobodys_way(bed: Bed) {
    accept_like(&bed, 5, |request| {
        request.namespace = "a-later".to_owned();
        request.delay = "1h".parse().unwrap();
    })
    .await;
    accept(&bed, "now", 3).await;
    assert_eq!(shares(&bed.take().await), HashMap::from([("now", 3)]));
    let next = bed.store.next_due().await.unwrap().unwrap();
    assert!(next.duration_since(bed.now().await).as_secs() > 3_500, "{next}");
    bed.age(3_600).await;
    assert_eq!(shares(&bed.take().await), HashMap::from([("a-later", 5)]));
    assert_eq!(bed.store.next_due().await.unwrap(), None);
}

async fn how_many_go_first_can_be_told(bed: Bed) {
    let mut ids = accept(&bed, crate::bed::NAMESPACE, 3).await;
    // Of those that are due at the same instant the lowest id goes first.
    ids.sort();
    accept(&bed, "another", 5).await;
    bed.age(2).await;
    for (ahead, id) in ids.into_iter().enumerate() {
        let run = bed.get(id).await;
        assert_eq!(bed.store.ahead_of(&run, bed.now().await).await.unwrap(), i64::try_from(ahead).ok());
    }
    let [fresh] = accept(&bed, crate::bed::NAMESPACE, 1).await[..] else { panic!() };
    assert_eq!(bed.store.ahead_of(&bed.get(fresh).await, bed.now().await).await.unwrap(), None, "it goes out at once");
    bed.take().await;
    bed.age(2).await;
    assert_eq!(bed.store.ahead_of(&bed.get(fresh).await, bed.now().await).await.unwrap(), None, "it is out");
}

async fn what_waits_for_its_start_is_counted(bed: Bed) {
    accept(&bed, "a", 3).await;
    accept_like(&bed, 2, |request| {
        request.namespace = "b".to_owned();
        request.delay = "1h".parse().unwrap();
    })
    .await;
    let counted = async || bed.store.queued().await.unwrap().into_iter().collect::<HashMap<_, _>>();
    assert_eq!(counted().await, HashMap::from([("a".to_owned(), 3), ("b".to_owned(), 2)]));
    let out = bed.take().await;
    assert_eq!(counted().await.len(), 2, "what is sent has not started");
    bed.claim(&out[0].trigger).await.unwrap();
    assert_eq!(counted().await["a"], 2);
}
