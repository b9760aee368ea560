//! What only RabbitMQ can go through: other people's messages, crashes, refusals, a full memory.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::rabbitmq::RabbitMq;
use harness::wait::eventually;
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use reveille_shared::broker::{DeadLetter, DeadLetters, Events, Health, Heard, PublishError, connect};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::world::{
    World, assert_empty, hear, in_time, next, number_set, publish, subscribe, take, trigger, triggers, wait_for_health,
};

#[tokio::test]
async fn what_is_no_trigger_is_kept_for_people() {
    let node = RabbitMq::start().await.unwrap();
    let (broker, [queue]) = World::new(&node.url()).with_queues().await;
    let (_connection, raw) = raw_channel(&node).await;
    let newer = br#"{"v":99,"strange":true}"#;
    for body in [b"\xff\x00".as_slice(), newer, b"", &trigger(7).encode()] {
        raw_publish(&raw, &queue, body).await;
    }
    // Demand of one: garbage must not use it up.
    let mut worker = subscribe(&*broker, &[&queue], 1).await;
    let delivery = next(&mut worker).await;
    assert_eq!(delivery.triggers[0].n, 7);
    worker.ack(vec![delivery]).await;

    let mut dead = broker.dead_letters().await.unwrap();
    let mut bodies = BTreeSet::new();
    for _ in 0..3 {
        let letter = next_letter(&mut dead).await;
        assert_eq!((letter.reason.as_str(), letter.queue.as_deref()), ("rejected", Some(queue.as_str())));
        let fault = letter.content.as_ref().unwrap_err();
        assert!(fault.contains(if letter.body == newer { "newer" } else { "not a trigger" }), "{fault}");
        bodies.insert(letter.body.clone());
        dead.settle(letter).await;
    }
    drop(dead);
    let mut kept = BTreeSet::new();
    while let Some(message) =
        raw.basic_get("reveille.unreadable".into(), BasicGetOptions { no_ack: true }).await.unwrap()
    {
        kept.insert(message.delivery.data);
    }
    assert_eq!(kept, bodies);
    assert_eq!(kept.len(), 3);
    assert_eq!(waiting(&raw, "reveille.dead").await, 0);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_comes_until_it_is_settled() {
    let node = RabbitMq::start().await.unwrap();
    let broker = World::new(&node.url()).broker(CancellationToken::new()).await;
    let (_connection, raw) = raw_channel(&node).await;
    let mut headers = FieldTable::default();
    headers.insert("cloudEvents:id".into(), AMQPValue::LongString("7".into()));
    headers.insert("other".into(), AMQPValue::LongString("x".into()));
    let binary = BasicProperties::default().with_content_type("application/json".into()).with_headers(headers);
    for (key, body, properties) in [("", "{}", binary), ("any.key", "\u{0}", BasicProperties::default())] {
        let options = BasicPublishOptions::default();
        raw.basic_publish("reveille.events".into(), key.into(), options, body.as_bytes(), properties).await.unwrap();
    }
    let read = async |events: &mut Box<dyn Events>| {
        let message = in_time("an event", events.next()).await.expect("the broker is not shut down");
        assert!(!format!("{message:?}").contains('7'), "attributes hold a secret");
        message
    };
    let mut events = broker.events().await.unwrap();
    let first = read(&mut events).await;
    assert_eq!((first.content_type.as_deref(), &first.body[..]), (Some("application/json"), &b"{}"[..]));
    assert_eq!(first.attributes, [("id".to_owned(), "7".to_owned())]);
    let second = read(&mut events).await;
    assert_eq!((second.content_type.as_deref(), &second.body[..]), (None, &b"\0"[..]), "whatever it is");
    events.settle(vec![first]).await;
    drop(events);
    // What was not settled comes again, also over another connection.
    let mut events = broker.events().await.unwrap();
    let again = read(&mut events).await;
    assert_eq!(again.body, second.body);
    events.settle(vec![again]).await;
    drop(events);
    eventually("nothing to be left", Duration::from_secs(30), async || {
        match waiting(&raw, "reveille.events.in").await {
            0 => Ok(()),
            left => Err(format!("{left} are")),
        }
    })
    .await
    .unwrap();
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_trigger_that_nobody_keeps_becomes_a_dead_letter() {
    let node = RabbitMq::start().await.unwrap();
    let (broker, [queue]) = World::new(&node.url()).with_queues().await;
    let sent = triggers(&queue, [3]);
    broker.publish(&sent).await.remove(0).unwrap();
    let mut worker = subscribe(&*broker, &[&queue], 1).await;
    let mut dead = broker.dead_letters().await.unwrap();
    let give_back_for_ever = async {
        loop {
            let delivery = next(&mut worker).await;
            worker.give_back(vec![delivery]).await;
        }
    };
    let letter = tokio::select! {
        letter = next_letter(&mut dead) => letter,
        () = give_back_for_ever => unreachable!("it has no end"),
    };
    assert_eq!((letter.reason.as_str(), letter.queue.as_deref()), ("delivery_limit", Some(queue.as_str())));
    assert_eq!(letter.content.as_ref().unwrap()[..], [sent[0].1.clone()]);
    // Not settled, it is handed out again; settled, it is gone.
    drop((dead, letter));
    let mut dead = broker.dead_letters().await.unwrap();
    let letter = next_letter(&mut dead).await;
    dead.settle(letter).await;
    drop(dead);
    let (_connection, raw) = raw_channel(&node).await;
    assert_eq!((waiting(&raw, "reveille.dead").await, waiting(&raw, "reveille.unreadable").await), (0, 0));
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_crash_of_the_broker_is_survived() {
    let mut node = RabbitMq::start().await.unwrap();
    let (broker, [queue]) = World::new(&node.url()).with_queues().await;
    let mut worker = subscribe(&*broker, &[&queue], 100).await;
    publish(&*broker, &queue, 0..50).await;
    let mut stale = take(&mut worker, 10).await;

    // RabbitMQ 3.10 writes down who leads a new quorum queue some seconds after declaring it. One that is younger
    // when the node is killed never finds its leader again (rabbitmq-server issue 10070).
    sleep(Duration::from_secs(12)).await;
    node.kill().await.unwrap();
    let why = wait_for_health(&*broker, |health| matches!(health, Health::Down(_))).await;
    assert!(matches!(&why, Health::Down(why) if why.starts_with("not connected: ")), "{why:?}");
    let start = Instant::now();
    let verdicts = broker.publish(&triggers(&queue, 0..10)).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Err(PublishError::Unconfirmed(_)))), "{verdicts:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "it took {:?} to fail", start.elapsed());
    worker.ack(stale.split_off(5)).await;

    node.restart().await.unwrap();
    wait_for_health(&*broker, |health| *health == Health::Up).await;
    publish(&*broker, &queue, 50..60).await;
    let mut held = take(&mut worker, 1).await;
    worker.ack(stale).await;
    held.extend(take(&mut worker, 59).await);
    assert_eq!(number_set(&held), (0..60).collect());
    worker.ack(held).await;
    drop(worker);
    assert_empty(&*broker, &queue).await;
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_listener_says_when_it_may_have_missed_pulses() {
    let mut node = RabbitMq::start().await.unwrap();
    let (broker, []) = World::new(&node.url()).with_queues().await;
    let mut pulses = broker.pulses().await;
    assert_eq!(hear(&mut pulses).await, Heard::Tuned);
    node.kill().await.unwrap();
    wait_for_health(&*broker, |health| matches!(health, Health::Down(_))).await;
    assert!(broker.pulse().await.is_err(), "nobody hears it");
    pulses.call(1).await;
    node.restart().await.unwrap();
    wait_for_health(&*broker, |health| *health == Health::Up).await;
    assert_eq!(hear(&mut pulses).await, Heard::Tuned);
    pulses.call(2).await;
    assert_eq!(hear(&mut pulses).await, Heard::Echo(2), "the first call was never sent");
    broker.pulse().await.unwrap();
    assert_eq!(hear(&mut pulses).await, Heard::Pulse);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again() {
    let node = RabbitMq::start().await.unwrap();
    let (broker, [queue]) = World::new(&node.url()).with_queues().await;
    let mut worker = subscribe(&*broker, &[&queue], 10).await;
    publish(&*broker, &queue, [1]).await;
    let delivery = next(&mut worker).await;
    worker.ack(vec![delivery]).await;
    let (_connection, raw) = raw_channel(&node).await;
    raw.queue_delete(rabbit_name(&queue).into(), QueueDeleteOptions::default()).await.unwrap();
    // Published at once, this takes RabbitMQ too little time to tell the consumer of its queue's end.
    publish(&*broker, &queue, [2]).await;
    assert_eq!(next(&mut worker).await.triggers[0].n, 2);
    node.stop().await.unwrap();
}

#[tokio::test]
async fn why_there_is_no_connection_is_said_without_secrets() {
    let node = RabbitMq::start().await.unwrap();
    let wrong = format!("amqp://guest:s3cret@127.0.0.1:{}/%2f", node.port());
    let not_tls = format!("amqps://guest:s3cret@127.0.0.1:{}/%2f", node.port());
    let nobody = "amqp://guest:s3cret@127.0.0.1:1/%2f".to_owned();
    for (url, expected) in [(wrong, "ACCESS_REFUSED"), (not_tls, "IO error"), (nobody, "refused")] {
        let broker = connect(&url, "conformance", CancellationToken::new()).unwrap();
        let health =
            wait_for_health(&*broker, |health| matches!(health, Health::Down(why) if why.contains(expected))).await;
        assert!(!format!("{health:?}").contains("s3cret"), "{health:?}");
        let error = broker.declare(&["a".into()]).await.unwrap_err().to_string();
        assert!(error.contains("not connected") && !error.contains("s3cret"), "{error}");
    }
    node.stop().await.unwrap();
}

#[tokio::test]
async fn a_broker_without_memory_does_not_block_for_ever() {
    let node = RabbitMq::start_with_config("vm_memory_high_watermark.absolute = 1MB").await.unwrap();
    let (broker, [queue]) = World::new(&node.url()).with_queues().await;
    let start = Instant::now();
    let verdicts = broker.publish(&triggers(&queue, 0..100)).await;
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Err(PublishError::Unconfirmed(_)))), "{verdicts:?}");
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    // Now that it is known, there is nothing to wait for.
    let start = Instant::now();
    let verdicts = broker.publish(&triggers(&queue, 0..100)).await;
    assert!(matches!(&verdicts[0], Err(PublishError::Unconfirmed(why)) if why.contains("blocked")), "{verdicts:?}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(matches!(broker.health(), Health::Down(why) if why.contains("blocked")));
    node.stop().await.unwrap();
}

fn rabbit_name(queue: &str) -> String {
    format!("reveille.q.{queue}")
}

async fn raw_channel(node: &RabbitMq) -> (Connection, Channel) {
    let connection = Connection::connect(&node.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn raw_publish(channel: &Channel, queue: &str, body: &[u8]) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("".into(), rabbit_name(queue).into(), options, body, properties).await.unwrap();
}

async fn waiting(channel: &Channel, queue: &str) -> u32 {
    let look = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.into(), look, FieldTable::default()).await.unwrap().message_count()
}

async fn next_letter(dead: &mut Box<dyn DeadLetters>) -> DeadLetter {
    in_time("a dead letter", dead.next()).await.expect("the broker is not shut down")
}
