//! A worker whose broker takes its time.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reveille_shared::broker::{
    self, Broker, BrokerError, DeadLetters, Delivery, Health, PublishError, Pulses, Route, Subscription,
};
use reveille_shared::clock::{Clock, SystemClock};
use reveille_shared::definition::{Definitions, Handler, Job, Priority};
use reveille_shared::duration::HumanDuration;
use reveille_shared::lifecycle::Lifecycle;
use reveille_shared::state::Status;
use reveille_shared::store::{NewWorkRequest, Store};
use reveille_shared::trigger::Trigger;
use reveille_shared::work_request::WorkRequestId;
use reveille_worker::app::{Settings, start};
use reveille_worker::{Functions, Guard, Run};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The embedded broker, which is asked to stop the flow only after every slot has come free, and which takes its time
/// with other priorities than the normal one.
struct SlowBroker {
    inner: Arc<dyn Broker>,
    slow: Slow,
}

/// Lets the run that goes on end, and waits until it has.
#[derive(Clone)]
struct Slow {
    store: Store,
    first: WorkRequestId,
    may_end: Arc<Semaphore>,
}

impl Slow {
    async fn wait(&self) {
        let read = async || self.store.work_request("default", self.first).await.unwrap().unwrap().status;
        if read().await == Status::InProgress {
            self.may_end.add_permits(1);
            while read().await != Status::Succeeded {
                sleep(Duration::from_millis(2)).await;
            }
        }
    }
}

#[async_trait]
impl Broker for SlowBroker {
    async fn declare(&self, queues: &[String]) -> Result<(), BrokerError> {
        self.inner.declare(queues).await
    }

    async fn publish_bundles(&self, bundles: &[(Route, Vec<Trigger>)]) -> Vec<Result<(), PublishError>> {
        self.inner.publish_bundles(bundles).await
    }

    async fn subscribe(&self, queues: &[String], priority: Priority) -> Result<Box<dyn Subscription>, BrokerError> {
        let inner = self.inner.subscribe(queues, priority).await?;
        if priority != Priority::Normal {
            return Ok(Box::new(LateSubscription(inner)));
        }
        Ok(Box::new(SlowSubscription { inner, slow: self.slow.clone() }))
    }

    async fn pulse(&self) -> Result<(), BrokerError> {
        self.inner.pulse().await
    }

    async fn pulses(&self) -> Box<dyn Pulses> {
        self.inner.pulses().await
    }

    async fn dead_letters(&self) -> Result<Box<dyn DeadLetters>, BrokerError> {
        self.inner.dead_letters().await
    }

    async fn depth(&self, queue: &str) -> Result<u64, BrokerError> {
        self.inner.depth(queue).await
    }

    fn health(&self) -> Health {
        self.inner.health()
    }
}

struct SlowSubscription {
    inner: Box<dyn Subscription>,
    slow: Slow,
}

#[async_trait]
impl Subscription for SlowSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        self.inner.next().await
    }

    async fn demand(&mut self, unsettled: u16) {
        if unsettled == 0 {
            self.slow.wait().await;
        }
        self.inner.demand(unsettled).await;
    }

    async fn ack(&mut self, deliveries: Vec<Delivery>) {
        self.inner.ack(deliveries).await;
    }

    async fn give_back(&mut self, deliveries: Vec<Delivery>) {
        self.inner.give_back(deliveries).await;
    }
}

/// For longer than one priority waits for another, it says nothing to a demand.
struct LateSubscription(Box<dyn Subscription>);

#[async_trait]
impl Subscription for LateSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        self.0.next().await
    }

    async fn demand(&mut self, unsettled: u16) {
        sleep(Duration::from_millis(100)).await;
        self.0.demand(unsettled).await;
    }

    async fn ack(&mut self, deliveries: Vec<Delivery>) {
        self.0.ack(deliveries).await;
    }

    async fn give_back(&mut self, deliveries: Vec<Delivery>) {
        self.0.give_back(deliveries).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_slots_come_free_while_it_stops_the_flow_consumes_again() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().display());
    let store = Store::connect(&url, "test", Arc::new(SystemClock)).await.unwrap();
    let inner = broker::connect("embedded", "test", CancellationToken::new()).unwrap();
    inner.declare(&["default".into()]).await.unwrap();
    let generation = store.lead(Uuid::new_v4(), Duration::from_secs(60)).await.unwrap().unwrap();
    let job = Job::new("default", "wait", Handler::Function("wait".into()));
    let definitions = Definitions { revision: None, jobs: vec![job.clone()], schedules: vec![] };
    store.apply_definitions(generation, &definitions, "digest", "test").await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..2 {
        let request = NewWorkRequest::new(WorkRequestId::new(SystemClock.now()), &job, 1, "test");
        ids.push(request.id);
        store.accept(request, None).await.unwrap();
    }
    let due = store.take_due(10).await.unwrap();
    let due: Vec<_> = due.into_iter().map(|out| (out.route, out.trigger)).collect();
    assert!(due.len() == 2 && inner.publish(&due).await.iter().all(Result::is_ok));

    // The first run ends when the worker, whose only slot it has, gives the second trigger back.
    let may_end = Arc::new(Semaphore::new(0));
    let (gate, first) = (Arc::clone(&may_end), due[0].1.id);
    let functions = Functions::builder().register("wait", move |run: Run| {
        let gate = Arc::clone(&gate);
        async move {
            if run.id == first {
                gate.acquire().await.unwrap().forget();
            }
            Ok(json!({}))
        }
    });
    let functions = functions.build().unwrap();
    let slow = Slow { store: store.clone(), first: due[0].1.id, may_end };
    let broker = Arc::new(SlowBroker { inner, slow });
    let mut lifecycle = Lifecycle::default();
    let settings = Settings {
        queues: vec!["default".into()],
        slots: 1,
        name: Some("test".into()),
        lease_ttl: HumanDuration::from_secs(15),
    };
    let guard = Guard::of(env!("CARGO_BIN_EXE_reveille-worker"));
    start(settings, functions, guard, store.clone(), broker, Arc::new(SystemClock), &mut lifecycle).await.unwrap();
    let all_succeed = async {
        for id in ids {
            while store.work_request("default", id).await.unwrap().unwrap().status != Status::Succeeded {
                sleep(Duration::from_millis(10)).await;
            }
        }
    };
    timeout(Duration::from_secs(30), all_succeed).await.expect("the worker consumes again");
    lifecycle.soft.cancel();
    lifecycle.join().await.unwrap();
}
