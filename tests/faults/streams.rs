//! What happens to all runs, as one reader hears it that is led from scheduler to scheduler while these die.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use harness::client::Client;
use harness::sse::Reader;
use harness::stack::Stack;
use serde_json::{Value, json};

const FILE: &str = r#"
version: 1
defaults: { retry: { max_attempts: 2, initial: 50ms } }
jobs:
  good: { command: ['true'], concurrency: 20 }
  flaky: { command: [sh, -c, 'test $REVEILLE_ATTEMPT = 2'] }
  bad: { command: ['false'] }
schedules:
  often: { every: 1s, trigger: [good, flaky], overlap: allow }
"#;
/// Asked for at once.
const TOGETHER: usize = 30;

/// What was heard of each run, in the order in which it came.
#[derive(Debug, Default)]
struct Heard {
    last: i64,
    runs: BTreeMap<String, Vec<Value>>,
}

impl Heard {
    /// Hears so many more events.
    async fn more(&mut self, reader: &mut Reader, count: usize) -> Result<()> {
        for _ in 0..count {
            ensure!(self.next(reader).await?, "the stream has ended");
        }
        Ok(())
    }

    /// Hears the next one, if the stream has not ended.
    async fn next(&mut self, reader: &mut Reader) -> Result<bool> {
        let Some(event) = reader.next().await? else { return Ok(false) };
        let id: i64 = event.id.parse()?;
        ensure!(id > self.last, "{id} comes behind {}", self.last);
        self.last = id;
        let run = event.data["workRequestId"].as_str().context("a run")?.to_owned();
        ensure!(event.data["status"].is_string(), "{event:?}");
        self.runs.entry(run).or_default().push(event.data["event"].clone());
        Ok(true)
    }

    fn has_ended(&self, run: &str) -> bool {
        let last = self.runs.get(run).and_then(|events| events.last());
        last.is_some_and(|last| matches!(last["type"].as_str(), Some("succeeded" | "failed" | "canceled")))
    }
}

/// Asks for many runs at once, so that their transactions end in any order.
async fn ask(apis: &[Client]) -> Result<Vec<String>> {
    let jobs = ["good", "flaky", "bad"].into_iter().cycle().take(TOGETHER);
    try_join_all(jobs.zip(apis.iter().cycle()).map(|(job, api)| api.trigger(job, json!({})))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_hears_everything_once_wherever_it_goes_on() -> Result<()> {
    let mut stack = Stack::postgres_rabbit().schedulers(2).workers(2).slots(16).schedules(FILE).start().await?;
    let mut reader = Reader::new("/v1/workRequests:stream");
    ensure!(reader.connect(&stack.api).await? == 200, "no stream");
    let (mut heard, mut asked) = (Heard::default(), Vec::new());
    for round in 0..6 {
        let (here, there) = (round % 2, (round + 1) % 2);
        let apis = [0, 1].map(|number: usize| stack.schedulers[number].api.clone());
        let (more, heard_some) = tokio::join!(ask(&apis), heard.more(&mut reader, TOGETHER));
        asked.extend(more?);
        heard_some?;
        if round % 3 == 1 {
            // It dies while it tells.
            let other = stack.schedulers[there].api.clone();
            let (more, killed) = tokio::join!(ask(std::slice::from_ref(&other)), async {
                heard.more(&mut reader, 3).await?;
                stack.schedulers[here].kill9()
            });
            asked.extend(more?);
            killed?;
            while heard.next(&mut reader).await? {}
        } else if round % 3 == 2 {
            // It is told to stop, and ends the stream in good order.
            stack.schedulers[here].signal(rustix::process::Signal::TERM)?;
            while heard.next(&mut reader).await? {}
        }
        let status = reader.connect(&stack.schedulers[there].api).await?;
        ensure!(status == 200, "{status} behind {:?}", reader.last_id());
        if round % 3 != 0 {
            stack.schedulers[here].restart().await?;
        }
    }
    while !asked.iter().all(|run| heard.has_ended(run)) {
        heard.more(&mut reader, 1).await?;
    }
    ensure!(asked.len() == 8 * TOGETHER, "{} were asked for", asked.len());
    for (run, events) in &heard.runs {
        let known = stack.api.part(run, "events").await?;
        let is_whole = if asked.contains(run) {
            known == *events
        } else {
            // A fire: it may have begun before the stream did, and may go on.
            let before = known.iter().take_while(|event| **event != events[0]).count();
            known[before..].starts_with(events)
        };
        ensure!(is_whole, "of {run} was heard {events:#?}");
    }
    Ok(())
}
