//! Everything in one process, used as a person does who has just cloned the repository.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::workbench::{Dev, LIMIT, Workbench, eventually, run, taken_port};

const JOBS: &str = r#"
version: 1
defaults: { retry: { max_attempts: 1 } }
jobs:
  hello: { command: [echo, "hello {{ input.name }}"] }
  steps:
    command: [sh, -c, 'echo "::progress 50 half way"; echo out; echo err >&2; sleep 1']
  broken: { command: [sh, -c, 'echo oh no >&2; exit 7'] }
  long: { command: [sleep, "600"] }
schedules:
  often: { every: 1s, trigger: hello, input: { name: clock } }
"#;

fn bench() -> Workbench {
    let bench = Workbench::new();
    bench.write("deploy/schedules/jobs.yaml", JOBS);
    bench
}

fn wait_for_status(bench: &Workbench, dev: &Dev, id: &str, status: &str) {
    eventually(LIMIT, || {
        let run = bench.run(&format!("show {id} --json {}", dev.server())).exits(0).json();
        if run["status"] == status { Ok(()) } else { Err(run.to_string()) }
    });
}

#[test]
fn the_samples_run_within_ten_seconds() {
    let bench = Workbench::new();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/schedules");
    let dev = Dev::start(&bench, &format!("--schedules {}", samples.display()));
    let server = dev.server();
    eventually(Duration::from_secs(10), || {
        let runs = bench.run(&format!("runs --schedule every-five-seconds --json {server}")).exits(0).json();
        let ended = runs.as_array().unwrap().iter().any(|run| run["status"] == "SUCCEEDED");
        if ended { Ok(()) } else { Err(runs.to_string()) }
    });
    let done = bench.run(&format!("trigger three-steps --wait {server}")).exits(0);
    assert!(done.stdout.contains("ACCEPTED") && done.stdout.contains("SUCCEEDED after"), "{done}");
    done.says("% ").says("step 3 of 3");
    // What the banner says works, with the port that was taken.
    assert!(dev.banner.contains(&format!("trigger three-steps --wait {server}")), "{}", dev.banner);
    bench.run(&format!("schedules {server}")).exits(0).says("every-five-seconds").says("every 5s").says("triggered");
    bench.run(&format!("next every-minute {server}")).exits(0).says("Europe/Berlin").says("in ");
    dev.signal(Signal::INT);
    assert_eq!(dev.wait().code(), Some(0));
}

#[test]
fn runs_are_triggered_shown_and_canceled() {
    let bench = bench();
    let dev = Dev::start(&bench, "");
    let server = dev.server();

    let mut command = bench.command(&format!("trigger hello --wait --json {server} --input"));
    command.arg(r#"{"name": "you"}"#);
    let ended = run(command, "").exits(0).json();
    assert_eq!((&ended["status"], &ended["input"]), (&json!("SUCCEEDED"), &json!({"name": "you"})));
    let id = ended["id"].as_str().unwrap();
    bench.run(&format!("logs {id} {server}")).exits(0).says("stdout  hello you");
    let shown = bench.run(&format!("show {id} {server}")).exits(0);
    shown.says("SUCCEEDED").says("History").says(r#"{"name":"you"}"#);

    let failed = bench.run(&format!("trigger broken --wait {server}")).exits(3);
    let failed = failed.says("FAILED").says("7");
    let id = failed.stdout.split_whitespace().next().unwrap();
    bench.run(&format!("show {id} {server}")).exits(0).says("FAILED").says("Error");
    let listed = bench.run(&format!("runs --status failed --job broken --json {server}")).exits(0).json();
    assert_eq!(listed[0]["id"], id);

    let accepted = bench.run(&format!("trigger long --json {server}")).exits(0).json();
    let id = accepted["id"].as_str().unwrap();
    wait_for_status(&bench, &dev, id, "IN_PROGRESS");
    bench.run(&format!("cancel {id} {server}")).exits(0).says("CANCEL");
    wait_for_status(&bench, &dev, id, "CANCELED");
    bench.run(&format!("cancel {id} {server}")).exits(1).says("has ended");

    bench.run(&format!("trigger nobody {server}")).exits(1).says("nobody").says("does not exist");
    bench.run(&format!("show 12 {server}")).exits(1).says("does not exist").says("in full");
    bench.run(&format!("trigger hello --input 1 {server}")).exits(1).says("input: must be an object");
    bench.run(&format!("runs --namespace Wrong! {server}")).exits(1).says("X-Reveille-Namespace");
}

#[test]
fn logs_follow_a_run_to_its_end() {
    let bench = bench();
    let dev = Dev::start(&bench, "");
    let server = dev.server();
    let mut command = bench.command(&format!("trigger steps --input - --idempotency-key one --json {server}"));
    command.env("REVEILLE_NAMESPACE", "default");
    let accepted = run(command, "{}").exits(0).json();
    let id = accepted["id"].as_str().unwrap();
    let followed = bench.run(&format!("logs -f {id} {server}")).exits(0);
    let followed = followed.says("#1 stdout  out").says("#1 stderr  err").says("SUCCEEDED");
    assert_eq!(followed.stdout.matches("stdout  out").count(), 1, "{followed}");
    let raw = bench.run(&format!("logs {id} --raw {server}")).exits(0);
    assert!(raw.stdout.lines().any(|line| line == "out"), "{raw}");
    let json = bench.run(&format!("logs {id} --json {server}")).exits(0);
    let lines: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["stream"] == "stderr" && line["message"] == "err"), "{json}");

    let again = run(bench.command(&format!("trigger steps --input - --idempotency-key one --json {server}")), "{}");
    assert_eq!(again.exits(0).json()["id"], id);
}

#[test]
fn who_waits_and_presses_ctrl_c_leaves_the_run_alone() {
    let bench = bench();
    let dev = Dev::start(&bench, "");
    let mut command = bench.command(&format!("trigger long --wait {}", dev.server()));
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let runs = format!("runs --job long --json {}", dev.server());
    let id = eventually(LIMIT, || {
        let runs = bench.run(&runs).exits(0).json();
        let running = runs.as_array().unwrap().iter().find(|run| run["status"] == "IN_PROGRESS");
        running.map(|run| run["id"].as_str().unwrap().to_owned()).ok_or(runs.to_string())
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(said.contains(&format!("reveille logs -f {id}")), "{said}");
    wait_for_status(&bench, &dev, &id, "IN_PROGRESS");
}

#[test]
fn history_survives_a_restart() {
    let bench = bench();
    let dev = Dev::start(&bench, "");
    let done = bench.run(&format!("trigger steps --wait --json {}", dev.server()));
    let id = done.exits(0).json()["id"].as_str().unwrap().to_owned();
    dev.signal(Signal::TERM);
    assert_eq!(dev.wait().code(), Some(0));

    let dev = Dev::start(&bench, "");
    bench.run(&format!("show {id} {}", dev.server())).exits(0).says("SUCCEEDED");
    let listed = bench.run(&format!("runs --limit 1000 --json {}", dev.server())).exits(0).json();
    assert!(listed.as_array().unwrap().iter().any(|run| run["id"] == id), "{listed}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let bench = bench();
    let dev = Dev::start(&bench, "");
    let accepted = bench.run(&format!("trigger long --json {}", dev.server())).exits(0).json();
    wait_for_status(&bench, &dev, accepted["id"].as_str().unwrap(), "IN_PROGRESS");
    dev.signal(Signal::INT);
    let log = || std::fs::read_to_string(bench.path().join("dev.log")).unwrap();
    eventually(LIMIT, || if log().contains("a second signal ends at once") { Ok(()) } else { Err(log()) });
    let begun = std::time::Instant::now();
    dev.signal(Signal::INT);
    dev.wait();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn a_new_queue_is_served_without_a_restart() {
    let bench = bench();
    let dev = Dev::start(&bench, "");
    bench
        .write("deploy/schedules/more.yaml", "version: 1\njobs: { other: { queue: fresh, command: [echo, fresh] } }\n");
    let server = dev.server();
    let trigger = format!("trigger other {server} --json");
    let accepted = eventually(LIMIT, || {
        let done = bench.run(&trigger);
        if done.code == Some(0) { Ok(done.json()) } else { Err(done.to_string()) }
    });
    wait_for_status(&bench, &dev, accepted["id"].as_str().unwrap(), "SUCCEEDED");
    dev.signal(Signal::INT);
    assert_eq!(dev.wait().code(), Some(0));
}

#[test]
fn what_keeps_dev_from_starting_is_told_in_a_line_or_two() {
    let bench = bench();
    let refuses = |arguments: &str, said: &[&str]| {
        let done = bench.run(&format!("dev --log error {arguments}")).exits(1).never_says("panicked");
        assert!(done.stderr.lines().count() <= 2, "{done}");
        said.iter().fold(done, |done, text| done.says(text));
    };
    let (_listener, taken) = taken_port();
    refuses(&format!("--listen {taken}"), &[&taken.to_string(), "in use", "--listen"]);
    refuses("--listen 192.0.2.1:8080", &["192.0.2.1:8080", "loopback"]);
    bench.write("file", "");
    refuses("--listen 127.0.0.1:0 --data-dir file/data", &["file/data", "--data-dir"]);
    refuses("--listen 127.0.0.1:0 --data-dir /proc/data", &["/proc/data", "--data-dir"]);
    let dev = Dev::start(&bench, "");
    refuses("--listen 127.0.0.1:0", &["data", "in use by another process", "--data-dir"]);
    drop(dev);
}

#[test]
fn dev_does_not_start_with_faulty_schedules_or_none() {
    let bench = Workbench::new();
    bench.run("dev --listen 127.0.0.1:0").exits(1).says("deploy/schedules").says("--schedules");
    bench.write("bad/a.yaml", "version: 1\njobs: { j: { comand: [x] } }\n");
    let done = bench.run("dev --listen 127.0.0.1:0 --schedules bad").exits(1);
    done.says("bad/a.yaml:2:").says("command").says("not started");
    assert!(!bench.path().join("data").exists(), "nothing is left behind");
}

#[test]
fn dev_starts_with_what_was_in_force_when_the_files_have_faults() {
    let bench = bench();
    let dev = Dev::start(&bench, "");
    dev.signal(Signal::INT);
    assert_eq!(dev.wait().code(), Some(0));
    // All of it is in the one file, and nobody else's business.
    let log = bench.path().join("data/reveille.db-wal");
    assert!(!log.exists(), "{} bytes are not in the file", log.metadata().unwrap().len());
    let mode = bench.path().join("data").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    let bad = bench.write("deploy/schedules/bad.yaml", "version: 1\njobs: { j: { comand: [x] } }\n");
    let dev = Dev::start(&bench, "");
    let told = std::fs::read_to_string(bench.path().join("dev.log")).unwrap();
    assert!(told.contains("bad.yaml:2:") && told.contains("starting with what was in force before"), "{told}");
    let server = dev.server();
    let accepted = bench.run(&format!("trigger long --json {server}")).exits(0).json();
    wait_for_status(&bench, &dev, accepted["id"].as_str().unwrap(), "IN_PROGRESS");
    bench.run(&format!("doctor {server}")).exits(1).says("! definitions").says("bad.yaml:2:").never_says("✓ folder");
    std::fs::remove_file(bad).unwrap();
    eventually(LIMIT, || {
        let done = bench.run(&format!("doctor {server}"));
        if done.code == Some(0) { Ok(()) } else { Err(done.to_string()) }
    });
    assert!(std::fs::read_to_string(bench.path().join("dev.log")).unwrap().contains("the definitions are good again"));
}

#[test]
fn an_external_job_is_warned_of_at_start_with_its_place() {
    let bench = bench();
    let external = "version: 1\njobs:\n  resize: { queue: thumbs, external: {} }\n";
    bench.write("deploy/schedules/more.yaml", external);
    let dev = Dev::start(&bench, "");
    let log = std::fs::read_to_string(bench.path().join("dev.log")).unwrap();
    let warning = log.lines().find(|line| line.contains("needs RabbitMQ")).unwrap_or_else(|| panic!("{log}"));
    assert!(warning.contains("WARN") && warning.contains("resize"), "{warning}");
    assert!(warning.contains("deploy/schedules/more.yaml:3:3"), "{warning}");
    dev.signal(Signal::INT);
    assert_eq!(dev.wait().code(), Some(0));
}
