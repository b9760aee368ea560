//! Programs under a policy: refused ones, those that meet a limit, those of another user. As root they run as somebody
//! else, as any other user they run as that user: what needs root says so.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use reveille_shared::work_request::LogLine;
use serde_json::Value;

use super::deaths::{FAMILY, are_gone, start};
use super::tests::{call, guards, is_gone, texts, variables};
use super::*;
use crate::policy::tests::policy;
use crate::report::tests::{lines, run_with};

fn under(text: &str) -> Guards {
    Guards { policy: policy(text), ..guards() }
}

async fn execute(call: &CommandCall, guards: &Guards) -> (RunResult, Vec<LogLine>) {
    let (attempt, mut notes) = run_with(Value::Null);
    let result = run(call, &attempt, &variables(), guards).await;
    attempt.sink.close().await;
    (result, lines(&mut notes))
}

async fn script(text: &str, guards: &Guards) -> (RunResult, Vec<LogLine>) {
    execute(&call(&["sh", "-c", text]), guards).await
}

/// Runs a script that meets a limit; answers with what is said about that.
async fn met(limits: &str, text: &str) -> String {
    let (result, lines) = script(text, &under(&format!("version: 1\nlimits: {{ {limits} }}\n"))).await;
    let failure = result.expect_err("it went on");
    assert_eq!((failure.code.as_str(), failure.retryable), ("LimitExceeded", true), "{failure:?} {lines:?}");
    failure.message
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("SKIPPED: only root can run programs as another user");
    }
    is_root
}

#[tokio::test]
async fn who_eats_time_is_ended() {
    let told = met("cpu: 1s", "while :; do :; done").await;
    assert_eq!(told, "ended by signal 24: it met `limits.cpu: 1s` of the worker's policy (policy.yaml:2)");
    let told = met("cpu: 1s", "sh -c 'while :; do :; done'; exit $?").await;
    assert!(told.starts_with("exited with code 152: it met `limits.cpu"), "{told}");
    let (result, lines) = script("ulimit -St; ulimit -Ht", &under("version: 1\nlimits: { cpu: 1500ms }\n")).await;
    result.unwrap();
    assert_eq!(texts(&lines, Stream::Stdout), ["2", "7"], "who ignores the signal is killed 5 s later");
}

#[tokio::test]
async fn who_eats_memory_gets_no_more() {
    let told = met("memory: 64MiB", "head -c 300000000 /dev/zero | tail -c 200000000 > /dev/null").await;
    assert_eq!(
        told,
        "exited with code 1: probably it met `limits.memory: 64MiB` of the worker's policy (policy.yaml:2)"
    );
}

#[tokio::test]
async fn who_opens_too_many_files_is_told() {
    let files = "/dev/null ".repeat(30);
    let told = met("open_files: 16", &format!("true | tee {files}")).await;
    assert!(told.contains("`limits.open_files: 16`"), "{told}");
    script(&format!("true | tee {files}"), &under("version: 1\nlimits: { open_files: 64 }\n")).await.0.unwrap();
}

#[tokio::test]
async fn who_writes_a_file_too_long_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let file = folder.path().join("long");
    let told = met("file_size: 64KiB", &format!("head -c 1000000 /dev/zero > {}", file.display())).await;
    assert!(told.contains("`limits.file_size: 64KiB`"), "{told}");
    assert_eq!(std::fs::metadata(file).unwrap().len(), 64 * 1024);
}

#[tokio::test]
async fn who_multiplies_finds_an_end() {
    // As root, a user whom nothing else is; as somebody, that user has more than one process already.
    let (limits, whose) = if is_root() { (30, "run_as: '4242042:4242042'\n") } else { (1, "") };
    let guards = under(&format!("version: 1\nlimits: {{ processes: {limits} }}\n{whose}"));
    // It ends by itself too, lest a limit that does not hold takes the machine with it.
    let script = "echo guard $PPID; n=0; while [ $n -lt 200 ]; do sleep 1 & n=$((n + 1)); done; wait; exit 3";
    let mut running = start(script, guards);
    let guard = loop {
        // Another line may come first from the other pipe.
        if let Some(guard) = running.line().await.strip_prefix("guard ") {
            break guard.to_owned();
        }
    };
    let failure = running.failure().await;
    assert_eq!(failure.code, "LimitExceeded", "{failure:?}");
    assert!(failure.message.contains(&format!("`limits.processes: {limits}`")), "{failure:?}");
    is_gone(&guard).await;
}

#[tokio::test]
async fn what_is_bound_is_killed_all_the_same() {
    // What the guard itself could not live with.
    let policy = "version: 1\nlimits: { cpu: 1s, memory: 16MiB, open_files: 16, file_size: 1KiB }\n";
    let mut dropped = start(FAMILY, under(policy));
    let (_, members) = dropped.family().await;
    dropped.abort();
    are_gone(&members).await;
    let mut stopped = start(FAMILY, under(policy));
    let (_, members) = stopped.family().await;
    stopped.stop();
    assert_eq!(stopped.failure().await, RunFailure::stopped());
    are_gone(&members).await;
}

#[tokio::test]
async fn what_can_not_start_says_why() {
    let guards = under("version: 1\nlimits: { open_files: 64 }\n");
    let missing = execute(&call(&["/usr/bin/no-such-program"]), &guards).await.0.unwrap_err();
    assert_eq!((missing.code.as_str(), missing.retryable), ("CommandNotFound", false), "{missing:?}");
    let input = execute(&call(&["/dev/null"]), &guards).await.0.unwrap_err();
    assert_eq!(input.code, "CommandNotExecutable", "{input:?}");
}

#[tokio::test]
async fn only_what_is_allowed_is_run_and_it_is_the_file_that_was_judged() {
    let folder = tempfile::tempdir().unwrap();
    let (marker, evil) = (folder.path().join("marker"), folder.path().join("true"));
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::write(&evil, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
    std::fs::set_permissions(&evil, std::fs::Permissions::from_mode(0o755)).unwrap();
    let guards = under("version: 1\ncommands: ['true', { program: 'false', variables: [PATH] }, echo]\n");
    execute(&call(&["true"]), &guards).await.0.unwrap();
    execute(&call(&["/../bin/true"]), &guards).await.0.unwrap();
    let folder = folder.path().to_str().unwrap();
    // By its path, by a way around, from its folder, by a PATH of the job's, by a shell.
    let around = format!("/usr/bin/../..{folder}/true");
    let mut from_there = call(&["./true"]);
    from_there.working_dir = Some(folder.to_owned());
    let mut by_path = call(&["true"]);
    by_path.env = BTreeMap::from([("PATH".to_owned(), folder.to_owned())]);
    let by_shell = call(&["sh", "-c", evil.to_str().unwrap()]);
    for call in [call(&[evil.to_str().unwrap()]), call(&[&around]), from_there, by_path, by_shell] {
        let failure = execute(&call, &guards).await.0.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("Refused", false), "{call:?}: {failure:?}");
        assert!(failure.message.contains("policy.yaml:2"), "{failure:?}");
    }
    // A PATH that the job may set is its program's alone.
    let mut by_path = call(&["false"]);
    by_path.env = BTreeMap::from([("PATH".to_owned(), folder.to_owned())]);
    assert_eq!(execute(&by_path, &guards).await.0.unwrap_err().code, "ExitCode");
    assert!(!marker.exists());
}

#[tokio::test]
async fn no_variable_of_a_job_reaches_what_runs_before_its_program() {
    for policy in ["version: 1\n", "version: 1\nlimits: { open_files: 64 }\n"] {
        let mut preloaded = call(&["/bin/true"]);
        preloaded.env = BTreeMap::from([("LD_PRELOAD".to_owned(), "/nowhere/evil.so".to_owned())]);
        let (result, lines) = execute(&preloaded, &under(policy)).await;
        result.unwrap();
        // The loader complains once: on behalf of the program itself.
        assert_eq!(texts(&lines, Stream::Stderr).len(), 1, "{lines:?}");
    }
}

#[tokio::test]
async fn as_root_programs_are_nobodys() {
    if !is_root() {
        return;
    }
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cret").unwrap();
    let text = format!(
        "id -u; id -g; id -G; echo $HOME; grep NoNewPrivs /proc/self/status; echo seen > /dev/stderr; cat {} || echo no",
        secret.path().display()
    );
    let (result, lines) = script(&text, &under("version: 1\n")).await;
    result.unwrap();
    let out = texts(&lines, Stream::Stdout);
    assert_eq!(out, ["65534", "65534", "65534", "/nonexistent", "NoNewPrivs:\t1", "no"], "{lines:?}");
    assert_eq!(texts(&lines, Stream::Stderr)[0], "seen");
    let (result, lines) = script("id -u; cat", &under("version: 1\nrun_as: root\n")).await;
    assert_eq!((result.is_ok(), texts(&lines, Stream::Stdout)), (true, vec!["0"]));

    std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let closed = call(&[secret.path().to_str().unwrap()]);
    let failure = execute(&closed, &under("version: 1\n")).await.0.unwrap_err();
    assert_eq!(failure.code, "CommandNotExecutable", "{failure:?}");
    assert!(failure.message.starts_with("nobody (65534:"), "{failure:?}");
}

#[tokio::test]
async fn as_root_what_is_nobodys_is_killed_all_the_same() {
    if !is_root() {
        return;
    }
    let mut stopped = start(FAMILY, under("version: 1\n"));
    let (_, members) = stopped.family().await;
    let owner = std::fs::metadata(format!("/proc/{}", members[0])).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), 65_534);
    stopped.stop();
    assert_eq!(stopped.failure().await, RunFailure::stopped());
    are_gone(&members).await;
}
