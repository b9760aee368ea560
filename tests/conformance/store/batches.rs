//! However many runs go together, each goes as it would alone: PostgreSQL is told once what they have in common. And no run waits
//! for another one's.

use std::time::Duration;

use harness::wait::eventually;
use jiff::Timestamp;
use reveille_shared::definition::Priority;
use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{Claimed, NewWorkRequest, Outcome, Report};
use reveille_shared::work_request::{FireRef, Origin, WorkRequestId};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::bed::{Bed, claim, failed, on_both, succeeded, worker};

on_both!(runs_that_go_together_go_as_each_would_alone);

/// Runs in a batch.
const RUNS: usize = 5;

async fn runs_that_go_together_go_as_each_would_alone(bed: Bed) {
    let differing: [fn(usize) -> bool; 5] =
        [|_| false, |_| true, |run| run == 0, |run| run == RUNS - 1, |run| run % 2 == 1];
    let nothing = || Outcome::Succeeded { output: Value::Null };
    let outcomes: [fn() -> Outcome; 5] = [
        succeeded,
        || failed(None),
        || failed(Some(Duration::from_secs(3_600))),
        || Outcome::Released { doubt: false },
        || Outcome::Deferred { after: Duration::from_secs(3_600), reason: "it is not known yet".into() },
    ];
    for differs in differing {
        for outcome in outcomes {
            let outcome = |run| if differs(run) { outcome() } else { nothing() };
            let mut alone = Vec::new();
            for run in 0..RUNS {
                let request = request(&bed, differs(run)).await;
                alone.extend(lives(&bed, vec![request], &|_| outcome(run)).await);
            }
            let mut requests = Vec::new();
            for run in 0..RUNS {
                requests.push(request(&bed, differs(run)).await);
            }
            let together = lives(&bed, requests, &outcome).await;
            let pattern: Vec<_> = (0..RUNS).map(differs).collect();
            for run in 0..RUNS {
                for (step, (together, alone)) in together[run].iter().zip(&alone[run]).enumerate() {
                    assert_eq!(together, alone, "run {run} after step {step}, those that differ: {pattern:?}");
                }
            }
        }
    }
}

/// One that differs from the others in all that may.
async fn request(bed: &Bed, differs: bool) -> NewWorkRequest {
    let request = bed.new_request().await;
    if !differs {
        return request;
    }
    let fire = FireRef {
        schedule: "nightly".into(),
        due_at: "2026-03-01T02:00:00Z".parse().unwrap(),
        origin: Origin::Schedule,
    };
    NewWorkRequest {
        job: "sort".into(),
        job_version: 7,
        queue: "other".into(),
        timeout: HumanDuration::from_millis(5_000),
        fire: Some(fire),
        input: json!({ "from": "there" }),
        resource: Some(json!({ "name": "r" })),
        parent: Some(WorkRequestId(Uuid::from_u128(3))),
        retry_of: Some(WorkRequestId(Uuid::from_u128(4))),
        follow: true,
        priority: Priority::High,
        expires: Some(HumanDuration::from_millis(60_000)),
        ..request
    }
}

/// Accepts, claims and ends runs, each step for all in one batch; of each what is to be seen after each step.
async fn lives(bed: &Bed, requests: Vec<NewWorkRequest>, outcome: &dyn Fn(usize) -> Outcome) -> Vec<Vec<Value>> {
    let ids: Vec<_> = requests.iter().map(|request| request.id).collect();
    bed.store.accept_all(&requests).await.unwrap();
    let mut seen = vec![all(bed, &ids).await];
    let mut triggers: Vec<_> = bed.take().await.into_iter().map(|out| out.trigger).collect();
    triggers.retain(|trigger| ids.contains(&trigger.id));
    triggers.sort_by_key(|trigger| ids.iter().position(|id| *id == trigger.id));
    let claims: Vec<_> = triggers.iter().map(claim).collect();
    let claimed = bed.store.claim(worker(), &claims).await.unwrap();
    let claimed: Vec<Claimed> = claimed.into_iter().map(Result::unwrap).collect();
    seen.push(all(bed, &ids).await);
    let report = |(index, run): (usize, &Claimed)| Report {
        known: run.known.clone(),
        took: Some(Duration::from_millis(7)),
        ..Report::new(run.id, run.token, outcome(index))
    };
    let verdicts = bed.store.report(claimed.iter().enumerate().map(report).collect()).await.unwrap();
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    seen.push(all(bed, &ids).await);
    (0..ids.len()).map(|run| seen.iter().map(|step| step[run].clone()).collect()).collect()
}

async fn all(bed: &Bed, ids: &[WorkRequestId]) -> Vec<Value> {
    let mut all = Vec::new();
    for id in ids {
        all.push(public(bed, *id).await);
    }
    all
}

/// All that is known of a run, but for ids and instants.
async fn public(bed: &Bed, id: WorkRequestId) -> Value {
    let run = bed.get(id).await;
    let after = |from: Timestamp, at: Option<Timestamp>| at.map(|at| at.duration_since(from).as_millis());
    let phase = match run.phase {
        Phase::Leased(lease) => json!([lease.worker, after(run.started_at.unwrap(), Some(lease.deadline))]),
        Phase::Due { .. } => json!("due"),
        Phase::Sent { .. } => json!("sent"),
        Phase::Done => json!("done"),
        other => panic!("{other:?}"),
    };
    let history: Vec<_> = bed
        .history(id)
        .await
        .into_iter()
        .map(|what| {
            let mut what = serde_json::to_value(what).unwrap();
            ["token", "retryAt"].iter().for_each(|member| drop(what.as_object_mut().unwrap().remove(*member)));
            what
        })
        .collect();
    json!({
        "names": [run.job, run.job_version, run.queue, run.parent, run.retry_of],
        "fire": format!("{:?}", run.fire),
        "status": [run.status, phase, run.attempt, run.percent, run.error],
        "given": [run.input, run.resource, bed.store.output(id).await.unwrap()],
        "times": [after(run.accepted_at, run.expires_at), run.started_at.is_some(), run.finished_at.is_some()],
        "history": history,
    })
}

/// SQLite has one writer, and no locks on rows.
#[tokio::test]
async fn no_run_waits_for_another_one_that_somebody_has_locked() {
    let bed = Bed::postgres().await;
    let (locked, free) = (bed.sent().await, bed.sent().await);
    let mut other = PgConnection::connect(&bed.url).await.unwrap();
    let lock = |id| format!("BEGIN; SELECT * FROM deliveries WHERE id = '{id}' FOR UPDATE");
    let locked_by_other = async |other: &mut PgConnection| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock(locked.id.0))).execute(other).await.unwrap();
    };
    let let_go = async |other: &mut PgConnection, status: Status| {
        eventually("the other run", Duration::from_secs(4), async || match bed.status(free.id).await {
            now if now == status => Ok(()),
            now => Err(format!("{now:?}")),
        })
        .await
        .unwrap();
        let left = bed.status(locked.id).await;
        sqlx::raw_sql("ROLLBACK").execute(other).await.unwrap();
        left
    };

    locked_by_other(&mut other).await;
    let claims = [claim(&locked), claim(&free)];
    let (claimed, left) = tokio::join!(bed.store.claim(worker(), &claims), let_go(&mut other, Status::InProgress));
    assert_eq!(left, Status::Accepted);
    let claimed: Vec<_> = claimed.unwrap().into_iter().map(Result::unwrap).collect();
    assert_eq!(bed.status(locked.id).await, Status::InProgress);

    locked_by_other(&mut other).await;
    let report = |run: &Claimed| Report { known: run.known.clone(), ..Report::new(run.id, run.token, succeeded()) };
    let reports = claimed.iter().map(report).collect();
    let (verdicts, left) = tokio::join!(bed.store.report(reports), let_go(&mut other, Status::Succeeded));
    assert_eq!((verdicts.unwrap(), left), (vec![Ok(()), Ok(())], Status::InProgress));
    assert_eq!(bed.status(locked.id).await, Status::Succeeded);
}
