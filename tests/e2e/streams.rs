//! Being told what happens.

use anyhow::{Context as _, Result, ensure};
use harness::sse::Reader;
use harness::stack::Stack;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

const FILE: &str = "
version: 1
jobs:
  good: { command: ['true'] }
  hold: { command: [sleep, '600'] }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_vanishes_ends_its_stream_and_is_in_nobodys_way() -> Result<()> {
    let stack = Stack::postgres_rabbit().schedules(FILE).start().await?;
    let gone = stack.api.trigger("hold", json!({})).await?;
    stack.api.wait_status(&gone, "IN_PROGRESS").await?;
    let mut of_all = Reader::new("/v1/workRequests:stream");
    ensure!(of_all.connect(&stack.api).await? == 200, "no stream");
    let mut of_gone = Reader::new(format!("/v1/workRequests/{gone}/stream"));
    ensure!(of_gone.connect(&stack.api).await? == 200, "no stream");
    for expected in ["accepted", "started"] {
        ensure!(of_gone.next().await?.is_some_and(|event| event.event == expected), "not {expected}");
    }
    // As an operator deletes it who does not ask how.
    let mut database = PgConnection::connect(stack.database.as_ref().context("a database")?.url()).await?;
    let delete = format!(
        "INSERT INTO events (work_request_id, seq, at, what) VALUES ('{gone}', 99, now(), '{{\"type\": \"resent\"}}');
         DELETE FROM deliveries WHERE id = '{gone}'; DELETE FROM events WHERE work_request_id = '{gone}';
         DELETE FROM work_requests WHERE id = '{gone}'"
    );
    sqlx::raw_sql(AssertSqlSafe(delete)).execute(&mut database).await?;
    ensure!(of_gone.next().await?.is_none(), "what is gone goes on");
    ensure!(of_gone.connect(&stack.api).await? == 404, "what is gone is there");
    let good = stack.api.trigger("good", json!({})).await?;
    for expected in ["accepted", "started", "succeeded"] {
        let event = of_all.next().await?.context("the stream has ended")?;
        ensure!((event.data["workRequestId"] == good) && event.event == expected, "{event:?}");
    }
    Ok(())
}

/// As many as the system lets it, however few its parent was content with.
#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_has_room_for_thousands_of_streams() -> Result<()> {
    let stack = Stack::postgres_rabbit().workers(0).start().await?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", stack.schedulers[0].pid()))?;
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).context("no limit of files")?;
    let [soft, hard] = files.split_whitespace().take(2).collect::<Vec<_>>()[..] else { anyhow::bail!("{files}") };
    ensure!(soft == hard, "{files}");
    Ok(())
}
