//! A policy, from the file to what becomes of runs.

use serde_json::Value;

use crate::workbench::{Dev, Workbench};

const JOBS: &str = r#"
version: 1
defaults: { retry: { max_attempts: 3, initial: 10ms } }
jobs:
  allowed: { command: [echo, "{{ input.word }}"] }
  program: { command: [touch, touched] }
  shell: { command: [sh, -c, "touch touched"] }
  host: { http: { url: "http://127.0.0.1:1/" } }
  variable: { command: { argv: [echo, hi], env: { A: "${env:PATH}" } } }
  setting: { command: { argv: [echo, hi], env: { LD_PRELOAD: x.so } } }
  function: { function: any }
schedules:
  yearly: { cron: '0 0 1 1 *', trigger: allowed, input: { word: clock } }
"#;

const POLICY: &str = "version: 1
commands:
  - { program: echo, arguments: ['*'], variables: [A] }
hosts: ['*.example.com']
functions: []
environment: []
";

#[test]
fn what_it_does_not_allow_fails_at_once_and_for_good() {
    let bench = Workbench::new();
    bench.write("deploy/schedules/jobs.yaml", JOBS);
    bench.write("policy.yaml", POLICY);
    let dev = Dev::start(&bench, "--policy policy.yaml");
    let server = dev.server();
    let trigger = |job: &str| {
        let mut command = bench.command(&format!("trigger {job} --wait --json {server} --input"));
        command.arg(r#"{"word": "hello"}"#);
        crate::workbench::run(command, "")
    };
    trigger("allowed").exits(0);
    for (job, part) in [
        ("program", "commands [echo]; `/"),
        ("shell", "/sh` is none of them (policy.yaml:2)"),
        ("host", "hosts [*.example.com]; `http://127.0.0.1:1` is none of them (policy.yaml:4)"),
        ("variable", "environment []; `PATH` is none of them (policy.yaml:6)"),
        ("setting", "does not let jobs set the variable LD_PRELOAD for `echo` (policy.yaml:3)"),
        ("function", "functions []; `any` is none of them (policy.yaml:5)"),
    ] {
        let ended: Value = trigger(job).exits(3).json();
        assert_eq!((&ended["error"]["code"], &ended["attempt"]), (&"Refused".into(), &1.into()), "{ended}");
        assert!(ended["error"]["message"].as_str().unwrap().contains(part), "{ended}");
    }
    assert!(!bench.path().join("touched").exists());
}

#[test]
fn a_faulty_policy_starts_nothing() {
    let bench = Workbench::new();
    bench.write("deploy/schedules/jobs.yaml", JOBS);
    bench.write("policy.yaml", "commnads: []\nhosts: ['10.*']\n");
    let done = bench.run("dev --policy policy.yaml --listen 127.0.0.1:0").exits(2);
    done.says("did you mean `commands`?").says("policy.yaml:2:9").says("lacks the key `version`");
    bench.run("dev --policy nowhere.yaml --listen 127.0.0.1:0").exits(2).says("nowhere.yaml: can't be read");
    assert!(!bench.path().join("data").exists());
}
