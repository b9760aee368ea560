//! All parts together in one process.

use std::sync::Arc;
use std::time::Duration;

use reveille_scheduler::api::RateLimits;
use reveille_scheduler::app::{self, Role, Settings};
use reveille_shared::definition::Priority;
use reveille_shared::lifecycle::Lifecycle;
use reveille_shared::listen::TlsFiles;

use crate::world::{World, one, until};

fn settings(world: &World) -> Settings {
    Settings {
        transitions: false,
        webhooks: Default::default(),
        window: Settings::WINDOW,
        max_queued: Settings::MAX_QUEUED,
        rates: RateLimits::NONE,
        listen: "127.0.0.1:0".parse().unwrap(),
        public_url: None,
        tls: TlsFiles::default(),
        schedules: Some(world.folder.path().join("a.yaml")),
        roles: vec![Role::Plan, Role::Dispatch, Role::Api],
        embedded: true,
    }
}

async fn start(world: &World, settings: Settings, lifecycle: &mut Lifecycle) -> anyhow::Result<app::Running> {
    let (store, broker, clock) = (world.store.clone(), Arc::clone(&world.broker), Arc::clone(&world.clock));
    app::start(settings, store, broker, clock, lifecycle).await
}

#[tokio::test]
async fn from_a_file_to_triggers_and_a_clean_end() {
    let world = World::now().await;
    std::fs::write(world.folder.path().join("a.yaml"), one(&["every: 1s"])).unwrap();
    let mut lifecycle = Lifecycle::default();
    let running = start(&world, settings(&world), &mut lifecycle).await.unwrap();
    let mut subscription = world.broker.subscribe(&["default".to_owned()], Priority::Normal).await.unwrap();
    subscription.demand(10).await;
    for _ in 0..2 {
        let trigger = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await;
        assert_eq!(trigger.expect("no trigger came").unwrap().triggers[0].job, "j");
    }
    until("a scheduler that is ready", async || running.status.is_ready().then_some(())).await;
    let names: Vec<_> = running.status.parts().into_iter().map(|part| part.name).collect();
    assert_eq!(
        names,
        [
            "announcer",
            "broker",
            "clock",
            "database",
            "definitions",
            "dispatcher",
            "folder",
            "follow-ups",
            "leader",
            "planner",
            "reconciler",
            "webhook matcher",
            "webhook sender"
        ]
    );
    tokio::net::TcpStream::connect(running.address.unwrap()).await.unwrap();

    lifecycle.soft.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), lifecycle.run(Duration::from_secs(5))).await;
    assert_eq!(format!("{:?}", ended.expect("never ended")), format!("{:?}", std::process::ExitCode::SUCCESS));
}

#[tokio::test]
async fn a_taken_port_and_an_open_address_are_refused() {
    let world = World::now().await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut lifecycle = Lifecycle::default();
    let listen = taken.local_addr().unwrap();
    let refused = start(&world, Settings { listen, ..settings(&world) }, &mut lifecycle).await.unwrap_err();
    assert!(refused.to_string().contains(&listen.to_string()), "{refused}");
    let listen = "0.0.0.0:0".parse().unwrap();
    let refused = start(&world, Settings { listen, ..settings(&world) }, &mut lifecycle).await.unwrap_err();
    assert!(refused.to_string().contains("loopback"), "{refused}");
}
