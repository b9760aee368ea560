//! Files that change under a running scheduler.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use reqwest::{Method, StatusCode};

use crate::scenario::replace_schedules;

const GOOD: &str =
    "version: 1\njobs:\n  ping: { command: ['true'] }\nschedules:\n  often: { every: 1s, trigger: ping }\n";

/// A part that works, and on which somebody has to look.
const ATTENTION: &str = r#""attention":true"#;

async fn readiness(stack: &Stack) -> Result<(StatusCode, String), String> {
    let answer = stack.api.request(Method::GET, "/readyz").send().await.map_err(|error| error.to_string())?;
    Ok((answer.status(), answer.text().await.map_err(|error| error.to_string())?))
}

/// A faulty change keeps the last good state in force and says where the fault is, until it is mended.
async fn faulty_then_mended(builder: Builder) -> Result<()> {
    let stack = builder.schedules(GOOD).start().await?;
    replace_schedules(&stack, &GOOD.replace("trigger: ping", "tigger: ping"))?;
    eventually("the fault to show in /readyz", Duration::from_secs(20), async || {
        let (status, text) = readiness(&stack).await?;
        // The file, the line, the column, and what was meant.
        let shown = text.contains("test.yaml:5:") && text.contains("trigger");
        // No reason to send callers away, and one to look.
        if status == StatusCode::OK && shown && text.contains(ATTENTION) {
            Ok(())
        } else {
            Err(format!("{status} {text}"))
        }
    })
    .await?;
    let before = stack.api.list("schedule=often&limit=1000").await?.len();
    eventually("the last good schedule to go on", Duration::from_secs(20), async || {
        let now = stack.api.list("schedule=often&limit=1000").await.map_err(|error| error.to_string())?.len();
        if now >= before + 2 { Ok(()) } else { Err(format!("{now} runs")) }
    })
    .await?;
    replace_schedules(&stack, &GOOD.replace("every: 1s", "every: 1h"))?;
    eventually("the mended file to be in force", Duration::from_secs(20), async || {
        let (status, text) = readiness(&stack).await?;
        let schedule = stack.api.get_path("/v1/schedules/often").await.map_err(|error| error.to_string())?;
        let mended = status == StatusCode::OK && !text.contains(ATTENTION) && schedule["every"] == "1h";
        if mended { Ok(()) } else { Err(format!("{status} {text} {schedule}")) }
    })
    .await?;
    let log = stack.schedulers[0].log();
    ensure!(log.contains("test.yaml:5:"), "the log does not name the fault's place:\n{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_change_keeps_the_last_good_state() -> Result<()> {
    faulty_then_mended(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_change_keeps_the_last_good_state_embedded() -> Result<()> {
    faulty_then_mended(Stack::embedded()).await
}
