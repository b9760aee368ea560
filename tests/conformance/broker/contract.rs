//! What both brokers must do.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use reveille_shared::broker::{Announcement, BrokerError, Health, Heard, PublishError, Route};
use reveille_shared::definition::Priority;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::world::{
    World, assert_empty, assert_quiet, hear, in_time, next, number_set, numbers, publish, report, subscribe, take,
    triggers, unused_queue, wait_for_health,
};

pub(crate) async fn a_trigger_reaches_a_worker_once_and_is_gone_when_acked(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    let sent = triggers(&queue, 0..3);
    assert!(broker.publish(&sent).await.iter().all(Result::is_ok));
    let mut worker = subscribe(&*broker, &[&queue], 10).await;
    let deliveries = take(&mut worker, 3).await;
    for (delivery, (_, trigger)) in deliveries.iter().zip(&sent) {
        assert_eq!(&delivery.triggers[0], trigger);
        assert!(!delivery.redelivered);
    }
    worker.ack(deliveries).await;
    drop(worker);
    assert_empty(&*broker, &queue).await;
}

pub(crate) async fn every_message_has_its_own_verdict(world: &World) {
    let (broker, [there, also_there]) = world.with_queues().await;
    let missing = unused_queue();
    let queues = [&there, &missing, &also_there, &missing, &missing];
    let mixed: Vec<_> = (0..1500).flat_map(|n| triggers(queues[n as usize % 5], [n])).collect();
    let verdicts = broker.publish(&mixed).await;
    assert_eq!(verdicts.len(), mixed.len());
    for ((Route { queue, .. }, trigger), verdict) in mixed.iter().zip(verdicts) {
        match verdict {
            Ok(()) => assert_ne!(queue, &missing, "message {} has no queue", trigger.n),
            Err(PublishError::Returned) => assert_eq!(queue, &missing, "message {} has a queue", trigger.n),
            Err(other) => panic!("message {}: {other}", trigger.n),
        }
    }
    let mut worker = subscribe(&*broker, &[&there, &also_there], 1000).await;
    let arrived = number_set(&take(&mut worker, 600).await);
    assert_eq!(arrived, (0..1500).filter(|n| n % 5 == 0 || n % 5 == 2).collect());
    assert!(broker.publish(&[]).await.is_empty());
}

pub(crate) async fn each_priority_has_its_own_way(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    let sent = Priority::ALL.into_iter().zip(1..).map(|(priority, n)| {
        let route = Route { queue: queue.clone(), priority };
        (route, triggers(&queue, [n]).remove(0).1)
    });
    assert!(broker.publish(&sent.collect::<Vec<_>>()).await.iter().all(Result::is_ok));
    for (priority, n) in Priority::ALL.into_iter().zip(1..) {
        let mut worker = broker.subscribe(std::slice::from_ref(&queue), priority).await.unwrap();
        worker.demand(10).await;
        let delivery = next(&mut worker).await;
        assert_eq!(delivery.triggers[0].n, n, "{priority:?}");
        assert_quiet(&mut worker).await;
        worker.ack(vec![delivery]).await;
    }
    if world.is_embedded() {
        // RabbitMQ tells a depth only some seconds later.
        broker.publish(&triggers(&queue, [7])).await.remove(0).unwrap();
        assert_eq!(broker.depth(&queue).await.unwrap(), 1);
    }
}

/// How many messages that makes is the broker's own matter.
pub(crate) async fn a_bundle_brings_all_of_its_triggers(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    let route = Route { queue: queue.clone(), priority: Priority::Normal };
    let missing = Route { queue: unused_queue(), ..route.clone() };
    let some = |numbers: std::ops::Range<u32>| -> Vec<_> {
        triggers(&queue, numbers).into_iter().map(|(_, trigger)| trigger).collect()
    };
    let bundles = [(route.clone(), some(1..4)), (missing, some(4..6)), (route, some(6..7))];
    let verdicts = broker.publish_bundles(&bundles).await;
    assert!(matches!(verdicts[..], [Ok(()), Err(PublishError::Returned), Ok(())]), "{verdicts:?}");
    let mut worker = subscribe(&*broker, &[&queue], 10).await;
    let (mut arrived, mut deliveries) = (Vec::new(), Vec::new());
    while arrived.len() < 4 {
        let delivery = next(&mut worker).await;
        arrived.extend(delivery.triggers.clone());
        deliveries.push(delivery);
    }
    assert_eq!(arrived, [bundles[0].1.clone(), bundles[2].1.clone()].concat());
    worker.give_back(deliveries).await;
    let again = next(&mut worker).await;
    assert!(again.redelivered && again.triggers[0] == bundles[0].1[0], "{again:?}");
    worker.ack(vec![again]).await;
}

pub(crate) async fn without_demand_nothing_flows_and_zero_gives_back(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    publish(&*broker, &queue, 0..10).await;
    let mut first = subscribe(&*broker, &[&queue], 0).await;
    assert_quiet(&mut first).await;
    first.demand(10).await;
    let held = take(&mut first, 3).await;
    first.demand(0).await;
    assert_quiet(&mut first).await;
    let mut second = subscribe(&*broker, &[&queue], 10).await;
    let rest = take(&mut second, 7).await;
    assert_eq!(number_set(&rest), (3..10).collect());
    assert_quiet(&mut second).await;
    first.ack(held).await;
    second.ack(rest).await;
    drop((first, second));
    assert_empty(&*broker, &queue).await;
}

pub(crate) async fn demand_can_change_without_loss(world: &World) {
    let (broker, [queue, other]) = world.with_queues().await;
    publish(&*broker, &queue, 0..50).await;
    publish(&*broker, &other, 50..100).await;
    let mut worker = subscribe(&*broker, &[&queue, &other], 0).await;
    let mut seen = BTreeSet::new();
    for demand in [5, 20, 1, 0, 3, 3, 0, 40].into_iter().cycle() {
        worker.demand(demand).await;
        let wanted = usize::from(demand).min(100 - seen.len());
        let deliveries = take(&mut worker, wanted).await;
        for delivery in &deliveries {
            assert!(seen.insert(delivery.triggers[0].n), "{} came again after its ack", delivery.triggers[0].n);
        }
        worker.ack(deliveries).await;
        if seen.len() == 100 {
            break;
        }
    }
    drop(worker);
    assert_empty(&*broker, &queue).await;
    assert_empty(&*broker, &other).await;
}

pub(crate) async fn no_more_is_handed_out_than_demanded(world: &World) {
    let (broker, queues) = world.with_queues::<3>().await;
    for queue in &queues {
        publish(&*broker, queue, 0..10).await;
    }
    let mut worker = subscribe(&*broker, &queues.each_ref(), 4).await;
    let mut held = take(&mut worker, 4).await;
    assert_quiet(&mut worker).await;
    worker.ack(held.split_off(3)).await;
    held.push(next(&mut worker).await);
    assert_quiet(&mut worker).await;
    worker.give_back(held.split_off(2)).await;
    held.extend(take(&mut worker, 2).await);
    assert_quiet(&mut worker).await;
    worker.demand(2).await;
    worker.ack(held.split_off(2)).await;
    assert_quiet(&mut worker).await;
}

pub(crate) async fn what_is_given_back_comes_first_and_says_so(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    publish(&*broker, &queue, 0..3).await;
    let mut worker = subscribe(&*broker, &[&queue], 1).await;
    for n in 0..3 {
        let delivery = next(&mut worker).await;
        assert_eq!((delivery.triggers[0].n, delivery.redelivered), (n, false));
        worker.give_back(vec![delivery]).await;
        let delivery = next(&mut worker).await;
        assert_eq!((delivery.triggers[0].n, delivery.redelivered), (n, true));
        worker.ack(vec![delivery]).await;
    }
    drop(worker);
    assert_empty(&*broker, &queue).await;
}

pub(crate) async fn a_dropped_subscription_gives_back(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    publish(&*broker, &queue, 0..20).await;
    let mut first = subscribe(&*broker, &[&queue], 20).await;
    let mut held = take(&mut first, 10).await;
    // Neither the newest nor the oldest: only these may be gone.
    let acked: Vec<_> = held.drain(3..6).collect();
    first.ack(acked).await;
    drop(first);
    let mut second = subscribe(&*broker, &[&queue], 20).await;
    let deliveries = take(&mut second, 17).await;
    assert_eq!(number_set(&deliveries), (0..20).filter(|n| !(3..6).contains(n)).collect());
    assert!(deliveries.iter().filter(|delivery| delivery.triggers[0].n < 10).all(|delivery| delivery.redelivered));
    second.ack(deliveries).await;
    drop(second);
    assert_empty(&*broker, &queue).await;
}

pub(crate) async fn two_subscriptions_share(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    let mut first = subscribe(&*broker, &[&queue], 10).await;
    let mut second = subscribe(&*broker, &[&queue], 10).await;
    // Waits once, so that both have told the broker before there is anything to have.
    assert_quiet(&mut first).await;
    assert_quiet(&mut second).await;
    publish(&*broker, &queue, 0..20).await;
    let (ours, theirs) = tokio::join!(take(&mut first, 10), take(&mut second, 10));
    assert_eq!(&number_set(&ours) | &number_set(&theirs), (0..20).collect());
    first.ack(ours).await;
    second.ack(theirs).await;
    drop((first, second));
    assert_empty(&*broker, &queue).await;
}

pub(crate) async fn a_busy_queue_does_not_starve_a_quiet_one(world: &World) {
    let (broker, [busy, quiet]) = world.with_queues().await;
    publish(&*broker, &busy, 0..2000).await;
    publish(&*broker, &quiet, [5000]).await;
    let mut worker = subscribe(&*broker, &[&busy, &quiet], 10).await;
    for count in 1.. {
        let delivery = next(&mut worker).await;
        if delivery.triggers[0].n == 5000 {
            break;
        }
        assert!(count < 500, "{count} messages of the busy queue went before");
        worker.ack(vec![delivery]).await;
    }
}

pub(crate) async fn ten_thousand_and_none_is_lost(world: &World) {
    const COUNT: u32 = 10_000;
    let (broker, [queue]) = world.with_queues().await;
    let start = Instant::now();
    let batches: Vec<_> = (0..COUNT).step_by(2500).map(|first| triggers(&queue, first..first + 2500)).collect();
    for batch in &batches {
        assert!(broker.publish(batch).await.iter().all(Result::is_ok));
    }
    let publishing = start.elapsed();
    let start = Instant::now();
    let mut worker = subscribe(&*broker, &[&queue], 500).await;
    let mut arrived = Vec::new();
    while arrived.len() < COUNT as usize {
        let mut deliveries = vec![next(&mut worker).await];
        while deliveries.len() < 100
            && let Some(Some(delivery)) = worker.next().now_or_never()
        {
            deliveries.push(delivery);
        }
        arrived.extend(numbers(&deliveries));
        worker.ack(deliveries).await;
    }
    report(&format!("{COUNT} published in {publishing:?}, consumed in {:?}", start.elapsed()));
    assert_eq!(arrived, (0..COUNT).collect::<Vec<_>>());
    drop(worker);
    assert_empty(&*broker, &queue).await;
}

pub(crate) async fn settling_what_came_over_another_subscription_is_harmless(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    publish(&*broker, &queue, 0..2).await;
    let mut first = subscribe(&*broker, &[&queue], 2).await;
    let mut stale = take(&mut first, 2).await;
    drop(first);
    let mut second = subscribe(&*broker, &[&queue], 2).await;
    let held = take(&mut second, 2).await;
    second.ack(stale.split_off(1)).await;
    second.give_back(stale).await;
    assert_quiet(&mut second).await;
    // Neither was settled: both come again once the second is gone.
    drop((second, held));
    let mut third = subscribe(&*broker, &[&queue], 2).await;
    let deliveries = take(&mut third, 2).await;
    assert_eq!(number_set(&deliveries), (0..2).collect());
    third.ack(deliveries).await;
    drop(third);
    assert_empty(&*broker, &queue).await;
}

pub(crate) async fn a_wait_can_be_cancelled_without_loss(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    let mut worker = subscribe(&*broker, &[&queue], 100).await;
    publish(&*broker, &queue, 0..100).await;
    let mut arrived = Vec::new();
    let all = async {
        while arrived.len() < 100 {
            // Far too short for the way to the broker and back.
            if let Ok(Some(delivery)) = timeout(Duration::from_micros(50), worker.next()).await {
                arrived.push(delivery);
            }
        }
    };
    in_time("100 deliveries between cancelled waits", all).await;
    assert_eq!(numbers(&arrived), (0..100).collect::<Vec<_>>());
}

pub(crate) async fn depth_counts_what_waits(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    assert_eq!(broker.depth(&queue).await.unwrap(), 0);
    publish(&*broker, &queue, 0..5).await;
    assert_eq!(broker.depth(&queue).await.unwrap(), 5);
    let mut worker = subscribe(&*broker, &[&queue], 2).await;
    let held = take(&mut worker, 2).await;
    assert_eq!(broker.depth(&queue).await.unwrap(), 3);
    worker.ack(held).await;
    assert_eq!(broker.depth(&unused_queue()).await.unwrap(), 0);
    assert!(matches!(broker.depth("a b").await, Err(BrokerError::InvalidQueue(_))));
}

pub(crate) async fn bad_queue_names_are_refused(world: &World) {
    let (broker, []) = world.with_queues().await;
    for name in [String::new(), "Upper".into(), "a b".into(), "a/b".into(), "ü".into(), "x".repeat(65)] {
        let names = [name.clone()];
        assert!(matches!(broker.declare(&names).await, Err(BrokerError::InvalidQueue(named)) if named == name));
        assert!(matches!(broker.subscribe(&names, Priority::Normal).await, Err(BrokerError::InvalidQueue(_))));
        assert!(matches!(broker.publish(&triggers(&name, [1])).await[..], [Err(PublishError::Returned)]));
    }
    broker.declare(&["x".repeat(64)]).await.unwrap();
}

pub(crate) async fn a_pulse_is_heard_by_all_who_are_tuned_in(world: &World) {
    let (broker, []) = world.with_queues().await;
    broker.pulse().await.unwrap();
    let mut listeners = [broker.pulses().await, broker.pulses().await];
    for listener in &mut listeners {
        assert_eq!(hear(listener).await, Heard::Tuned, "what came before is not heard");
    }
    for _ in 0..2 {
        broker.pulse().await.unwrap();
        for listener in &mut listeners {
            assert_eq!(hear(listener).await, Heard::Pulse);
        }
    }
}

pub(crate) async fn a_call_comes_back_behind_the_pulses_before_it(world: &World) {
    let (broker, []) = world.with_queues().await;
    let (mut listener, mut other) = (broker.pulses().await, broker.pulses().await);
    assert_eq!((hear(&mut listener).await, hear(&mut other).await), (Heard::Tuned, Heard::Tuned));
    for number in [7, u64::MAX] {
        broker.pulse().await.unwrap();
        broker.pulse().await.unwrap();
        listener.call(number).await;
        let heard = [hear(&mut listener).await, hear(&mut listener).await, hear(&mut listener).await];
        assert_eq!(heard, [Heard::Pulse, Heard::Pulse, Heard::Echo(number)]);
    }
    // It was nobody else's call.
    other.call(1).await;
    for expected in [Heard::Pulse, Heard::Pulse, Heard::Pulse, Heard::Pulse, Heard::Echo(1)] {
        assert_eq!(hear(&mut other).await, expected);
    }
}

pub(crate) async fn stop_ends_everything(world: &World) {
    let stop = CancellationToken::new();
    let broker = world.broker(stop.clone()).await;
    let queue = unused_queue();
    broker.declare(std::slice::from_ref(&queue)).await.unwrap();
    let mut idle = subscribe(&*broker, &[&queue], 0).await;
    let mut waiting = subscribe(&*broker, &[&queue], 1).await;
    let mut dead = broker.dead_letters().await.unwrap();
    let mut pulses = broker.pulses().await;
    assert_eq!(hear(&mut pulses).await, Heard::Tuned);
    let ends = async { tokio::join!(idle.next(), waiting.next(), dead.next(), pulses.next(), async { stop.cancel() }) };
    let (idle_end, waiting_end, dead_end, pulses_end, ()) = in_time("the end of all waits", ends).await;
    assert!(idle_end.is_none() && waiting_end.is_none() && dead_end.is_none() && pulses_end.is_none());
    assert!(in_time("the end of a later wait", waiting.next()).await.is_none());
    wait_for_health(&*broker, |health| matches!(health, Health::Down(_))).await;
    assert!(matches!(broker.publish(&triggers(&queue, [1])).await[..], [Err(PublishError::Unconfirmed(_))]));
    assert!(matches!(broker.pulse().await, Err(BrokerError::Unavailable(_))));
}

pub(crate) async fn a_subscription_outlives_the_handle_that_made_it(world: &World) {
    let (broker, [queue]) = world.with_queues().await;
    let publishing =
        if world.is_embedded() { std::sync::Arc::clone(&broker) } else { world.broker(CancellationToken::new()).await };
    let mut worker = subscribe(&*broker, &[&queue], 10).await;
    drop(broker);
    publish(&*publishing, &queue, 0..3).await;
    let deliveries = take(&mut worker, 3).await;
    assert_eq!(number_set(&deliveries), (0..3).collect());
    worker.ack(deliveries).await;
}

pub(crate) async fn what_nobody_has_subscribed_to_is_announced_all_the_same(world: &World) {
    let broker = world.broker(CancellationToken::new()).await;
    let announcement = |number: u32| Announcement { key: format!("succeeded.n.j{number}"), body: b"{}".to_vec() };
    let verdicts = broker.announce((0..3).map(announcement).collect()).await;
    assert!(matches!(verdicts[..], [Ok(()), Ok(()), Ok(())]), "{verdicts:?}");
}

pub(crate) async fn events_come_where_others_can_put_them(world: &World) {
    let broker = world.broker(CancellationToken::new()).await;
    assert_eq!(broker.events().await.is_none(), world.is_embedded(), "in one process nobody else can");
}
