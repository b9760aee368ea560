//! Each due time is decided once, at its instant, whatever clocks and leaders do.

use std::sync::Arc;
use std::time::Duration;

use reveille_scheduler::planner::{self, Idle, Planner};
use reveille_shared::clock::TestClock;
use reveille_shared::periodic::{self, Pass as _, Vitals};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::world::{World, one};

/// How many due times triggered in this pass.
async fn pass(planner: &mut Planner) -> usize {
    let (report, _) = planner.run_once().await.unwrap();
    assert_eq!(report.idle, None);
    report.triggered
}

#[tokio::test]
async fn it_asks_to_be_woken_at_the_exact_instant() {
    let (world, clock) = World::at("2026-01-01T00:00:07.3Z").await;
    let generation = world.lead().await;
    world.apply(generation, &one(&["every: 10s"])).await;
    let (mut planner, _) = world.planner(generation).await;

    let (report, wait) = planner.run_once().await.unwrap();
    assert_eq!((report.triggered, report.ahead, wait), (0, 1, Some(Duration::from_millis(2_700))));
    clock.set("2026-01-01T00:00:09.999Z".parse().unwrap());
    assert_eq!(pass(&mut planner).await, 0);
    clock.set("2026-01-01T00:00:10Z".parse().unwrap());
    assert_eq!(pass(&mut planner).await, 1);
    assert_eq!(pass(&mut planner).await, 0);
    assert_eq!(world.decided().await, ["2026-01-01T00:00:10Z triggered"]);
}

#[tokio::test]
async fn by_the_real_clock_fires_are_on_time_and_never_early() {
    let world = World::now().await;
    let generation = world.lead().await;
    world.apply(generation, &one(&["every: 1s"])).await;
    let (planner, _) = world.planner(generation).await;
    let mut running = JoinSet::new();
    let nudge = Arc::new(Notify::new());
    let clock = Arc::clone(&world.clock);
    running.spawn(periodic::run(planner, planner::PERIOD, nudge, Vitals::default(), clock, world.stop.clone()));

    let fires = crate::world::until("five fires", async || {
        let ledger = world.ledger().await;
        (ledger.len() >= 5).then_some(ledger)
    })
    .await;
    let mut late: Vec<_> = fires.iter().map(|fire| fire.decided_at.duration_since(fire.due_at).as_millis()).collect();
    late.sort_unstable();
    // The median, as this machine may have other things to do.
    assert!(late[0] >= 0 && late[late.len() / 2] < 100, "late by ms: {late:?}");
    assert!(fires.windows(2).all(|pair| pair[1].due_at.duration_since(pair[0].due_at).as_secs() == 1));
}

#[tokio::test]
async fn a_clock_that_steps_back_an_hour_doubles_and_loses_nothing() {
    let (world, clock) = World::at("2026-01-01T10:00:00Z").await;
    let generation = world.lead().await;
    world.apply(generation, &one(&["every: 10m", "catch_up: { policy: all, window: 2h }"])).await;
    let (mut planner, _) = world.planner(generation).await;
    let minutes = async |clock: &TestClock, planner: &mut Planner, from: u64, to: u64| {
        for minute in from..=to {
            clock.set(format!("2026-01-01T{:02}:{:02}:00Z", minute / 60, minute % 60).parse().unwrap());
            pass(planner).await;
        }
    };
    minutes(&clock, &mut planner, 600, 631).await;
    minutes(&clock, &mut planner, 571, 650).await;
    let expected: Vec<_> = (1..=5).map(|ten| format!("2026-01-01T10:{ten}0:00Z triggered")).collect();
    assert_eq!(world.decided().await, expected);
}

#[tokio::test]
async fn a_clock_that_steps_forward_decides_what_it_jumped_over() {
    let (world, clock) = World::at("2026-01-01T10:00:00Z").await;
    let generation = world.lead().await;
    world.apply(generation, &one(&["every: 10m", "catch_up: none"])).await;
    let (mut planner, _) = world.planner(generation).await;
    assert_eq!(pass(&mut planner).await, 0);
    clock.set("2026-01-01T11:00:00Z".parse().unwrap());
    assert_eq!(pass(&mut planner).await, 1);
    assert_eq!(world.decided().await, ["2026-01-01T10:10:00Z skipped 5: late", "2026-01-01T11:00:00Z triggered"]);
}

#[tokio::test]
async fn after_a_night_off_the_latest_makes_up_for_the_rest() {
    let (world, clock) = World::at("2026-01-01T00:00:00Z").await;
    let generation = world.lead().await;
    world.apply(generation, &one(&["cron: '0 * * * *'", "catch_up: { policy: latest, window: 6h }"])).await;
    clock.set("2026-01-01T09:30:00Z".parse().unwrap());
    let (mut planner, _) = world.planner(generation).await;
    assert_eq!(pass(&mut planner).await, 1);
    assert_eq!(
        world.decided().await,
        [
            "2026-01-01T01:00:00Z skipped 3: late", // Outside the window.
            "2026-01-01T04:00:00Z skipped 5: late", // Made up for.
            "2026-01-01T09:00:00Z triggered"
        ]
    );
}

#[tokio::test]
async fn a_long_backlog_is_decided_in_full_over_several_plans() {
    let (world, clock) = World::at("2026-01-01T00:00:00Z").await;
    let generation = world.lead().await;
    world.apply(generation, &one(&["every: 1s", "catch_up: { policy: all, window: 5m, max: 400 }"])).await;
    clock.set("2026-01-01T08:00:00Z".parse().unwrap());
    let (mut planner, _) = world.planner(generation).await;
    let mut triggered = 0;
    while let (report, wait) = planner.run_once().await.unwrap()
        && (report.triggered + report.skipped > 0 || wait == Some(Duration::ZERO))
    {
        triggered += report.triggered;
    }
    // Both ends of the window are in it.
    assert_eq!(triggered, 301);
    let ledger = world.ledger().await;
    assert_eq!(ledger.iter().map(|fire| fire.count).sum::<i64>(), 8 * 3600);
    assert!(ledger.len() < 301 + 10, "{} rows", ledger.len());
}

#[tokio::test]
async fn a_deposed_leader_writes_nothing_and_steps_down() {
    let (world, clock) = World::at("2026-01-01T00:00:00Z").await;
    let first = world.lead().await;
    world.apply(first, &one(&["every: 10s"])).await;
    let (mut old, old_leadership) = world.planner(first).await;
    assert_eq!(pass(&mut old).await, 0);

    clock.set("2026-01-02T12:00:10Z".parse().unwrap());
    let second = world.lead().await;
    assert!(second > first);
    let before = world.ledger().await;
    let (report, _) = old.run_once().await.unwrap();
    assert_eq!(report.idle, Some(Idle::NotLeading));
    assert_eq!(old_leadership.current(), None);
    assert_eq!(world.ledger().await, before);

    let (mut new, _) = world.planner(second).await;
    new.run_once().await.unwrap();
    assert_eq!(world.decided().await.last().unwrap(), "2026-01-02T12:00:10Z triggered");
}

#[tokio::test]
async fn two_planners_at_once_make_one_decision_each() {
    let (world, clock) = World::at("2026-01-01T00:00:00Z").await;
    let generation = world.lead().await;
    world.apply(generation, &one(&["every: 1s"])).await;
    let ((mut one, _), (mut two, _)) = (world.planner(generation).await, world.planner(generation).await);
    for second in 1..=20 {
        clock.set(format!("2026-01-01T00:00:{second:02}Z").parse().unwrap());
        let (a, b) = tokio::join!(pass(&mut one), pass(&mut two));
        assert_eq!(a + b, 1, "at second {second}");
    }
    assert_eq!(world.ledger().await.len(), 20);
}

#[tokio::test]
async fn what_changes_after_it_was_loaded_is_decided_as_it_is_at_the_instant() {
    let (world, clock) = World::at("2026-01-01T00:00:08Z").await;
    let generation = world.lead().await;
    world.apply(generation, &one(&["every: 10s"])).await;
    let (mut planner, _) = world.planner(generation).await;
    assert_eq!(pass(&mut planner).await, 0);
    world.apply(generation, &one(&["every: 10s", "input: { full: true }"])).await;
    clock.set("2026-01-01T00:00:10Z".parse().unwrap());
    assert_eq!(pass(&mut planner).await, 1);
    let ledger = world.ledger().await;
    assert_eq!(ledger.len(), 1);
    assert_eq!(ledger[0].version, 2);
}

#[tokio::test]
async fn with_a_clock_unlike_the_databases_nothing_is_planned() {
    let (mut world, databases) = World::at("2026-01-01T00:00:00Z").await;
    let generation = world.lead().await;
    world.apply(generation, &one(&["every: 1s"])).await;
    databases.advance(Duration::from_secs(10));
    world.clock = Arc::new(TestClock::at("2026-01-01T00:00:13Z".parse().unwrap()));
    let (mut planner, _) = world.planner(generation).await;
    let (report, _) = planner.run_once().await.unwrap();
    assert_eq!(report.idle, Some(Idle::ClockDiffers));
    assert!(world.ledger().await.is_empty());
    let clock = world.status.parts().into_iter().find(|part| part.name == "clock").unwrap();
    assert!(!clock.ready && clock.detail.contains("3.0 s ahead of the database's"), "{clock:?}");
}
