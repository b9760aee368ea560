//! One leads, and stops by its own clock when it can't renew.

use std::sync::Arc;
use std::time::Duration;

use reveille_scheduler::leader::{Candidate, Leadership};
use reveille_scheduler::probe::Skew;
use reveille_shared::store::Generation;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::World;

fn stand(world: &World, tasks: &mut JoinSet<()>) -> (Arc<Leadership>, CancellationToken) {
    stand_with(world, tasks, Arc::default())
}

fn stand_with(world: &World, tasks: &mut JoinSet<()>, skew: Arc<Skew>) -> (Arc<Leadership>, CancellationToken) {
    let (leadership, stop) = (Arc::new(Leadership::default()), CancellationToken::new());
    let candidate = Candidate {
        store: world.store.clone(),
        holder: Uuid::new_v4(),
        ttl: Duration::from_secs(2),
        renew: Duration::from_millis(100),
        skew,
        leadership: Arc::clone(&leadership),
        nudges: Vec::new(),
        status: Arc::clone(&world.status),
    };
    tasks.spawn(candidate.run(stop.clone()));
    (leadership, stop)
}

async fn leads(leadership: &Leadership) -> Generation {
    let mut changes = leadership.changes();
    let leads = tokio::time::timeout(Duration::from_secs(10), changes.wait_for(Option::is_some)).await;
    (*leads.expect("never leads").unwrap()).unwrap()
}

#[tokio::test]
async fn one_leads_and_another_takes_over_at_once_when_it_resigns() {
    let world = World::now().await;
    let mut tasks = JoinSet::new();
    let (first, stop_first) = stand(&world, &mut tasks);
    let generation = leads(&first).await;
    let (second, _stop) = stand(&world, &mut tasks);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((first.current(), second.current()), (Some(generation), None));

    stop_first.cancel();
    assert!(leads(&second).await > generation);
    assert_eq!(first.current(), None);
}

#[tokio::test]
async fn one_whose_clock_is_wrong_makes_room_for_another() {
    let world = World::now().await;
    let mut tasks = JoinSet::new();
    let skew = Arc::<Skew>::default();
    let (first, _stop_first) = stand_with(&world, &mut tasks, Arc::clone(&skew));
    let generation = leads(&first).await;
    skew.set(jiff::SignedDuration::from_hours(-1));
    let (second, _stop) = stand(&world, &mut tasks);
    assert!(leads(&second).await > generation);
    assert_eq!(first.current(), None);
}

#[tokio::test]
async fn deposed_it_steps_down_and_asks_again() {
    let world = World::now().await;
    let mut tasks = JoinSet::new();
    let (leadership, _stop) = stand(&world, &mut tasks);
    let generation = leads(&leadership).await;
    leadership.depose(Generation(generation.0 - 1));
    assert_eq!(leadership.current(), Some(generation), "an older generation deposes nobody");
    leadership.depose(generation);
    leads(&leadership).await;
}
