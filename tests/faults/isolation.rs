//! Workers that the database does not hear: one that is alone with that stops its run before another worker begins it; when
//! the database is down for everyone, runs go on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::process_tree::descendants;
use harness::stack::{Builder, Network, Stack};
use harness::wait::eventually;
use rustix::process::Signal;
use serde_json::json;

const TTL: Duration = Duration::from_secs(4);
/// How long an attempt may take to begin.
const LIMIT: Duration = Duration::from_secs(60);

/// A program that writes the time into its attempt's file for as long as it lives, or until there is a file `go`.
const LEDGER: &str = r#"
version: 1
jobs:
  ledger:
    command:
      - sh
      - -c
      - |
        trap '' TERM HUP INT
        while [ ! -e FOLDER/go ]; do date +%s%N >> FOLDER/attempt-$REVEILLE_ATTEMPT; sleep 0.02; done
    timeout: 10m
    retry: { max_attempts: 5, initial: 50ms, max: 50ms }
"#;

struct Scene {
    stack: Stack,
    id: String,
    folder: tempfile::TempDir,
}

impl Scene {
    /// A run is under way on one of the workers.
    async fn start(builder: Builder) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let yaml = LEDGER.replace("FOLDER", &folder.path().to_string_lossy());
        let ttl = format!("{}s", TTL.as_secs());
        let builder = builder.schedules(yaml).env("REVEILLE_LEASE_TTL", &ttl);
        let stack = builder.slots(1).start().await?;
        let id = stack.api.trigger("ledger", json!({})).await?;
        let scene = Self { stack, id, folder };
        scene.attempt_runs(1, LIMIT).await?;
        Ok(scene)
    }

    async fn attempt_runs(&self, attempt: u32, limit: Duration) -> Result<()> {
        eventually(&format!("attempt {attempt} to run"), limit, async || match times(self.folder.path(), attempt) {
            times if times.is_empty() => Err("it has written nothing".to_owned()),
            _ => Ok(()),
        })
        .await
    }

    /// Which of the workers has the run: the one with a program.
    fn holder(&self) -> Result<usize> {
        let holder = self.stack.workers.iter().position(|worker| !descendants(worker.pid()).is_empty());
        holder.context("no worker runs a program")
    }

    /// Attempt 2 runs, and began when the first one was over.
    async fn goes_on_elsewhere(&self) -> Result<()> {
        self.attempt_runs(2, LIMIT).await?;
        let first = times(self.folder.path(), 1).pop().context("the first attempt wrote nothing")?;
        let second = times(self.folder.path(), 2)[0];
        ensure!(first < second, "two at once for {:?}", Duration::from_nanos(first - second));
        Ok(())
    }

    async fn ends_well(&self, attempt: u32) -> Result<()> {
        std::fs::write(self.folder.path().join("go"), "")?;
        let run = self.stack.api.wait_status(&self.id, "SUCCEEDED").await?;
        ensure!(run["attempt"] == attempt, "not attempt {attempt}: {run}");
        let last = times(self.folder.path(), attempt).len();
        ensure!(!file(self.folder.path(), attempt + 1).exists(), "an attempt too many, after {last} lines");
        Ok(())
    }
}

fn file(folder: &Path, attempt: u32) -> PathBuf {
    folder.join(format!("attempt-{attempt}"))
}

/// The times at which an attempt was alive.
fn times(folder: &Path, attempt: u32) -> Vec<u64> {
    let text = std::fs::read_to_string(file(folder, attempt)).unwrap_or_default();
    // The last line may be half written.
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse().ok()).collect()
}

/// Breaks the holder's network, and shows that the run goes on elsewhere, and that the holder is of use again later.
async fn an_isolated_worker_gives_way(break_it: impl AsyncFn(&Network)) -> Result<()> {
    let scene = Scene::start(Stack::postgres_rabbit().workers(2).proxied_workers()).await?;
    let holder = scene.holder()?;
    let network = &scene.stack.worker_networks[holder];
    break_it(network).await;
    scene.goes_on_elsewhere().await?;
    let log = scene.stack.workers[holder].log();
    ensure!(log.contains("its runs are stopped"), "it was not the worker's own decision:\n{log}");
    network.database.heal();
    network.broker.heal();
    scene.ends_well(2).await?;

    // Two more runs at once, on two workers of one slot each.
    std::fs::remove_file(scene.folder.path().join("go"))?;
    let runs =
        [scene.stack.api.trigger("ledger", json!({})).await?, scene.stack.api.trigger("ledger", json!({})).await?];
    for id in &runs {
        scene.stack.api.wait_status(id, "IN_PROGRESS").await?;
    }
    std::fs::write(scene.folder.path().join("go"), "")?;
    for id in &runs {
        scene.stack.api.wait_status(id, "SUCCEEDED").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_alone_is_cut_off_from_the_database_stops_in_time() -> Result<()> {
    an_isolated_worker_gives_way(async |network| network.database.cut().await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_database_does_not_answer_stops_in_time() -> Result<()> {
    an_isolated_worker_gives_way(async |network| network.database.stall()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_database_and_broker_stops_in_time() -> Result<()> {
    an_isolated_worker_gives_way(async |network| {
        network.database.stall();
        network.broker.stall();
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_worker_is_replaced_in_time_and_never_doubled() -> Result<()> {
    let mut scene = Scene::start(Stack::postgres_rabbit().workers(2)).await?;
    let holder = scene.holder()?;
    let frozen = Instant::now();
    scene.stack.workers[holder].signal(Signal::STOP)?;
    scene.goes_on_elsewhere().await?;
    // Its time begins anew when the leader itself stands still for long.
    ensure!(frozen.elapsed() < TTL * 3, "only after {:?}", frozen.elapsed());
    scene.stack.workers[holder].signal(Signal::CONT)?;
    scene.stack.workers[holder].wait_ready().await?;
    scene.ends_well(2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_for_everyone_ends_no_lease() -> Result<()> {
    let mut scene = Scene::start(Stack::postgres_rabbit().workers(2).private_services()).await?;
    let database = scene.stack.database.as_mut().context("a database")?.server()?;
    database.kill()?;
    // The fault itself: five times as long as a lease lives.
    tokio::time::sleep(TTL * 5).await;
    database.restart().await?;
    eventually("an answer", Duration::from_secs(60), async || {
        scene.stack.api.get(&scene.id).await.map(|_| ()).map_err(|error| format!("{error:#}"))
    })
    .await?;
    // Would a lease end, it would by now.
    tokio::time::sleep(TTL * 2).await;
    let written = times(scene.folder.path(), 1);
    let gap = written.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(u64::MAX);
    ensure!(Duration::from_nanos(gap) < Duration::from_secs(3), "it stood still for {gap} ns");
    scene.ends_well(1).await
}
