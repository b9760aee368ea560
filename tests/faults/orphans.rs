//! Workers that die or stand still: their programs are gone before anyone else may begin the same run.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::process_tree::is_living;
use harness::stack::Stack;
use harness::wait::eventually;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;

const TTL: Duration = Duration::from_secs(4);

/// A program that heeds no signal but SIGKILL, with a child that has left its group; both say who they are.
const STUBBORN: &str = r#"
version: 1
jobs:
  stubborn:
    command:
      - sh
      - -c
      - |
        trap '' TERM HUP INT
        setsid sh -c 'echo $$ > FOLDER/detached-$REVEILLE_ATTEMPT; while :; do sleep 0.1; done' &
        echo $$ > FOLDER/program-$REVEILLE_ATTEMPT
        while :; do sleep 0.1; done
    timeout: 10m
    retry: { max_attempts: 3, initial: 100ms, max: 100ms }
  brief: { command: [sh, -c, 'touch FOLDER/begun; sleep 1.5'] }
"#;

/// One worker that has a stubborn run, and the processes of that.
struct Scene {
    stack: Stack,
    id: String,
    pids: [Pid; 2],
    folder: tempfile::TempDir,
}

impl Scene {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let yaml = STUBBORN.replace("FOLDER", &folder.path().to_string_lossy());
        let ttl = format!("{}s", TTL.as_secs());
        let stack = Stack::postgres_rabbit().schedules(yaml).slots(2);
        let stack = stack.env("REVEILLE_LEASE_TTL", &ttl).start().await?;
        let id = stack.api.trigger("stubborn", json!({})).await?;
        let pids = pids(folder.path(), 1).await?;
        Ok(Self { stack, id, pids, folder })
    }

    async fn all_are_gone(&self, limit: Duration) -> Result<()> {
        eventually("the program and its child to be gone", limit, async || {
            let left: Vec<_> = self.pids.iter().filter(|pid| is_living(**pid)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?} live")) }
        })
        .await
    }
}

/// The processes of an attempt, once it runs.
async fn pids(folder: &Path, attempt: u32) -> Result<[Pid; 2]> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.join(format!("{name}-{attempt}"))).unwrap_or_default();
        text.trim().parse().ok().and_then(Pid::from_raw).ok_or_else(|| format!("no {name} yet"))
    };
    eventually(&format!("attempt {attempt} to run"), Duration::from_secs(60), async || {
        Ok([read("program")?, read("detached")?])
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_of_a_killed_worker_die_at_once() -> Result<()> {
    let mut scene = Scene::start().await?;
    scene.stack.workers[0].kill9()?;
    scene.all_are_gone(Duration::from_secs(5)).await?;
    scene.stack.workers[0].restart().await?;
    pids(scene.folder.path(), 2).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_programs_of_a_frozen_worker_die_before_its_lease_does() -> Result<()> {
    let mut scene = Scene::start().await?;
    let frozen = Instant::now();
    scene.stack.workers[0].signal(Signal::STOP)?;
    // Not from the start: the last beat allows them most of the time-to-live.
    ensure!(scene.pids.iter().all(|pid| is_living(*pid)), "killed {:?} after the freeze", frozen.elapsed());
    scene.all_are_gone(TTL).await?;
    let lasted = frozen.elapsed();
    let first = scene.stack.api.get(&scene.id).await?;
    ensure!(first["attempt"] == 1, "the lease was lost within {lasted:?}, before the programs were gone: {first}");

    // The lease ends, and the thawed worker has nothing to say about the run but begins it anew.
    eventually("the lease to end", Duration::from_secs(60), async || {
        let errors = scene.stack.api.part(&scene.id, "errors").await.map_err(|error| format!("{error:#}"))?;
        if errors.iter().any(|error| error["code"] == "Lost") { Ok(()) } else { Err(format!("{errors:?}")) }
    })
    .await?;
    scene.stack.workers[0].signal(Signal::CONT)?;
    pids(scene.folder.path(), 2).await?;
    let seen = scene.stack.api.get(&scene.id).await.context("the run")?;
    ensure!(seen["status"] == "IN_PROGRESS", "reported by a worker that had lost its lease: {seen}");
    scene.stack.api.cancel(&scene.id).await?;
    scene.stack.api.wait_status(&scene.id, "CANCELED").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_frozen_for_less_than_its_lease_reports_no_success() -> Result<()> {
    let mut scene = Scene::start().await?;
    scene.stack.workers[0].signal(Signal::STOP)?;
    scene.all_are_gone(TTL).await?;
    // Awake before the lease ends or after: the run goes on, and of the killed program no success is told.
    scene.stack.workers[0].signal(Signal::CONT)?;
    pids(scene.folder.path(), 2).await?;
    let events = scene.stack.api.part(&scene.id, "events").await?;
    ensure!(events.iter().all(|event| event["type"] != "succeeded"), "{events:?}");
    let run = scene.stack.api.get(&scene.id).await?;
    ensure!(run["status"] == "IN_PROGRESS" && run["attempt"] == 2, "{run}");
    Ok(())
}

/// As a terminal does it with Ctrl-C.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_to_the_workers_group_lets_programs_finish() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let yaml = STUBBORN.replace("FOLDER", &folder.path().to_string_lossy());
    let mut stack = Stack::postgres_rabbit().schedules(yaml).start().await?;
    let id = stack.api.trigger("brief", json!({})).await?;
    eventually("the program to run", Duration::from_secs(60), async || {
        if folder.path().join("begun").exists() { Ok(()) } else { Err("not begun".to_owned()) }
    })
    .await?;
    kill_process_group(stack.workers[0].pid(), Signal::INT)?;
    let status = stack.workers[0].wait_exit(Duration::from_secs(30)).await?;
    ensure!(status.success(), "the worker ended with {status}");
    let run = stack.api.get(&id).await?;
    ensure!(run["status"] == "SUCCEEDED" && run["attempt"] == 1, "{run}");
    Ok(())
}
