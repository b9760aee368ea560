//! What runs come to: their ends, retries, logs and children.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use reveille_shared::definition::{FanOut, Handler, HttpCall, Job};
use reveille_shared::duration::HumanDuration;
use reveille_shared::fan_out::FailPolicy;
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::Cancellation;
use reveille_shared::work_request::{Happening, WorkRequest, WorkRequestId};
use reveille_worker::{Functions, Run, RunFailure};
use serde_json::{Value, json};

use crate::stack::{LIMIT, Stack, drain, function, job, shell};

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
