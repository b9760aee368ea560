//! A work request is born.

use std::time::Duration;

use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Phase, Status};
use reveille_shared::work_request::{Happening, WorkRequestId};
use serde_json::json;

use crate::bed::{Bed, NAMESPACE, on_both};

on_both!(accepted_is_kept_as_it_was_given, accepting_rings_the_dispatcher);

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

async fn accepting_rings_the_dispatcher(bed: Bed) {
    let nudge = bed.store.nudge(reveille_shared::store::Hint::Due);
    bed.accepted().await;
    tokio::time::timeout(Duration::from_secs(10), nudge.notified()).await.expect("no nudge");
}
