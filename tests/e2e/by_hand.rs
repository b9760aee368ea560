//! Runs that someone asks for: what they get, what they see, what they can stop.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use serde_json::json;

const JOBS: &str = r#"
version: 1
defaults: { retry: { max_attempts: 3, initial: 100ms, max: 200ms } }
jobs:
  greet:
    command: [sh, -c, 'echo "hello $0"; echo oops >&2; echo "::progress 40 halfway"', "{{ input.name }}"]
  flaky:
    command: [sh, -c, 'test "$REVEILLE_ATTEMPT" = 3']
  hopeless:
    command: [sh, -c, 'exit 7']
  forever:
    command: [sleep, '600']
  slow:
    command: [sleep, '600']
    timeout: 1s
    retry: { max_attempts: 1 }
"#;

async fn by_hand(builder: Builder) -> Result<()> {
    let stack = builder.schedules(JOBS).start().await?;
    let api = &stack.api;

    let greeted = api.trigger("greet", json!({ "name": "Reveille" })).await?;
    let run = api.wait_status(&greeted, "SUCCEEDED").await?;
    ensure!(run["percentComplete"].as_f64() == Some(100.0) && run["message"] == "halfway", "{run}");
    let logs = eventually("both lines", Duration::from_secs(10), async || {
        let logs = api.part(&greeted, "logs").await.map_err(|error| error.to_string())?;
        if logs.len() >= 2 { Ok(logs) } else { Err(format!("{logs:?}")) }
    })
    .await?;
    let line = |stream: &str| logs.iter().find(|line| line["stream"] == stream).map(|line| line["message"].clone());
    ensure!(line("stdout") == Some(json!("hello Reveille")) && line("stderr") == Some(json!("oops")), "{logs:?}");
    let events: Vec<_> = api.part(&greeted, "events").await?.iter().map(|event| event["type"].clone()).collect();
    ensure!(events == ["accepted", "started", "succeeded"], "{events:?}");

    let flaky = api.trigger("flaky", json!({})).await?;
    ensure!(api.wait_status(&flaky, "SUCCEEDED").await?["attempt"] == 3);

    let hopeless = api.trigger("hopeless", json!({})).await?;
    let run = api.wait_status(&hopeless, "FAILED").await?;
    ensure!(run["attempt"] == 3 && run["error"]["code"] == "ExitCode", "{run}");

    let slow = api.trigger("slow", json!({})).await?;
    ensure!(api.wait_status(&slow, "FAILED").await?["error"]["code"] == "Timeout");

    let forever = api.trigger("forever", json!({})).await?;
    api.wait_status(&forever, "IN_PROGRESS").await?;
    api.cancel(&forever).await?;
    api.wait_status(&forever, "CANCELED").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_by_hand() -> Result<()> {
    by_hand(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_by_hand_embedded() -> Result<()> {
    by_hand(Stack::embedded()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_for_later_waits_and_can_be_taken_back() -> Result<()> {
    let stack = Stack::postgres_rabbit().schedules(JOBS).start().await?;
    let request = stack.api.request(reqwest::Method::POST, "/v1/jobs/greet/trigger");
    let answer = request.json(&json!({ "input": { "name": "later" }, "delay": "1h" })).send().await?;
    ensure!(answer.status() == 202);
    let id = answer.json::<serde_json::Value>().await?["id"].as_str().context("an id")?.to_owned();
    let waiting = stack.api.get(&id).await?;
    ensure!(waiting["status"] == "ACCEPTED" && waiting["waitingFor"].is_string(), "{waiting}");
    stack.api.cancel(&id).await?;
    let canceled = stack.api.get(&id).await?;
    ensure!(canceled["status"] == "CANCELED", "{canceled}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_called_with_the_input_and_its_answer_is_kept() -> Result<()> {
    // The API itself is an endpoint that is at hand: a run asks it about another job.
    let stack = Stack::postgres_rabbit().schedules(JOBS).start().await?;
    let base = stack.schedulers[0].address();
    let yaml = format!(
        "version: 1\njobs:\n  ask: {{ http: {{ method: GET, url: 'http://{base}/v1/jobs/{{{{ input.job }}}}', headers: {{ X-API-Key: '{}' }} }} }}\n  greet: {{ command: ['true'] }}\n",
        harness::key::text()
    );
    crate::scenario::replace_schedules(&stack, &yaml)?;
    eventually("the new job", Duration::from_secs(20), async || {
        stack.api.get_path("/v1/jobs/ask").await.map_err(|error| error.to_string())
    })
    .await?;
    let id = stack.api.trigger("ask", json!({ "job": "greet" })).await?;
    stack.api.wait_status(&id, "SUCCEEDED").await?;
    let result = stack.api.get_path(&format!("/v1/workRequests/{id}/result")).await?;
    ensure!(result.to_string().contains("greet"), "{result}");
    Ok(())
}
