//! A request that is repeated under its key is done once, and another one is told from it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reveille_shared::store::{
    Acceptance, BackfillVerdict, ByHand, Earlier, Fire, FireOutcome, IdempotencyKey, NewBackfill, NewWorkRequest,
};
use reveille_shared::work_request::{FireRef, Origin};
use tokio::task::JoinSet;

use crate::backfills::asked;
use crate::bed::{Bed, NAMESPACE, on_both};
use crate::fires::{after, key as schedule, with_ping};

on_both!(
    a_key_can_be_repeated_but_not_reused,
    fields_that_differ_are_named,
    concurrent_duplicates_give_one_work_request,
    a_forgotten_key_is_free_again,
    a_fire_by_hand_is_one_fire,
    concurrent_fires_by_hand_are_one_fire,
    a_backfill_is_one_backfill,
);

/// A request of nobody in particular, under this key.
pub(crate) fn named(key: &str) -> IdempotencyKey {
    IdempotencyKey {
        namespace: NAMESPACE.into(),
        caller: "anyone".into(),
        operation: "POST /copy".into(),
        key: key.into(),
        fields: BTreeMap::new(),
    }
}

/// The same with these fields.
fn with(fields: &[(&str, &str)]) -> IdempotencyKey {
    let fields = fields.iter().map(|(name, hash)| ((*name).to_owned(), (*hash).to_owned())).collect();
    IdempotencyKey { fields, ..named("order-17") }
}

async fn a_key_can_be_repeated_but_not_reused(bed: Bed) {
    let first = bed.new_request().await;
    let id = first.id;
    let accept = async |key: IdempotencyKey| bed.store.accept(bed.new_request().await, Some(&key)).await.unwrap();
    let key = with(&[("input", "1")]);
    assert_eq!(bed.store.earlier(&key).await.unwrap(), None);
    assert_eq!(bed.store.accept(first, Some(&key)).await.unwrap(), Acceptance::New(id));
    assert_eq!(accept(key.clone()).await, Acceptance::Repeated(id));
    assert_eq!(bed.store.earlier(&key).await.unwrap(), Some(Earlier::Same(id.to_string())));
    assert_eq!(accept(with(&[("input", "2")])).await, Acceptance::KeyReused(vec!["input".into()]));
    for other in [
        IdempotencyKey { namespace: "other".into(), ..key.clone() },
        IdempotencyKey { caller: "bob".into(), ..key.clone() },
        IdempotencyKey { operation: "POST /move".into(), ..key.clone() },
    ] {
        assert_eq!(bed.store.earlier(&other).await.unwrap(), None, "{other:?}");
        assert!(matches!(accept(other).await, Acceptance::New(_)), "two keys met");
    }
    assert_eq!(bed.take().await.len(), 4, "a repeated request left something");
}

async fn fields_that_differ_are_named(bed: Bed) {
    let first = with(&[("delay", "1"), ("input", "1"), ("input.a", "1"), ("input.b", "1")]);
    bed.store.accept(bed.new_request().await, Some(&first)).await.unwrap();
    for (again, differs) in [
        (&[("delay", "2"), ("input", "1"), ("input.a", "1"), ("input.b", "2")][..], &["delay", "input.b"][..]),
        (&[("delay", "1"), ("input", "1"), ("input.a", "1")], &["input.b"]),
        (&[("delay", "1"), ("input", "1"), ("input.a", "1"), ("input.b", "1"), ("new", "1")], &["new"]),
        (&[], &["delay", "input", "input.a", "input.b"]),
    ] {
        let differs = differs.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(bed.store.earlier(&with(again)).await.unwrap(), Some(Earlier::Other(differs)));
    }
}

async fn concurrent_duplicates_give_one_work_request(bed: Bed) {
    let mut tasks = JoinSet::new();
    for at in 0..20 {
        let store = if at % 5 == 0 { bed.second().await } else { bed.store.clone() };
        let request = bed.new_request().await;
        tasks.spawn(async move { store.accept(request, Some(&named("order-17"))).await.unwrap() });
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
        bed.store.accept(request, Some(&named("order-17"))).await.unwrap()
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

/// A fire of `ping` by hand, with one run.
async fn by_hand(bed: &Bed, due_at: Timestamp) -> (Fire, Vec<NewWorkRequest>) {
    let fire = FireRef { schedule: "ping".into(), due_at, origin: Origin::Manual };
    let request = NewWorkRequest { fire: Some(fire), ..bed.new_request().await };
    let entry = Fire {
        key: schedule("ping"),
        origin: Origin::Manual,
        due_at,
        last_due_at: due_at,
        count: 1,
        outcome: FireOutcome::Triggered(vec![request.id]),
        version: 1,
        decided_at: due_at,
    };
    (entry, vec![request])
}

async fn a_fire_by_hand_is_one_fire(bed: Bed) {
    with_ping(&bed).await;
    let at: Timestamp = "2026-01-01T00:00:00.123Z".parse().unwrap();
    let fire = async |later: i64, key: IdempotencyKey| {
        let (fire, requests) = by_hand(&bed, after(at, later)).await;
        bed.store.fire_by_hand(fire, requests, Some(&key)).await.unwrap()
    };
    let key = with(&[("by", "ann")]);
    let ByHand::Fired(ids) = fire(0, key.clone()).await else { panic!("not fired") };
    let ByHand::Repeated(known) = fire(5, key.clone()).await else { panic!("not repeated") };
    assert_eq!((known.due_at, known.outcome), (at, FireOutcome::Triggered(ids)));
    assert_eq!(fire(6, with(&[("by", "bob")])).await, ByHand::KeyReused(vec!["by".into()]));
    // One that collides leaves its key free.
    assert_eq!(fire(0, named("another")).await, ByHand::Collides);
    assert!(matches!(fire(1, named("another")).await, ByHand::Fired(_)));
    assert_eq!(bed.take().await.len(), 2);
}

async fn concurrent_fires_by_hand_are_one_fire(bed: Bed) {
    with_ping(&bed).await;
    let at = bed.now().await;
    let mut tasks = JoinSet::new();
    for nth in 0..10 {
        let store = if nth % 3 == 0 { bed.second().await } else { bed.store.clone() };
        let (fire, requests) = by_hand(&bed, after(at, nth)).await;
        tasks.spawn(async move { store.fire_by_hand(fire, requests, Some(&named("order-17"))).await.unwrap() });
    }
    let answers = tasks.join_all().await;
    let fired = answers.iter().filter(|answer| matches!(answer, ByHand::Fired(_))).count();
    let repeated = answers.iter().filter(|answer| matches!(answer, ByHand::Repeated(_))).count();
    assert_eq!((fired, repeated), (1, 9), "{answers:?}");
    assert_eq!(bed.take().await.len(), 1);
}

async fn a_backfill_is_one_backfill(bed: Bed) {
    with_ping(&bed).await;
    let ask = async |id: &str, key: IdempotencyKey| {
        bed.store.create_backfill(asked(&bed, id).await, Some(&key)).await.unwrap()
    };
    let key = with(&[("from", "1")]);
    let BackfillVerdict::New(made) = ask("a", key.clone()).await else { panic!("not new") };
    assert_eq!(ask("b", key.clone()).await, BackfillVerdict::Repeated(made.clone()), "under another id of ours");
    assert_eq!(ask("c", with(&[("from", "2")])).await, BackfillVerdict::KeyReused(vec!["from".into()]));
    // Asked for by its id, it is what the key stands for as well.
    assert_eq!(ask("a", named("another")).await, BackfillVerdict::Repeated(made));
    let other = IdempotencyKey { fields: [("from".to_owned(), "2".to_owned())].into(), ..named("another") };
    assert!(matches!(ask("d", other).await, BackfillVerdict::KeyReused(_)));
    // One that is refused leaves its key free.
    let refused = NewBackfill { max_parallel: 7, ..asked(&bed, "a").await };
    let refused = bed.store.create_backfill(refused, Some(&named("third"))).await.unwrap();
    assert!(matches!(refused, BackfillVerdict::Other(_)), "{refused:?}");
    assert_eq!(bed.store.earlier(&named("third")).await.unwrap(), None);
    assert_eq!(bed.store.running_backfills().await.unwrap().len(), 1);
}
