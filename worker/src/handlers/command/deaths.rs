//! What becomes of a program and of all that it has started when its guard, its worker or its time dies.

use std::os::unix::fs::MetadataExt as _;

use reveille_shared::work_request::LogLine;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::tests::{call, guards, is_gone, variables};
use super::*;
use crate::report::Note;
use crate::report::tests::run_with;

/// A program that ignores SIGTERM and ends with nobody's help never, and three relatives just like it: one in its group, one
/// that has left it, one that has left it and its parent. Each says who it is, and the program who guards it.
pub(super) const FAMILY: &str = r#"export stay='trap "" TERM HUP; echo $$; while :; do sleep 0.2; done'
sh -c "$stay" & setsid sh -c "$stay" & (setsid sh -c 'sh -c "$stay" &' &)
echo guard $PPID; eval "$stay""#;
const MEMBERS: usize = 4;

/// A run in a task of its own: aborted, it is dropped as a worker drops what does not end.
pub(super) struct Running {
    task: JoinHandle<RunResult>,
    stop: tokio_util::sync::CancellationToken,
    notes: mpsc::Receiver<Note>,
}

#[allow(clippy::disallowed_methods, reason = "each test waits for the task or aborts it")]
pub(super) fn start(script: &str, guards: Guards) -> Running {
    let (attempt, notes) = run_with(Value::Null);
    let (stop, call) = (attempt.stop.clone(), call(&["sh", "-c", script]));
    let task = tokio::spawn(async move { run(&call, &attempt, &variables(), &guards).await });
    Running { task, stop, notes }
}

impl Running {
    pub(super) async fn line(&mut self) -> String {
        loop {
            if let Note::Line(_, LogLine { text, .. }) = self.notes.recv().await.unwrap() {
                return text;
            }
        }
    }

    /// The family's guard and members.
    pub(super) async fn family(&mut self) -> (Pid, Vec<String>) {
        let (mut guard, mut members) = (None, Vec::new());
        while guard.is_none() || members.len() < MEMBERS {
            let line = self.line().await;
            match line.strip_prefix("guard ") {
                Some(pid) => guard = Pid::from_raw(pid.parse().unwrap()),
                None => members.push(line),
            }
        }
        (guard.unwrap(), members)
    }

    pub(super) async fn failure(self) -> RunFailure {
        self.task.await.unwrap().unwrap_err()
    }

    pub(super) fn abort(&self) {
        self.task.abort();
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
    }
}

pub(super) async fn are_gone(members: &[String]) {
    for pid in members {
        is_gone(pid).await;
    }
}

#[tokio::test]
async fn a_dropped_run_leaves_nobody() {
    let mut running = start(FAMILY, guards());
    let (_, members) = running.family().await;
    running.abort();
    are_gone(&members).await;
}

#[tokio::test]
async fn a_stopped_run_leaves_nobody() {
    let mut running = start(FAMILY, guards());
    let (_, members) = running.family().await;
    running.stop();
    assert_eq!(running.failure().await, RunFailure::stopped());
    are_gone(&members).await;
}

#[tokio::test]
async fn who_is_not_heard_of_in_time_loses_its_program() {
    let (lease, until) = watch::channel(Instant::now() + Duration::from_millis(500));
    let mut running = start(FAMILY, Guards { lease: until, ..guards() });
    let (_, members) = running.family().await;
    // Renewed, it lives on.
    let renewed = Instant::now() + Duration::from_millis(1500);
    lease.send_replace(renewed);
    let failure = running.failure().await;
    assert!(Instant::now() >= renewed, "killed {:?} too early", renewed - Instant::now());
    assert_eq!((failure.code.as_str(), failure.in_doubt), ("Stalled", true), "{failure:?}");
    assert!(renewed.elapsed() < Duration::from_secs(1), "killed after {:?}", renewed.elapsed());
    are_gone(&members).await;
}

#[tokio::test]
async fn a_killed_guard_takes_the_group_with_it() {
    let script = "trap '' TERM; sh -c 'echo $$; sleep 100; :' & echo $$; echo $PPID; wait";
    let mut running = start(script, guards());
    let mut pids = vec![running.line().await, running.line().await, running.line().await];
    let guard = pids.iter().find(|pid| is_a_guard(pid)).unwrap().clone();
    pids.retain(|pid| *pid != guard);
    kill_process(Pid::from_raw(guard.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    let failure = running.failure().await;
    assert_eq!((failure.code.as_str(), failure.in_doubt), ("GuardLost", true), "{failure:?}");
    are_gone(&pids).await;
}

fn is_a_guard(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "reveille-guard\n")
}

#[tokio::test]
async fn a_frozen_guard_is_no_refuge() {
    let mut running = start(FAMILY, guards());
    let (guard, members) = running.family().await;
    kill_process(guard, Signal::STOP).unwrap();
    running.abort();
    are_gone(&members).await;
    is_gone(&guard.as_raw_nonzero().to_string()).await;
}

#[tokio::test]
async fn who_loses_its_parent_is_reaped_in_mid_run() {
    // Twenty that are orphaned at once and end soon after.
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do (sh -c 'echo $$; sleep 0.1; :' &); done; echo guard $PPID; sleep 100";
    let mut running = start(script, guards());
    let mut orphans = Vec::new();
    while orphans.len() < 20 {
        let line = running.line().await;
        if !line.starts_with("guard ") {
            orphans.push(line);
        }
    }
    let began = Instant::now();
    // A zombie has an entry still.
    while let Some(left) = orphans.iter().find(|pid| std::fs::exists(format!("/proc/{pid}")).unwrap()) {
        assert!(began.elapsed() < Duration::from_secs(10), "{left} was not reaped");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.abort();
}

#[tokio::test]
async fn a_guard_holds_nothing_of_its_program() {
    let mut running = start("echo guard $PPID; exec sleep 100", guards());
    let guard = running.line().await.strip_prefix("guard ").unwrap().to_owned();
    let nowhere = std::fs::metadata("/dev/null").unwrap().rdev();
    let began = Instant::now();
    // It lets go of the pipes right after the program has begun.
    while [1, 2].iter().any(|fd| std::fs::metadata(format!("/proc/{guard}/fd/{fd}")).unwrap().rdev() != nowhere) {
        assert!(began.elapsed() < Duration::from_secs(10), "it still holds the program's output");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.abort();
    is_gone(&guard).await;
}
