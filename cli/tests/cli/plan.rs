//! `plan` and `apply`.

use serde_json::{Value, json};

use crate::stub::{Asked, Stub, missing, problem};
use crate::workbench::{Workbench, run, taken_port};

const FILE: &str = "version: 1\njobs: { j: { command: [x] } }\nschedules: { s: { every: 1h, trigger: j } }\n";

fn plan() -> Value {
    json!({"inForceVersion": 7, "changes": true,
        "jobs": {"added": ["default/new-job"], "changed": [], "removed": []},
        "schedules": {"added": ["billing/fresh"],
            "changed": [{"namespace": "default", "name": "s",
                         "changes": [{"member": "every", "from": "2h", "to": "1h"}, {"member": "jitter", "from": null, "to": "5s"}]}],
            "removed": ["default/old"]},
        "fireTimes": [{"namespace": "default", "schedule": "s", "before": 100, "after": 100, "same": 50,
                       "firstDifference": "2026-11-25T01:00:00.000Z", "removed": [],
                       "added": ["2026-11-25T01:00:00.000Z", "2026-11-25T03:00:00.000Z"], "note": "twice as often"},
                      {"namespace": "default", "schedule": "old", "before": 3, "after": 0, "same": 0,
                       "removed": ["2026-11-25T01:00:00.000Z"], "added": []}],
        "collisions": [{"at": "2026-11-25T02:00:00.000Z", "count": 12, "schedules": ["default/a", "billing/b"]}],
        "clockChanges": [{"namespace": "default", "schedule": "s", "at": "2027-03-28T01:00:00.000Z", "effect": "moved",
                          "explanation": "02:30 is skipped: due at 03:00"}],
        "overruns": [{"namespace": "billing", "schedule": "fresh", "job": "slow", "intervalSeconds": 30.0,
                      "usualSeconds": 250.0, "explanation": "is due again after 30s"}],
        "notInFiles": {"jobs": ["default/kept-job"], "schedules": []}})
}

fn nothing() -> Value {
    let none = json!({"added": [], "changed": [], "removed": []});
    json!({"inForceVersion": 7, "changes": false, "jobs": none, "schedules": none, "fireTimes": [], "collisions": [],
           "clockChanges": [], "notInFiles": {"jobs": [], "schedules": []}})
}

fn server(plan: Value) -> impl Fn(&Asked) -> (u16, Value) {
    move |asked| match asked.line.as_str() {
        "POST /v1/definitions:plan" => (200, plan.clone()),
        "POST /v1/definitions:apply" => (200, json!({"version": 8, "jobs": 1, "schedules": 2, "removed": 1})),
        _ => missing(),
    }
}

fn bench() -> Workbench {
    let bench = Workbench::new();
    bench.write("jobs/a.yaml", FILE);
    bench.write("jobs/b.yml", "version: 1\n");
    bench.write("jobs/.hidden.yaml", "not: read");
    bench.write("jobs/notes.txt", "not read");
    bench
}

#[test]
fn a_plan_is_told_in_full_and_exits_with_2() {
    let bench = bench();
    let stub = Stub::start(server(plan()));
    let done = bench.run(&format!("plan jobs {}", stub.server())).exits(2);
    let done = done
        .says("To add: 1 job and 1 schedule; to change: 0 jobs and 1 schedule; to remove: 0 jobs and 1 schedule (version 7 is in force).")
        .says("+ job new-job")
        .says("+ schedule billing/fresh")
        .says("billing/fresh is due again after 30s")
        .says("~ schedule s\n    every: \"2h\" → \"1h\"\n    jitter: not set → \"5s\"\n")
        .says("- schedule old")
        .says("s: 50 of 100 stay; the first that differs is 2026-11-25 01:00:00")
        .says("+ 2026-11-25 01:00:00, 2026-11-25 03:00:00 and 48 more")
        .says("twice as often")
        .says("old: 3 less")
        .says("2026-11-25 02:00:00  12 schedules: a, billing/b and 10 more")
        .says("s: 02:30 is skipped: due at 03:00")
        .says("jobs: kept-job");
    done.never_says("\x1b[");
    let names = json!([{"name": "jobs/a.yaml", "text": FILE}, {"name": "jobs/b.yml", "text": "version: 1\n"}]);
    assert_eq!(stub.sent("POST"), json!({"files": names, "prune": false}));
    let json = bench.run(&format!("plan jobs/a.yaml --prune --json {}", stub.server())).exits(2).json();
    assert_eq!(json, plan());
    assert_eq!(stub.asked()[1].body["prune"], true);
}

#[test]
fn nothing_to_change_exits_with_0() {
    let bench = bench();
    let stub = Stub::start(server(nothing()));
    bench.run(&format!("plan jobs {}", stub.server())).exits(0).says("Nothing would change (version 7 is in force).");
    bench.run(&format!("apply jobs {}", stub.server())).exits(0).says("Nothing to do.");
    let json = bench.run(&format!("apply jobs --json {}", stub.server())).exits(0).json();
    assert_eq!((&json["applied"], &json["plan"]["changes"]), (&Value::Null, &json!(false)));
    assert!(!stub.asked().iter().any(|asked| asked.line.contains("apply")));
}

#[test]
fn faults_are_told_without_a_server() {
    let bench = bench();
    let (listener, address) = taken_port();
    drop(listener);
    bench.write("bad.yaml", "version: 1\njobs: { j: { comand: [x] } }\n");
    for command in ["plan", "apply --yes"] {
        let done = bench.run(&format!("{command} bad.yaml --server http://{address}")).exits(1);
        done.says("bad.yaml:2:").says("command").says("nothing of this would be applied").never_says("reached");
        bench.run(&format!("{command} nowhere --server http://{address}")).exits(1).says("does not exist");
        let json = bench.run(&format!("{command} bad.yaml --json --server http://{address}")).exits(1).json();
        assert_eq!((&json["ok"], &json["faults"][0]["line"]), (&json!(false), &json!(2)));
        // Neither nothing to do, nor faults, nor changes.
        bench.run(&format!("{command} jobs --server http://{address}")).exits(5).says("can't be reached");
    }
}

#[test]
fn jobs_that_only_the_server_knows_may_be_called_unless_all_else_is_to_go() {
    let bench = Workbench::new();
    bench.write("part.yaml", "version: 1\nschedules: { s: { every: 1h, trigger: elsewhere } }\n");
    let stub = Stub::start(server(plan()));
    bench.run(&format!("plan part.yaml {}", stub.server())).exits(2);
    bench.run(&format!("plan part.yaml --prune {}", stub.server())).exits(1).says("part.yaml:2:").says("elsewhere");
    bench.write("part.yaml", "version: 1\nschedules: { s: { evry: 1h, trigger: elsewhere } }\n");
    bench.run(&format!("plan part.yaml {}", stub.server())).exits(1).says("1 fault;").says("every");
}

#[test]
fn faults_that_only_the_server_finds_are_told_alike() {
    let bench = bench();
    let stub = Stub::start(|_| {
        let (status, mut body) = problem(422, "FaultyDefinitions", "1 fault");
        body["faults"] = json!([{"file": "jobs/a.yaml", "line": 3, "column": 1, "message": "no", "text": "jobs/a.yaml:3:1: no\n  3 | x"}]);
        (status, body)
    });
    let done = bench.run(&format!("plan jobs {}", stub.server())).exits(1);
    assert_eq!(done.says("the server finds faults").stdout, "jobs/a.yaml:3:1: no\n  3 | x\n");
    let json = bench.run(&format!("apply jobs --yes --json {}", stub.server())).exits(1).json();
    assert_eq!((&json["ok"], &json["faults"][0]["line"]), (&json!(false), &json!(3)));
}

#[test]
fn a_plan_is_shown_and_applied_to_what_it_was_made_for() {
    let bench = bench();
    let stub = Stub::start(server(plan()));
    let done = bench.run(&format!("apply jobs --prune --reason r --by anna {}", stub.server())).exits(0);
    done.says("+ job new-job")
        .says("Applied: version 8 is in force; 1 job and 2 schedules are new or changed, 1 removed.");
    let body = stub.sent("POST /v1/definitions:apply");
    assert_eq!((&body["ifVersion"], &body["prune"]), (&json!(7), &json!(true)));
    assert_eq!(
        (&body["by"], &body["reason"], body["files"].as_array().unwrap().len()),
        (&json!("anna"), &json!("r"), 2)
    );
    let json = bench.run(&format!("apply jobs --json {}", stub.server())).exits(0).json();
    assert_eq!((&json["applied"]["version"], &json["plan"]), (&json!(8), &plan()));
    // The first definitions of all are applied only where none are in force.
    let mut first = plan();
    first["inForceVersion"] = Value::Null;
    let stub = Stub::start(server(first));
    bench.run(&format!("apply jobs {}", stub.server())).exits(0).says("nothing is in force");
    assert_eq!(stub.sent("POST /v1/definitions:apply").get("ifVersion"), Some(&Value::Null));
}

#[test]
fn what_has_moved_is_not_applied() {
    let bench = bench();
    let stub = Stub::start(|asked| match asked.line.as_str() {
        "POST /v1/definitions:plan" => (200, plan()),
        _ => problem(409, "StateMoved", "version 8 is in force, not 7"),
    });
    let done = bench.run(&format!("apply jobs --yes {}", stub.server())).exits(1);
    done.says("version 8 is in force, not 7").says("reveille plan PATH");
    let done = bench.run(&format!("apply jobs --if-version 6 {}", stub.server())).exits(1);
    done.says("version 7 is in force, not 6; nothing was applied").says("reveille plan PATH");
    assert_eq!(stub.asked().iter().filter(|asked| asked.line.contains("apply")).count(), 1);
}

/// What a person at a terminal sees who answers so, and the exit code.
fn at_a_terminal(bench: &Workbench, arguments: &str, answer: &str) -> (Option<i32>, String) {
    let mut command = std::process::Command::new("script");
    let call = format!("{} {arguments}", env!("CARGO_BIN_EXE_reveille"));
    command.args(["-qec", &call, "/dev/null"]).current_dir(bench.path());
    let done = run(command, answer);
    (done.code, done.stdout)
}

#[test]
fn people_at_a_terminal_are_asked_first() {
    let bench = bench();
    let stub = Stub::start(server(plan()));
    let apply = format!("apply jobs {}", stub.server());
    for answer in ["n\n", "\n", "what\n"] {
        let (code, seen) = at_a_terminal(&bench, &apply, answer);
        assert!(
            code == Some(1) && seen.contains("Apply this? [y/N]") && seen.contains("nothing was applied"),
            "{seen}"
        );
    }
    assert!(!stub.asked().iter().any(|asked| asked.line.contains("apply")));
    let (code, seen) = at_a_terminal(&bench, &apply, "y\n");
    assert!(code == Some(0) && seen.contains("Applied: version 8"), "{seen}");
    let (code, seen) = at_a_terminal(&bench, &format!("{apply} --yes"), "");
    assert!(code == Some(0) && !seen.contains("[y/N]"), "{seen}");
}
