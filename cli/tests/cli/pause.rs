//! `pause`, `resume` and what is told of paused schedules.

use serde_json::{Value, json};

use crate::stub::{Asked, Stub, missing, problem};
use crate::workbench::{Workbench, run};

fn schedule(name: &str) -> Value {
    json!({"namespace": "default", "name": name, "cron": "0 2 * * *", "timezone": "UTC", "trigger": ["j"],
           "nextDue": "2126-11-25T02:00:00.000Z"})
}

fn paused(name: &str) -> Value {
    let mut schedule = schedule(name);
    schedule["paused"] = json!({"since": "2026-11-25T01:00:00.000Z", "by": "anna@desk", "reason": "moving house"});
    schedule
}

#[test]
fn pausing_tells_who_when_and_why_and_sends_them() {
    let bench = Workbench::new();
    let stub = Stub::start(|asked| match asked.line.as_str() {
        "POST /v1/schedules/nightly:pause" => (200, paused("nightly")),
        _ => missing(),
    });
    let mut command = bench.command(&format!("pause nightly --by anna@desk {} --reason", stub.server()));
    command.arg("moving house");
    let done = run(command, "").exits(0);
    done.says("nightly is paused since 2026-11-25 01:00:00 by anna@desk: moving house")
        .says("skipped until `reveille resume nightly`");
    assert_eq!(stub.sent("POST"), json!({"by": "anna@desk", "reason": "moving house"}));
    let json = bench.run(&format!("pause nightly --json {}", stub.server())).exits(0).json();
    assert_eq!(json["paused"]["by"], "anna@desk");
}

#[test]
fn the_actor_is_the_environments_or_user_and_machine() {
    let bench = Workbench::new();
    let stub = Stub::start(|_| (200, schedule("nightly")));
    let by = |set: &[(&str, &str)]| {
        let mut command = bench.command(&format!("resume nightly {}", stub.server()));
        command.env_remove("LOGNAME").env("USER", "otto").envs(set.iter().copied());
        run(command, "").exits(0).says("nightly goes on: next due 2126-11-25 02:00:00 (in ");
        stub.asked().last().unwrap().body["by"].as_str().unwrap().to_owned()
    };
    assert!(by(&[]).starts_with("otto@"), "{}", by(&[]));
    assert_eq!(by(&[("REVEILLE_ACTOR", "deploy bot")]), "deploy bot");
    bench.run(&format!("pause nightly --by {} {}", "x".repeat(101), stub.server())).exits(2).says("100 characters");
}

#[test]
fn what_is_so_already_is_told_and_exits_with_1() {
    let bench = Workbench::new();
    let detail = "nightly is paused already, since 2026-11-25T01:00:00.000Z by anna@desk: moving house";
    let stub = Stub::start(move |asked| match asked.line.as_str() {
        "POST /v1/schedules/nightly:pause" => problem(409, "AlreadyPaused", detail),
        "POST /v1/schedules/nightly:resume" => problem(409, "NotPaused", "nightly is not paused"),
        _ => missing(),
    });
    let done = bench.run(&format!("pause nightly {}", stub.server())).exits(1);
    assert_eq!(done.says(detail).says("reveille resume").stdout, "");
    bench.run(&format!("resume nightly {}", stub.server())).exits(1).says("nightly is not paused");
    bench.run(&format!("pause a/b {}", stub.server())).exits(1).says("does not exist").says("reveille schedules");
    assert_eq!(stub.asked().last().unwrap().line, "POST /v1/schedules/a%2Fb:pause");
}

fn list(count: usize) -> impl Fn(&Asked) -> (u16, Value) {
    move |asked: &Asked| {
        if asked.line.contains("/fires?") {
            return (
                200,
                json!({"items": [{"dueAt": "2026-11-25T02:00:00Z", "lastDueAt": "2026-11-25T02:00:00Z",
                                  "count": 1, "outcome": "skipped", "reason": "paused"}]}),
            );
        }
        assert!(asked.line.starts_with("GET /v1/schedules?"), "{asked:?}");
        let items: Vec<_> =
            (0..count).map(|n| if n == 0 { paused("p0") } else { schedule(&format!("s{n}")) }).collect();
        (200, json!({"items": items}))
    }
}

#[test]
fn a_list_marks_what_is_paused_and_searches() {
    let bench = Workbench::new();
    let stub = Stub::start(list(2));
    let done = bench.run(&format!("schedules --search part {}", stub.server())).exits(0);
    done.says("PAUSED by anna@desk: moving house").says("2026-11-25 02:00:00 (paused)").says("LAST");
    assert!(stub.asked()[0].line.contains("search=part"), "{:?}", stub.asked());
    let json = bench.run(&format!("schedules --json {}", stub.server())).exits(0).json();
    assert_eq!(json[1]["lastFire"]["reason"], "paused");
}

#[test]
fn a_long_list_does_not_ask_for_each_last_fire() {
    let bench = Workbench::new();
    let stub = Stub::start(list(21));
    let done = bench.run(&format!("schedules {}", stub.server())).exits(0);
    assert!(!done.stdout.contains("LAST") && done.stdout.contains("s20"), "{done}");
    done.says("last fires are left out, as these are 21 schedules").says("--last");
    assert_eq!(stub.asked().len(), 1, "{:?}", stub.asked());
    let json = bench.run(&format!("schedules --json {}", stub.server())).exits(0);
    assert!(json.json()[0].get("lastFire").is_none() && json.stderr.is_empty(), "{json}");
    bench.run(&format!("schedules --last {}", stub.server())).exits(0).says("LAST");
    assert_eq!(stub.asked().len(), 2 + 22);
}

#[test]
fn due_times_of_a_paused_schedule_come_with_a_warning() {
    let bench = Workbench::new();
    let stub = Stub::start(|asked| match asked.line.as_str() {
        "GET /v1/schedules/nightly" => (200, paused("nightly")),
        _ => (200, json!({"items": ["2126-11-25T02:00:00.000Z"]})),
    });
    let done = bench.run(&format!("next nightly --count 1 {}", stub.server())).exits(0);
    done.says("2126-11-25 02:00:00Z")
        .says("paused since 2026-11-25 01:00:00 by anna@desk: moving house: skipped until");
}
