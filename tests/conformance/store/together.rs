//! What many callers ask for at the same time is accepted together, and each has its own answer.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::ToSpan as _;
use reveille_shared::store::{Acceptance, IdempotencyKey, Kind, NewWorkRequest, StoreError};
use reveille_shared::work_request::WorkRequestId;
use tokio::task::JoinSet;

use crate::bed::{Bed, on_both};
use crate::idempotency::named;

on_both!(
    callers_at_the_same_time_have_an_answer_each,
    what_one_can_not_have_the_others_can,
    who_hangs_up_takes_nobody_along,
);

async fn callers_at_the_same_time_have_an_answer_each(bed: Bed) {
    let mut callers = JoinSet::new();
    for number in 0..80 {
        // Of every eight callers four use one key, and the last of them asks for something else.
        let key = (number % 2 == 0).then(|| {
            let fields = [("input".to_owned(), (number % 8 == 6).to_string())];
            IdempotencyKey { fields: fields.into(), ..named(&format!("key {}", number / 8)) }
        });
        let (store, request) = (bed.store.clone(), bed.new_request().await);
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
        assert!(instants.len() < 25, "50 runs were accepted in {} commits", instants.len());
    }
}

async fn what_one_can_not_have_the_others_can(bed: Bed) {
    let mut callers = JoinSet::new();
    for number in 0..30 {
        let mut request = bed.new_request().await;
        if number == 17 {
            request.id = WorkRequestId::new(bed.now().await - 1.hour());
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
    for number in 0..40 {
        let (store, request) = (bed.store.clone(), bed.new_request().await);
        let of = if number % 2 == 0 { &mut staying } else { &mut leaving };
        of.spawn(async move {
            let key = named(&number.to_string());
            (request.id, store.accept(request, Some(&key)).await.unwrap())
        });
    }
    tokio::task::yield_now().await;
    leaving.abort_all();
    let answers = tokio::time::timeout(Duration::from_secs(30), staying.join_all()).await.unwrap();
    assert!(answers.iter().all(|(id, answer)| *answer == Acceptance::New(*id)));
    while leaving.join_next().await.is_some() {}
    for number in 0..40 {
        let request: NewWorkRequest = bed.new_request().await;
        let (id, answer) = (request.id, bed.store.accept(request, Some(&named(&number.to_string()))).await.unwrap());
        match answer {
            Acceptance::Repeated(_) => {}
            answer => assert!(number % 2 == 1 && answer == Acceptance::New(id), "{number}: {answer:?}"),
        }
    }
}
