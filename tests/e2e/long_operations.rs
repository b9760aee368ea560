//! Operations of a callee that go on for longer than any worker: followed to their end without a slot, and told to stop.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::callee::{Callee, Operation};
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};
use lapin::{Channel, Connection, ConnectionProperties};
use rustix::process::Signal;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);

const JOBS: &str = r#"
version: 1
defaults: { retry: { max_attempts: 2, initial: 100ms, max: 100ms } }
jobs:
  export: { http: { url: BASE/begin, follow: { poll: { min: 200ms, max: 500ms }, cancel: delete } }, timeout: 10m }
  patient: { http: { url: BASE/begin, follow: { poll: { min: 100ms, max: 10s } } } }
  idle: { http: { url: BASE/begin, follow: { poll: { min: 1h }, cancel: delete } }, timeout: 1d }
  hasty:
    http: { url: BASE/begin, follow: { poll: { min: 200ms, max: 500ms }, cancel: delete } }
    timeout: 10s
    retry: { max_attempts: 1 }
  notify: { http: { url: BASE/begin, one_way: true } }
  greet: { command: [echo, hello] }
"#;

async fn start(builder: Builder) -> Result<(Stack, Callee)> {
    let callee = Callee::start().await?;
    let builder = builder.schedules(JOBS.replace("BASE", &callee.base)).slots(1);
    Ok((builder.env("REVEILLE_LEASE_TTL", "4s").start().await?, callee))
}

async fn operation(callee: &Callee, id: &str, what: &str, is_it: impl Fn(&Operation) -> bool) -> Result<Operation> {
    eventually(&format!("the operation to be {what}"), LONG, async || match callee.operation(id) {
        Some(seen) if is_it(&seen) => Ok(seen),
        seen => Err(format!("{seen:?}")),
    })
    .await
}

async fn run_is(stack: &Stack, id: &str, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(&format!("the run to be {what}"), LONG, async || {
        let run = stack.api.get(id).await.map_err(|error| format!("{error:#}"))?;
        if is_it(&run) { Ok(run) } else { Err(run.to_string()) }
    })
    .await
}

fn goes_on_elsewhere(run: &Value) -> bool {
    run["waitingFor"].as_str().is_some_and(|text| text.starts_with("goes on elsewhere; to be asked after at "))
}

async fn history(stack: &Stack, id: &str) -> Result<Vec<String>> {
    let events = stack.api.part(id, "events").await?;
    Ok(events.iter().map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect())
}

/// The process that asks is killed, and another one takes its place.
async fn kill_worker(stack: &mut Stack) -> Result<()> {
    let service = stack.workers.first_mut().or(stack.schedulers.first_mut()).context("a process")?;
    service.kill9()?;
    service.restart().await
}

/// The callee's words reach callers, its URL does not.
async fn nothing_is_told_of_its_url(stack: &Stack, id: &str) -> Result<()> {
    let mut told = stack.api.get(id).await?.to_string();
    for part in ["events", "logs", "errors", "lateReports"] {
        told += &json!(stack.api.part(id, part).await?).to_string();
    }
    for service in stack.schedulers.iter().chain(&stack.workers) {
        told += &service.log();
    }
    ensure!(!told.contains("hunter2"), "the signature of its URL is told: {told}");
    Ok(())
}

/// One slot, one attempt, two dead workers, and other runs in between.
async fn an_operation_outlives_two_workers(builder: Builder) -> Result<()> {
    let (mut stack, callee) = start(builder).await?;
    let id = stack.api.trigger("export", json!({})).await?;
    for life in 1..=2_u32 {
        let before = operation(&callee, &id, "asked after", |operation| operation.asked > 0).await?.asked;
        let percent = 30 * life;
        callee.change(&id, |operation| operation.percent = percent);
        run_is(&stack, &id, "as far as it is", |run| run["percentComplete"] == f64::from(percent)).await?;
        // The only slot is free.
        let other = stack.api.trigger("greet", json!({})).await?;
        stack.api.wait_status(&other, "SUCCEEDED").await?;
        kill_worker(&mut stack).await?;
        operation(&callee, &id, "asked after by the next worker", |operation| operation.asked > before + 4).await?;
    }
    let run = run_is(&stack, &id, "parked", goes_on_elsewhere).await?;
    ensure!(run["status"] == "IN_PROGRESS" && run["attempt"] == 1, "{run}");
    callee.change(&id, |operation| operation.status = "Succeeded");
    let run = stack.api.wait_status(&id, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 1 && run["percentComplete"] == 100.0 && run["waitingFor"].is_null(), "{run}");
    let seen = operation(&callee, &id, "over", |operation| operation.status == "Succeeded").await?;
    ensure!(seen.begun == 1, "it was begun {} times", seen.begun);
    let result = stack.api.get_path(&format!("/v1/workRequests/{id}/result")).await?;
    ensure!(result["body"]["status"] == "Succeeded", "{result}");
    // A worker that dies while it asks is told of; else it is parked once.
    let types = history(&stack, &id).await?;
    let (parked, rest): (Vec<&str>, Vec<&str>) = types.iter().map(String::as_str).partition(|it| *it == "parked");
    ensure!(rest == ["accepted", "started", "succeeded"] && (1..=3).contains(&parked.len()), "{types:?}");
    nothing_is_told_of_its_url(&stack, &id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_outlives_two_workers_and_takes_no_slot() -> Result<()> {
    an_operation_outlives_two_workers(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_outlives_two_workers_and_takes_no_slot_embedded() -> Result<()> {
    an_operation_outlives_two_workers(Stack::embedded()).await
}

/// The next trigger in the queue of normal priority, unsettled; markers are not wanted.
async fn next_trigger(channel: &Channel) -> Result<(u64, Value)> {
    eventually("a trigger", LONG, async || {
        let get = channel.basic_get("reveille.q.default".into(), BasicGetOptions::default()).await;
        let message = get.map_err(|error| error.to_string())?.ok_or("the queue is empty")?;
        let body: Value = serde_json::from_slice(&message.delivery.data).map_err(|error| error.to_string())?;
        let tag = message.delivery.delivery_tag;
        if body["n"] != 0 {
            return Ok((tag, body));
        }
        channel.basic_ack(tag, BasicAckOptions::default()).await.map_err(|error| error.to_string())?;
        Err("a marker".to_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_of_an_earlier_release_refuses_another_one_goes_on_with() -> Result<()> {
    let (mut stack, callee) = start(Stack::postgres_rabbit()).await?;
    stack.workers[0].signal(Signal::TERM)?;
    stack.workers[0].wait_exit(LONG).await?;
    let broker = stack.broker.as_ref().context("a broker")?;
    let connection = Connection::connect(broker.url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let id = stack.api.trigger("patient", json!({})).await?;
    let (tag, first) = next_trigger(&channel).await?;
    ensure!(first["v"] == 1 && first["id"] == id.as_str(), "every worker may begin it: {first}");
    channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }).await?;
    stack.workers[0].start_again()?;
    operation(&callee, &id, "asked after", |operation| operation.asked > 0).await?;
    stack.workers[0].signal(Signal::TERM)?;
    stack.workers[0].wait_exit(LONG).await?;

    // As a worker does that reads only what has `v` 1.
    let (tag, onward) = next_trigger(&channel).await?;
    ensure!(onward["v"] == 2 && onward["id"] == id.as_str(), "{onward}");
    channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: false }).await?;
    let (tag, again) = next_trigger(&channel).await?;
    ensure!(again["v"] == 2 && again["n"].as_u64() > onward["n"].as_u64(), "{again}");
    channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true }).await?;
    callee.change(&id, |operation| operation.status = "Succeeded");
    stack.workers[0].start_again()?;
    let run = stack.api.wait_status(&id, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 1, "{run}");
    ensure!(callee.operation(&id).context("an operation")?.begun == 1, "it was begun anew");
    ensure!(history(&stack, &id).await?.iter().any(|it| it == "returned"), "nobody is told");
    Ok(())
}

/// Parked for an hour, being asked after all the time, over before it is heard: the callee is told, and believed.
async fn the_callee_is_told(builder: Builder) -> Result<()> {
    let (stack, callee) = start(builder).await?;
    let idle = stack.api.trigger("idle", json!({})).await?;
    run_is(&stack, &idle, "parked", goes_on_elsewhere).await?;
    let queues = stack.api.get_path("/v1/queues").await?;
    ensure!(queues["items"][0]["parked"] == 1 && queues["items"][0]["leased"] == 0, "{queues}");
    let busy = stack.api.trigger("export", json!({})).await?;
    operation(&callee, &busy, "asked after", |operation| operation.asked > 1).await?;
    for id in [&idle, &busy] {
        stack.api.cancel(id).await?;
        let run = stack.api.wait_status(id, "CANCELED").await?;
        ensure!(run["attempt"] == 1 && run["lastError"].is_null(), "{run}");
        let seen = callee.operation(id).context("an operation")?;
        ensure!(seen.status == "Canceled" && seen.begun == 1, "{seen:?}");
        let types = history(&stack, id).await?;
        ensure!(types == ["accepted", "started", "parked", "cancelRequested", "canceled"], "{types:?}");
        let lines = stack.api.part(id, "logs").await?;
        ensure!(lines[0]["message"] == "cancel call: answered 202 Accepted", "{lines:?}");
    }
    let late = stack.api.trigger("idle", json!({})).await?;
    run_is(&stack, &late, "parked", goes_on_elsewhere).await?;
    callee.change(&late, |operation| operation.status = "Succeeded");
    stack.api.cancel(&late).await?;
    let run = stack.api.wait_status(&late, "SUCCEEDED").await.context("it had ended first")?;
    ensure!(run["attempt"] == 1, "{run}");
    nothing_is_told_of_its_url(&stack, &idle).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_what_goes_on_elsewhere() -> Result<()> {
    the_callee_is_told(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_what_goes_on_elsewhere_embedded() -> Result<()> {
    the_callee_is_told(Stack::embedded()).await
}

/// Ends by the time-out, by the callee's word, by its forgetting; and a callee that is gone for a while.
async fn all_ends(builder: Builder) -> Result<()> {
    let (stack, callee) = start(builder).await?;
    let failed = stack.api.trigger("export", json!({})).await?;
    let hasty = stack.api.trigger("hasty", json!({})).await?;
    let steady = stack.api.trigger("patient", json!({})).await?;
    for id in [&failed, &hasty, &steady] {
        operation(&callee, id, "asked after", |operation| operation.asked > 0).await?;
    }
    // One slot: none of them has it for longer than a question.
    let run = stack.api.wait_status(&hasty, "FAILED").await?;
    ensure!(run["error"]["code"] == "Timeout" && run["attempt"] == 1, "{run}");
    ensure!(callee.operation(&hasty).context("an operation")?.status == "Canceled", "it goes on over there");
    callee.is_out_of_order(true);
    let is_told = async || {
        eventually("the trouble to be told", LONG, async || {
            let lines = stack.api.part(&steady, "logs").await.map_err(|error| format!("{error:#}"))?;
            let told =
                lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("answered 503")));
            if told { Ok(()) } else { Err(format!("{lines:?}")) }
        })
        .await
    };
    is_told().await?;
    ensure!(stack.api.get(&steady).await?["status"] == "IN_PROGRESS");
    callee.is_out_of_order(false);
    callee.change(&steady, |operation| operation.status = "Succeeded");
    let run = stack.api.wait_status(&steady, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 1, "{run}");
    // A failure is retried; the callee knows the key, and says that this one has failed.
    callee.change(&failed, |operation| operation.status = "Failed");
    let run = stack.api.wait_status(&failed, "FAILED").await?;
    ensure!(run["attempt"] == 2 && run["error"]["code"] == "OperationFailed", "{run}");
    ensure!(run["error"]["message"] == "what was begun has failed: NoDisk: the disk is full", "{run}");

    let gone = stack.api.trigger("export", json!({})).await?;
    operation(&callee, &gone, "asked after", |operation| operation.asked > 0).await?;
    run_is(&stack, &gone, "parked", goes_on_elsewhere).await?;
    callee.forget();
    let run = stack.api.wait_status(&gone, "FAILED").await?;
    ensure!(run["error"]["code"] == "OperationGone" && run["attempt"] == 1, "{run}");
    nothing_is_told_of_its_url(&stack, &gone).await?;

    let sent = stack.api.trigger("notify", json!({})).await?;
    stack.api.wait_status(&sent, "SUCCEEDED").await?;
    let result = stack.api.get_path(&format!("/v1/workRequests/{sent}/result")).await?;
    ensure!(result == json!({"status": 202}), "{result}");
    ensure!(callee.operation(&sent).context("an operation")?.asked == 0, "nobody follows it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_elsewhere_ends_in_every_way() -> Result<()> {
    all_ends(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_elsewhere_ends_in_every_way_embedded() -> Result<()> {
    all_ends(Stack::embedded()).await
}

/// The callee's wish is heeded: two seconds between questions, where a tenth would do.
#[tokio::test(flavor = "multi_thread")]
async fn a_callee_is_asked_when_it_wants_to_be() -> Result<()> {
    let (stack, callee) = start(Stack::embedded()).await?;
    callee.retry_after(2);
    let id = stack.api.trigger("patient", json!({})).await?;
    operation(&callee, &id, "asked after", |operation| operation.asked > 0).await?;
    let begun = std::time::Instant::now();
    operation(&callee, &id, "asked after again", |operation| operation.asked > 2).await?;
    ensure!(begun.elapsed() > Duration::from_millis(3500), "{:?}", begun.elapsed());
    Ok(())
}

/// A worker that is told to stop waits for no operation, and takes none with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_what_goes_on_elsewhere() -> Result<()> {
    let (mut stack, callee) = start(Stack::postgres_rabbit()).await?;
    let id = stack.api.trigger("export", json!({})).await?;
    operation(&callee, &id, "asked after", |operation| operation.asked > 0).await?;
    let begun = std::time::Instant::now();
    stack.workers[0].signal(Signal::TERM)?;
    let status = stack.workers[0].wait_exit(LONG).await?;
    ensure!(status.success() && begun.elapsed() < Duration::from_secs(8), "{status} after {:?}", begun.elapsed());
    stack.workers[0].restart().await?;
    callee.change(&id, |operation| operation.status = "Succeeded");
    let run = stack.api.wait_status(&id, "SUCCEEDED").await?;
    ensure!(run["attempt"] == 1, "{run}");
    Ok(())
}
