//! Store, broker and a dispatcher, and jobs and functions for a worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reveille_shared::broker::{self, Broker};
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::definition::{Backoff, CommandCall, Definitions, Handler, Job, RetryPolicy};
use reveille_shared::duration::HumanDuration;
use reveille_shared::lifecycle::Lifecycle;
use reveille_shared::state::Status;
use reveille_shared::store::{NewWorkRequest, Outgoing, Store};
use reveille_shared::work_request::{Happening, WorkRequest, WorkRequestId};
use reveille_worker::app::{Settings, start};
use reveille_worker::{Functions, Guard, Run, RunFailure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn job(name: &str, handler: Handler) -> Job {
    Job {
        timeout: HumanDuration::from_secs(60),
        retry: RetryPolicy {
            max_attempts: 2,
            initial: HumanDuration::from_millis(1),
            max: HumanDuration::from_millis(10),
            backoff: Backoff::Constant,
        },
        ..Job::new("default", name, handler)
    }
}

pub(crate) fn function(name: &str) -> Job {
    job(name, Handler::Function(name.into()))
}

pub(crate) fn shell(name: &str, script: &str) -> Job {
    let argv = ["sh", "-c", script].map(String::from).to_vec();
    let call = CommandCall { argv, env: BTreeMap::new(), working_dir: None, success: vec![], no_retry: vec![] };
    job(name, Handler::Command(call))
}

/// Store, broker and a dispatcher; what is missing is the worker.
pub(crate) struct Stack {
    _folder: TempDir,
    pub(crate) store: Store,
    pub(crate) broker: Arc<dyn Broker>,
    _dispatcher: JoinSet<()>,
}

impl Stack {
    pub(crate) async fn with(jobs: Vec<Job>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().display());
        let store = Store::connect(&url, "test", Arc::new(SystemClock)).await.unwrap();
        let broker = broker::connect("embedded", "test", CancellationToken::new()).unwrap();
        broker.declare(&["default".into()]).await.unwrap();
        let generation = store.lead(Uuid::new_v4(), Duration::from_secs(60)).await.unwrap().unwrap();
        let definitions = Definitions { revision: None, jobs, schedules: vec![] };
        store.apply_definitions(generation, &definitions, "digest", "test").await.unwrap();
        let mut dispatcher = JoinSet::new();
        dispatcher.spawn(dispatch(store.clone(), Arc::clone(&broker)));
        Self { _folder: folder, store, broker, _dispatcher: dispatcher }
    }

    pub(crate) async fn worker(&self, name: &str, slots: u16, functions: Functions) -> Lifecycle {
        let mut lifecycle = Lifecycle::default();
        let settings = Settings {
            queues: vec!["default".into()],
            slots,
            name: Some(name.into()),
            lease_ttl: HumanDuration::from_secs(15),
            policy: None,
        };
        let guard = Guard::of(env!("CARGO_BIN_EXE_reveille-worker"));
        let (store, broker) = (self.store.clone(), Arc::clone(&self.broker));
        start(settings, functions, guard, store, broker, Arc::new(SystemClock), &mut lifecycle).await.unwrap();
        lifecycle
    }

    pub(crate) async fn trigger(&self, job: &str, input: Value) -> WorkRequestId {
        let versioned = self.store.job("default", job).await.unwrap().unwrap();
        let request = NewWorkRequest {
            input,
            ..NewWorkRequest::new(WorkRequestId::new(SystemClock.now()), &versioned.item, versioned.version, "test")
        };
        let id = request.id;
        self.store.accept(request, None).await.unwrap();
        id
    }

    pub(crate) async fn get(&self, id: WorkRequestId) -> WorkRequest {
        self.store.work_request("default", id).await.unwrap().unwrap()
    }

    pub(crate) async fn until(&self, id: WorkRequestId, what: impl Fn(&WorkRequest) -> bool) -> WorkRequest {
        let start = Instant::now();
        loop {
            let seen = self.get(id).await;
            if what(&seen) {
                return seen;
            }
            assert!(start.elapsed() < LIMIT, "last seen: {seen:#?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn until_status(&self, id: WorkRequestId, status: Status) -> WorkRequest {
        self.until(id, |seen| seen.status == status).await
    }

    pub(crate) async fn happenings(&self, id: WorkRequestId) -> Vec<Happening> {
        let events = self.store.events(id, 0, 100).await.unwrap();
        events.into_iter().map(|event| event.what).collect()
    }
}

pub(crate) async fn dispatch(store: Store, broker: Arc<dyn Broker>) {
    let nudge = store.nudge(reveille_shared::store::Hint::Due);
    loop {
        let outgoing = store.take_due(500).await.unwrap();
        let triggers: Vec<_> = outgoing.into_iter().map(|Outgoing { route, trigger, .. }| (route, trigger)).collect();
        for verdict in broker.publish(&triggers).await {
            verdict.unwrap();
        }
        if triggers.is_empty() {
            tokio::select! {
                () = nudge.notified() => {}
                () = sleep(Duration::from_millis(5)) => {}
            }
        }
    }
}

/// Ends a worker as SIGTERM would, and as a second one after the grace period.
pub(crate) async fn drain(lifecycle: Lifecycle, grace: Duration) {
    lifecycle.soft.cancel();
    let hard = lifecycle.hard.clone();
    let running = lifecycle.run(LIMIT);
    tokio::pin!(running);
    let code = tokio::select! {
        code = &mut running => code,
        () = sleep(grace) => {
            hard.cancel();
            // Who does not heed that in two seconds is aborted, which is no success.
            running.await
        }
    };
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
}

/// A function that goes on until its gate opens, and how often it was started.
pub(crate) fn gated(gate: &Arc<Semaphore>, started: &Arc<AtomicU32>) -> Functions {
    gated_as(&["gated"], gate, started)
}

/// The same, under several names.
pub(crate) fn gated_as(names: &[&str], gate: &Arc<Semaphore>, started: &Arc<AtomicU32>) -> Functions {
    let mut functions = Functions::builder();
    for name in names {
        let (gate, started) = (Arc::clone(gate), Arc::clone(started));
        functions = functions.register(*name, move |run: Run| {
            let gate = Arc::clone(&gate);
            started.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::select! {
                    permit = gate.acquire() => { permit?.forget(); Ok(json!("through")) }
                    () = run.stop.cancelled() => Err(RunFailure::retry("stopped")),
                }
            }
        });
    }
    functions.build().unwrap()
}
