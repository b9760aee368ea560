//! What happens, on its way to whoever wants to know.

use std::collections::BTreeMap;

use reveille_shared::work_request::{Happening, WorkRequestId};

use crate::bed::{Bed, NAMESPACE, failed, on_both, succeeded};

on_both!(
    each_entry_is_told_in_the_order_of_its_run,
    what_nobody_wants_to_know_is_not_kept,
    an_entry_stays_until_it_was_told,
    what_was_deleted_before_it_was_told_is_in_nobodys_way,
);

/// All that is to be told, by run.
async fn untold(bed: &Bed) -> BTreeMap<WorkRequestId, Vec<Happening>> {
    let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let untold = bed.store.untold(&[], 1_000).await.unwrap();
    assert!(untold.is_sorted_by_key(|entry| entry.number));
    for entry in untold {
        assert_eq!((entry.namespace.as_str(), entry.job.as_str()), (NAMESPACE, "copy"));
        runs.entry(entry.id).or_default().push(entry.event.what);
    }
    runs
}

async fn each_entry_is_told_in_the_order_of_its_run(bed: Bed) {
    bed.store.tell_transitions(true).await.unwrap();
    // Batches of several runs, and transactions of several stores side by side.
    let others = [bed.second().await, bed.second().await];
    let mut requests = Vec::new();
    for _ in 0..40 {
        requests.push(bed.new_request().await);
    }
    bed.store.accept_all(&requests).await.unwrap();
    let mut runs = Vec::new();
    for trigger in bed.take().await {
        runs.push(bed.claim(&trigger.trigger).await.unwrap());
    }
    let (some, rest) = runs.split_at(20);
    let report = async |store: &reveille_shared::store::Store, runs: &[reveille_shared::store::Claimed]| {
        for (number, run) in runs.iter().enumerate() {
            let outcome = if number % 3 == 0 { failed(None) } else { succeeded() };
            let report = reveille_shared::store::Report::new(run.id, run.token, outcome);
            store.report(vec![report]).await.unwrap();
        }
    };
    tokio::join!(report(&others[0], some), report(&others[1], rest));
    let told = untold(&bed).await;
    assert_eq!(told.len(), 40);
    for (id, entries) in told {
        assert_eq!(entries, bed.history(id).await);
    }
}

async fn what_nobody_wants_to_know_is_not_kept(bed: Bed) {
    let before = bed.accepted().await;
    assert!(untold(&bed).await.is_empty());
    bed.store.tell_transitions(true).await.unwrap();
    bed.store.tell_transitions(true).await.unwrap();
    let meanwhile = bed.accepted().await;
    bed.store.tell_transitions(false).await.unwrap();
    let after = bed.accepted().await;
    let told = untold(&bed).await;
    assert_eq!(told.keys().collect::<Vec<_>>(), [&meanwhile], "not {before}, not {after}");
}

async fn an_entry_stays_until_it_was_told(bed: Bed) {
    bed.store.tell_transitions(true).await.unwrap();
    let runs = [bed.accepted().await, bed.accepted().await];
    let first = bed.store.untold(&[], 1).await.unwrap();
    assert_eq!((first.len(), first[0].id, first[0].event.seq), (1, runs[0], 1));
    assert_eq!(bed.store.untold(&[], 1).await.unwrap(), first, "a look changes nothing");
    let besides = async |number: i64| {
        let rest = bed.store.untold(&[number], 10).await.unwrap();
        rest.iter().map(|entry| (entry.number, entry.id)).collect::<Vec<_>>()
    };
    let [(second, behind)] = besides(first[0].number).await[..] else { panic!("one is left") };
    assert_eq!(behind, runs[1]);
    assert_eq!(besides(second).await, [(first[0].number, runs[0])], "what appears below is not passed over");
    bed.store.told(&[first[0].number]).await.unwrap();
    bed.store.told(&[first[0].number]).await.unwrap();
    assert_eq!(untold(&bed).await.keys().collect::<Vec<_>>(), [&runs[1]]);
}

async fn what_was_deleted_before_it_was_told_is_in_nobodys_way(bed: Bed) {
    bed.store.tell_transitions(true).await.unwrap();
    let gone = [bed.accepted().await, bed.accepted().await, bed.accepted().await];
    let kept = bed.accepted().await;
    let literal = |id: WorkRequestId| match bed.is_sqlite() {
        true => format!("x'{}'", id.0.simple()),
        false => format!("'{id}'"),
    };
    let ids = gone.map(literal).join(", ");
    let [last, ..] = gone;
    // As an operator deletes runs who knows of no outbox, or only what they have been through.
    bed.tamper(&format!(
        "DELETE FROM deliveries WHERE id IN ({ids}); DELETE FROM events WHERE work_request_id IN ({ids});
         DELETE FROM work_requests WHERE id IN ({ids}) AND id <> {}",
        literal(last)
    ))
    .await;
    // Fewer at a time than are gone.
    let told = bed.store.untold(&[], 2).await.unwrap();
    assert_eq!(told.iter().map(|entry| entry.id).collect::<Vec<_>>(), [kept]);
    bed.store.told(&[told[0].number]).await.unwrap();
    assert_eq!(bed.store.untold(&[], 2).await.unwrap(), []);
}
