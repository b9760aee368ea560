//! What a dead worker held goes on elsewhere, or ends, as the job says.

use std::sync::Arc;
use std::time::Duration;

use reveille_scheduler::leader::Leadership;
use reveille_scheduler::plan::{self, Ask};
use reveille_scheduler::reconcile::{self, Reconciler};
use reveille_shared::broker::Heard;
use reveille_shared::duration::HumanDuration;
use reveille_shared::periodic::Pass as _;
use reveille_shared::state::Status;
use reveille_shared::store::{Claim, ExternalClaim, NewWorker, Outcome, Report};
use reveille_shared::work_request::{Happening, WorkRequest, WorkRequestId};
use tokio::time::Instant;
use uuid::Uuid;

use crate::world::{World, one};

const TTL: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(60);

/// A run that a worker has claimed.
async fn running(world: &World, yaml: &str) -> (WorkRequestId, Uuid) {
    world.apply(world.lead().await, yaml).await;
    let worker = NewWorker {
        incarnation: Uuid::new_v4(),
        name: "w1".into(),
        queues: vec!["default".into()],
        slots: 1,
        version: "0".into(),
        lease_ttl: TTL,
    };
    world.store.register_worker(&worker).await.unwrap();
    let job = world.store.job("default", "j").await.unwrap().unwrap();
    let ask = Ask { by: "test".into(), ..Ask::default() };
    world.store.accept(plan::request(&job, ask, world.clock.now()), None).await.unwrap();
    let sent = world.store.take_due(1).await.unwrap();
    let claim = Claim { id: sent[0].trigger.id, n: 1, token: Uuid::new_v4() };
    world.store.claim(worker.incarnation, &[claim]).await.unwrap()[0].as_ref().unwrap();
    (claim.id, worker.incarnation)
}

async fn request(world: &World, id: WorkRequestId) -> WorkRequest {
    world.store.work_request("default", id).await.unwrap().unwrap()
}

fn reconciler(world: &World) -> Reconciler {
    let leadership = Arc::new(Leadership::default());
    leadership.set(Some(reveille_shared::store::Generation(1)));
    Reconciler::new(world.store.clone(), Arc::clone(&world.broker), leadership)
}

/// Runs the reconciler for somewhat longer than the time-to-live; `beat` is called in between. No lease may be lost.
async fn nothing_is_lost(world: &World, beat: impl AsyncFn()) {
    let mut reconciler = reconciler(world);
    let begun = Instant::now();
    while begun.elapsed() < TTL + TTL / 2 {
        assert_eq!(reconciler.run_once().await.unwrap().0.lost_leases, 0);
        beat().await;
        tokio::time::sleep(TTL / 8).await;
    }
}

/// Runs the reconciler until the one lease there is was lost: after the time-to-live, which begins anew after two looks that were too
/// far apart.
async fn one_is_lost(world: &World) {
    let mut reconciler = reconciler(world);
    let begun = Instant::now();
    loop {
        match reconciler.run_once().await.unwrap().0.lost_leases {
            0 => assert!(begun.elapsed() < LIMIT, "none is"),
            lost => return assert_eq!((lost, begun.elapsed() >= TTL), (1, true)),
        }
        tokio::time::sleep(TTL / 8).await;
    }
}

#[tokio::test]
async fn the_lease_of_a_dead_worker_is_lost_and_its_run_is_due_again() {
    let world = World::now().await;
    let (id, worker) = running(&world, &one(&["every: 1h"])).await;
    one_is_lost(&world).await;

    let run = request(&world, id).await;
    assert_eq!(run.status, Status::InProgress);
    assert!(matches!(run.phase, reveille_shared::state::Phase::Due { .. }), "{:?}", run.phase);
    let error = run.error.unwrap();
    assert!(error.code == "Lost" && error.message.contains("w1"), "{error}");
    assert_eq!(world.store.beat(worker).await.unwrap(), None, "the worker must learn that it was found dead");
}

#[tokio::test]
async fn a_worker_that_beats_keeps_its_lease() {
    let world = World::now().await;
    let (id, worker) = running(&world, &one(&["every: 1h"])).await;
    nothing_is_lost(&world, async || {
        world.store.beat(worker).await.unwrap().unwrap();
    })
    .await;
    assert_eq!(request(&world, id).await.error, None);
}

#[tokio::test]
async fn who_can_not_be_told_of_good_reads_is_not_taken_for_dead() {
    let world = World::now().await;
    let (id, _) = running(&world, &one(&["every: 1h"])).await;
    let mut pulses = world.broker.pulses().await;
    assert_eq!(pulses.next().await, Some(Heard::Tuned));
    reconciler(&world).run_once().await.unwrap();
    assert_eq!(pulses.next().await, Some(Heard::Pulse), "a good look is told");
    // The broker is gone: who is cut off from the store would not hear that its lease is about to end.
    world.stop.cancel();
    nothing_is_lost(&world, async || ()).await;
    assert_eq!(request(&world, id).await.error, None);
}

#[tokio::test]
async fn a_job_that_must_not_run_twice_fails_when_its_worker_dies() {
    let world = World::now().await;
    let yaml = one(&["every: 1h"]).replace("command: [\"true\"]", "command: [\"true\"]\n    on_lost: fail");
    let (id, _) = running(&world, &yaml).await;
    one_is_lost(&world).await;
    assert_eq!(request(&world, id).await.status, Status::Failed);
}

#[tokio::test]
async fn what_a_departed_worker_still_holds_is_lost_at_the_next_look() {
    let world = World::now().await;
    let (_, worker) = running(&world, &one(&["every: 1h"])).await;
    world.store.retire_worker(worker).await.unwrap();
    assert_eq!(reconciler(&world).run_once().await.unwrap().0.lost_leases, 1);
}

#[tokio::test]
async fn an_overdue_attempt_times_out() {
    let (world, clock) = World::at("2026-01-01T00:00:00Z").await;
    let yaml = one(&["every: 1h"]).replace("command: [\"true\"]", "command: [\"true\"]\n    timeout: 10s");
    let (id, _) = running(&world, &yaml).await;
    clock.advance(Duration::from_secs(39));
    assert_eq!(reconciler(&world).run_once().await.unwrap().0.overdue_leases, 0);
    clock.advance(Duration::from_secs(2));
    assert_eq!(reconciler(&world).run_once().await.unwrap().0.overdue_leases, 1);
    let events = world.store.events(id, 0, 10).await.unwrap();
    let last = events.last().unwrap();
    assert!(matches!(&last.what, Happening::AttemptFailed { error, .. } if error.code == "Timeout"), "{last:?}");
}

#[tokio::test]
async fn what_goes_on_elsewhere_ends_with_its_time_if_no_worker_asks_after_it() {
    for (on_lost, end) in [("retry", None), ("fail", Some(Status::Failed))] {
        let (world, clock) = World::at("2026-01-01T00:00:00Z").await;
        let more = format!("command: [\"true\"]\n    timeout: 10s\n    on_lost: {on_lost}");
        let (id, _) = running(&world, &one(&["every: 1h"]).replace("command: [\"true\"]", &more)).await;
        let token = match request(&world, id).await.phase {
            reveille_shared::state::Phase::Leased(lease) => lease.token,
            phase => panic!("{phase:?}"),
        };
        let outcome = Outcome::Parked { after: Duration::from_secs(3600), notes: serde_json::json!({}) };
        world.store.report(vec![Report::new(id, token, outcome)]).await.unwrap();
        clock.advance(Duration::from_secs(39));
        assert_eq!(reconciler(&world).run_once().await.unwrap().0.abandoned, 0);
        clock.advance(Duration::from_secs(2));
        let found = reconciler(&world).run_once().await.unwrap().0;
        assert_eq!((found.abandoned, found.overdue_leases), (1, 0));
        let run = request(&world, id).await;
        assert_eq!(run.error.as_ref().map(|error| error.code.as_str()), Some("Timeout"));
        assert_eq!(run.status, end.unwrap_or(Status::InProgress), "{on_lost}");
        assert_eq!(reconciler(&world).run_once().await.unwrap().0.abandoned, 0);
    }
}

#[tokio::test]
async fn in_one_process_the_leases_of_the_earlier_incarnation_end_at_once() {
    let world = World::now().await;
    let (id, _) = running(&world, &one(&["every: 1h"])).await;
    assert_eq!(reconcile::end_earlier_incarnation(&world.store).await.unwrap(), 1);
    assert_eq!(request(&world, id).await.error.unwrap().code, "Lost");
    assert_eq!(reconcile::end_earlier_incarnation(&world.store).await.unwrap(), 0);
}

/// A run of an external job whose worker says nothing more.
async fn silent(world: &World) -> WorkRequestId {
    let yaml = "version: 1\njobs: { j: { external: {}, queue: q, retry: { initial: 1ms, max: 1ms } } }";
    world.apply(world.lead().await, yaml).await;
    let job = world.store.job("default", "j").await.unwrap().unwrap();
    let ask = Ask { by: "test".into(), ..Ask::default() };
    world.store.accept(plan::request(&job, ask, world.clock.now()), None).await.unwrap();
    let sent = world.store.take_due(1).await.unwrap();
    let claim = ExternalClaim {
        claim: Claim { id: sent[0].trigger.id, n: 1, token: Uuid::new_v4() },
        worker: "thumb-7".into(),
        queue: "q".into(),
        lease: HumanDuration::from_secs(1),
        retry: job.item.retry,
    };
    world.store.claim_external(&claim).await.unwrap().unwrap();
    claim.claim.id
}

#[tokio::test]
async fn a_silent_external_worker_loses_its_lease_once_it_has_had_the_time_to_be_heard() {
    let world = World::now().await;
    let id = silent(&world).await;
    // The lease is over, and nobody was there to hear a sign of life: the scheduler, or its database, was away.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut reconciler = reconciler(&world);
    let begun = tokio::time::Instant::now();
    while reconciler.run_once().await.unwrap().0.silent_leases == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is never lost");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "after {:?} it could not have been heard", begun.elapsed());
    let run = request(&world, id).await;
    let lost = run.error.unwrap();
    assert_eq!((run.status, lost.code.as_str()), (Status::InProgress, "Lost"));
    assert!(lost.message.contains("external worker thumb-7 gave no sign of life for 1 s"), "{}", lost.message);
    let history = world.store.events(id, 0, 10).await.unwrap();
    assert!(matches!(history.last().unwrap().what, Happening::AttemptFailed { token: None, .. }), "{history:?}");
}

#[tokio::test]
async fn the_end_of_a_process_with_all_in_it_ends_no_lease_of_another() {
    let world = World::now().await;
    let id = silent(&world).await;
    assert_eq!(reconcile::end_earlier_incarnation(&world.store).await.unwrap(), 0);
    assert!(matches!(request(&world, id).await.phase, reveille_shared::state::Phase::Leased(_)));
}
