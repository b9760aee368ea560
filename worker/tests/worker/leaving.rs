//! A worker that leaves, or whose callee does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reveille_shared::definition::{CommandCall, Handler, HttpCall, Job, OnLost, RetryPolicy, Verify, VerifyCall};
use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Phase, Status};
use reveille_shared::work_request::Happening;
use reveille_worker::Functions;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::stack::{LIMIT, Stack, drain, function, gated, gated_as, job, shell};

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
