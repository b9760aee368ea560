//! What a worker does with deliveries, and with leases that it and the store disagree on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reveille_shared::broker::Route;
use reveille_shared::definition::Priority;
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{Claim, Loss};
use reveille_shared::work_request::{Happening, RunError};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::stack::{LIMIT, Stack, drain, function, gated};

fn default_route() -> Route {
    Route { queue: "default".into(), priority: Priority::Normal }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_trigger_is_acked_and_runs_nothing() {
    let stack = Stack::with(vec![function("gated")]).await;
    let (gate, started) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicU32::new(0)));
    let id = stack.trigger("gated", Value::Null).await;
    stack.until(id, |seen| matches!(seen.phase, Phase::Sent { .. })).await;
    let mut subscription = stack.broker.subscribe(&["default".into()], Priority::Normal).await.unwrap();
    subscription.demand(1).await;
    let delivery = subscription.next().await.unwrap();
    let trigger = delivery.triggers[0].clone();
    subscription.give_back(vec![delivery]).await;
    drop(subscription);
    let repeated: Vec<_> = (0..5).map(|_| (default_route(), trigger.clone())).collect();
    assert!(stack.broker.publish(&repeated).await.iter().all(Result::is_ok));

    let worker = stack.worker("one", 4, gated(&gate, &started)).await;
    stack.until_status(id, Status::Succeeded).await;
    assert!(stack.broker.publish(&repeated).await.iter().all(Result::is_ok));
    let probe = stack.trigger("gated", Value::Null).await;
    gate.add_permits(1);
    stack.until_status(probe, Status::Succeeded).await;
    drain(worker, LIMIT).await;
    assert_eq!((started.load(Ordering::SeqCst), stack.broker.depth("default").await.unwrap()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_worker_gives_back_what_another_one_can_run() {
    let stack = Stack::with(vec![function("gated")]).await;
    let (closed, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(100)));
    let started = Arc::new(AtomicU32::new(0));
    let full = stack.worker("full", 2, gated(&closed, &started)).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(stack.trigger("gated", Value::Null).await);
    }
    let start = Instant::now();
    while started.load(Ordering::SeqCst) < 2 {
        assert!(start.elapsed() < LIMIT);
        sleep(Duration::from_millis(5)).await;
    }
    let start = Instant::now();
    let free = stack.worker("free", 2, gated(&open, &started)).await;
    let mut done = 0;
    while done < 4 {
        assert!(start.elapsed() < LIMIT, "the full worker sits on triggers");
        sleep(Duration::from_millis(10)).await;
        done = 0;
        for id in &ids {
            done += u32::from(stack.get(*id).await.status == Status::Succeeded);
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    closed.add_permits(2);
    for id in ids {
        stack.until_status(id, Status::Succeeded).await;
    }
    tokio::join!(drain(full, LIMIT), drain(free, LIMIT));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beat_mends_what_store_and_memory_disagree_on() {
    let stack = Stack::with(vec![function("gated")]).await;
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    // Sent before the worker is there, and claimed in its name: a lease without a run.
    let orphan = stack.trigger("gated", Value::Null).await;
    stack.until(orphan, |seen| matches!(seen.phase, Phase::Sent { .. })).await;
    let mut subscription = stack.broker.subscribe(&["default".into()], Priority::Normal).await.unwrap();
    subscription.demand(1).await;
    let delivery = subscription.next().await.unwrap();
    let worker = stack.worker("one", 2, gated(&gate, &started)).await;
    let name = stack.store.workers().await.unwrap()[0].worker.incarnation;
    let claim = Claim { id: orphan, n: delivery.triggers[0].n, token: Uuid::new_v4() };
    assert!(stack.store.claim(name, &[claim]).await.unwrap()[0].is_ok());
    subscription.ack(vec![delivery]).await;
    let seen = stack.until(orphan, |seen| seen.attempt == 2).await;
    assert!(matches!(stack.happenings(orphan).await[2], Happening::Released { attempt: 1, .. }));

    // The reconciler takes the lease away: a run without a lease, which is stopped and changes nothing any more.
    let Phase::Leased(lease) = seen.phase else { panic!("{seen:?}") };
    let error = RunError::new("Lost", "as the test says");
    stack
        .store
        .lose(vec![Loss { id: orphan, token: lease.token, error, retry: None, verify: false, if_overdue: false }])
        .await
        .unwrap();
    let probes = [stack.trigger("gated", Value::Null).await, stack.trigger("gated", Value::Null).await];
    for probe in probes {
        // Both slots are free again, so the run was stopped.
        stack.until(probe, |seen| matches!(seen.phase, Phase::Leased(_))).await;
    }
    let seen = stack.get(orphan).await;
    assert_eq!((seen.status, seen.error.unwrap().code), (Status::Failed, "Lost".into()));

    // The worker is found dead: it calls its runs lost, and goes on under another name.
    stack.store.retire_worker(name).await.unwrap();
    let start = Instant::now();
    while stack.store.workers().await.unwrap().iter().all(|worker| worker.ended_at.is_some()) {
        assert!(start.elapsed() < LIMIT);
        sleep(Duration::from_millis(20)).await;
    }
    for probe in probes {
        let seen = stack.until(probe, |seen| seen.attempt == 2).await;
        assert!(matches!(seen.phase, Phase::Leased(lease) if lease.worker != name), "{seen:?}");
        let told = stack.happenings(probe).await;
        assert!(matches!(&told[2], Happening::AttemptFailed { error, .. } if error.code == "Lost"), "{told:?}");
    }
    gate.add_permits(2);
    for probe in probes {
        stack.until_status(probe, Status::Succeeded).await;
    }
    drain(worker, LIMIT).await;
}
