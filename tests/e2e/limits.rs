//! How many runs of a job are under way, and how many start within a time: with several workers, and when one dies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::process_tree::descendants;
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use jiff::SignedDuration;
use serde_json::json;

use crate::scenario::{all_at_once, instant};

const KEYS: [&str; 3] = ["a", "b", "c"];
/// How many runs of one key may be under way.
const MOST: usize = 2;
const RUNS: usize = 30;
const LONG: Duration = Duration::from_secs(60);

/// Each attempt writes into its key's file when it was alive, from its first to its last moment. It goes on until there is
/// a file `go`, and a little longer.
const TWO_OF_A_KEY: &str = r#"
version: 1
jobs:
  tick:
    command:
      - sh
      - -c
      - |
        tick() { echo "$REVEILLE_WORK_REQUEST_ID-$REVEILLE_ATTEMPT $(date +%s%N)" >> FOLDER/$0; }
        until [ -e FOLDER/go ]; do tick; sleep 0.05; done
        tick; sleep 0.1; tick
      - "{{ input.key }}"
    concurrency: { limit: 2, key: "{{ input.key }}" }
    retry: { max_attempts: 5, initial: 100ms, max: 100ms }
"#;

/// The most attempts that were alive at one time, by what they have written.
fn most_at_once(file: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(file)?;
    let mut lives: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for line in text.lines() {
        let (attempt, at) = line.split_once(' ').with_context(|| format!("half a line: {line}"))?;
        let at = at.parse()?;
        lives.entry(attempt).or_insert((at, at)).1 = at;
    }
    let at_once = |at: u64| lives.values().filter(|(first, last)| (*first..=*last).contains(&at)).count();
    lives.values().map(|(first, _)| at_once(*first)).max().context("nobody has written")
}

/// Thirty runs of three keys, all of them accepted; as many as may be are under way, and the others say what they wait for.
/// Then there is trouble, and after it all go on to their ends. Answers how many attempts each took.
async fn never_more_than_two_of_a_key(
    builder: Builder,
    trouble: impl AsyncFnOnce(&mut Stack) -> Result<()>,
) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let builder = builder.schedules(TWO_OF_A_KEY.replace("FOLDER", &folder.path().to_string_lossy()));
    let mut stack = builder.slots(8).env("REVEILLE_LEASE_TTL", "4s").start().await?;
    let mut waiting = BTreeSet::new();
    for n in 0..RUNS {
        waiting.insert(stack.api.trigger("tick", json!({ "key": KEYS[n % KEYS.len()] })).await?);
    }
    for run in all_at_once(&stack, "IN_PROGRESS", KEYS.len() * MOST, LONG).await? {
        waiting.remove(run["id"].as_str().unwrap_or_default());
    }
    ensure!(waiting.len() == RUNS - KEYS.len() * MOST, "{} wait", waiting.len());
    for id in &waiting {
        eventually("the run to say what it waits for", LONG, async || {
            let run = stack.api.get(id).await.map_err(|error| format!("{error:#}"))?;
            let key = run["input"]["key"].as_str().unwrap_or_default();
            let words = run["waitingFor"].as_str().unwrap_or_default();
            let is_clear = words.starts_with("limit ") && words.contains(&format!("tick/{key}: 2 of 2"));
            if is_clear { Ok(()) } else { Err(run.to_string()) }
        })
        .await?;
    }
    trouble(&mut stack).await?;
    std::fs::write(folder.path().join("go"), "")?;
    let ended = all_at_once(&stack, "SUCCEEDED", RUNS, LONG).await?;
    ensure!(ended.len() == RUNS, "more runs than were asked for: {}", ended.len());
    for key in KEYS {
        let most = most_at_once(&folder.path().join(key))?;
        ensure!(most == MOST, "{most} runs of {key} at once");
    }
    Ok(())
}

/// How many attempts were lost.
async fn lost(stack: &Stack) -> Result<usize> {
    let runs = stack.api.list("limit=1000").await?;
    Ok(runs.iter().filter(|run| run["lastError"]["code"] == "Lost").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_runs_of_a_key_than_its_limit_over_three_workers() -> Result<()> {
    never_more_than_two_of_a_key(Stack::postgres_rabbit().workers(3), async |_| Ok(())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_runs_of_a_key_than_its_limit_when_a_worker_is_killed() -> Result<()> {
    never_more_than_two_of_a_key(Stack::postgres_rabbit().workers(3), async |stack| {
        let busy = stack.workers.iter_mut().find(|worker| !descendants(worker.pid()).is_empty());
        busy.context("no worker runs a program")?.kill9()?;
        // Its slots are given to others once its leases have ended, which the workers that live show.
        eventually("its runs to be lost", LONG, async || match lost(stack).await {
            Ok(0) => Err("none is".to_owned()),
            other => other.map_err(|error| format!("{error:#}")),
        })
        .await?;
        all_at_once(stack, "IN_PROGRESS", KEYS.len() * MOST, LONG).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_runs_of_a_key_than_its_limit_through_a_crash_embedded() -> Result<()> {
    never_more_than_two_of_a_key(Stack::embedded(), async |stack| {
        stack.schedulers[0].kill9()?;
        stack.schedulers[0].restart().await?;
        ensure!(lost(stack).await? == KEYS.len() * MOST, "{} were lost", lost(stack).await?);
        Ok(())
    })
    .await
}

/// What a start may be later than the sending that the rate counts: the way through the broker, and the claim.
const SLACK: SignedDuration = SignedDuration::from_secs(2);

/// Fifteen runs at five in four seconds.
async fn a_rate(builder: Builder) -> Result<()> {
    let yaml = "version: 1\njobs:\n  call: { command: ['true'], rate: 5/4s }\n";
    let stack = builder.schedules(yaml).start().await?;
    let mut ids = Vec::new();
    for _ in 0..15 {
        ids.push(stack.api.trigger("call", json!({})).await?);
    }
    eventually("the last run to say what it waits for", LONG, async || {
        let run = stack.api.get(&ids[14]).await.map_err(|error| format!("{error:#}"))?;
        let words = run["waitingFor"].as_str().unwrap_or_default();
        if words.contains("call: 5 of 5") && words.contains("about") { Ok(()) } else { Err(run.to_string()) }
    })
    .await?;
    let ended = all_at_once(&stack, "SUCCEEDED", 15, LONG).await?;
    let mut starts = ended.iter().map(|run| instant(run, "timeStarted")).collect::<Result<Vec<_>>>()?;
    starts.sort_unstable();
    for six in starts.windows(6) {
        let span = six[5].duration_since(six[0]);
        ensure!(span > SignedDuration::from_secs(4) - SLACK, "six starts within {span:#}: {starts:?}");
    }
    // Three spans, and each run is let go when its turn comes.
    let all = starts[14].duration_since(starts[0]);
    ensure!(all > SignedDuration::from_secs(8) - SLACK && all < SignedDuration::from_secs(20), "all in {all:#}");
    // Those accepted first go first.
    for (n, id) in ids.iter().enumerate() {
        let run = ended.iter().find(|run| run["id"] == **id).context("the run")?;
        let group = starts.iter().position(|start| *start == instant(run, "timeStarted").unwrap()).context("it")? / 5;
        ensure!(group == n / 5, "run {n} was let go with group {group}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_runs_start_within_a_time_than_the_rate_says() -> Result<()> {
    a_rate(Stack::postgres_rabbit()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_runs_start_within_a_time_than_the_rate_says_embedded() -> Result<()> {
    a_rate(Stack::embedded()).await
}
