//! What many callers ask for at the same time is accepted together, and each has its own answer.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use harness::wait::eventually;
use jiff::ToSpan as _;
use reveille_shared::state::Phase;
use reveille_shared::store::{Acceptance, IdempotencyKey, Kind, NewWorkRequest, StoreError};
use reveille_shared::work_request::WorkRequestId;
use tokio::task::JoinSet;

use crate::bed::{Bed, NAMESPACE, on_both};
use crate::idempotency::named;

on_both!(
    callers_at_the_same_time_have_an_answer_each,
    what_one_can_not_have_the_others_can,
    who_hangs_up_takes_nobody_along,
);

async fn requests(bed: &Bed, count: usize) -> Vec<NewWorkRequest> {
    let mut requests = Vec::with_capacity(count);
    for _ in 0..count {
        requests.push(bed.new_request().await);
    }
    requests
}

async fn callers_at_the_same_time_have_an_answer_each(bed: Bed) {
    let mut callers = JoinSet::new();
    for (number, request) in requests(&bed, 80).await.into_iter().enumerate() {
        // Of every eight callers four use one key, and the last of them asks for something else.
        let key = (number % 2 == 0).then(|| {
            let fields = [("input".to_owned(), (number % 8 == 6).to_string())];
            IdempotencyKey { fields: fields.into(), ..named(&format!("key {}", number / 8)) }
        });
        let store = bed.store.clone();
        callers.spawn(async move {
            let id = request.id;
            let (acceptance, sent) = store.accept_and_send(request, key.as_ref()).await.unwrap();
            assert_eq!(sent.map(|out| out.trigger.id), (acceptance == Acceptance::New(id)).then_some(id));
            (key, id, acceptance)
        });
    }
    let answers = callers.join_all().await;
    let winners: HashMap<_, _> = answers
        .iter()
        .filter(|(_, id, acceptance)| *acceptance == Acceptance::New(*id))
        .filter_map(|(key, id, _)| key.as_ref().map(|key| (key.key.clone(), (key.fields.clone(), *id))))
        .collect();
    assert_eq!(winners.len(), 10, "each key is taken once");
    let mut instants = BTreeSet::new();
    for (key, id, acceptance) in &answers {
        let expected = match key.as_ref().map(|key| (&key.fields, &winners[&key.key])) {
            None => Acceptance::New(*id),
            Some((_, (_, winner))) if winner == id => Acceptance::New(*id),
            Some((fields, (same, winner))) if fields == same => Acceptance::Repeated(*winner),
            Some(_) => Acceptance::KeyReused(vec!["input".into()]),
        };
        assert_eq!(*acceptance, expected);
        if expected == Acceptance::New(*id) {
            instants.insert(bed.get(*id).await.accepted_at);
        }
    }
    assert_eq!(bed.take().await, [], "all count as sent");
    if bed.store.kind() == Kind::Postgres {
        assert!(instants.len() < 15, "50 runs were accepted in {} commits", instants.len());
    }
}

async fn what_one_can_not_have_the_others_can(bed: Bed) {
    let long_ago = bed.now().await - 1.hour();
    let mut callers = JoinSet::new();
    for (number, mut request) in requests(&bed, 30).await.into_iter().enumerate() {
        if number == 17 {
            request.id = WorkRequestId::new(long_ago);
        }
        let store = bed.store.clone();
        callers.spawn(async move { (number, request.id, store.accept(request, None).await) });
    }
    for (number, id, answer) in callers.join_all().await {
        match answer {
            Err(StoreError::ClocksApart(_)) => assert_eq!(number, 17),
            answer => assert_eq!(answer.unwrap(), Acceptance::New(id), "{number}"),
        }
    }
}

async fn who_hangs_up_takes_nobody_along(bed: Bed) {
    let (mut staying, mut leaving) = (JoinSet::new(), JoinSet::new());
    let mut left = Vec::new();
    for (number, request) in requests(&bed, 40).await.into_iter().enumerate() {
        let (store, id) = (bed.store.clone(), request.id);
        let ask = async move { store.accept_and_send(request, Some(&named(&number.to_string()))).await.unwrap() };
        // The first two have a turn each, and are alone.
        if number < 2 || number % 2 == 0 {
            staying.spawn(async move { assert_eq!(ask.await.0, Acceptance::New(id)) });
        } else {
            left.push((number, id));
            leaving.spawn(ask);
        }
    }
    // Then the next turn has come, and has taken along all who wait.
    staying.join_next().await.unwrap().unwrap();
    leaving.abort_all();
    tokio::time::timeout(Duration::from_secs(30), staying.join_all()).await.unwrap();
    while leaving.join_next().await.is_some() {}
    // What was accepted all the same has nobody who publishes it: dispatchers are to find it.
    eventually("what nobody has heard of to be due", Duration::from_secs(30), async || {
        for (_, id) in &left {
            let run = bed.store.work_request(NAMESPACE, *id).await.unwrap();
            if run.is_some_and(|run| matches!(run.phase, Phase::Sent { .. })) {
                return Err(format!("{id} counts as sent"));
            }
        }
        Ok(())
    })
    .await
    .unwrap();
    for (number, id) in left {
        let again = bed.store.accept(bed.new_request().await, Some(&named(&number.to_string()))).await.unwrap();
        let was_accepted = bed.store.work_request(NAMESPACE, id).await.unwrap().is_some();
        assert_eq!(again == Acceptance::Repeated(id), was_accepted, "{number}: {again:?}");
    }
}
