//! A whole worker against a real store (SQLite) and a real broker (the embedded one).

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reveille_shared::broker::{self, Broker, Route};
use reveille_shared::clock::{Clock, SystemClock};
use reveille_shared::definition::{
    Backoff, CommandCall, Definitions, FanOut, Handler, HttpCall, Job, OnLost, Priority, RetryPolicy, Verify,
    VerifyCall,
};
use reveille_shared::duration::HumanDuration;
use reveille_shared::fan_out::FailPolicy;
use reveille_shared::lifecycle::Lifecycle;
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{Cancellation, Claim, Loss, NewWorkRequest, Outgoing, Store};
use reveille_shared::work_request::{Happening, RunError, WorkRequest, WorkRequestId};
use reveille_worker::app::{Settings, start};
use reveille_worker::{Functions, Guard, Run, RunFailure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(60);

fn job(name: &str, handler: Handler) -> Job {
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

fn function(name: &str) -> Job {
    job(name, Handler::Function(name.into()))
}

fn shell(name: &str, script: &str) -> Job {
    let argv = ["sh", "-c", script].map(String::from).to_vec();
    let call = CommandCall { argv, env: BTreeMap::new(), working_dir: None, success: vec![], no_retry: vec![] };
    job(name, Handler::Command(call))
}

/// Store, broker and a dispatcher; what is missing is the worker.
struct Stack {
    _folder: TempDir,
    store: Store,
    broker: Arc<dyn Broker>,
    _dispatcher: JoinSet<()>,
}

impl Stack {
    async fn with(jobs: Vec<Job>) -> Self {
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

    async fn worker(&self, name: &str, slots: u16, functions: Functions) -> Lifecycle {
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

    async fn trigger(&self, job: &str, input: Value) -> WorkRequestId {
        let versioned = self.store.job("default", job).await.unwrap().unwrap();
        let request = NewWorkRequest {
            input,
            ..NewWorkRequest::new(WorkRequestId::new(SystemClock.now()), &versioned.item, versioned.version, "test")
        };
        let id = request.id;
        self.store.accept(request, None).await.unwrap();
        id
    }

    async fn get(&self, id: WorkRequestId) -> WorkRequest {
        self.store.work_request("default", id).await.unwrap().unwrap()
    }

    async fn until(&self, id: WorkRequestId, what: impl Fn(&WorkRequest) -> bool) -> WorkRequest {
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

    async fn until_status(&self, id: WorkRequestId, status: Status) -> WorkRequest {
        self.until(id, |seen| seen.status == status).await
    }

    async fn happenings(&self, id: WorkRequestId) -> Vec<Happening> {
        let events = self.store.events(id, 0, 100).await.unwrap();
        events.into_iter().map(|event| event.what).collect()
    }
}

async fn dispatch(store: Store, broker: Arc<dyn Broker>) {
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
async fn drain(lifecycle: Lifecycle, grace: Duration) {
    lifecycle.soft.cancel();
    let hard = lifecycle.hard.clone();
    let running = lifecycle.run(LIMIT);
    tokio::pin!(running);
    let code = tokio::select! {
        code = &mut running => code,
        () = sleep(grace) => {
            hard.cancel();
            let ending = Instant::now();
            let code = running.await;
            assert!(ending.elapsed() < Duration::from_secs(2), "{:?}", ending.elapsed());
            code
        }
    };
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
}

/// A function that goes on until its gate opens, and how often it was started.
fn gated(gate: &Arc<Semaphore>, started: &Arc<AtomicU32>) -> Functions {
    gated_as(&["gated"], gate, started)
}

/// The same, under several names.
fn gated_as(names: &[&str], gate: &Arc<Semaphore>, started: &Arc<AtomicU32>) -> Functions {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_runs_succeed_once_each() {
    let stack = Stack::with(vec![function("noop")]).await;
    let count = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&count);
    let functions = Functions::builder()
        .register("noop", move |run: Run| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Ok(run.input) }
        })
        .build()
        .unwrap();
    let mut ids = Vec::new();
    for number in 0..1000 {
        ids.push(stack.trigger("noop", json!(number)).await);
    }
    let worker = stack.worker("one", 50, functions).await;
    for (number, id) in ids.into_iter().enumerate() {
        let done = stack.until_status(id, Status::Succeeded).await;
        assert_eq!((done.attempt, stack.store.output(id).await.unwrap()), (1, Some(json!(number))));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1000);
    drain(worker, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_retried_as_the_policy_says() {
    let endless = HttpCall::new("GET", "http://127.0.0.1:1/{{ nope }}");
    let mut slow = function("slow");
    slow.timeout = HumanDuration::from_millis(50);
    slow.retry.max_attempts = 1;
    let jobs = vec![
        function("flaky"),
        function("fatal"),
        function("panics"),
        slow,
        function("absent"),
        job("template", Handler::Http(endless)),
    ];
    let stack = Stack::with(jobs).await;
    let functions = Functions::builder()
        .register("flaky", |run: Run| async move {
            run.progress(50.0, "half");
            if run.attempt == 1 { Err(RunFailure::retry("not yet").code("NotYet")) } else { Ok(json!("now")) }
        })
        .register("fatal", |_| async { Err(RunFailure::fatal("never").code("Never")) })
        .register("panics", |run: Run| async move {
            assert!(run.attempt > 2, "boom {}", run.attempt);
            Ok(Value::Null)
        })
        .register("slow", |run: Run| async move {
            run.stop.cancelled().await;
            Err(RunFailure::retry("was told to stop"))
        })
        .build()
        .unwrap();
    let worker = stack.worker("one", 4, functions).await;

    let flaky = stack.trigger("flaky", Value::Null).await;
    let done = stack.until_status(flaky, Status::Succeeded).await;
    assert_eq!((done.attempt, done.percent), (2, 100.0));
    assert!(matches!(&stack.happenings(flaky).await[..], [
        Happening::Accepted { .. },
        Happening::Started { attempt: 1, .. },
        Happening::AttemptFailed { attempt: 1, error, .. },
        Happening::Started { attempt: 2, .. },
        Happening::Succeeded { attempt: 2, .. },
    ] if error.code == "NotYet"));

    for (name, code, attempts) in [
        ("fatal", "Never", 1),
        ("panics", "Panic", 2),
        ("slow", "Timeout", 1),
        ("absent", "UnknownFunction", 2),
        ("template", "Template", 1),
    ] {
        let id = stack.trigger(name, Value::Null).await;
        let done = stack.until(id, |seen| seen.status.is_terminal()).await;
        let error = done.error.clone().unwrap();
        assert_eq!((done.status, error.code.as_str(), done.attempt), (Status::Failed, code, attempts), "{done:#?}");
    }
    drain(worker, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_command_is_canceled_and_its_log_is_there() {
    let stack = Stack::with(vec![shell("long", "echo pid $$; echo ::progress 25 waiting; exec sleep 600")]).await;
    let worker = stack.worker("one", 2, Functions::default()).await;
    let id = stack.trigger("long", Value::Null).await;
    let seen = stack.until(id, |seen| seen.percent > 0.0).await;
    assert_eq!((seen.percent, seen.message.as_deref()), (25.0, Some("waiting")));
    assert_eq!(stack.store.cancel("default", id, "test".into()).await.unwrap(), Cancellation::Canceling);
    stack.until_status(id, Status::Canceled).await;
    let lines = stack.store.logs(id, (0, 0), 10).await.unwrap();
    let pid = lines[0].text.strip_prefix("pid ").unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    drain(worker, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_runs_finish_and_gives_the_rest_back() {
    let stack = Stack::with(vec![function("gated")]).await;
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let worker = stack.worker("one", 1, gated(&gate, &started)).await;
    let first = stack.trigger("gated", Value::Null).await;
    stack.until(first, |seen| matches!(seen.phase, Phase::Leased(_))).await;
    let second = stack.trigger("gated", Value::Null).await;
    stack.until(second, |seen| matches!(seen.phase, Phase::Sent { .. })).await;
    let ending = async {
        drain(worker, LIMIT).await;
    };
    let opening = async {
        sleep(Duration::from_millis(200)).await;
        gate.add_permits(2);
    };
    tokio::join!(ending, opening);
    assert_eq!(stack.get(first).await.status, Status::Succeeded);
    assert_eq!((stack.get(second).await.status, started.load(Ordering::SeqCst)), (Status::Accepted, 1));
    let workers = stack.store.workers().await.unwrap();
    assert!(workers.iter().all(|worker| worker.ended_at.is_some()), "said goodbye: {workers:?}");

    let next = stack.worker("two", 1, gated(&gate, &started)).await;
    stack.until_status(second, Status::Succeeded).await;
    drain(next, LIMIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_outlives_the_grace_period_goes_on_as_its_job_says_of_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let effect = folder.path().join("effect");
    let verify = |script: String| {
        let argv = vec!["sh".into(), "-c".into(), script];
        let call = CommandCall { argv, env: BTreeMap::new(), working_dir: None, success: vec![], no_retry: vec![] };
        Some(Verify { how: VerifyCall::Command(call), timeout: HumanDuration::from_secs(10) })
    };
    let found = verify(format!("[ -e {} ]", effect.display()));
    let never = RetryPolicy { max_attempts: 1, ..function("x").retry };
    let took = format!("touch {}; trap '' TERM; while :; do sleep 1; done", effect.display());
    let jobs = vec![
        Job { retry: never, ..function("gated") },
        Job { verify: found.clone(), on_lost: OnLost::Fail, ..shell("took", &took) },
        Job { verify: verify("exit 1".into()), retry: never, ..function("did-not") },
        Job { on_lost: OnLost::Fail, ..function("once") },
    ];
    let stack = Stack::with(jobs).await;
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    let functions = || gated_as(&["gated", "did-not", "once"], &gate, &started);
    let worker = stack.worker("one", 4, functions()).await;
    let mut ids = Vec::new();
    for job in ["gated", "took", "did-not", "once"] {
        ids.push(stack.trigger(job, Value::Null).await);
    }
    let begin = Instant::now();
    while started.load(Ordering::SeqCst) < 3 || !effect.exists() {
        assert!(begin.elapsed() < LIMIT, "not all have begun");
        sleep(Duration::from_millis(10)).await;
    }
    drain(worker, Duration::from_millis(100)).await;
    let [gated, took, did_not, once] = ids[..] else { unreachable!() };
    for (id, asked) in [(gated, false), (took, true), (did_not, true)] {
        let told = stack.happenings(id).await;
        assert!(matches!(told[2], Happening::Released { attempt: 1, doubt, .. } if doubt == asked), "{told:?}");
        assert_eq!(stack.get(id).await.status, Status::InProgress);
    }
    let seen = stack.get(once).await;
    assert_eq!((seen.status, seen.error.unwrap().code), (Status::Failed, "Lost".into()));

    gate.add_permits(2);
    let next = stack.worker("two", 4, functions()).await;
    for id in [gated, took, did_not] {
        assert_eq!(stack.until_status(id, Status::Succeeded).await.attempt, 2);
    }
    let told = stack.happenings(took).await;
    assert!(matches!(told.last(), Some(Happening::Succeeded { verified: true, .. })), "it was begun anew: {told:?}");
    assert_eq!(started.load(Ordering::SeqCst), 5);
    drain(next, LIMIT).await;
}

/// Accepts calls, and closes each connection once the call has come. How often that was.
async fn hangs_up() -> (String, Arc<AtomicU32>, JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let called = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&called);
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let read = tokio::io::AsyncReadExt::read(&mut socket, &mut [0; 4096]).await.unwrap();
            count.fetch_add(u32::from(read > 0), Ordering::SeqCst);
        }
    });
    (url, called, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_an_answer_goes_on_as_its_job_says_of_what_is_lost() {
    let (url, called, _server) = hangs_up().await;
    let call =
        |name: &str| Job { on_lost: OnLost::Fail, ..job(name, Handler::Http(HttpCall::new("POST", url.clone()))) };
    let argv = ["sh", "-c", "exit 0"].map(String::from).to_vec();
    let asks = CommandCall { argv, env: BTreeMap::new(), working_dir: None, success: vec![], no_retry: vec![] };
    let verify = Some(Verify { how: VerifyCall::Command(asks), timeout: HumanDuration::from_secs(10) });
    let one_way = Handler::Http(HttpCall { one_way: true, ..HttpCall::new("POST", url.clone()) });
    let refused = Handler::Http(HttpCall::new("POST", "http://127.0.0.1:1/"));
    let jobs = vec![
        call("once"),
        Job { on_lost: OnLost::Retry, ..call("again") },
        Job { verify, ..call("asked") },
        Job { handler: one_way, ..call("one-way") },
        Job { handler: refused, ..call("refused") },
    ];
    let stack = Stack::with(jobs).await;
    let worker = stack.worker("one", 2, Functions::default()).await;
    for (job, status, attempts, calls) in [
        ("once", Status::Failed, 1, 1),
        ("one-way", Status::Failed, 1, 1),
        ("again", Status::Failed, 2, 2),
        ("asked", Status::Succeeded, 2, 1),
        ("refused", Status::Failed, 2, 0),
    ] {
        called.store(0, Ordering::SeqCst);
        let id = stack.trigger(job, Value::Null).await;
        let done = stack.until(id, |seen| seen.status.is_terminal()).await;
        assert_eq!(
            (done.status, done.attempt, called.load(Ordering::SeqCst)),
            (status, attempts, calls),
            "{job}: {done:#?}"
        );
    }
    drain(worker, LIMIT).await;
}

fn default_route() -> Route {
    Route { queue: "default".into(), priority: Priority::Normal }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_trigger_is_acked_and_runs_nothing() {
    let stack = Stack::with(vec![function("gated")]).await;
    let (gate, started) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicU32::new(0)));
    let id = stack.trigger("gated", Value::Null).await;
    stack.until(id, |seen| matches!(seen.phase, Phase::Sent { .. })).await;
    let mut subscription = stack.broker.subscribe(&["default".into()], Priority::Normal).await.unwrap();
    subscription.demand(1).await;
    let delivery = subscription.next().await.unwrap();
    let trigger = delivery.triggers[0].clone();
    subscription.give_back(vec![delivery]).await;
    drop(subscription);
    let repeated: Vec<_> = (0..5).map(|_| (default_route(), trigger.clone())).collect();
    assert!(stack.broker.publish(&repeated).await.iter().all(Result::is_ok));

    let worker = stack.worker("one", 4, gated(&gate, &started)).await;
    stack.until_status(id, Status::Succeeded).await;
    assert!(stack.broker.publish(&repeated).await.iter().all(Result::is_ok));
    let probe = stack.trigger("gated", Value::Null).await;
    gate.add_permits(1);
    stack.until_status(probe, Status::Succeeded).await;
    drain(worker, LIMIT).await;
    assert_eq!((started.load(Ordering::SeqCst), stack.broker.depth("default").await.unwrap()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_worker_gives_back_what_another_one_can_run() {
    let stack = Stack::with(vec![function("gated")]).await;
    let (closed, open) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(100)));
    let started = Arc::new(AtomicU32::new(0));
    let full = stack.worker("full", 2, gated(&closed, &started)).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(stack.trigger("gated", Value::Null).await);
    }
    let start = Instant::now();
    while started.load(Ordering::SeqCst) < 2 {
        assert!(start.elapsed() < LIMIT);
        sleep(Duration::from_millis(5)).await;
    }
    let start = Instant::now();
    let free = stack.worker("free", 2, gated(&open, &started)).await;
    let mut done = 0;
    while done < 4 {
        assert!(start.elapsed() < LIMIT, "the full worker sits on triggers");
        sleep(Duration::from_millis(10)).await;
        done = 0;
        for id in &ids {
            done += u32::from(stack.get(*id).await.status == Status::Succeeded);
        }
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    closed.add_permits(2);
    for id in ids {
        stack.until_status(id, Status::Succeeded).await;
    }
    tokio::join!(drain(full, LIMIT), drain(free, LIMIT));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_beat_mends_what_store_and_memory_disagree_on() {
    let stack = Stack::with(vec![function("gated")]).await;
    let (gate, started) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU32::new(0)));
    // Sent before the worker is there, and claimed in its name: a lease without a run.
    let orphan = stack.trigger("gated", Value::Null).await;
    stack.until(orphan, |seen| matches!(seen.phase, Phase::Sent { .. })).await;
    let mut subscription = stack.broker.subscribe(&["default".into()], Priority::Normal).await.unwrap();
    subscription.demand(1).await;
    let delivery = subscription.next().await.unwrap();
    let worker = stack.worker("one", 2, gated(&gate, &started)).await;
    let name = stack.store.workers().await.unwrap()[0].worker.incarnation;
    let claim = Claim { id: orphan, n: delivery.triggers[0].n, token: Uuid::new_v4() };
    assert!(stack.store.claim(name, &[claim]).await.unwrap()[0].is_ok());
    subscription.ack(vec![delivery]).await;
    let seen = stack.until(orphan, |seen| seen.attempt == 2).await;
    assert!(matches!(stack.happenings(orphan).await[2], Happening::Released { attempt: 1, .. }));

    // The reconciler takes the lease away: a run without a lease, which is stopped and changes nothing any more.
    let Phase::Leased(lease) = seen.phase else { panic!("{seen:?}") };
    let error = RunError::new("Lost", "as the test says");
    stack
        .store
        .lose(vec![Loss { id: orphan, token: lease.token, error, retry: None, verify: false, if_overdue: false }])
        .await
        .unwrap();
    let probes = [stack.trigger("gated", Value::Null).await, stack.trigger("gated", Value::Null).await];
    for probe in probes {
        // Both slots are free again, so the run was stopped.
        stack.until(probe, |seen| matches!(seen.phase, Phase::Leased(_))).await;
    }
    let seen = stack.get(orphan).await;
    assert_eq!((seen.status, seen.error.unwrap().code), (Status::Failed, "Lost".into()));

    // The worker is found dead: it calls its runs lost, and goes on under another name.
    stack.store.retire_worker(name).await.unwrap();
    let start = Instant::now();
    while stack.store.workers().await.unwrap().iter().all(|worker| worker.ended_at.is_some()) {
        assert!(start.elapsed() < LIMIT);
        sleep(Duration::from_millis(20)).await;
    }
    for probe in probes {
        let seen = stack.until(probe, |seen| seen.attempt == 2).await;
        assert!(matches!(seen.phase, Phase::Leased(lease) if lease.worker != name), "{seen:?}");
        let told = stack.happenings(probe).await;
        assert!(matches!(&told[2], Happening::AttemptFailed { error, .. } if error.code == "Lost"), "{told:?}");
    }
    gate.add_permits(2);
    for probe in probes {
        stack.until_status(probe, Status::Succeeded).await;
    }
    drain(worker, LIMIT).await;
}

/// The inputs of the children that a run has called for.
async fn inputs_of(stack: &Stack, parent: WorkRequestId) -> Vec<Value> {
    let fan_out = stack.store.fan_out(parent).await.unwrap().unwrap();
    let (mut inputs, mut after) = (Vec::new(), -1);
    while let Some(chunk) = stack.store.next_chunk(fan_out.batch, after).await.unwrap() {
        after = chunk.number;
        inputs.extend(chunk.inputs);
    }
    assert_eq!(inputs.len(), fan_out.counts.total as usize);
    inputs
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_handler_lists_or_hands_over_becomes_children() {
    let fan_out = |from: Option<&str>, max| {
        Some(FanOut { job: "child".into(), from: from.map(str::to_owned), fail: FailPolicy::Fast, max })
    };
    let of = |name: &str, fan_out| Job { fan_out, ..function(name) };
    let list = Some("{{ output.items }}");
    let script = r#"echo '::child {"a": 1}'; echo '::progress 90 almost'; echo '::child [2]'; echo said"#;
    let jobs = vec![
        of("listed", fan_out(list, 3)),
        of("handed", fan_out(None, 100_000)),
        of("undeclared", None),
        Job { fan_out: fan_out(None, 2), ..shell("printed", script) },
        Job { fan_out: fan_out(None, 2), ..shell("garbled", "echo '::child {'; sleep 600") },
        Job { fan_out: fan_out(None, 1), ..shell("many", script) },
        function("child"),
    ];
    let stack = Stack::with(jobs).await;
    let hands_over = |run: Run| async move {
        run.fan_out((0..1_234).map(|number| json!({ "number": number }))).await?;
        run.fan_out([json!("last")]).await?;
        Ok(json!("handed"))
    };
    let functions = Functions::builder()
        .register("listed", |run: Run| async move { Ok(run.input) })
        .register("handed", hands_over)
        .register("undeclared", hands_over)
        .register("child", |_: Run| async move { Ok(Value::Null) })
        .build()
        .unwrap();
    let worker = stack.worker("one", 8, functions).await;
    let split = |seen: &WorkRequest| seen.phase == Phase::Children;

    let id = stack.trigger("listed", json!({"items": ["x", {"y": 1}]})).await;
    let seen = stack.until(id, split).await;
    assert_eq!((seen.status, seen.children.unwrap().policy), (Status::InProgress, FailPolicy::Fast));
    assert_eq!(inputs_of(&stack, id).await, [json!("x"), json!({"y": 1})]);

    let id = stack.trigger("handed", Value::Null).await;
    stack.until(id, split).await;
    let inputs = inputs_of(&stack, id).await;
    assert_eq!((inputs.len(), &inputs[1_233], &inputs[1_234]), (1_235, &json!({"number": 1_233}), &json!("last")));

    let id = stack.trigger("printed", Value::Null).await;
    let seen = stack.until(id, split).await;
    assert_eq!((seen.percent, seen.message.as_deref()), (0.0, Some("almost")), "only words are told");
    assert_eq!(inputs_of(&stack, id).await, [json!({"a": 1}), json!([2])]);
    let lines = stack.store.logs(id, (0, 0), 10).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["said"]);

    let id = stack.trigger("listed", json!({"items": []})).await;
    stack.until_status(id, Status::Succeeded).await;
    for (job, input, code) in [
        ("listed", json!({"items": 7}), "NoList"),
        ("listed", json!({}), "Template"),
        ("listed", json!({"items": [1, 2, 3, 4]}), "TooManyChildren"),
        ("listed", json!({"items": [null]}), "InvalidChild"),
        ("garbled", Value::Null, "InvalidChild"),
        ("many", Value::Null, "TooManyChildren"),
        ("undeclared", Value::Null, "NoFanOut"),
    ] {
        let id = stack.trigger(job, input).await;
        let seen = stack.until_status(id, Status::Failed).await;
        assert_eq!((seen.error.unwrap().code.as_str(), seen.attempt, seen.children), (code, 1, None), "{job}");
    }
    drain(worker, LIMIT).await;
}
