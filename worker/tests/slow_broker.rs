//! A worker whose broker takes its time.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use reveille_shared::broker::{
    self, Announcement, Broker, BrokerError, DeadLetters, Delivery, Events, Health, PublishError, Pulses, Route,
    Subscription,
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
use reveille_worker::handlers::FunctionsBuilder;
use reveille_worker::{Functions, Guard, Run};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What happens before the broker is told the demand for triggers of a priority.
type BeforeDemand = Arc<dyn Fn(Priority, u16) -> BoxFuture<'static, ()> + Send + Sync>;

/// The embedded broker, which takes its time.
struct SlowBroker {
    inner: Arc<dyn Broker>,
    before_demand: BeforeDemand,
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
        Ok(Box::new(SlowSubscription { inner, priority, before_demand: Arc::clone(&self.before_demand) }))
    }

    async fn announce(&self, announcements: Vec<Announcement>) -> Vec<Result<(), PublishError>> {
        self.inner.announce(announcements).await
    }

    async fn events(&self) -> Option<Box<dyn Events>> {
        self.inner.events().await
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
    priority: Priority,
    before_demand: BeforeDemand,
}

#[async_trait]
impl Subscription for SlowSubscription {
    async fn next(&mut self) -> Option<Delivery> {
        self.inner.next().await
    }

    async fn demand(&mut self, unsettled: u16) {
        (self.before_demand)(self.priority, unsettled).await;
        self.inner.demand(unsettled).await;
    }

    async fn ack(&mut self, deliveries: Vec<Delivery>) {
        self.inner.ack(deliveries).await;
    }

    async fn give_back(&mut self, deliveries: Vec<Delivery>) {
        self.inner.give_back(deliveries).await;
    }
}

/// A store with runs whose triggers wait in a broker; what is missing is the worker.
struct Bed {
    _folder: TempDir,
    store: Store,
    broker: Arc<dyn Broker>,
    ids: Vec<WorkRequestId>,
}

impl Bed {
    async fn with_runs(count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().display());
        let store = Store::connect(&url, "test", Arc::new(SystemClock)).await.unwrap();
        let broker = broker::connect("embedded", "test", CancellationToken::new()).unwrap();
        broker.declare(&["default".into()]).await.unwrap();
        let generation = store.lead(Uuid::new_v4(), Duration::from_secs(60)).await.unwrap().unwrap();
        let job = Job::new("default", "wait", Handler::Function("wait".into()));
        let definitions = Definitions { revision: None, jobs: vec![job.clone()], schedules: vec![] };
        store.apply_definitions(generation, &definitions, "digest", "test").await.unwrap();
        for _ in 0..count {
            let request = NewWorkRequest::new(WorkRequestId::new(SystemClock.now()), &job, 1, "test");
            store.accept(request, None).await.unwrap();
        }
        let due = store.take_due(10).await.unwrap();
        let ids: Vec<_> = due.iter().map(|out| out.trigger.id).collect();
        let due: Vec<_> = due.into_iter().map(|out| (out.route, out.trigger)).collect();
        assert!(ids.len() == count && broker.publish(&due).await.iter().all(Result::is_ok));
        Self { _folder: folder, store, broker, ids }
    }

    /// A worker with one slot has to make all runs succeed.
    async fn all_succeed(self, functions: FunctionsBuilder, before_demand: BeforeDemand) {
        let broker = Arc::new(SlowBroker { inner: self.broker, before_demand });
        let mut lifecycle = Lifecycle::default();
        let lease_ttl = HumanDuration::from_secs(15);
        let settings =
            Settings { queues: vec!["default".into()], slots: 1, name: Some("test".into()), lease_ttl, policy: None };
        let (functions, guard) = (functions.build().unwrap(), Guard::of(env!("CARGO_BIN_EXE_reveille-worker")));
        let (store, clock) = (self.store.clone(), Arc::new(SystemClock));
        start(settings, functions, guard, store, broker, clock, &mut lifecycle).await.unwrap();
        let all = async {
            for id in self.ids {
                while status(&self.store, id).await != Status::Succeeded {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        };
        timeout(Duration::from_secs(30), all).await.expect("the worker consumes");
        lifecycle.soft.cancel();
        lifecycle.join().await.unwrap();
    }
}

async fn status(store: &Store, id: WorkRequestId) -> Status {
    store.work_request("default", id).await.unwrap().unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_slots_come_free_while_it_stops_the_flow_consumes_again() {
    let bed = Bed::with_runs(2).await;
    let (store, first, gate) = (bed.store.clone(), bed.ids[0], Arc::new(Semaphore::new(0)));
    // The first run, which has the only slot, ends while the broker is told to send nothing more.
    let functions = Functions::builder().register("wait", {
        let gate = Arc::clone(&gate);
        move |run: Run| {
            let gate = Arc::clone(&gate);
            async move {
                if run.id == first {
                    gate.acquire().await.unwrap().forget();
                }
                Ok(json!({}))
            }
        }
    });
    let before_demand = move |priority, demand| -> BoxFuture<'static, ()> {
        let (store, gate) = (store.clone(), Arc::clone(&gate));
        Box::pin(async move {
            if priority == Priority::Normal && demand == 0 && status(&store, first).await == Status::InProgress {
                gate.add_permits(1);
                while status(&store, first).await != Status::Succeeded {
                    sleep(Duration::from_millis(2)).await;
                }
            }
        })
    };
    bed.all_succeed(functions, Arc::new(before_demand)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_far_from_its_broker_asks_for_every_priority() {
    let functions = Functions::builder().register("wait", |_: Run| async { Ok(json!({})) });
    let far = |_, _| -> BoxFuture<'static, ()> { Box::pin(sleep(Duration::from_millis(50))) };
    Bed::with_runs(1).await.all_succeed(functions, Arc::new(far)).await;
}
