//! What is due reaches the broker, whatever the broker does.

use std::sync::Arc;
use std::time::Duration;

use reveille_scheduler::dispatch::{Dispatcher, Others};
use reveille_scheduler::handover::{self, Handover};
use reveille_scheduler::plan::{self, Ask};
use reveille_scheduler::window::Windows;
use reveille_shared::broker::{Broker, Delivery, Route};
use reveille_shared::definition::Priority;
use reveille_shared::duration::HumanDuration;
use reveille_shared::store::{Acceptance, Claim, NewWorkRequest, NewWorker};
use reveille_shared::work_request::{Happening, WorkRequestId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::world::{World, one, until};

async fn accept(world: &World, delay: HumanDuration) -> WorkRequestId {
    let job = world.store.job("default", "j").await.unwrap().unwrap();
    let ask = Ask { delay, by: "test".into(), ..Ask::default() };
    let request = plan::request(&job, ask, world.clock.now());
    match world.store.accept(request, None).await.unwrap() {
        Acceptance::New(id) => id,
        other => panic!("{other:?}"),
    }
}

/// Nobody leads.
fn nobody() -> Others {
    Others::Leaders(watch::Sender::new(None).subscribe())
}

/// Answers how callers hand over to it.
fn dispatch(world: &World, others: Others, tasks: &mut JoinSet<()>) -> Handover {
    let (_planner, callers, handed) = handover::channels(Windows::new(20_000));
    let dispatcher = Dispatcher {
        store: world.store.clone(),
        broker: Arc::clone(&world.broker),
        clock: Arc::clone(&world.clock),
        definitions: watch::Sender::new(0).subscribe(),
        handed,
        others,
        status: Arc::clone(&world.status),
    };
    tasks.spawn(dispatcher.run(world.stop.clone()));
    callers
}

async fn receive(broker: &Arc<dyn Broker>, queue: &str) -> Delivery {
    let mut subscription = broker.subscribe(&[queue.to_owned()], Priority::Normal).await.unwrap();
    subscription.demand(10).await;
    let next = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await;
    next.expect("no trigger came").expect("the broker has shut down")
}

async fn dispatcher_is_ready(world: &World) {
    until("a dispatcher at work", async || {
        world.status.parts().into_iter().find(|part| part.name == "dispatcher" && part.ready)
    })
    .await;
}

#[tokio::test]
async fn what_a_caller_has_marked_as_sent_is_published_even_if_the_caller_is_gone() {
    let world = World::now().await;
    world.apply(world.lead().await, &one(&["every: 1h"])).await;
    let mut tasks = JoinSet::new();
    let callers = dispatch(&world, nobody(), &mut tasks);
    dispatcher_is_ready(&world).await;
    let job = world.store.job("default", "j").await.unwrap().unwrap();
    let request = || plan::request(&job, Ask { by: "test".into(), ..Ask::default() }, world.clock.now());
    let mut subscription = world.broker.subscribe(&["default".to_owned()], Priority::Normal).await.unwrap();
    subscription.demand(10).await;
    for is_gone in [false, true] {
        let place = callers.place().unwrap();
        let (Acceptance::New(id), Some(sent)) = world.store.accept_and_send(request(), None).await.unwrap() else {
            panic!("a new run whose trigger goes out at once")
        };
        assert_eq!(world.store.take_due(10).await.unwrap(), [], "nobody else is to send it");
        if is_gone {
            drop((place, sent));
        } else {
            place.hand_over(vec![sent]);
        }
        // The one before has not been claimed: it comes again with what nobody knows.
        loop {
            let next = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await;
            let delivery = next.expect("no trigger came").expect("the broker has shut down");
            assert!(delivery.triggers.iter().all(|trigger| trigger.n == 1), "{delivery:?}");
            if delivery.triggers.iter().any(|trigger| trigger.id == id) {
                break;
            }
        }
    }
    // What has to wait is left to the dispatcher.
    let later = Ask { delay: HumanDuration::from_secs(60), by: "test".into(), ..Ask::default() };
    let (_, sent) = world.store.accept_and_send(plan::request(&job, later, world.clock.now()), None).await.unwrap();
    assert_eq!(sent, None);
}

#[tokio::test]
async fn a_trigger_waits_for_its_time_and_no_longer() {
    let world = World::now().await;
    world.apply(world.lead().await, &one(&["every: 1h"])).await;
    let mut tasks = JoinSet::new();
    dispatch(&world, nobody(), &mut tasks);
    dispatcher_is_ready(&world).await;
    let before = world.clock.now();
    let id = accept(&world, HumanDuration::from_millis(700)).await;
    let delivery = receive(&world.broker, "default").await;
    let waited = world.clock.now().duration_since(before).as_millis();
    assert_eq!((delivery.triggers[0].id, delivery.triggers[0].n), (id, 1));
    assert!((700..2_500).contains(&waited), "{waited} ms");
}

#[tokio::test]
async fn a_trigger_for_a_queue_that_is_missing_goes_out_again_once_it_is_declared() {
    let world = World::now().await;
    let mut tasks = JoinSet::new();
    // It has declared all queues that there are, and the next one comes behind its back.
    dispatch(&world, nobody(), &mut tasks);
    dispatcher_is_ready(&world).await;
    let on_new_queue = one(&["every: 1h"]).replace("command: [\"true\"]", "command: [\"true\"]\n    queue: fresh");
    world.apply(world.lead().await, &on_new_queue).await;
    let id = accept(&world, HumanDuration::default()).await;
    let returned = until("a return, or a depth", async || {
        let events = world.store.events(id, 0, 10).await.unwrap();
        let returned = events.iter().any(|event| matches!(&event.what, Happening::Returned { .. }));
        (returned || world.broker.depth("fresh").await.unwrap() > 0).then_some(returned)
    })
    .await;
    let delivery = receive(&world.broker, "fresh").await;
    // Looking around may have found the new queue just before.
    assert_eq!((delivery.triggers[0].id, delivery.triggers[0].n), (id, if returned { 2 } else { 1 }));
}

#[tokio::test]
async fn what_an_earlier_incarnation_had_sent_is_sent_again_at_once() {
    let world = World::now().await;
    world.apply(world.lead().await, &one(&["every: 1h"])).await;
    let id = accept(&world, HumanDuration::default()).await;
    assert_eq!(world.store.take_due(10).await.unwrap().len(), 1);

    let mut tasks = JoinSet::new();
    dispatch(&world, Others::Gone, &mut tasks);
    let delivery = receive(&world.broker, "default").await;
    assert_eq!((delivery.triggers[0].id, delivery.triggers[0].n), (id, 1));
}

#[tokio::test]
async fn what_a_leader_before_has_sent_goes_out_again_and_what_one_has_sent_before_it_leads_once_more_does_not() {
    let world = World::now().await;
    let lead = async |who: Uuid, millis: u64| {
        until("the lead", async || world.store.lead(who, Duration::from_millis(millis)).await.unwrap()).await
    };
    let another = lead(Uuid::new_v4(), 500).await;
    world.apply(another, &one(&["every: 1h"])).await;
    let job = world.store.job("default", "j").await.unwrap().unwrap();
    // Marked as sent, and never published.
    let sent = async || {
        let request = plan::request(&job, Ask { by: "test".into(), ..Ask::default() }, world.clock.now());
        let id = request.id;
        world.store.accept_and_send(request, None).await.unwrap();
        id
    };
    let of_another = sent().await;
    let (me, leads, mut tasks) = (Uuid::new_v4(), watch::Sender::new(None), JoinSet::new());
    dispatch(&world, Others::Leaders(leads.subscribe()), &mut tasks);
    dispatcher_is_ready(&world).await;
    leads.send_replace(Some(lead(me, 1).await));
    assert_eq!(receive(&world.broker, "default").await.triggers[0].id, of_another);

    let own = sent().await;
    leads.send_replace(None);
    let first = world.store.leader_before_ended().await.unwrap();
    until("its lease to end", async || world.store.leader().await.unwrap().is_none().then_some(())).await;
    leads.send_replace(Some(lead(me, 60_000).await));
    assert_eq!(world.store.leader_before_ended().await.unwrap(), first, "nobody else has led");
    let last = accept(&world, HumanDuration::default()).await;
    let mut subscription = world.broker.subscribe(&["default".to_owned()], Priority::Normal).await.unwrap();
    subscription.demand(10).await;
    let mut seen = Vec::new();
    while !seen.contains(&last) {
        let next = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await;
        let delivery = next.expect("no trigger came").expect("the broker has shut down");
        seen.extend(delivery.triggers.iter().map(|trigger| trigger.id));
    }
    assert!(!seen.contains(&own), "sent again: {seen:?}");
}

#[tokio::test]
async fn of_a_backlog_no_more_goes_out_than_is_claimed_and_another_tenant_has_its_turn() {
    let world = World::now().await;
    world.apply(world.lead().await, &one(&["every: 1h"])).await;
    let job = world.store.job("default", "j").await.unwrap().unwrap();
    let requests = |namespace: &str, count: usize| -> Vec<_> {
        let ask = || Ask { by: "test".into(), ..Ask::default() };
        let new = || plan::request(&job, ask(), world.clock.now());
        (0..count).map(|_| NewWorkRequest { namespace: namespace.to_owned(), ..new() }).collect()
    };
    for _ in 0..3 {
        world.store.accept_all(&requests("many", 500)).await.unwrap();
    }
    let mut tasks = JoinSet::new();
    let callers = dispatch(&world, nobody(), &mut tasks);
    let route = Route { queue: "default".into(), priority: Priority::Normal };
    let unclaimed = async || world.store.unclaimed_on(&route).await.unwrap();
    until("a full window", async || (unclaimed().await == 512).then_some(())).await;
    let is_full = async || match callers.place_on(&route) {
        None => Some(()),
        // Handed back, as one that is dropped may have had triggers: all that were sent lately would go out again.
        Some(place) => {
            place.hand_over(Vec::new());
            None
        }
    };
    until("no room for those who hand over", is_full).await;
    let [one] = &requests("one", 1)[..] else { panic!() };
    world.store.accept(one.clone(), None).await.unwrap();

    let mut subscription = world.broker.subscribe(&["default".to_owned()], Priority::Normal).await.unwrap();
    subscription.demand(100).await;
    let worker = NewWorker {
        incarnation: Uuid::new_v4(),
        name: "played".into(),
        queues: vec!["default".into()],
        slots: 100,
        version: "0".into(),
        lease_ttl: Duration::from_secs(60),
    };
    world.store.register_worker(&worker).await.unwrap();
    // What was sent before it lies in front of it, and no more.
    let mut before = 0;
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await;
        let delivery = next.expect("no trigger came").expect("the broker has shut down");
        let trigger = delivery.triggers[0].clone();
        let claim = Claim { id: trigger.id, n: trigger.n, token: Uuid::new_v4() };
        world.store.claim(worker.incarnation, &[claim]).await.unwrap()[0].as_ref().unwrap();
        subscription.ack(vec![delivery]).await;
        if trigger.id == one.id {
            break;
        }
        before += 1;
        assert!(unclaimed().await <= 1_024, "more is out than was asked for");
    }
    assert!((500..1_100).contains(&before), "{before} went first of 1,500");
}
