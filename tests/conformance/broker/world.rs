//! What the cases share: a broker that is up, queues of their own, triggers, and waits with an end.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use reveille_shared::broker::{Broker, Delivery, Health, Heard, Pulses, Route, Subscription, connect};
use reveille_shared::definition::Priority;
use reveille_shared::trigger::{Trigger, VERSION};
use reveille_shared::work_request::WorkRequestId;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Long enough for a slow machine; what it ends has failed.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// How long to watch that something does not happen.
const QUIET: Duration = Duration::from_millis(200);

/// Where a case finds its broker.
pub(crate) struct World {
    url: String,
}

impl World {
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    /// Each handle is a broker of its own.
    pub(crate) fn is_embedded(&self) -> bool {
        self.url == "embedded"
    }

    /// A broker that is connected, and some declared queues that nobody else uses.
    pub(crate) async fn with_queues<const N: usize>(&self) -> (Arc<dyn Broker>, [String; N]) {
        let broker = self.broker(CancellationToken::new()).await;
        let queues = std::array::from_fn(|_| unused_queue());
        broker.declare(&queues).await.unwrap();
        (broker, queues)
    }

    pub(crate) async fn broker(&self, stop: CancellationToken) -> Arc<dyn Broker> {
        let broker = connect(&self.url, "conformance", stop).unwrap();
        wait_for_health(&*broker, |health| *health == Health::Up).await;
        broker
    }
}

pub(crate) fn unused_queue() -> String {
    format!("test-{}", Uuid::new_v4().simple())
}

/// `n` tells the triggers of a case apart.
pub(crate) fn trigger(n: u32) -> Trigger {
    let id = WorkRequestId::new(jiff::Timestamp::UNIX_EPOCH);
    Trigger { v: VERSION, id, n, namespace: "default".into(), job: "conformance".into() }
}

pub(crate) fn triggers(queue: &str, numbers: impl IntoIterator<Item = u32>) -> Vec<(Route, Trigger)> {
    let route = |queue: &str| Route { queue: queue.to_owned(), priority: Priority::Normal };
    numbers.into_iter().map(|n| (route(queue), trigger(n))).collect()
}

pub(crate) async fn publish(broker: &dyn Broker, queue: &str, numbers: impl IntoIterator<Item = u32>) {
    for verdict in broker.publish(&triggers(queue, numbers)).await {
        verdict.unwrap();
    }
}

pub(crate) async fn subscribe(broker: &dyn Broker, queues: &[&String], demand: u16) -> Box<dyn Subscription> {
    let queues: Vec<_> = queues.iter().copied().cloned().collect();
    let mut subscription = broker.subscribe(&queues, Priority::Normal).await.unwrap();
    subscription.demand(demand).await;
    subscription
}

pub(crate) async fn next(subscription: &mut Box<dyn Subscription>) -> Delivery {
    in_time("a delivery", subscription.next()).await.expect("the broker is not shut down")
}

pub(crate) async fn hear(pulses: &mut Box<dyn Pulses>) -> Heard {
    in_time("a pulse or a call", pulses.next()).await.expect("the broker is not shut down")
}

pub(crate) async fn take(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::with_capacity(count);
    for _ in 0..count {
        deliveries.push(next(subscription).await);
    }
    deliveries
}

pub(crate) async fn assert_quiet(subscription: &mut Box<dyn Subscription>) {
    if let Ok(delivery) = timeout(QUIET, subscription.next()).await {
        panic!("a delivery that should not come: {delivery:?}");
    }
}

/// Nothing is left in the queue: a new message is the first that a new subscriber sees.
pub(crate) async fn assert_empty(broker: &dyn Broker, queue: &String) {
    publish(broker, queue, [u32::MAX]).await;
    let mut subscription = subscribe(broker, &[queue], 1).await;
    let last = next(&mut subscription).await;
    assert_eq!(last.triggers[0].n, u32::MAX, "the queue is not empty: {last:?}");
    subscription.ack(vec![last]).await;
}

pub(crate) fn numbers(deliveries: &[Delivery]) -> Vec<u32> {
    deliveries.iter().map(|delivery| delivery.triggers[0].n).collect()
}

pub(crate) fn number_set(deliveries: &[Delivery]) -> BTreeSet<u32> {
    deliveries.iter().map(|delivery| delivery.triggers[0].n).collect()
}

/// For those who look at the output of a test that passed.
#[allow(clippy::print_stdout, reason = "the output of a test")]
pub(crate) fn report(text: &str) {
    println!("{text}");
}

pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(LONG, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {LONG:?} for {what}"),
    }
}

pub(crate) async fn wait_for_health(broker: &dyn Broker, wanted: impl Fn(&Health) -> bool) -> Health {
    let deadline = Instant::now() + LONG;
    loop {
        let health = broker.health();
        if wanted(&health) {
            return health;
        }
        assert!(Instant::now() < deadline, "the broker's health stays {health:?}");
        sleep(Duration::from_millis(10)).await;
    }
}
