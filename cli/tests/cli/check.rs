//! `check` and `schema`.

use std::path::Path;

use serde_json::json;

use crate::stub::{Stub, missing};
use crate::workbench::{Workbench, run};

const GOOD: &str = "\
version: 1
jobs:
  hello: { command: [echo, hello] }
schedules:
  often: { every: 1h, trigger: hello }
  over: { at: 2001-01-01T00:00:00Z, trigger: hello }
";

const FAULTY: &str = "\
version: 1
jobs:
  hello: { command: [echo, hello], tmeout: 3s }
schedules:
  nightly: { cron: '61 2 * * *', trigger: helo }
";

#[test]
fn good_files_are_summed_up() {
    let bench = Workbench::new();
    bench.write("jobs/a.yaml", GOOD);
    bench.run("check jobs").exits(0).says("1 job, 2 schedules").says("often").says("never again");
    let json = bench.run("check jobs/a.yaml --json").exits(0).json();
    assert_eq!(
        (&json["ok"], &json["jobs"], &json["schedules"], &json["faults"]),
        (&json!(true), &json!(1), &json!(2), &json!([]))
    );
    assert_eq!((&json["next"][0]["schedule"], &json["next"][1]["nextDue"]), (&json!("often"), &json!(null)));
}

#[test]
fn the_next_due_time_is_one_that_no_exclusion_skips() {
    let bench = Workbench::new();
    let timing = "cron: '0 0 * * *', only: [2126-12-24], starts_at: 2126-12-01T00:00:00Z";
    bench.write("a.yaml", &GOOD.replace("every: 1h", timing));
    bench.run("check a.yaml").exits(0).says("2126-12-24 00:00:00").says("due times before it left out");
    let json = bench.run("check a.yaml --json").exits(0).json();
    assert_eq!(json["next"][0]["nextDue"], "2126-12-24T00:00:00.000Z");
    assert!(json["next"][0]["excluded"].as_i64().unwrap() > 23, "{json}");
}

#[test]
fn a_server_that_knows_how_long_jobs_take_is_asked_and_nobody_else_is_told() {
    let bench = Workbench::new();
    bench.write("a.yaml", GOOD);
    let overrun = json!({"namespace": "default", "schedule": "often", "job": "hello", "intervalSeconds": 3600.0,
                         "usualSeconds": 7200.0, "explanation": "is due again after 1h at its closest"});
    let answer = json!({"changes": false, "overruns": [overrun]});
    let server = Stub::start(move |asked| match asked.line.as_str() {
        "GET /readyz" => (200, json!({"ready": true})),
        "POST /v1/definitions:plan" => (200, answer.clone()),
        _ => missing(),
    });
    let done = bench.run(&format!("check a.yaml {}", server.server())).exits(0);
    done.says("No faults").says("often is due again after 1h at its closest").says("docs/long-runs.md");
    assert_eq!(server.sent("POST")["files"][0]["text"], GOOD);
    let json = bench.run(&format!("check a.yaml --json {}", server.server())).exits(0).json();
    assert_eq!(json["overruns"][0]["usualSeconds"], 7200.0);
    let stranger = Stub::start(|_| missing());
    bench.run(&format!("check a.yaml {}", stranger.server())).exits(0).never_says("due again");
    assert_eq!(stranger.asked().len(), 1, "it is told nothing");
}

#[test]
fn every_fault_is_told_with_its_place_and_line() {
    let bench = Workbench::new();
    bench.write("a.yaml", FAULTY);
    let done = bench.run("check a.yaml").exits(1);
    let done =
        done.says("a.yaml:3:").says("timeout").says("a.yaml:5:").says("61").says("hello").says("faults; nothing");
    assert!(done.stdout.contains("  nightly: { cron: '61 2 * * *', trigger: helo }"), "{done}");
    done.never_says("\x1b[");
    let json = bench.run("check --json a.yaml").exits(1).json();
    assert_eq!(json["ok"], json!(false));
    assert_eq!(json["faults"][0]["line"], json!(3));
    assert_eq!(json["faultCount"], json!(json["faults"].as_array().unwrap().len()));
}

#[test]
fn what_is_not_there_is_a_fault() {
    let bench = Workbench::new();
    bench.run("check nowhere").exits(1).says("nowhere").says("does not exist");
    std::fs::create_dir(bench.path().join("empty")).unwrap();
    bench.run("check empty").exits(1).says("no schedule file");
    bench.run("check").exits(2).says("Usage");
}

#[test]
fn the_schema_is_the_committed_one() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/schedules/reveille.schema.json");
    let done = Workbench::new().run("schema").exits(0);
    assert_eq!(done.stdout, std::fs::read_to_string(committed).unwrap());
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let bench = Workbench::new();
    let binary = env!("CARGO_BIN_EXE_reveille");
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &format!("set -o pipefail; '{binary}' next --every 1s --count 100000 | head -1")]);
    let done = run(
        {
            shell.current_dir(bench.path());
            shell
        },
        "",
    )
    .exits(0);
    assert_eq!(done.stderr, "", "{done}");
}

#[test]
fn external_jobs_are_told_of_where_no_worker_of_theirs_can_be() {
    let bench = Workbench::new();
    let external =
        "version: 1\njobs:\n  hello: { command: [echo, hello] }\n  resize:\n    queue: thumbs\n    external: {}\n";
    bench.write("jobs/a.yaml", GOOD);
    bench.write("jobs/b.yaml", &external.replace("hello", "bye"));
    let told = "jobs/b.yaml:4:3: the job resize is external and needs RabbitMQ";
    bench.run("check jobs --broker-url embedded").exits(0).says("No faults").says(told).never_says("the job bye");
    let json = bench.run("check jobs --json --broker-url embedded").exits(0).json();
    let expected = json!([{"namespace": "default", "job": "resize", "place": "jobs/b.yaml:4:3"}]);
    assert_eq!(json["needRabbitmq"], expected);
    let mut configured = bench.command("check jobs");
    configured.env("REVEILLE_BROKER_URL", "embedded");
    run(configured, "").exits(0).says(told);
    bench.run("check jobs").exits(0).never_says("RabbitMQ");
    bench.run("check jobs --broker-url amqp://rabbit.example").exits(0).never_says("RabbitMQ");
}
