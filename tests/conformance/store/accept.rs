//! A work request is born.

use std::time::Duration;

use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{Acceptance, IdempotencyKey};
use reveille_shared::work_request::{Happening, WorkRequestId};
use serde_json::json;
use tokio::task::JoinSet;

use crate::bed::{Bed, NAMESPACE, on_both};

on_both!(
    accepted_is_kept_as_it_was_given,
    a_key_can_be_repeated_but_not_reused,
    concurrent_duplicates_give_one_work_request,
    a_forgotten_key_is_free_again,
    accepting_rings_the_dispatcher,
);

fn key(namespace: &str, hash: &str) -> IdempotencyKey {
    IdempotencyKey { namespace: namespace.into(), key: "order-17".into(), request_hash: hash.into() }
}

async fn accepted_is_kept_as_it_was_given(bed: Bed) {
    let mut request = bed.new_request().await;
    request.resource = Some(json!({ "type": "share", "name": "s1" }));
    request.delay = HumanDuration::from_secs(600);
    let id = bed.accept(request.clone()).await;

    let kept = bed.get(id).await;
    assert_eq!((kept.status, kept.attempt, kept.percent), (Status::Accepted, 0, 0.0));
    assert_eq!((&*kept.job, kept.job_version, &*kept.queue), ("copy", 1, "main"));
    assert_eq!((kept.input, kept.resource), (request.input, request.resource));
    assert_eq!((kept.fire, kept.error, kept.started_at, kept.finished_at), (None, None, None, None));
    let due = kept.accepted_at.saturating_add(jiff::SignedDuration::from_secs(600)).unwrap();
    assert_eq!(kept.phase, Phase::Due { at: due });
    assert_eq!(bed.history(id).await, [Happening::Accepted { by: "test".into() }]);
    assert_eq!(bed.store.output(id).await.unwrap(), None);

    let elsewhere = bed.store.work_request("other", id).await.unwrap();
    assert_eq!(elsewhere, None, "a work request of another namespace");
    let unknown = bed.store.work_request(NAMESPACE, WorkRequestId(uuid::Uuid::from_u128(9))).await.unwrap();
    assert_eq!(unknown, None);
}

async fn a_key_can_be_repeated_but_not_reused(bed: Bed) {
    let first = bed.new_request().await;
    let id = first.id;
    let accept = async |key: IdempotencyKey| bed.store.accept(bed.new_request().await, Some(&key)).await.unwrap();
    assert_eq!(bed.store.accept(first, Some(&key(NAMESPACE, "h1"))).await.unwrap(), Acceptance::New(id));
    assert_eq!(accept(key(NAMESPACE, "h1")).await, Acceptance::Repeated(id));
    assert_eq!(accept(key(NAMESPACE, "h2")).await, Acceptance::KeyReused);
    assert!(matches!(accept(key("other", "h1")).await, Acceptance::New(_)), "keys of two namespaces met");
    assert_eq!(bed.take().await.len(), 2, "a repeated request left something");
}

async fn concurrent_duplicates_give_one_work_request(bed: Bed) {
    let mut tasks = JoinSet::new();
    for at in 0..20 {
        let store = if at % 5 == 0 { bed.second().await } else { bed.store.clone() };
        let request = bed.new_request().await;
        tasks.spawn(async move { store.accept(request, Some(&key(NAMESPACE, "h1"))).await.unwrap() });
    }
    let answers = tasks.join_all().await;
    let new: Vec<_> = answers.iter().filter(|answer| matches!(answer, Acceptance::New(_))).collect();
    let &[&Acceptance::New(id)] = &*new else { panic!("{answers:?}") };
    assert!(answers.iter().all(|answer| *answer == Acceptance::New(id) || *answer == Acceptance::Repeated(id)));
    assert_eq!(bed.take().await.len(), 1);
}

async fn a_forgotten_key_is_free_again(bed: Bed) {
    let accept = async || {
        let request = bed.new_request().await;
        bed.store.accept(request, Some(&key(NAMESPACE, "h1"))).await.unwrap()
    };
    let Acceptance::New(first) = accept().await else { panic!("not new") };
    bed.pass(Duration::from_millis(20)).await;
    let long_ago = bed.now().await.saturating_sub(jiff::SignedDuration::from_secs(3600)).unwrap();
    assert_eq!(bed.store.purge_keys(long_ago, 10).await.unwrap(), 0);
    assert_eq!(accept().await, Acceptance::Repeated(first));
    assert_eq!(bed.store.purge_keys(bed.now().await, 0).await.unwrap(), 0, "beyond the limit");
    assert_eq!(bed.store.purge_keys(bed.now().await, 10).await.unwrap(), 1);
    assert!(matches!(accept().await, Acceptance::New(id) if id != first));
}

async fn accepting_rings_the_dispatcher(bed: Bed) {
    let nudge = bed.store.nudge(reveille_shared::store::Hint::Due);
    bed.accepted().await;
    tokio::time::timeout(Duration::from_secs(10), nudge.notified()).await.expect("no nudge");
}
