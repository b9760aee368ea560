//! However many runs go together, each goes as it would alone: PostgreSQL is told once what they have in common. And no run waits
//! for another one's.

use std::time::Duration;

use harness::wait::eventually;
use jiff::Timestamp;
use reveille_shared::definition::Priority;
use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{Claimed, Known, NewWorkRequest, Outcome, Report};
use reveille_shared::trigger::Trigger;
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
    const HOUR: Duration = Duration::from_secs(3_600);
    let outcomes: [fn() -> Outcome; 7] = [
        succeeded,
        || failed(None),
        || failed(Some(HOUR)),
        || Outcome::Released { doubt: false },
        || Outcome::Released { doubt: true },
        || Outcome::Deferred { after: HOUR, reason: "it is not known yet".into() },
        || Outcome::Parked { after: HOUR, notes: json!({ "ticket": 1 }) },
    ];
    for (pattern, differs) in differing.into_iter().enumerate() {
        // Where no run differs there is one kind of end.
        let kinds = if pattern == 0 { 0..=0 } else { 0..=outcomes.len() };
        for first in kinds {
            // At last of each kind one in the same batch.
            let outcome = |run| match first {
                _ if !differs(run) => nothing(),
                first if first == outcomes.len() => outcomes[(run + 1) % outcomes.len()](),
                first => outcomes[first](),
            };
            let end = |run| (outcome(run), differs(run).then(|| Duration::from_millis(run as u64)));
            let mut alone = Vec::new();
            for run in 0..RUNS {
                let request = request(&bed, differs(run)).await;
                alone.extend(lives(&bed, vec![request], &|_| end(run)).await);
            }
            let mut requests = Vec::new();
            for run in 0..RUNS {
                requests.push(request(&bed, differs(run)).await);
            }
            let together = lives(&bed, requests, &end).await;
            let pattern: Vec<_> = (0..RUNS).map(differs).collect();
            for run in 0..RUNS {
                for (step, (together, alone)) in together[run].iter().zip(&alone[run]).enumerate() {
                    assert_eq!(together, alone, "run {run} after step {step}, those that differ: {pattern:?}");
                }
            }
        }
    }
}

/// One that differs from the others in most that may.
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

/// What a worker says of an attempt, and how long that took.
type End = (Outcome, Option<Duration>);

/// Accepts, claims and ends runs, each step for all in one batch; of each what is to be seen after each step.
async fn lives(bed: &Bed, requests: Vec<NewWorkRequest>, end: &dyn Fn(usize) -> End) -> Vec<Vec<Value>> {
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
    // Nothing is known of them, so that all go in one statement, whatever they say.
    let report = |(index, run): (usize, &Claimed)| {
        let (outcome, took) = end(index);
        Report { took, ..Report::new(run.id, run.token, outcome) }
    };
    let verdicts = bed.store.report(claimed.iter().enumerate().map(report).collect()).await.unwrap();
    assert!(verdicts.iter().all(Result::is_ok), "{verdicts:?}");
    seen.push(all(bed, &ids).await);
    seen.push(unshown(bed, &ids).await);
    (0..ids.len()).map(|run| seen.iter().map(|step| step[run].clone()).collect()).collect()
}

async fn all(bed: &Bed, ids: &[WorkRequestId]) -> Vec<Value> {
    let mut all = Vec::new();
    for id in ids {
        all.push(public(bed, *id).await);
    }
    all
}

/// How long they took, and whether something follows them.
async fn unshown(bed: &Bed, ids: &[WorkRequestId]) -> Vec<Value> {
    let id = if bed.is_sqlite() { "hex(id)" } else { "replace(upper(id::text), '-', '')" };
    let sql = format!(
        "SELECT {id}, took_ms, (SELECT count(*) FROM follow_ups WHERE work_request_id = id) FROM work_requests"
    );
    let mut rows: Vec<(String, Option<i64>, i64)> = bed.rows(&sql).await;
    let names: Vec<_> = ids.iter().map(|id| format!("{:X}", id.0.simple())).collect();
    rows.retain(|(name, ..)| names.contains(name));
    rows.sort_by_key(|(name, ..)| names.iter().position(|one| one == name));
    rows.into_iter().map(|(_, took, follow_ups)| json!([took, follow_ups])).collect()
}

/// All that is known of a run, but for ids and instants.
async fn public(bed: &Bed, id: WorkRequestId) -> Value {
    let run = bed.get(id).await;
    let after = |from: Timestamp, at: Option<Timestamp>| at.map(|at| at.duration_since(from).as_millis());
    let phase = match run.phase {
        Phase::Leased(lease) => json!([lease.worker, after(run.started_at.unwrap(), Some(lease.deadline))]),
        Phase::Due { .. } => json!("due"),
        Phase::Sent { .. } => json!("sent"),
        Phase::Parked { .. } => json!("parked"),
        Phase::Done => json!("done"),
        other => panic!("{other:?}"),
    };
    let history: Vec<_> = bed
        .history(id)
        .await
        .into_iter()
        .map(|what| {
            let mut what = serde_json::to_value(what).unwrap();
            ["token", "retryAt", "pollAt"]
                .iter()
                .for_each(|member| drop(what.as_object_mut().unwrap().remove(*member)));
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
    let (one, two) = (bed.sent().await, bed.sent().await);
    let claims = [claim(&one), claim(&two)];
    let claimed = while_locked(&bed, &one, (&two, Status::InProgress), bed.store.claim(worker(), &claims)).await;
    assert!(claimed.unwrap().iter().all(Result::is_ok));

    // Reports that bring along what their claims have left, and others.
    for knows in [true, false] {
        let (one, two) = (bed.sent().await, bed.sent().await);
        let claimed = bed.store.claim(worker(), &[claim(&one), claim(&two)]).await.unwrap();
        let report = |run: Result<Claimed, _>| {
            let Claimed { id, token, known, .. } = run.unwrap();
            let known = if knows { known } else { Known::default() };
            Report { known, ..Report::new(id, token, succeeded()) }
        };
        let reports = bed.store.report(claimed.into_iter().map(report).collect());
        let verdicts = while_locked(&bed, &one, (&two, Status::Succeeded), reports).await;
        assert_eq!(verdicts.unwrap(), [Ok(()), Ok(())]);
    }
}

/// Whoever has written a row and taken that back leaves his number on it, as if he had it still.
#[tokio::test]
async fn what_somebody_has_written_and_taken_back_goes_with_the_others() {
    let bed = Bed::postgres().await;
    let (one, two) = (bed.sent().await, bed.sent().await);
    let taken_back = format!("BEGIN; UPDATE deliveries SET sends = 9 WHERE id = '{}'; ROLLBACK", one.id.0);
    bed.tamper(&taken_back).await;
    let claimed = bed.store.claim(worker(), &[claim(&one), claim(&two)]).await.unwrap();
    let claimed: Vec<_> = claimed.into_iter().map(Result::unwrap).collect();
    bed.tamper(&taken_back).await;
    let reports = claimed.iter().map(|run| Report::new(run.id, run.token, succeeded())).collect();
    assert_eq!(bed.store.report(reports).await.unwrap(), [Ok(()), Ok(())]);
    for id in [one.id, two.id] {
        assert_eq!(bed.told(id).await, ["accepted", "started", "succeeded"]);
    }
}

/// What comes of it while somebody has locked a run, who lets it go when another one has this status; the locked one has it after that.
async fn while_locked<T>(
    bed: &Bed,
    locked: &Trigger,
    (other, status): (&Trigger, Status),
    of: impl Future<Output = T>,
) -> T {
    let before = bed.status(locked.id).await;
    let mut somebody = PgConnection::connect(&bed.url).await.unwrap();
    let lock = format!("BEGIN; SELECT * FROM deliveries WHERE id = '{}' FOR UPDATE", locked.id.0);
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut somebody).await.unwrap();
    let let_go = async {
        let ended = eventually("the other run", Duration::from_secs(4), async || match bed.status(other.id).await {
            now if now == status => Ok(()),
            now => Err(format!("{now:?}")),
        });
        ended.await.unwrap();
        assert_eq!(bed.status(locked.id).await, before);
        sqlx::raw_sql("ROLLBACK").execute(&mut somebody).await.unwrap();
    };
    let (done, ()) = tokio::join!(of, let_go);
    assert_eq!(bed.status(locked.id).await, status);
    done
}
