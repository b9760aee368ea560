//! `explain` and `history`.

use serde_json::{Value, json};

use crate::stub::{Asked, Stub, missing};
use crate::workbench::{Workbench, run};

const ID: &str = "019ab000-0000-7000-8000-000000000001";

fn answer(asked: &Asked) -> (u16, Value) {
    match asked.line.split('?').next().unwrap() {
        "GET /v1/schedules/nightly" => (200, json!({"name": "nightly", "timezone": "Europe/Berlin", "trigger": ["j"]})),
        "GET /v1/schedules/nightly/explain" => (
            200,
            json!({"at": "2026-11-25T01:00:00.000Z", "verdict": "triggered",
                   "explanation": "It was due at 02:00 and triggered one run.",
                   "fire": {"dueAt": "2026-11-25T01:00:00.000Z", "lastDueAt": "2026-11-25T01:00:00.000Z", "count": 1,
                            "outcome": "triggered", "origin": "schedule", "workRequests": [ID],
                            "decidedAt": "2026-11-25T01:00:01.500Z"},
                   "nextDue": ["2126-11-26T01:00:00.000Z", "2126-11-27T01:00:00.000Z"],
                   "lastDue": "2026-11-25T01:00:00.000Z"}),
        ),
        _ => missing(),
    }
}

#[test]
fn plain_words_come_first_and_then_the_facts_in_the_schedules_zone() {
    let bench = Workbench::new();
    let stub = Stub::start(answer);
    let done = bench.run(&format!("explain nightly --at 2026-11-25T02:00 {}", stub.server())).exits(0);
    assert!(done.stdout.starts_with("It was due at 02:00 and triggered one run.\n\n"), "{done}");
    let done = done.says("triggered").says("Wed 2026-11-25 02:00:01 +01:00, 1.5 s after it was due").says(ID);
    done.says("reveille show").says("Next due").says("2126-11-26 02:00:00 +01:00 (in ").says("2126-11-27 02:00:00");
    // A local time is of the schedule's zone.
    assert!(stub.asked().last().unwrap().line.ends_with("at=2026-11-25T01%3A00%3A00Z"), "{:?}", stub.asked());
}

#[test]
fn now_is_the_servers_now_and_json_is_its_document() {
    let bench = Workbench::new();
    let stub = Stub::start(answer);
    let json = bench.run(&format!("explain nightly --json {}", stub.server())).exits(0).json();
    assert_eq!((&json["verdict"], &json["fire"]["workRequests"][0]), (&json!("triggered"), &json!(ID)));
    assert_eq!(stub.asked().last().unwrap().line, "GET /v1/schedules/nightly/explain");
}

#[test]
fn local_times_that_are_none_or_two_are_told() {
    let bench = Workbench::new();
    let stub = Stub::start(answer);
    let explain = |at: &str| {
        let mut command = bench.command(&format!("explain nightly {} --at", stub.server()));
        command.arg(at);
        let done = run(command, "").exits(0);
        (done.stderr.clone(), stub.asked().last().unwrap().line.clone())
    };
    let (said, line) = explain("2026-03-29 02:30");
    assert!(said.contains("Europe/Berlin skips") && line.ends_with("at=2026-03-29T01%3A00%3A00Z"), "{said}{line}");
    let (said, line) = explain("2026-10-25 02:30");
    assert!(said.contains("twice") && line.ends_with("at=2026-10-25T00%3A30%3A00Z"), "{said}{line}");
}

#[test]
fn wrong_times_and_names() {
    let bench = Workbench::new();
    let stub = Stub::start(answer);
    bench.run(&format!("explain nightly --at tomorrow {}", stub.server())).exits(2).says("2026-11-25T02:00");
    bench.run(&format!("explain nightly --at 2026-11-25 {}", stub.server())).exits(2).says("with its offset");
    bench.run(&format!("explain other {}", stub.server())).exits(1).says("does not exist");
    bench.run("explain").exits(2);
}

fn known(asked: &Asked) -> (u16, Value) {
    let entry = |seq: i64, action: &str, changes: Value| {
        json!({"seq": seq, "version": seq, "action": action, "timestamp": "2026-11-25T01:00:00.000Z", "by": "anna@desk",
               "reason": "ticket 7", "changes": changes})
    };
    let change = json!([{"member": "cron", "from": "0 2 * * *", "to": "0 3 * * *"}, {"member": "jitter", "to": "30s"}]);
    let page = (200, json!({"items": [entry(2, "changed", change), entry(1, "created", json!([]))]}));
    match asked.line.split('?').next().unwrap() {
        "GET /v1/schedules/nightly/history" | "GET /v1/schedules/both/history" => page,
        "GET /v1/jobs/copy/history" | "GET /v1/jobs/both/history" => page,
        _ => missing(),
    }
}

#[test]
fn a_history_tells_who_what_when_and_why() {
    let bench = Workbench::new();
    let stub = Stub::start(known);
    let done = bench.run(&format!("history nightly {}", stub.server())).exits(0);
    let done = done
        .says("schedule nightly, newest first")
        .says("2026-11-25 01:00:00  changed (version 2) by anna@desk: ticket 7")
        .says(r#"cron: "0 2 * * *" → "0 3 * * *""#)
        .says(r#"jitter: not set → "30s""#);
    assert!(done.stdout.find("changed") < done.stdout.find("created"), "{done}");
    bench.run(&format!("history copy {}", stub.server())).exits(0).says("job copy, newest first");
    let json = bench.run(&format!("history copy --limit 1 --json {}", stub.server())).exits(0);
    assert_eq!((json.json()[0]["seq"].clone(), json.json().as_array().unwrap().len()), (json!(2), 1));
    json.says("there is more: see --limit");
}

#[test]
fn a_name_of_both_needs_a_word_more() {
    let bench = Workbench::new();
    let stub = Stub::start(known);
    let done = bench.run(&format!("history both {}", stub.server())).exits(2);
    done.says("a job and of a schedule").says("--job").says("--schedule");
    bench.run(&format!("history both --job {}", stub.server())).exits(0).says("job both");
    bench.run(&format!("history both --schedule {}", stub.server())).exits(0).says("schedule both");
    bench.run(&format!("history both --job --schedule {}", stub.server())).exits(2);
    bench
        .run(&format!("history nobody {}", stub.server()))
        .exits(1)
        .says("no job and no schedule was ever called nobody");
    bench.run(&format!("history nightly --job {}", stub.server())).exits(1).says("no job was ever called nightly");
}
