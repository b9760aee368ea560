//! What several scenarios do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::stack::Stack;
use harness::wait::eventually;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Unit};
use serde_json::Value;

/// A whole second, about `seconds` from now.
#[allow(clippy::disallowed_methods, reason = "a test of real processes lives in real time")]
pub(crate) fn soon(seconds: i64) -> Timestamp {
    let second = Timestamp::now().round(Unit::Second).unwrap();
    second + seconds.seconds()
}

/// Puts this file in place of the folder's only one, in one step.
pub(crate) fn replace_schedules(stack: &Stack, yaml: &str) -> Result<()> {
    let folder = stack.schedules_folder();
    let next = folder.join("next");
    std::fs::write(&next, yaml)?;
    Ok(std::fs::rename(next, folder.join("test.yaml"))?)
}

/// Waits until as many runs of these jobs as expected are in this state at the same time, and gives them.
pub(crate) async fn all_at_once(stack: &Stack, status: &str, count: usize, limit: Duration) -> Result<Vec<Value>> {
    eventually(&format!("{count} runs to be {status} at once"), limit, async || {
        let found =
            stack.api.list(&format!("status={status}&limit=1000")).await.map_err(|error| format!("{error:#}"))?;
        if found.len() >= count { Ok(found) } else { Err(format!("{} are", found.len())) }
    })
    .await
}

/// An instant in a work request.
pub(crate) fn instant(run: &Value, field: &str) -> Result<Timestamp> {
    let text = run[field].as_str().with_context(|| format!("no {field} in {run}"))?;
    Ok(text.parse()?)
}

/// How long after `due` the latest of these instants is.
pub(crate) fn latest_after(runs: &[Value], field: &str, due: Timestamp) -> Result<SignedDuration> {
    let instants = runs.iter().map(|run| instant(run, field)).collect::<Result<Vec<_>>>()?;
    Ok(instants.into_iter().max().context("no runs")?.duration_since(due))
}

/// The value of a metric: the first line that begins with `name`.
pub(crate) async fn metric(stack: &Stack, name: &str) -> Result<f64> {
    let text = stack.api.request(reqwest::Method::GET, "/metrics").send().await?.text().await?;
    let line = text.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name} in:\n{text}"))?;
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}
