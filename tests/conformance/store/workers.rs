//! Who lives, who leads.

use std::time::Duration;

use reveille_shared::store::{NewWorker, Outcome};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, claim, on_both, succeeded};

on_both!(
    a_worker_lives_as_long_as_it_beats,
    one_that_has_beaten_since_is_not_taken_for_dead,
    a_retired_worker_is_told_so,
    a_beat_answers_with_the_leases,
    workers_are_forgotten_when_they_hold_nothing,
    one_leads_until_its_time_is_up,
    one_of_many_becomes_leader,
    who_resigns_makes_room,
);

fn new_worker(incarnation: Uuid) -> NewWorker {
    NewWorker {
        incarnation,
        name: "host:17".into(),
        queues: vec!["main".into(), "billing".into()],
        slots: 9,
        version: "0.1.0".into(),
        lease_ttl: Duration::from_secs(15),
    }
}

async fn one_that_has_beaten_since_is_not_taken_for_dead(bed: Bed) {
    let incarnation = Uuid::from_u128(1);
    bed.store.register_worker(&new_worker(incarnation)).await.unwrap();
    let seen = bed.store.workers().await.unwrap().remove(0).beat;
    bed.store.beat(incarnation).await.unwrap();
    assert!(!bed.store.retire_silent(incarnation, seen).await.unwrap());
    assert!(bed.store.beat(incarnation).await.unwrap().is_some());
    assert!(bed.store.retire_silent(incarnation, seen + 2).await.unwrap());
    assert!(!bed.store.retire_silent(incarnation, seen + 2).await.unwrap(), "once");
    assert_eq!(bed.store.beat(incarnation).await.unwrap(), None);
}

async fn a_worker_lives_as_long_as_it_beats(bed: Bed) {
    let incarnation = Uuid::from_u128(1);
    assert_eq!(bed.store.beat(incarnation).await.unwrap(), None, "before it is registered");
    bed.store.register_worker(&new_worker(incarnation)).await.unwrap();
    bed.store.register_worker(&new_worker(incarnation)).await.unwrap();
    let born = bed.store.workers().await.unwrap().remove(0);
    assert_eq!(born.worker, new_worker(incarnation));
    assert_eq!((born.beat, born.ended_at, born.leases), (0, None, 0));
    bed.pass(Duration::from_millis(2)).await;
    assert_eq!(bed.store.beat(incarnation).await.unwrap(), Some(vec![]));
    let lives = bed.store.workers().await.unwrap().remove(0);
    assert_eq!((lives.beat, lives.started_at), (1, born.started_at));
    assert!(lives.beat_at > born.beat_at);
}

async fn a_retired_worker_is_told_so(bed: Bed) {
    let incarnation = Uuid::from_u128(1);
    bed.store.register_worker(&new_worker(incarnation)).await.unwrap();
    bed.store.retire_worker(incarnation).await.unwrap();
    let ended_at = bed.store.workers().await.unwrap().remove(0).ended_at;
    assert!(ended_at.is_some());
    bed.pass(Duration::from_millis(2)).await;
    bed.store.retire_worker(incarnation).await.unwrap();
    assert_eq!(bed.store.workers().await.unwrap().remove(0).ended_at, ended_at, "the first farewell stands");
    assert_eq!(bed.store.beat(incarnation).await.unwrap(), None);
    // Registering again under the same incarnation brings nobody back.
    bed.store.register_worker(&new_worker(incarnation)).await.unwrap();
    assert_eq!(bed.store.beat(incarnation).await.unwrap(), None);
}

async fn a_beat_answers_with_the_leases(bed: Bed) {
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    bed.store.register_worker(&new_worker(one)).await.unwrap();
    bed.store.register_worker(&new_worker(two)).await.unwrap();
    let trigger = bed.sent().await;
    let run = bed.store.claim(one, &[claim(&trigger)]).await.unwrap().remove(0).unwrap();
    let held = bed.store.beat(one).await.unwrap().unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].id, held[0].token, held[0].canceling), (run.id, run.token, false));
    assert_eq!((&*held[0].namespace, &*held[0].job, held[0].failures), ("default", "copy", 0));
    assert_eq!(bed.store.beat(two).await.unwrap(), Some(vec![]));
    bed.store.cancel(NAMESPACE, run.id, "ann".into()).await.unwrap();
    assert!(bed.store.beat(one).await.unwrap().unwrap()[0].canceling);
    let leases = async || {
        let workers = bed.store.workers().await.unwrap();
        workers.into_iter().find(|worker| worker.worker.incarnation == one).unwrap().leases
    };
    assert_eq!(leases().await, 1);
    bed.report(&run, Outcome::Stopped).await.unwrap();
    assert_eq!(leases().await, 0);
    assert_eq!(bed.store.leases_of(one).await.unwrap(), []);
}

async fn workers_are_forgotten_when_they_hold_nothing(bed: Bed) {
    let (busy, idle, alive) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
    for worker in [busy, idle, alive] {
        bed.store.register_worker(&new_worker(worker)).await.unwrap();
    }
    let trigger = bed.sent().await;
    let run = bed.store.claim(busy, &[claim(&trigger)]).await.unwrap().remove(0).unwrap();
    bed.store.retire_worker(busy).await.unwrap();
    bed.store.retire_worker(idle).await.unwrap();
    let before_all = bed.now().await.saturating_sub(jiff::SignedDuration::from_secs(60)).unwrap();
    bed.pass(Duration::from_millis(2)).await;
    assert_eq!(bed.store.purge_workers(before_all).await.unwrap(), 0);
    assert_eq!(bed.store.purge_workers(bed.now().await).await.unwrap(), 1);
    bed.report(&run, succeeded()).await.unwrap();
    assert_eq!(bed.store.purge_workers(bed.now().await).await.unwrap(), 1);
    let left: Vec<_> = bed.store.workers().await.unwrap().iter().map(|worker| worker.worker.incarnation).collect();
    assert_eq!(left, [alive]);
}

async fn one_leads_until_its_time_is_up(bed: Bed) {
    let (ann, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let ttl = Duration::from_secs(3600);
    let first = bed.store.lead(ann, ttl).await.unwrap().unwrap();
    assert_eq!(bed.store.lead(bob, ttl).await.unwrap(), None);
    assert_eq!(bed.store.lead(ann, ttl).await.unwrap(), Some(first), "renewing keeps the generation");
    bed.age(2000).await;
    assert_eq!(bed.store.lead(ann, ttl).await.unwrap(), Some(first));
    bed.age(2000).await;
    assert_eq!(bed.store.lead(ann, ttl).await.unwrap(), Some(first));
    assert_eq!(bed.store.lead(bob, ttl).await.unwrap(), None, "until its time is up");
    bed.age(3601).await;
    let second = bed.store.lead(bob, ttl).await.unwrap().unwrap();
    assert!(second > first);
    assert_eq!(bed.store.lead(ann, ttl).await.unwrap(), None);
}

async fn one_of_many_becomes_leader(bed: Bed) {
    let mut tasks = JoinSet::new();
    for candidate in 1..=20 {
        let store = if candidate % 5 == 0 { bed.second().await } else { bed.store.clone() };
        tasks.spawn(async move { store.lead(Uuid::from_u128(candidate), Duration::from_secs(60)).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.into_iter().flatten().count(), 1);
}

async fn who_resigns_makes_room(bed: Bed) {
    let (ann, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let ttl = Duration::from_secs(600);
    let first = bed.store.lead(ann, ttl).await.unwrap().unwrap();
    bed.store.resign(bob).await.unwrap();
    assert_eq!(bed.store.lead(bob, ttl).await.unwrap(), None, "only who leads can resign");
    bed.store.resign(ann).await.unwrap();
    assert!(bed.store.lead(bob, ttl).await.unwrap().unwrap() > first);
}
