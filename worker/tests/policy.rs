//! A worker process and its policy.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::process::{Command, Output};

/// Starts a worker that would find neither database nor broker.
fn start(policy: Option<&str>, arrange: impl Fn(&mut Command, &str)) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    if let Some(text) = policy {
        std::fs::write(&file, text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_reveille-worker"));
    command.env_clear().args([
        "--database-url",
        "sqlite://nowhere",
        "--broker-url",
        "embedded",
        "--log-format",
        "text",
    ]);
    arrange(&mut command, file.to_str().unwrap());
    command.output().unwrap()
}

fn by_flag(command: &mut Command, file: &str) {
    command.args(["--policy", file]);
}

fn by_variable(command: &mut Command, file: &str) {
    command.env("REVEILLE_POLICY", file);
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_faulty_policy_stops_it_with_all_faults() {
    let faulty = Some("commands: [../rm]\nlimits: { memory: 1KiB }\nrun_as: 'a b'\n");
    for output in [start(faulty, by_flag), start(faulty, by_variable)] {
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for place in [":1:1: ", ":1:12: ", ":2:19: ", ":3:9: "] {
            assert!(said.contains(&format!("policy.yaml{place}")), "no {place} in {said}");
        }
    }
    let missing = start(None, by_flag);
    assert_eq!(missing.status.code(), Some(2));
    assert!(said(&missing).contains("can't be read"), "{}", said(&missing));
}

#[test]
fn the_configuration_file_names_it_too() {
    let faulty = Some("commands: [../rm]\n");
    let output = start(faulty, |command, file| {
        let config = file.replace("policy.yaml", "worker.yaml");
        std::fs::write(&config, format!("policy: {file}\n")).unwrap();
        command.args(["--config", &config]);
    });
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("policy.yaml:1:12: "), "{}", said(&output));
}

#[test]
fn without_one_it_says_once_that_everything_is_allowed() {
    let output = start(None, |_, _| {});
    let said = said(&output);
    assert_eq!(said.matches("no policy: jobs may run any program").count(), 1, "{said}");
    assert_eq!(said.contains(", as root, call any host"), rustix::process::geteuid().is_root(), "{said}");
    let output = start(Some("version: 1\ncommands: ['true']\n"), by_flag);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("no policy"), "{output:?}");
}
