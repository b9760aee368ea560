//! Runs that are one and the same, whoever asks for them: callers, schedules and chains.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);

/// A run of `close` goes on until there is a file of its day's name.
const FILE: &str = r#"
version: 1
jobs:
  close:
    command: [sh, -c, 'until [ -e FOLDER/$0 ]; do sleep 0.05; done', "{{ input.day }}"]
    unique: { key: "{{ input.day }}", while: running }
  digest: { command: ['true'], unique: { key: "{{ input.day }}", while: 10m } }
  before: { command: ['true'], on_success: [{ job: close, input: { day: "{{ input.day }}" } }, after] }
  after: { command: ['true'] }
schedules:
  insistent: { every: 1s, trigger: close, input: { day: fri }, overlap: allow }
"#;

/// The one run that all of many callers at once are given.
async fn ask(stacks: &[&harness::client::Client], job: &str, day: &str) -> Result<String> {
    let all = (0..20).map(|n| stacks[n % stacks.len()].trigger(job, json!({ "day": day })));
    let ids: BTreeSet<_> = try_join_all(all).await?.into_iter().collect();
    ensure!(ids.len() == 1, "one run of {job} for all on {day}: {ids:?}");
    ids.into_iter().next().context("an id")
}

async fn the_same(builder: Builder) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = FILE.replace("FOLDER", &folder.path().to_string_lossy());
    let stack = builder.schedules(yaml).start().await?;
    let apis: Vec<_> = stack.schedulers.iter().map(|scheduler| &scheduler.api).collect();
    while_it_runs(&stack, &apis, folder.path()).await?;
    // For a time: the end of the run changes nothing.
    let digest = ask(&apis, "digest", "mon").await?;
    stack.api.wait_status(&digest, "SUCCEEDED").await?;
    ensure!(ask(&apis, "digest", "mon").await? == digest, "within ten minutes it is the same");
    fires(&stack).await?;
    std::fs::write(folder.path().join("fri"), "")?;
    Ok(())
}

/// Callers and chains get the run that there is until it ends.
async fn while_it_runs(stack: &Stack, apis: &[&harness::client::Client], folder: &std::path::Path) -> Result<()> {
    let first = ask(apis, "close", "mon").await?;
    stack.api.wait_status(&first, "IN_PROGRESS").await?;
    ensure!(ask(apis, "close", "mon").await? == first, "it has not ended");
    let parent = stack.api.trigger("before", json!({ "day": "mon" })).await?;
    stack.api.wait_status(&parent, "SUCCEEDED").await?;
    eventually("what else the chain calls", LONG, async || match stack.api.list("job=after").await {
        Ok(runs) if runs.len() == 1 && runs[0]["chainedFrom"] == *parent => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    ensure!(days(stack, "mon").await? == [first.as_str()], "the chain has made no new one");
    ensure!(ask(apis, "close", "tue").await? != first, "another day is another run");
    for day in ["mon", "tue"] {
        std::fs::write(folder.join(day), "")?;
    }
    stack.api.wait_status(&first, "SUCCEEDED").await?;
    std::fs::remove_file(folder.join("mon"))?;
    let next = ask(apis, "close", "mon").await?;
    ensure!(next != first, "after its end a new one is made");
    std::fs::write(folder.join("mon"), "")?;
    stack.api.wait_status(&next, "SUCCEEDED").await?;
    Ok(())
}

/// Every fire of the schedule refers to the one run.
async fn fires(stack: &Stack) -> Result<()> {
    let fires = eventually("three fires", LONG, async || {
        let fires = stack.api.get_path("/v1/schedules/insistent/fires?limit=1000").await;
        let fires = fires.map_err(|error| format!("{error:#}"))?;
        let items = fires["items"].as_array().cloned().unwrap_or_default();
        if items.len() >= 3 { Ok(items) } else { Err(fires.to_string()) }
    })
    .await?;
    let runs = days(stack, "fri").await?;
    let [run] = runs.as_slice() else { anyhow::bail!("one run: {runs:?}") };
    for fire in &fires {
        ensure!(fire["outcome"] == "triggered" && fire["workRequests"] == json!([run]), "{fire}");
    }
    Ok(())
}

/// The runs of `close` for a day.
async fn days(stack: &Stack, day: &str) -> Result<Vec<String>> {
    let runs = stack.api.list("job=close&limit=1000").await?;
    let of_day = runs.into_iter().filter(|run| run["input"]["day"] == day);
    of_day.map(|run: Value| Ok(run["id"].as_str().context("an id")?.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_the_same_gets_the_run_that_there_is() -> Result<()> {
    the_same(Stack::postgres_rabbit().schedulers(2)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_the_same_gets_the_run_that_there_is_embedded() -> Result<()> {
    the_same(Stack::embedded()).await
}
