//! What follows the end of a run happens once, whoever asks how often.

use reveille_shared::duration::HumanDuration;
use reveille_shared::state::Status;
use reveille_shared::store::{EndedRun, FollowUp, NewWorkRequest, Store};
use reveille_shared::work_request::{RunError, WorkRequestId};
use serde_json::json;
use tokio::task::JoinSet;

use crate::bed::{Bed, NAMESPACE, on_both, succeeded};

on_both!(
    an_end_is_told_with_all_that_a_chain_needs,
    of_several_followers_one_gives_birth,
    every_way_to_end_is_followed_up,
    what_it_calls_for_counts_as_sent_if_it_goes_out_at_once_and_there_is_room,
    what_can_not_be_run_is_recorded_and_failed,
);

/// A work request whose end is to be followed up.
async fn followed(bed: &Bed) -> WorkRequestId {
    let request = NewWorkRequest { follow: true, ..bed.new_request().await };
    bed.accept(request).await
}

async fn ends(store: &Store) -> Vec<EndedRun> {
    store.ended_runs(100).await.unwrap()
}

async fn an_end_is_told_with_all_that_a_chain_needs(bed: Bed) {
    let id = followed(&bed).await;
    let other = bed.accepted().await;
    for out in bed.take().await {
        let run = bed.claim(&out.trigger).await.unwrap();
        bed.report(&run, succeeded()).await.unwrap();
    }
    let ended = ends(&bed.store).await;
    assert_eq!(ended.len(), 1, "nobody waits for {other}");
    let EndedRun { job, job_version, status, input, output, error, fire, .. } = ended[0].clone();
    assert_eq!((ended[0].id, job.as_str(), job_version, status), (id, "copy", 1, Status::Succeeded));
    assert_eq!((input, output), (json!({"from": "here"}), Some(json!({"copied": 3}))));
    assert_eq!((error, fire), (None, None));
}

async fn of_several_followers_one_gives_birth(bed: Bed) {
    let id = followed(&bed).await;
    let run = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    bed.report(&run, succeeded()).await.unwrap();
    let ended = ends(&bed.store).await.remove(0);
    let mut racing = JoinSet::new();
    for _ in 0..6 {
        let store = bed.second().await;
        let child = NewWorkRequest { chained_from: Some(id), ..bed.new_request().await };
        let run = ended.clone();
        racing
            .spawn(async move { store.follow(vec![FollowUp { run, births: vec![child] }], &|_| false).await.unwrap() });
    }
    let done = racing.join_all().await;
    assert_eq!(done.iter().map(|followed| (followed.ended, followed.chained)).max(), Some((1, 1)));
    assert_eq!(done.iter().map(|followed| followed.chained).sum::<usize>(), 1);
    let children = bed.take().await;
    assert_eq!(children.len(), 1);
    assert_eq!(bed.get(children[0].trigger.id).await.chained_from, Some(id));
    assert!(ends(&bed.store).await.is_empty());
}

async fn what_it_calls_for_counts_as_sent_if_it_goes_out_at_once_and_there_is_room(bed: Bed) {
    for has_room in [true, false] {
        followed(&bed).await;
        let run = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
        bed.report(&run, succeeded()).await.unwrap();
        let run = ends(&bed.store).await.remove(0);
        let at_once = bed.new_request().await;
        let later = NewWorkRequest { delay: HumanDuration::from_secs(60), ..bed.new_request().await };
        let id = at_once.id;
        let follow_up = FollowUp { run, births: vec![later, at_once] };
        let done = bed.store.follow(vec![follow_up], &|_| has_room).await.unwrap();
        assert_eq!(done.chained, 2);
        let due = bed.take().await;
        assert_eq!((done.sent.len(), due.len()), if has_room { (1, 0) } else { (0, 1) });
        let out = done.sent.iter().chain(&due).next().unwrap();
        assert_eq!((out.trigger.id, out.trigger.n), (id, 1));
        bed.claim(&out.trigger).await.unwrap();
    }
}

async fn every_way_to_end_is_followed_up(bed: Bed) {
    let canceled = followed(&bed).await;
    bed.store.cancel(NAMESPACE, canceled, "ann".into()).await.unwrap();
    let hopeless = followed(&bed).await;
    let sent = bed.take().await.remove(0).trigger;
    assert!(bed.store.give_up(&sent, RunError::new("Undeliverable", "no queue")).await.unwrap());
    let lost = followed(&bed).await;
    let run = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    let loss = reveille_shared::store::Loss {
        id: lost,
        token: run.token,
        error: RunError::new("Lost", "its worker died"),
        retry: None,
        verify: false,
        if_overdue: false,
    };
    bed.store.lose(vec![loss]).await.unwrap();
    let mut ended: Vec<_> = ends(&bed.store).await.into_iter().map(|run| (run.id, run.status)).collect();
    ended.sort();
    let mut expected = [(canceled, Status::Canceled), (hopeless, Status::Failed), (lost, Status::Failed)];
    expected.sort();
    assert_eq!(ended, expected);
}

async fn what_can_not_be_run_is_recorded_and_failed(bed: Bed) {
    let why = RunError::new("Template", "input can't be rendered: `nope` is undefined");
    let request = NewWorkRequest { refused: Some(why.clone()), follow: true, ..bed.new_request().await };
    let id = bed.accept(request).await;
    let known = bed.get(id).await;
    assert_eq!((known.status, known.error, known.attempt), (Status::Failed, Some(why), 0));
    assert_eq!(bed.told(id).await, ["accepted", "failed"]);
    assert!(bed.take().await.is_empty());
    assert_eq!(ends(&bed.store).await.len(), 1, "its own chain goes on");
}
