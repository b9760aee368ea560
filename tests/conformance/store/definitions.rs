//! Jobs and schedules come in force, change and go.

use std::time::Duration;

use jiff::Timestamp;
use reveille_shared::definition::{Definitions, ExternalWork, Handler, Job, Overlap, Schedule, Timing};
use reveille_shared::duration::HumanDuration;
use reveille_shared::store::{Applied, FireOutcome, FirePlan, OverlapRule, SkipReason, StoreError};
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bed::{Bed, NAMESPACE, on_both};
use crate::fires::key;

on_both!(
    new_definitions_are_in_force,
    unchanged_definitions_change_nothing,
    a_changed_schedule_with_the_same_timing_keeps_its_cursor,
    changed_timing_supersedes_what_was_due,
    a_removed_schedule_explains_what_was_due,
    versions_rise_over_removal_and_return,
    an_old_version_of_a_job_can_be_read,
    a_deposed_leader_applies_nothing,
    a_bad_schedule_changes_nothing,
    planning_while_definitions_are_applied_keeps_the_cursor,
    names_are_paged_per_namespace,
    queues_of_external_jobs_are_told_apart,
);

pub(crate) fn job(name: &str, description: &str) -> Job {
    Job {
        description: Some(description.into()),
        queue: "main".into(),
        timeout: HumanDuration::from_secs(60),
        ..Job::new(NAMESPACE, name, Handler::Function("noop".into()))
    }
}

pub(crate) fn every(seconds: u64) -> Timing {
    Timing::Every(HumanDuration::from_secs(seconds))
}

pub(crate) fn schedule(name: &str, timing: Timing) -> Schedule {
    Schedule::new(NAMESPACE, name, timing, "copy")
}

pub(crate) fn definitions(schedules: Vec<Schedule>) -> Definitions {
    Definitions { revision: Some(7), jobs: vec![job("copy", "first")], schedules }
}

pub(crate) async fn apply(bed: &Bed, definitions: &Definitions, digest: &str) -> Applied {
    bed.store.apply_definitions(bed.lead().await, definitions, digest, "test").await.unwrap()
}

async fn new_definitions_are_in_force(bed: Bed) {
    assert_eq!(bed.store.in_force().await.unwrap(), None);
    let applied = apply(&bed, &definitions(vec![schedule("ping", every(10))]), "d1").await;
    assert_eq!(applied, Applied { version: 1, jobs: 1, schedules: 1, removed: 0 });
    let set = bed.store.in_force().await.unwrap().unwrap();
    assert_eq!((set.version, &*set.digest, set.revision, &*set.applied_by), (1, "d1", Some(7), "test"));
    let kept = bed.store.job(NAMESPACE, "copy").await.unwrap().unwrap();
    assert_eq!((kept.version, kept.item), (1, job("copy", "first")));
    let row = bed.store.schedule(&key("ping")).await.unwrap().unwrap();
    assert_eq!((&row.schedule, row.version), (&schedule("ping", every(10)), 1));
    assert_eq!(row.cursor, set.applied_at, "due from now on");
    let next = row.next_due_at.unwrap();
    assert!(next > row.cursor && next.duration_since(row.cursor).as_secs() <= 10);
    assert_eq!(next.as_second() % 10, 0, "an interval counts from the epoch");
    assert_eq!(bed.store.queues().await.unwrap(), ["main"]);
    assert!(bed.store.was_in_force("d1").await.unwrap() && !bed.store.was_in_force("d2").await.unwrap());
    assert_eq!(bed.store.job("other", "copy").await.unwrap(), None);
}

async fn unchanged_definitions_change_nothing(bed: Bed) {
    let same = definitions(vec![schedule("ping", every(10)), schedule("pong", Timing::Cron("0 2 * * *".into()))]);
    apply(&bed, &same, "d1").await;
    let before = bed.store.schedules(NAMESPACE, "", "", 10).await.unwrap();
    bed.pass(Duration::from_millis(5)).await;
    let again = apply(&bed, &same, "d1").await;
    assert_eq!((again.jobs, again.schedules, again.removed), (0, 0, 0));
    assert_eq!(bed.store.schedules(NAMESPACE, "", "", 10).await.unwrap(), before);
    assert_eq!(bed.store.job(NAMESPACE, "copy").await.unwrap().unwrap().version, 1);
    assert_eq!(bed.store.in_force().await.unwrap().unwrap().version, 2, "the set is counted all the same");
}

/// Lets `ping` become due without a decision.
async fn become_due(bed: &Bed) -> Timestamp {
    let due = bed.store.schedule(&key("ping")).await.unwrap().unwrap().next_due_at.unwrap();
    let wait = due.duration_since(bed.now().await).unsigned_abs();
    bed.pass(wait + Duration::from_millis(5)).await;
    due
}

async fn a_changed_schedule_with_the_same_timing_keeps_its_cursor(bed: Bed) {
    apply(&bed, &definitions(vec![schedule("ping", every(1))]), "d1").await;
    let before = bed.store.schedule(&key("ping")).await.unwrap().unwrap();
    become_due(&bed).await;
    let mut changed = schedule("ping", every(1));
    changed.input = json!({ "full": true });
    changed.overlap = Overlap::Allow;
    assert_eq!(apply(&bed, &definitions(vec![changed.clone()]), "d2").await.schedules, 1);
    let after = bed.store.schedule(&key("ping")).await.unwrap().unwrap();
    assert_eq!((after.schedule, after.version), (changed, before.version + 1));
    assert_eq!((after.cursor, after.next_due_at), (before.cursor, before.next_due_at), "what is due is still due");
    assert!(bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap().is_empty());
}

async fn changed_timing_supersedes_what_was_due(bed: Bed) {
    apply(&bed, &definitions(vec![schedule("ping", every(1))]), "d1").await;
    let due = become_due(&bed).await;
    apply(&bed, &definitions(vec![schedule("ping", every(3600))]), "d2").await;
    let row = bed.store.schedule(&key("ping")).await.unwrap().unwrap();
    assert_eq!(row.version, 2);
    assert!(row.cursor > due && row.next_due_at.unwrap() > row.cursor);
    assert_eq!(row.next_due_at.unwrap().as_second() % 3600, 0);
    let fire = bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap().pop().unwrap();
    assert_eq!((fire.due_at, fire.version), (due, 1));
    assert!(matches!(fire.outcome, FireOutcome::Skipped(SkipReason::Superseded, _)));
    assert!(bed.take().await.is_empty());

    // A zone is timing too.
    let mut moved = schedule("ping", every(3600));
    moved.timezone = "Europe/Berlin".into();
    apply(&bed, &definitions(vec![moved]), "d3").await;
    let again = bed.store.schedule(&key("ping")).await.unwrap().unwrap();
    assert!(again.version == 3 && again.cursor >= row.cursor);
}

async fn a_removed_schedule_explains_what_was_due(bed: Bed) {
    apply(&bed, &definitions(vec![schedule("ping", every(1)), schedule("pong", every(10))]), "d1").await;
    let due = become_due(&bed).await;
    let applied = apply(&bed, &Definitions::default(), "d2").await;
    assert_eq!((applied.jobs, applied.schedules, applied.removed), (0, 0, 3));
    assert_eq!(bed.store.schedule(&key("ping")).await.unwrap(), None);
    assert_eq!(bed.store.job(NAMESPACE, "copy").await.unwrap(), None);
    assert!(bed.store.due_schedules(Timestamp::MAX, 10).await.unwrap().is_empty());
    assert!(bed.store.queues().await.unwrap().is_empty());
    let fire = bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap().pop().unwrap();
    assert_eq!(fire.due_at, due);
    assert!(matches!(fire.outcome, FireOutcome::Skipped(SkipReason::Superseded, _)));
}

async fn versions_rise_over_removal_and_return(bed: Bed) {
    let ping = || definitions(vec![schedule("ping", every(1))]);
    apply(&bed, &ping(), "d1").await;
    become_due(&bed).await;
    apply(&bed, &Definitions::default(), "d2").await;
    apply(&bed, &ping(), "d3").await;
    assert_eq!(bed.store.job(NAMESPACE, "copy").await.unwrap().unwrap().version, 2);
    let row = bed.store.schedule(&key("ping")).await.unwrap().unwrap();
    let decided = bed.store.fires(&key("ping"), Timestamp::MAX, 10).await.unwrap();
    assert!(decided.iter().all(|fire| fire.version < row.version), "the ledger's versions name one definition each");
}

async fn an_old_version_of_a_job_can_be_read(bed: Bed) {
    apply(&bed, &definitions(vec![]), "d1").await;
    let mut changed = definitions(vec![]);
    changed.jobs[0].description = Some("second".into());
    changed.jobs[0].queue = "billing".into();
    assert_eq!(apply(&bed, &changed, "d2").await, Applied { version: 2, jobs: 1, schedules: 0, removed: 0 });
    let version = async |version| bed.store.job_version(NAMESPACE, "copy", version).await.unwrap();
    assert_eq!(version(1).await, Some(job("copy", "first")));
    assert_eq!(version(2).await, Some(changed.jobs[0].clone()));
    assert_eq!(version(3).await, None);
    assert_eq!(bed.store.job_version("other", "copy", 1).await.unwrap(), None);
    apply(&bed, &Definitions::default(), "d3").await;
    assert_eq!(version(1).await, Some(job("copy", "first")), "runs may still need it");
}

async fn a_deposed_leader_applies_nothing(bed: Bed) {
    let old = bed.lead().await;
    bed.store.resign(Uuid::from_u128(1)).await.unwrap();
    bed.store.lead(Uuid::from_u128(2), Duration::from_secs(60)).await.unwrap().unwrap();
    let refused = bed.store.apply_definitions(old, &definitions(vec![]), "d1", "test").await.unwrap_err();
    assert!(matches!(refused, StoreError::Deposed), "{refused:?}");
    assert_eq!(bed.store.in_force().await.unwrap(), None);
    assert_eq!(bed.store.job(NAMESPACE, "copy").await.unwrap(), None);
}

async fn a_bad_schedule_changes_nothing(bed: Bed) {
    apply(&bed, &definitions(vec![schedule("ping", every(10))]), "d1").await;
    let mut bad = definitions(vec![schedule("bad", Timing::Cron("61 * * * *".into()))]);
    bad.jobs[0].description = Some("second".into());
    let refused = bed.store.apply_definitions(bed.lead().await, &bad, "d2", "test").await.unwrap_err();
    assert!(matches!(&refused, StoreError::Timing { schedule, .. } if schedule == "default/bad"), "{refused:?}");
    assert_eq!(bed.store.in_force().await.unwrap().unwrap().digest, "d1");
    assert_eq!(bed.store.job(NAMESPACE, "copy").await.unwrap().unwrap().version, 1);
    assert!(bed.store.schedule(&key("ping")).await.unwrap().is_some());
}

async fn planning_while_definitions_are_applied_keeps_the_cursor(bed: Bed) {
    let generation = bed.lead().await;
    apply(&bed, &definitions(vec![schedule("ping", every(1))]), "d0").await;
    let (planner, reloader) = (bed.second().await, bed.store.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for round in 1..=40 {
            let mut changed = schedule("ping", every(1));
            changed.input = json!(round);
            let set = definitions(vec![changed]);
            reloader.apply_definitions(generation, &set, &format!("d{round}"), "test").await.unwrap();
        }
    });
    let mut cursor = Timestamp::MIN;
    while tasks.try_join_next().transpose().unwrap().is_none() {
        let row = planner.schedule(&key("ping")).await.unwrap().unwrap();
        assert!(row.cursor >= cursor, "the cursor went back from {cursor} to {}", row.cursor);
        let next_cursor = row.next_due_at.unwrap();
        let next_due_at = Some(next_cursor.saturating_add(jiff::SignedDuration::from_secs(1)).unwrap());
        let plan = FirePlan {
            key: key("ping"),
            version: row.version,
            cursor: row.cursor,
            planned_at: Timestamp::UNIX_EPOCH,
            overlap: OverlapRule::of(&row.schedule),
            fired: None,
            decisions: vec![],
            next_cursor,
            next_due_at,
        };
        let verdict = planner.record_fires(generation, vec![plan]).await.unwrap().remove(0);
        cursor = if verdict == reveille_shared::store::FireVerdict::Outdated { row.cursor } else { next_cursor };
    }
}

async fn names_are_paged_per_namespace(bed: Bed) {
    let mut all = definitions(vec![]);
    all.jobs = ["a", "b", "c"].map(|name| job(name, "")).into();
    let mut foreign = job("b", "foreign");
    foreign.namespace = "other".into();
    all.jobs.push(foreign);
    all.schedules = ["s1", "s2"].map(|name| schedule(name, every(10))).into();
    apply(&bed, &all, "d1").await;
    let names = async |after: &str, limit| -> Vec<String> {
        bed.store.jobs(NAMESPACE, after, limit).await.unwrap().into_iter().map(|job| job.item.name).collect()
    };
    assert_eq!(names("", 2).await, ["a", "b"]);
    assert_eq!(names("b", 2).await, ["c"]);
    assert_eq!(bed.store.jobs("other", "", 10).await.unwrap().len(), 1);
    assert_eq!(bed.store.schedules(NAMESPACE, "s1", "", 10).await.unwrap().len(), 1);
}

async fn queues_of_external_jobs_are_told_apart(bed: Bed) {
    let on = |name: &str, queue: &str, handler: Handler| Job { queue: queue.into(), handler, ..job(name, "") };
    let external = || Handler::External(ExternalWork::default());
    let own = || Handler::Function("noop".into());
    let jobs = vec![
        on("copy", "main", own()),
        on("resize", "thumbs", external()),
        on("blur", "thumbs", external()),
        Job { namespace: "other".into(), ..on("shrink", "pictures", external()) },
    ];
    apply(&bed, &Definitions { revision: None, jobs, schedules: vec![] }, "d1").await;
    assert_eq!(bed.store.external_queues().await.unwrap(), ["pictures", "thumbs"]);
    assert_eq!(bed.store.queues().await.unwrap(), ["main", "pictures", "thumbs"]);
    // A run of the old kind still waits in its queue, which is of the new kind's job from now on.
    bed.accepted().await;
    let jobs = vec![on("copy", "main", external()), on("resize", "thumbs", own())];
    apply(&bed, &Definitions { revision: None, jobs, schedules: vec![] }, "d2").await;
    assert_eq!(bed.store.external_queues().await.unwrap(), ["main"]);
    assert_eq!(bed.store.queues().await.unwrap(), ["main", "thumbs"]);
}
