//! One run with many children, as a person starts it, looks at it and does again what failed.

use serde_json::{Value, json};

use crate::workbench::{Dev, Workbench, run};

const FILE: &str = r#"
version: 1
defaults: { retry: { max_attempts: 1 } }
jobs:
  part: { command: [test, "{{ input.n }}", "-ne", "2"] }
schedules:
  idle: { every: 1h, trigger: part }
"#;
const INPUTS: &str = "{\"n\": 1}\n\n{\"n\": 2}\n{\"n\": 3}\n";

fn start() -> (Workbench, Dev) {
    let bench = Workbench::new();
    bench.write("deploy/schedules/jobs.yaml", FILE);
    bench.write("inputs", INPUTS);
    let dev = Dev::start(&bench, "");
    (bench, dev)
}

/// Statuses by `n`.
fn children(bench: &Workbench, parent: &str, server: &str) -> Vec<(u64, String)> {
    let runs = bench.run(&format!("runs --parent {parent} --json {server}")).exits(0).json();
    let of = |run: &Value| {
        let shown = bench.run(&format!("show {} --json {server}", run["id"].as_str().unwrap())).exits(0).json();
        assert_eq!(shown["parent"], parent, "{shown}");
        (shown["input"]["n"].as_u64().unwrap(), run["status"].as_str().unwrap().to_owned())
    };
    let mut all: Vec<_> = runs.as_array().unwrap().iter().map(of).collect();
    all.sort_unstable();
    all
}

#[test]
fn what_failed_of_many_is_done_again() {
    let (bench, dev) = start();
    let server = dev.server();
    let ended = bench.run(&format!("trigger part --inputs inputs --wait --json {server}")).exits(3).json();
    let parent = ended["id"].as_str().unwrap();
    assert_eq!((&ended["status"], &ended["children"]["failed"]), (&json!("FAILED"), &json!(1)), "{ended}");
    let (good, bad) = ("SUCCEEDED".to_owned(), "FAILED".to_owned());
    assert_eq!(children(&bench, parent, &server), [(1, good.clone()), (2, bad.clone()), (3, good)]);
    bench.run(&format!("show {parent} {server}")).exits(0).says("1 failed");

    bench.run(&format!("retry {parent} {server}")).exits(2).says("--failed");
    let again = bench.run(&format!("retry {parent} --failed --wait --json {server}")).exits(3).json();
    let again = again["id"].as_str().unwrap();
    assert_ne!(again, parent);
    assert_eq!(children(&bench, again, &server), [(2, bad)], "only what failed");
    bench.run(&format!("retry 0000 --failed {server}")).exits(1).says("does not exist");
}

#[test]
fn as_many_may_fail_as_the_caller_says() {
    let (bench, dev) = start();
    let server = dev.server();
    let tolerant = format!("trigger part --inputs - --fail tolerate:1 --idempotency-key night {server}");
    let ids =
        [0, 1].map(|_| run(bench.command(&format!("{tolerant} --wait --json")), INPUTS).exits(0).json()["id"].clone());
    assert_eq!(ids[0], ids[1], "the same request");
    let other = run(bench.command(&tolerant), "{\"n\": 4}\n").exits(1);
    other.says("used for another request");
}

#[test]
fn a_faulty_line_is_named_and_nothing_is_started() {
    let (bench, dev) = start();
    let server = dev.server();
    for (inputs, code, told) in
        [("{\"n\": 1}\n{\"n\": \n", 2, "line 2 of"), ("{\"n\": 1}\n[2]\n", 1, "inputs[1]"), ("", 1, "inputs")]
    {
        let done = run(bench.command(&format!("trigger part --inputs - {server}")), inputs);
        done.exits(code).says(told);
    }
    bench.run(&format!("trigger part --inputs missing {server}")).exits(2).says("can't read missing");
    bench.run(&format!("trigger part --inputs inputs --input {{}} {server}")).exits(2).says("cannot be used with");
    bench.run(&format!("trigger part --fail fast {server}")).exits(2).says("--inputs");
    let runs = bench.run(&format!("runs --json {server}")).exits(0).json();
    assert_eq!(runs, json!([]));
}
