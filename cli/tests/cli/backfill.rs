//! `backfill`, and `trigger --schedule`.

use std::sync::atomic::{AtomicI64, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::stub::{Asked, Stub, missing, problem};
use crate::workbench::{LIMIT, Workbench, eventually};

fn backfill(status: &str, triggered: i64) -> Value {
    json!({"id": "again", "schedule": "nightly", "from": "2026-11-01T00:00:00.000Z", "to": "2026-11-04T00:00:00.000Z",
           "maxParallel": 2, "status": status, "percentComplete": triggered * 25, "total": 4, "triggered": triggered,
           "skipped": 0, "unended": i64::from(status == "running"), "timeCreated": "2026-11-25T01:00:00.000Z",
           "by": "anna@desk", "reason": "lost disk", "scheduleVersion": 1})
}

/// One that ends in this state after some polls, or never.
fn server(end: &'static str) -> impl Fn(&Asked) -> (u16, Value) {
    let polls = AtomicI64::new(0);
    move |asked: &Asked| match asked.line.split('?').next().unwrap() {
        "GET /v1/schedules/nightly" => (200, json!({"name": "nightly", "timezone": "Europe/Berlin", "trigger": ["j"]})),
        "POST /v1/schedules/nightly:backfill" if asked.body["dryRun"] == true => (
            200,
            json!({"dryRun": true, "total": 4, "excluded": 1, "first": "2026-11-01T01:00:00.000Z",
                   "last": "2026-11-04T01:00:00.000Z"}),
        ),
        "POST /v1/schedules/nightly:backfill" => (202, backfill("running", 0)),
        "GET /v1/schedules/nightly/backfills/again" => {
            let polls = polls.fetch_add(1, Ordering::Relaxed) + 1;
            (200, if polls < 3 || end.is_empty() { backfill("running", polls.min(3)) } else { backfill(end, 4) })
        }
        "GET /v1/schedules/nightly/backfills" => (200, json!({"items": [backfill("done", 4)]})),
        "DELETE /v1/schedules/nightly/backfills/again" => (202, backfill("canceled", 1)),
        _ => missing(),
    }
}

const RANGE: &str = "backfill nightly --from 2026-11-01T00:00 --to 2026-11-04T00:00Z";

#[test]
fn a_backfill_is_begun_with_what_was_said() {
    let bench = Workbench::new();
    let stub = Stub::start(server("done"));
    let rest = "--max-parallel 2 --id again --reason disk --by anna";
    let done = bench.run(&format!("{RANGE} {rest} {}", stub.server())).exits(0);
    done.says("again  running: 0 of 4 due times triggered").says("reveille backfill nightly --cancel again");
    assert_eq!(
        stub.sent("POST"),
        json!({"from": "2026-10-31T23:00:00Z", "to": "2026-11-04T00:00:00Z", "maxParallel": 2, "id": "again",
               "reason": "disk", "by": "anna"})
    );
    let json = bench.run(&format!("{RANGE} --json {}", stub.server())).exits(0).json();
    assert_eq!(json["status"], "running");
}

#[test]
fn a_dry_run_counts() {
    let bench = Workbench::new();
    let stub = Stub::start(server("done"));
    let done = bench.run(&format!("{RANGE} --dry-run {}", stub.server())).exits(0);
    done.says("there are 4 due times, 1 of them excluded").says("Sun 2026-11-01 02:00:00 +01:00");
    let json = bench.run(&format!("{RANGE} --dry-run --json {}", stub.server())).exits(0).json();
    assert_eq!(json["total"], 4);
}

#[test]
fn waiting_shows_how_far_it_is_and_exits_as_it_ended() {
    let bench = Workbench::new();
    let stub = Stub::start(server("done"));
    let done = bench.run(&format!("{RANGE} --wait {}", stub.server())).exits(0);
    let done = done.says(" 25 %  again  1 of 4 due times triggered, 1 under way").says(" 50 %").says("100 %");
    done.says("again  done after ").says("4 of 4 due times triggered");
    let stub = Stub::start(server("canceled"));
    let json = bench.run(&format!("{RANGE} --wait --json {}", stub.server())).exits(4).json();
    assert_eq!(json["status"], "canceled");
}

#[test]
fn who_waits_and_presses_ctrl_c_leaves_it_running() {
    let bench = Workbench::new();
    let stub = Stub::start(server(""));
    let mut command = bench.command(&format!("{RANGE} --wait {}", stub.server()));
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually(LIMIT, || if stub.asked().len() > 3 { Ok(()) } else { Err(format!("{:?}", stub.asked())) });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(said.contains("the backfill goes on") && said.contains("--cancel again"), "{said}");
    assert!(!stub.asked().iter().any(|asked| asked.line.starts_with("DELETE")));
}

#[test]
fn backfills_are_listed_and_canceled() {
    let bench = Workbench::new();
    let stub = Stub::start(server("done"));
    let done = bench.run(&format!("backfill nightly --list {}", stub.server())).exits(0);
    done.says("again").says("100 %").says("4 of 4").says("anna@desk").says("lost disk");
    let why = "--by anna --reason late";
    bench.run(&format!("backfill nightly --cancel again {why} {}", stub.server())).exits(0).says("again  canceled");
    let asked = stub.asked().pop().unwrap().line;
    assert!(asked.starts_with("DELETE ") && asked.ends_with("/backfills/again?by=anna&reason=late"), "{asked}");
    bench.run(&format!("backfill nightly --cancel other {}", stub.server())).exits(1).says("does not exist");
}

#[test]
fn refusals_and_wrong_usage() {
    let bench = Workbench::new();
    let refusal =
        "from 2026-01-01 to 2026-11-25 are 28339200 due times, and the most is 100000: choose a shorter range";
    let stub = Stub::start(move |asked| {
        if asked.line.starts_with("GET") { server("done")(asked) } else { problem(422, "InvalidParameter", refusal) }
    });
    bench.run(&format!("{RANGE} {}", stub.server())).exits(1).says(refusal);
    for wrong in [
        "backfill nightly",
        "backfill nightly --from now",
        "backfill nightly --to now",
        "backfill nightly --from yesterday --to now",
        "backfill nightly --list --cancel x",
        "backfill nightly --list --wait",
        "backfill nightly --from 2026-11-04T00:00Z --to now --max-parallel 0",
        "backfill nightly --from 2026-11-04T00:00Z --to now --dry-run --wait",
    ] {
        bench.run(wrong).exits(2);
    }
    let done = bench.run(&format!("backfill nightly --from 2026-11-04T00:00Z --to 2026-11-01T00:00 {}", stub.server()));
    done.exits(2).says("is after --to");
}

fn run_of(id: &str, status: &str) -> Value {
    json!({"id": id, "namespace": "default", "job": format!("job-{id}"), "queue": "default", "status": status,
           "timeAccepted": "2026-11-25T01:00:00.000Z"})
}

#[test]
fn all_jobs_of_a_schedule_are_triggered_and_the_worst_end_counts() {
    let bench = Workbench::new();
    let stub = Stub::start(|asked| match asked.line.as_str() {
        "POST /v1/schedules/nightly:trigger" => (
            202,
            json!({"fire": {"dueAt": "2026-11-25T01:00:00.000Z"},
                   "workRequests": [run_of("a", "ACCEPTED"), run_of("b", "ACCEPTED")]}),
        ),
        "POST /v1/schedules/lame:trigger" => problem(409, "JobMissing", "job gone is not in force"),
        "GET /v1/workRequests/a" => (200, run_of("a", "FAILED")),
        "GET /v1/workRequests/b" => (200, run_of("b", "SUCCEEDED")),
        _ => missing(),
    });
    let done = bench.run(&format!("trigger --schedule nightly --by anna {}", stub.server())).exits(0);
    done.says("a  ACCEPTED  job-a").says("b  ACCEPTED  job-b");
    assert_eq!(stub.sent("POST"), json!({"by": "anna"}));
    let done = bench.run(&format!("trigger --schedule nightly --wait {}", stub.server())).exits(3);
    done.says("a  FAILED").says("b  SUCCEEDED");
    let json = bench.run(&format!("trigger --schedule nightly --wait --json {}", stub.server())).exits(3).json();
    assert_eq!(
        (&json["workRequests"][0]["status"], &json["fire"]["dueAt"]),
        (&json!("FAILED"), &json!("2026-11-25T01:00:00.000Z"))
    );
    bench.run(&format!("trigger --schedule lame {}", stub.server())).exits(1).says("job gone is not in force");
    for wrong in
        ["trigger", "trigger j --schedule s", "trigger --schedule s --input {}", "trigger --schedule s --delay 1s"]
    {
        bench.run(wrong).exits(2);
    }
}
