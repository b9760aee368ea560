//! What waits for the end of a run: chains, held fires, backfills, as the pass does it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reveille_scheduler::follow_up::FollowUps;
use reveille_scheduler::handover::{self, Handed};
use reveille_scheduler::plan::{Ask, request};
use reveille_scheduler::window::Windows;
use reveille_shared::definition::{Chained, Definitions, Handler, Job, Overlap, Schedule, Timing};
use reveille_shared::periodic::Pass as _;
use reveille_shared::state::Status;
use reveille_shared::store::{
    BackfillStatus, BackfillVerdict, Claim, Generation, ListFilter, NewBackfill, Outcome, Report, ScheduleKey,
};
use reveille_shared::work_request::{RunError, WorkRequest, WorkRequestId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::World;

fn job(name: &str) -> Job {
    Job::new("default", name, Handler::Function("noop".into()))
}

fn call(job: &str, input: Option<Value>) -> Chained {
    Chained { job: job.into(), input }
}

fn follow_ups(world: &World) -> FollowUps {
    FollowUps::new(world.store.clone(), Arc::clone(&world.clock), None)
}

async fn put(world: &World, jobs: Vec<Job>, schedules: Vec<Schedule>) -> Generation {
    let generation = world.lead().await;
    let definitions = Definitions { jobs, schedules, ..Definitions::default() };
    world.store.apply_definitions(generation, &definitions, "d1", "test").await.unwrap();
    generation
}

/// Accepts a run of this job.
async fn accept(world: &World, job: &str, input: Value) -> WorkRequestId {
    let job = world.store.job("default", job).await.unwrap().unwrap();
    let request = request(&job, Ask { input, by: "test".into(), ..Ask::default() }, world.clock.now());
    let id = request.id;
    world.store.accept(request, None).await.unwrap();
    id
}

/// Runs everything that is due and ends it so; answers how many.
async fn run_all(world: &World, outcome: Outcome) -> usize {
    let due = world.store.take_due(100).await.unwrap();
    for out in &due {
        let claim = Claim { id: out.trigger.id, n: out.trigger.n, token: Uuid::new_v4() };
        world.store.claim(Uuid::from_u128(7), &[claim]).await.unwrap().remove(0).unwrap();
        let report = Report::new(claim.id, claim.token, outcome.clone());
        world.store.report(vec![report]).await.unwrap().remove(0).unwrap();
    }
    due.len()
}

fn succeeded(output: Value) -> Outcome {
    Outcome::Succeeded { output }
}

fn failed() -> Outcome {
    Outcome::Failed { error: RunError::new("ExitCode", "exit code 3"), retry: None }
}

async fn runs_of(world: &World, job: &str) -> Vec<WorkRequest> {
    let filter = ListFilter { namespace: "default".into(), job: Some(job.into()), ..ListFilter::default() };
    world.store.work_requests(&filter, 100).await.unwrap()
}

#[tokio::test]
async fn what_is_called_for_at_once_is_handed_over_to_the_dispatcher_of_the_process() {
    let (world, _) = World::at("2026-01-01T00:00:00Z").await;
    put(&world, vec![Job { on_success: vec![call("second", None)], ..job("first") }, job("second")], vec![]).await;
    accept(&world, "first", Value::Null).await;
    run_all(&world, succeeded(Value::Null)).await;
    let (_planner, handover, mut intake) = handover::channels(Windows::new(0));
    FollowUps::new(world.store.clone(), Arc::clone(&world.clock), Some(handover)).run_once().await.unwrap();
    let Some(Handed::Sent(sent)) = intake.try_next() else { panic!("nothing was handed over") };
    let born = runs_of(&world, "second").await;
    assert_eq!(sent.iter().map(|out| out.trigger.id).collect::<Vec<_>>(), [born[0].id]);
    assert_eq!(world.store.take_due(10).await.unwrap(), [], "it is sent once");
    assert!(intake.try_next().is_none());
}

#[tokio::test]
async fn the_end_of_a_run_calls_others_with_its_output() {
    let (world, _) = World::at("2026-01-01T00:00:00Z").await;
    let templated =
        json!({"copied": "{{ output.rows }}", "of": "{{ parent.workRequestId }}", "day": "{{ input.day }}"});
    let first = Job {
        on_success: vec![call("second", Some(templated)), call("plain", None)],
        on_failure: vec![call("alarm", Some(json!({"why": "{{ error.message }}"})))],
        on_finish: vec![call("always", None)],
        ..job("first")
    };
    let jobs = vec![first, job("second"), job("plain"), job("alarm"), job("always")];
    put(&world, jobs, vec![]).await;
    let id = accept(&world, "first", json!({"day": "monday"})).await;
    run_all(&world, succeeded(json!({"rows": 7}))).await;
    let (report, _) = follow_ups(&world).run_once().await.unwrap();
    assert_eq!((report.ended, report.chained), (1, 3));

    let second = &runs_of(&world, "second").await[0];
    assert_eq!(second.input, json!({"copied": 7, "of": id.to_string(), "day": "monday"}), "a number stays one");
    assert_eq!((second.status, second.chained_from), (Status::Accepted, Some(id)));
    assert_eq!(runs_of(&world, "plain").await[0].input, json!({"day": "monday", "output": {"rows": 7}}));
    assert_eq!(runs_of(&world, "always").await.len(), 1);
    assert!(runs_of(&world, "alarm").await.is_empty());

    accept(&world, "first", Value::Null).await;
    run_all(&world, failed()).await;
    follow_ups(&world).run_once().await.unwrap();
    assert_eq!(runs_of(&world, "alarm").await[0].input, json!({"why": "exit code 3"}));
    assert_eq!(runs_of(&world, "always").await.len(), 2);

    let canceled = accept(&world, "first", Value::Null).await;
    world.store.cancel("default", canceled, "ann".into()).await.unwrap();
    follow_ups(&world).run_once().await.unwrap();
    assert_eq!((runs_of(&world, "always").await.len(), runs_of(&world, "second").await.len()), (3, 1));
}

#[tokio::test]
async fn a_chain_whose_input_can_not_be_rendered_is_seen_as_a_failed_run() {
    let (world, _) = World::at("2026-01-01T00:00:00Z").await;
    let second = Job { on_failure: vec![call("alarm", None)], ..job("second") };
    let first =
        Job { on_success: vec![call("second", Some(json!({"x": "{{ output.nope.deeper }}"})))], ..job("first") };
    put(&world, vec![first, second, job("alarm")], vec![]).await;
    accept(&world, "first", Value::Null).await;
    run_all(&world, succeeded(json!({}))).await;
    let mut pass = follow_ups(&world);
    pass.run_once().await.unwrap();
    let second = runs_of(&world, "second").await.remove(0);
    let error = second.error.unwrap();
    assert_eq!((second.status, error.code.as_str()), (Status::Failed, "Template"));
    assert!(error.message.starts_with("input.x can't be rendered"), "{error}");
    pass.run_once().await.unwrap();
    assert_eq!(runs_of(&world, "alarm").await.len(), 1, "its own chain goes on");
}

#[tokio::test]
async fn a_queued_fire_starts_when_the_earlier_one_has_ended() {
    let (world, clock) = World::at("2026-01-01T00:00:00Z").await;
    let every = Timing::Every("10s".parse().unwrap());
    let schedule = Schedule { overlap: Overlap::QueueOne, ..Schedule::new("default", "s", every, "j") };
    let generation = put(&world, vec![job("j")], vec![schedule]).await;
    let (mut planner, _) = world.planner(generation).await;
    let mut pass = follow_ups(&world);
    for _ in 0..2 {
        clock.advance(Duration::from_secs(10));
        planner.run_once().await.unwrap();
    }
    assert_eq!(run_all(&world, succeeded(json!({}))).await, 1, "one runs, one waits");
    let (report, _) = pass.run_once().await.unwrap();
    assert_eq!((report.ended, report.admitted), (1, 1));
    assert_eq!(run_all(&world, succeeded(json!({}))).await, 1);
    assert_eq!(world.decided().await, ["2026-01-01T00:00:10Z triggered", "2026-01-01T00:00:20Z triggered"]);
}

#[tokio::test]
async fn a_backfill_makes_every_fire_of_its_range_once_and_as_many_at_a_time_as_allowed() {
    let (world, _) = World::at("2026-02-01T00:00:00Z").await;
    let input = json!({"day": "{{ scheduled_for | date }}"});
    let daily = Schedule { input, ..Schedule::new("default", "s", Timing::Cron("0 3 * * *".into()), "j") };
    put(&world, vec![job("j")], vec![daily]).await;
    let key = ScheduleKey { namespace: "default".into(), name: "s".into() };
    let row = world.store.schedule(&key).await.unwrap().unwrap();
    let new = NewBackfill {
        key: key.clone(),
        id: "january".into(),
        schedule: row.schedule.clone(),
        version: row.version,
        from: "2026-01-01T03:00:00Z".parse().unwrap(),
        to: "2026-01-07T03:00:00Z".parse().unwrap(),
        total: 7,
        max_parallel: 2,
        by: "ann".into(),
        reason: None,
    };
    assert!(matches!(world.store.create_backfill(new, None).await.unwrap(), BackfillVerdict::New(_)));
    let read = async || world.store.backfill(&key, "january").await.unwrap().unwrap();
    let mut percents = vec![read().await.percent()];
    let mut rounds = 0;
    while read().await.status == BackfillStatus::Running {
        // Each pass is a new process, as far as memory goes.
        follow_ups(&world).run_once().await.unwrap();
        assert!(read().await.unended <= 2);
        percents.push(read().await.percent());
        run_all(&world, succeeded(json!({}))).await;
        percents.push(read().await.percent());
        rounds += 1;
        assert!(rounds < 20, "{:?}", read().await);
    }
    assert!(percents.is_sorted() && percents.last() == Some(&100.0), "{percents:?}");
    let mut days: Vec<_> = runs_of(&world, "j").await.iter().map(|run| run.input["day"].to_string()).collect();
    days.sort();
    assert_eq!(days, (1..=7).map(|day| format!("\"2026-01-0{day}\"")).collect::<Vec<_>>());
    let after = world.store.schedule(&key).await.unwrap().unwrap();
    assert_eq!(after, row, "the schedule's own cursor is where it was");
    let fires = world.store.fires(&key, Timestamp::MAX, 100).await.unwrap();
    assert!(fires.len() == 7 && fires.iter().all(|fire| fire.origin.to_string() == "backfill:january"));
}
