//! One run with many children shows one percentage and ends as they do, on the whole system.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(120);

const JOBS: &str = r#"
version: 1
defaults: { retry: { max_attempts: 1 } }
jobs:
  even: { command: [sh, -c, '[ $(( {{ input.number }} % 2 )) = 0 ]'], on_failure: [odd] }
  odd: { command: ['true'] }
  endless: { command: [sleep, '600'], concurrency: 2 }
  album:
    command: [sh, -c, 'for n in $(seq 0 24); do echo "::child {\"number\": $((2 * n))}"; done; echo "::progress 100 listed"']
    fan_out: { job: even, fail: fast }
    on_success: [odd]
  broken: { command: [sh, -c, 'echo "::child {\"number\": 0}"; exit 1'], fan_out: { job: even } }
  too-many: { command: [sh, -c, 'echo "::child {}"; echo "::child {}"'], fan_out: { job: even, max: 1 } }
"#;

async fn ask(stack: &Stack, job: &str, body: Value) -> Result<String> {
    let answer = stack.api.request(Method::POST, &format!("/v1/jobs/{job}/trigger")).json(&body).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status == 202, "{status}: {text}");
    let accepted: Value = serde_json::from_str(&text)?;
    Ok(accepted["id"].as_str().context("an id")?.to_owned())
}

fn inputs(count: u32) -> Vec<Value> {
    (0..count).map(|number| json!({ "number": number })).collect()
}

/// Waits for the end, and sees that the percentage never goes backward.
async fn ended(stack: &Stack, id: &str) -> Result<Value> {
    let mut last = 0.0;
    eventually(&format!("{id} to end"), LONG, async || {
        let seen = stack.api.get(id).await.map_err(|error| format!("{error:#}"))?;
        let percent = seen["percentComplete"].as_f64().unwrap_or(-1.0);
        assert!(percent >= last, "{percent} after {last}: {seen}");
        last = percent;
        if seen["timeFinished"].is_null() { Err(seen.to_string()) } else { Ok(seen) }
    })
    .await
}

async fn a_run_ends_as_its_children_do(builder: Builder) -> Result<()> {
    let stack = builder.schedules(JOBS).slots(4).start().await?;
    let id = ask(&stack, "even", json!({"inputs": inputs(40), "fail": {"tolerate": "50%"}})).await?;
    let seen = ended(&stack, &id).await?;
    ensure!(seen["status"] == "SUCCEEDED" && seen["percentComplete"] == 100.0, "{seen}");
    ensure!(seen["children"]["succeeded"] == 20 && seen["children"]["failed"] == 20, "{seen}");
    let children = stack.api.list(&format!("parent={id}&limit=100")).await?;
    ensure!(children.len() == 40 && children.iter().all(|child| child["attempt"] == 1), "{children:?}");
    eventually("the chains of the children that failed", LONG, async || {
        let chained = stack.api.list("job=odd&limit=100").await.map_err(|error| format!("{error:#}"))?;
        if chained.len() == 20 { Ok(()) } else { Err(format!("{} are there", chained.len())) }
    })
    .await?;

    let id = ask(&stack, "even", json!({"inputs": inputs(3), "fail": "at_end"})).await?;
    let seen = ended(&stack, &id).await?;
    ensure!(seen["status"] == "FAILED" && seen["error"]["code"] == "ChildFailed", "{seen}");

    // A handler calls for children; what it says of its own progress is not taken for theirs.
    let id = stack.api.trigger("album", json!({})).await?;
    let seen = ended(&stack, &id).await?;
    ensure!(seen["status"] == "SUCCEEDED" && seen["children"]["succeeded"] == 25, "{seen}");
    let result = stack.api.get_path(&format!("/v1/workRequests/{id}/result")).await?;
    ensure!(result["output"]["exitCode"] == 0 && result["children"]["total"] == 25, "{result}");
    eventually("its own chain", LONG, async || {
        let chained = stack.api.list("job=odd&limit=100").await.map_err(|error| format!("{error:#}"))?;
        let mine = chained.iter().filter(|run| run["chainedFrom"] == id.as_str()).count();
        if mine == 1 { Ok(()) } else { Err(format!("{mine} are there")) }
    })
    .await?;

    // A handler that fails has no children, whatever it has handed over before.
    for (job, code) in [("broken", "ExitCode"), ("too-many", "TooManyChildren")] {
        let id = stack.api.trigger(job, json!({})).await?;
        let seen = ended(&stack, &id).await?;
        ensure!(seen["status"] == "FAILED" && seen["error"]["code"] == code && seen["children"].is_null(), "{seen}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_and_rabbitmq_a_run_ends_as_its_children_do() -> Result<()> {
    a_run_ends_as_its_children_do(Stack::postgres_rabbit().workers(2)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_process_a_run_ends_as_its_children_do() -> Result<()> {
    a_run_ends_as_its_children_do(Stack::embedded()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_all_children_and_their_limits_hold() -> Result<()> {
    let stack = Stack::postgres_rabbit().schedules(JOBS).slots(8).start().await?;
    let id = ask(&stack, "endless", json!({"inputs": inputs(250)})).await?;
    let count = async |status: &str| {
        let query = format!("parent={id}&limit=1000{status}");
        stack.api.list(&query).await.map(|runs| runs.len()).map_err(|error| format!("{error:#}"))
    };
    eventually("two of 200 children to run", LONG, async || {
        let (made, running) = (count("").await?, count("&status=IN_PROGRESS").await?);
        if (made, running) == (200, 2) { Ok(()) } else { Err(format!("{running} of {made} run")) }
    })
    .await?;
    stack.api.cancel(&id).await?;
    let seen = ended(&stack, &id).await?;
    ensure!(seen["status"] == "CANCELED" && seen["children"]["canceled"] == 250, "{seen}");
    let canceled = count("&status=CANCELED").await.map_err(anyhow::Error::msg)?;
    // 200 of them were made, and two ran: never more, as the job says.
    ensure!(canceled == 200, "{canceled} children");
    Ok(())
}
