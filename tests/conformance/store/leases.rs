//! Claims, reports, losses: one holder at a time (I3).

use std::collections::BTreeSet;
use std::time::Duration;

use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Phase, Refusal, Status};
use reveille_shared::store::{Claim, Claimed, Loss, NewWorker, Outcome, Progress, Report, Store, StoreError};
use reveille_shared::work_request::{Happening, WorkRequestId};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, claim, error, failed, on_both, succeeded, worker};

on_both!(
    a_cancel_that_meets_a_failure_is_not_lost,
    one_of_fifty_claims_wins,
    who_was_taken_for_dead_claims_nothing,
    a_claim_tells_all_that_a_worker_needs,
    a_claim_can_be_repeated_under_its_token,
    a_batch_of_claims_is_answered_one_by_one,
    of_batches_that_meet_each_run_has_one_winner,
    an_old_trigger_claims_nothing,
    success_ends_the_run,
    failure_without_a_retry_ends_the_run,
    a_retry_waits_and_opens_a_new_attempt,
    a_success_after_a_retry_shows_no_error,
    a_release_is_no_failure,
    a_report_can_be_repeated,
    a_report_under_a_stale_token_changes_nothing,
    a_lost_lease_is_retried_or_fails,
    a_late_report_of_a_lost_lease_is_stale,
    a_report_before_the_loss_stands,
    one_of_concurrent_endings_wins,
    overdue_leases_are_found,
    progress_needs_the_lease_and_never_goes_back,
    progress_of_many_in_one_batch,
);

fn loss(id: WorkRequestId, token: Uuid, retry: Option<Duration>) -> Loss {
    Loss { id, token, error: error("its worker died"), retry, verify: false, if_overdue: false }
}

/// A worker repeats a claim on which the database gave no answer, as may happen on a busy machine.
async fn persist(store: Store, claim: Claim) -> Result<Claimed, Refusal> {
    let mut patience = 20;
    loop {
        match store.claim(worker(), &[claim]).await {
            Ok(mut answers) => return answers.remove(0),
            Err(error) if patience == 0 => panic!("{error:?}"),
            Err(_) => patience -= 1,
        }
    }
}

async fn who_was_taken_for_dead_claims_nothing(bed: Bed) {
    let dead = NewWorker {
        incarnation: Uuid::from_u128(9),
        name: "host:9".into(),
        queues: vec!["main".into()],
        slots: 1,
        version: "0".into(),
        lease_ttl: Duration::from_secs(15),
    };
    bed.store.register_worker(&dead).await.unwrap();
    let trigger = bed.sent().await;
    bed.store.retire_worker(dead.incarnation).await.unwrap();
    let refused = bed.store.claim(dead.incarnation, &[claim(&trigger)]).await;
    assert!(matches!(refused, Err(StoreError::Retired)), "{refused:?}");
    assert!(bed.claim(&trigger).await.is_ok(), "the trigger is another one's");
}

async fn one_of_fifty_claims_wins(bed: Bed) {
    let trigger = bed.sent().await;
    let mut tasks = JoinSet::new();
    for at in 0..50 {
        let store = if at % 10 == 0 { bed.second().await } else { bed.store.clone() };
        let claim = claim(&trigger);
        tasks.spawn(persist(store, claim));
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Err(Refusal::OldTrigger)).count(), 49);
    let run = answers.into_iter().flatten().next().unwrap();
    let Phase::Leased(lease) = bed.get(run.id).await.phase else { panic!("no lease") };
    assert_eq!(lease.token, run.token);
    assert_eq!(bed.told(run.id).await, ["accepted", "started"]);
}

async fn a_claim_tells_all_that_a_worker_needs(bed: Bed) {
    let request = bed.new_request().await;
    let id = bed.accept(request.clone()).await;
    bed.pass(Duration::from_millis(5)).await;
    let trigger = bed.take().await.remove(0).trigger;
    bed.pass(Duration::from_millis(5)).await;
    let run = bed.claim(&trigger).await.unwrap();
    assert_eq!((run.id, run.attempt, run.failures), (id, 1, 0));
    assert_eq!((&*run.namespace, &*run.job, run.job_version), ("default", "copy", 1));
    assert_eq!((run.input, run.fire), (request.input, None));
    assert!(run.accepted_at < run.sent_at && run.sent_at < run.claimed_at);
    let shown = bed.get(id).await;
    assert_eq!((shown.status, shown.attempt, shown.started_at), (Status::InProgress, 1, Some(run.claimed_at)));
    let Phase::Leased(lease) = shown.phase else { panic!("no lease") };
    // The job's time-out of 60 s and a grace.
    assert!(lease.deadline.duration_since(run.claimed_at).as_secs() >= 60);
    assert_eq!(lease.worker, worker());
    assert_eq!(bed.history(id).await[1], Happening::Started { attempt: 1, worker: worker() });
}

async fn a_claim_can_be_repeated_under_its_token(bed: Bed) {
    let trigger = bed.sent().await;
    let claim = claim(&trigger);
    let first = bed.store.claim(worker(), &[claim]).await.unwrap().remove(0).unwrap();
    let again = bed.store.claim(worker(), &[claim]).await.unwrap().remove(0).unwrap();
    assert_eq!((again.token, again.attempt, &again.input), (first.token, 1, &first.input));
    assert_eq!(bed.told(trigger.id).await, ["accepted", "started"]);
    let twice = bed.store.claim(worker(), &[claim, claim]).await.unwrap();
    assert!(twice.iter().all(|answer| answer.as_ref().is_ok_and(|run| run.token == first.token)), "{twice:?}");

    bed.report(&first, succeeded()).await.unwrap();
    assert_eq!(bed.store.claim(worker(), &[claim]).await.unwrap(), [Err(Refusal::Ended)]);
}

async fn a_batch_of_claims_is_answered_one_by_one(bed: Bed) {
    let (good, taken, old) = (bed.sent().await, bed.sent().await, bed.sent().await);
    bed.claim(&taken).await.unwrap();
    let unknown = Claim { id: WorkRequestId(Uuid::from_u128(5)), n: 1, token: Uuid::new_v4() };
    let old = Claim { n: old.n - 1, ..claim(&old) };
    let claims = [claim(&taken), unknown, claim(&good), old];
    let answers = bed.store.claim(worker(), &claims).await.unwrap();
    let refusals: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().copied()).collect();
    let expected = [Some(Refusal::OldTrigger), Some(Refusal::Ended), None, Some(Refusal::OldTrigger)];
    assert_eq!(refusals, expected);
    assert_eq!(answers[2].as_ref().unwrap().id, good.id);
    assert!(bed.store.claim(worker(), &[]).await.unwrap().is_empty());
}

async fn of_batches_that_meet_each_run_has_one_winner(bed: Bed) {
    let stores = [bed.store.clone(), bed.second().await, bed.second().await];
    for _ in 0..10 {
        for _ in 0..20 {
            bed.accepted().await;
        }
        let triggers: Vec<_> = bed.take().await.into_iter().map(|out| out.trigger).collect();
        let mut tasks = JoinSet::new();
        for (at, store) in stores.iter().cloned().enumerate() {
            let mut claims: Vec<_> = triggers.iter().map(claim).collect();
            claims.rotate_left(at * 7);
            // Not all of them, so that no batch is another one's equal.
            claims.truncate(15);
            tasks.spawn(async move { store.claim(Uuid::from_u128(at as u128), &claims).await.unwrap() });
        }
        let won: Vec<_> = tasks.join_all().await.into_iter().flatten().flatten().collect();
        assert_eq!(won.iter().map(|run| run.id).collect::<BTreeSet<_>>().len(), 20, "each has a winner");
        assert_eq!(won.len(), 20, "each has one");

        let mut tasks = JoinSet::new();
        for (at, store) in stores.iter().cloned().enumerate() {
            let outcome = if at == 0 { succeeded() } else { failed(None) };
            let report = |run: &Claimed| Report::new(run.id, run.token, outcome.clone());
            let mut reports: Vec<_> = won.iter().map(report).collect();
            reports.rotate_left(at * 7);
            tasks.spawn(async move { store.report(reports).await.unwrap() });
        }
        let verdicts: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(verdicts.iter().filter(|verdict| verdict.is_ok()).count(), 20);
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Err(Refusal::Repeated)).count(), 40);
        for run in &won {
            assert_eq!(bed.told(run.id).await.len(), 3, "accepted, started, ended");
        }
    }
}

async fn an_old_trigger_claims_nothing(bed: Bed) {
    let first = bed.sent().await;
    let run = bed.claim(&first).await.unwrap();
    bed.report(&run, failed(Some(Duration::ZERO))).await.unwrap();
    assert_eq!(bed.claim(&first).await.unwrap_err(), Refusal::OldTrigger, "before the retry goes out");
    let second = bed.take().await.remove(0).trigger;
    assert_eq!(second.n, 2);
    assert_eq!(bed.claim(&first).await.unwrap_err(), Refusal::OldTrigger, "while the retry is out");
    assert_eq!(bed.claim(&second).await.unwrap().attempt, 2);
}

async fn success_ends_the_run(bed: Bed) {
    let run = bed.running().await;
    bed.pass(Duration::from_millis(5)).await;
    bed.report(&run, succeeded()).await.unwrap();
    let ended = bed.get(run.id).await;
    assert_eq!((ended.status, ended.phase, ended.percent), (Status::Succeeded, Phase::Done, 100.0));
    assert_eq!((ended.error, ended.started_at), (None, Some(run.claimed_at)));
    assert!(ended.finished_at.unwrap() > run.claimed_at);
    assert_eq!(bed.store.output(run.id).await.unwrap(), Some(json!({ "copied": 3 })));
    let end = Happening::Succeeded { attempt: 1, token: Some(run.token), verified: false };
    assert_eq!(bed.history(run.id).await.pop(), Some(end));
    assert!(bed.store.leases_of(worker()).await.unwrap().is_empty());
}

async fn failure_without_a_retry_ends_the_run(bed: Bed) {
    let run = bed.running().await;
    bed.report(&run, failed(None)).await.unwrap();
    let ended = bed.get(run.id).await;
    assert_eq!((ended.status, ended.phase, ended.error), (Status::Failed, Phase::Done, Some(error("it was to be"))));
    assert!(ended.finished_at.is_some());
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "failed"]);
}

async fn a_retry_waits_and_opens_a_new_attempt(bed: Bed) {
    let run = bed.running().await;
    let wait = Duration::from_secs(3600);
    bed.report(&run, failed(Some(wait))).await.unwrap();
    let shown = bed.get(run.id).await;
    assert_eq!((shown.status, shown.attempt), (Status::InProgress, 1));
    assert_eq!((shown.error, shown.finished_at), (Some(error("it was to be")), None));
    assert!(bed.take().await.is_empty(), "before the wait is over");
    bed.age(3600).await;
    let again = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    assert_eq!((again.attempt, again.failures), (2, 1));
    assert_eq!(bed.get(run.id).await.started_at, Some(run.claimed_at), "when the first attempt started");
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "attemptFailed", "started"]);
}

async fn a_success_after_a_retry_shows_no_error(bed: Bed) {
    let run = bed.running().await;
    bed.report(&run, failed(Some(Duration::ZERO))).await.unwrap();
    let again = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    bed.report(&again, succeeded()).await.unwrap();
    let ended = bed.get(run.id).await;
    assert_eq!((ended.status, ended.error), (Status::Succeeded, None));
}

async fn a_release_is_no_failure(bed: Bed) {
    let run = bed.running().await;
    bed.report(&run, Outcome::Released { doubt: false }).await.unwrap();
    assert_eq!(bed.status(run.id).await, Status::InProgress);
    let again = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    assert_eq!((again.attempt, again.failures), (2, 0));
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "released", "started"]);
}

async fn a_report_can_be_repeated(bed: Bed) {
    for outcome in
        [succeeded(), failed(None), failed(Some(Duration::ZERO)), Outcome::Stopped, Outcome::Released { doubt: false }]
    {
        let run = bed.running().await;
        bed.report(&run, outcome.clone()).await.unwrap();
        let (before, history) = (bed.get(run.id).await, bed.history(run.id).await);
        assert_eq!(bed.report(&run, outcome.clone()).await, Err(Refusal::Repeated), "{outcome:?}");
        assert_eq!(bed.report(&run, succeeded()).await, Err(Refusal::Repeated), "the first answer stands");
        assert_eq!((bed.get(run.id).await, bed.history(run.id).await), (before, history));
    }
    let run = bed.running().await;
    let report = Report::new(run.id, run.token, succeeded());
    let answers = bed.store.report(vec![report.clone(), report]).await.unwrap();
    assert_eq!(answers, [Ok(()), Err(Refusal::Repeated)], "twice in one batch");
}

async fn a_report_under_a_stale_token_changes_nothing(bed: Bed) {
    let first = bed.running().await;
    bed.report(&first, Outcome::Released { doubt: false }).await.unwrap();
    let second = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    let before = bed.get(first.id).await;
    let stranger = Report::new(first.id, Uuid::from_u128(9), succeeded());
    assert_eq!(bed.store.report(vec![stranger.clone()]).await.unwrap(), [Err(Refusal::StaleToken)]);
    assert_eq!(bed.report(&first, succeeded()).await, Err(Refusal::Repeated), "it released, and that stands");
    assert_eq!(bed.get(first.id).await, before);
    assert_eq!(bed.store.output(first.id).await.unwrap(), None);

    // One stale report in a batch leaves the others alone.
    let good = Report::new(second.id, second.token, succeeded());
    let unknown = Report::new(WorkRequestId(Uuid::from_u128(5)), Uuid::from_u128(5), succeeded());
    let answers = bed.store.report(vec![stranger.clone(), unknown, good]).await.unwrap();
    assert_eq!(answers, [Err(Refusal::StaleToken), Err(Refusal::Ended), Ok(())]);
    assert_eq!(bed.store.report(vec![stranger]).await.unwrap(), [Err(Refusal::Ended)]);
}

async fn a_lost_lease_is_retried_or_fails(bed: Bed) {
    let run = bed.running().await;
    let wait = Some(Duration::from_secs(3600));
    assert_eq!(bed.store.lose(vec![loss(run.id, Uuid::from_u128(9), wait)]).await.unwrap(), 0, "another lease");
    assert_eq!(bed.store.lose(vec![loss(run.id, run.token, wait), loss(run.id, run.token, None)]).await.unwrap(), 1);
    assert_eq!(bed.get(run.id).await.error, Some(error("its worker died")));
    assert_eq!(bed.store.lose(vec![loss(run.id, run.token, None)]).await.unwrap(), 0, "a repeat");
    assert!(bed.take().await.is_empty(), "before the wait is over");
    bed.age(3600).await;
    let again = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    assert_eq!((again.attempt, again.failures), (2, 1));
    assert_eq!(bed.store.lose(vec![loss(again.id, again.token, None)]).await.unwrap(), 1);
    assert_eq!(bed.status(run.id).await, Status::Failed);
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "attemptFailed", "started", "failed"]);
}

async fn a_late_report_of_a_lost_lease_is_stale(bed: Bed) {
    let run = bed.running().await;
    bed.store.lose(vec![loss(run.id, run.token, Some(Duration::ZERO))]).await.unwrap();
    assert_eq!(bed.report(&run, succeeded()).await, Err(Refusal::StaleToken), "its success did not count");
    let again = bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    assert_eq!(bed.report(&run, succeeded()).await, Err(Refusal::StaleToken));
    bed.store.lose(vec![loss(again.id, again.token, None)]).await.unwrap();
    assert_eq!(bed.report(&again, succeeded()).await, Err(Refusal::Ended));
    assert_eq!(bed.status(run.id).await, Status::Failed);
}

async fn a_report_before_the_loss_stands(bed: Bed) {
    let run = bed.running().await;
    bed.report(&run, succeeded()).await.unwrap();
    assert_eq!(bed.store.lose(vec![loss(run.id, run.token, Some(Duration::ZERO))]).await.unwrap(), 0);
    assert_eq!(bed.status(run.id).await, Status::Succeeded);
}

async fn one_of_concurrent_endings_wins(bed: Bed) {
    for _ in 0..10 {
        let run = bed.running().await;
        let mut tasks = JoinSet::new();
        for outcome in [succeeded(), failed(None), failed(Some(Duration::ZERO)), Outcome::Released { doubt: false }] {
            let (store, id, token) = (bed.store.clone(), run.id, run.token);
            tasks.spawn(async move { store.report(vec![Report::new(id, token, outcome)]).await.unwrap()[0].is_ok() });
        }
        let (store, loss) = (bed.second().await, loss(run.id, run.token, None));
        tasks.spawn(async move { store.lose(vec![loss]).await.unwrap() == 1 });
        let wins = tasks.join_all().await.into_iter().filter(|won| *won).count();
        assert_eq!(wins, 1, "{:?}", bed.history(run.id).await);
        assert_eq!(bed.history(run.id).await.len(), 3);
        bed.take().await;
    }
}

async fn overdue_leases_are_found(bed: Bed) {
    let run = bed.running().await;
    let mut request = bed.new_request().await;
    request.timeout = HumanDuration::from_secs(7200);
    bed.accept(request).await;
    bed.claim(&bed.take().await.remove(0).trigger).await.unwrap();
    assert!(bed.store.overdue_leases(10).await.unwrap().is_empty(), "within the grace");
    bed.age(3600).await;
    let overdue = bed.store.overdue_leases(10).await.unwrap();
    assert_eq!(overdue.iter().map(|lease| (lease.id, lease.token)).collect::<Vec<_>>(), [(run.id, run.token)]);
    assert_eq!((&*overdue[0].job, overdue[0].job_version, overdue[0].canceling), ("copy", 1, false));
    assert!(bed.store.overdue_leases(0).await.unwrap().is_empty());
}

fn progress(id: WorkRequestId, token: Uuid, percent: f32, message: &str) -> Progress {
    Progress { id, token, percent, message: (!message.is_empty()).then(|| message.to_owned()) }
}

async fn progress_needs_the_lease_and_never_goes_back(bed: Bed) {
    let run = bed.running().await;
    let tell = async |token: Uuid, percent: f32, message: &str| {
        bed.store.progress(&[progress(run.id, token, percent, message)]).await.unwrap();
        let shown = bed.get(run.id).await;
        (shown.percent, shown.message.unwrap_or_default())
    };
    assert_eq!(tell(run.token, 40.0, "copying").await, (40.0, "copying".into()));
    assert_eq!(tell(Uuid::from_u128(9), 60.0, "a stranger").await, (40.0, "copying".into()));
    assert_eq!(tell(run.token, 30.0, "").await, (40.0, "copying".into()));
    assert_eq!(tell(run.token, 30.0, "again").await, (40.0, "again".into()));
    assert_eq!(tell(run.token, f32::NAN, "?").await, (40.0, "?".into()), "not a number");
    assert_eq!(tell(run.token, 250.0, "!").await, (100.0, "!".into()), "more than all");
    bed.report(&run, failed(None)).await.unwrap();
    assert_eq!(tell(run.token, 70.0, "after the end").await, (100.0, "!".into()));
    assert_eq!(bed.told(run.id).await, ["accepted", "started", "failed"], "progress is no event");
}

async fn progress_of_many_in_one_batch(bed: Bed) {
    let (one, two) = (bed.running().await, bed.running().await);
    let batch = [
        progress(one.id, one.token, 10.0, "first"),
        progress(two.id, two.token, 50.0, "two"),
        progress(one.id, one.token, 30.0, "second"),
        progress(one.id, one.token, 20.0, "third"),
        progress(WorkRequestId(Uuid::from_u128(5)), one.token, 20.0, "unknown"),
    ];
    bed.store.progress(&batch).await.unwrap();
    let shown = bed.get(one.id).await;
    assert_eq!((shown.percent, shown.message.as_deref()), (30.0, Some("third")), "the highest, and the last word");
    assert_eq!(bed.get(two.id).await.percent, 50.0);
    bed.store.progress(&[]).await.unwrap();
}

/// A cancel and the report of a failure that may be retried meet at every possible moment.
async fn a_cancel_that_meets_a_failure_is_not_lost(bed: Bed) {
    for _ in 0..40 {
        let run = bed.running().await;
        let id = run.id;
        let (operator, worker) = (bed.second().await, bed.second().await);
        let mut racing = tokio::task::JoinSet::new();
        racing.spawn(async move {
            operator.cancel(NAMESPACE, id, "ann".into()).await.unwrap();
        });
        let outcome = failed(Some(std::time::Duration::ZERO));
        racing.spawn(async move {
            let report = reveille_shared::store::Report::new(id, run.token, outcome);
            drop(worker.report(vec![report]).await.unwrap());
        });
        racing.join_all().await;
        // Canceled first: the report ends it. Failed first: what waits for its retry is canceled at once.
        let status = bed.status(id).await;
        assert!(matches!(status, Status::Canceled | Status::Failed), "the cancel is lost: {status}");
    }
}
