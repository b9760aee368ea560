//! `doctor`.

use serde_json::{Value, json};

use crate::stub::{Asked, Stub, missing};
use crate::workbench::{Workbench, taken_port};

fn server(status: u16, ready: Value, schedules: Value) -> impl Fn(&Asked) -> (u16, Value) {
    move |asked| match asked.line.split('?').next().unwrap() {
        "GET /readyz" => (status, ready.clone()),
        "GET /openapi.json" => (200, json!({"info": {"version": env!("CARGO_PKG_VERSION")}})),
        "GET /v1/schedules" => (200, json!({"items": schedules})),
        "GET /v1/queues" => {
            (200, json!({"items": [{"name": "default", "due": 0, "held": 0, "sent": 3, "workers": 1}]}))
        }
        _ => missing(),
    }
}

fn schedule(name: &str) -> Value {
    json!({"name": name, "timezone": "UTC", "trigger": ["j"], "nextDue": "2126-11-25T02:00:00.000Z"})
}

#[test]
fn all_is_well() {
    let bench = Workbench::new();
    let ready = json!({"ready": true, "faults": [], "timezoneData": {"version": "2020a", "source": "bundled"},
        "parts": [{"name": "database", "ready": true, "detail": "answers"}],
        "leader": {"leading": true, "generation": 3, "lastDecision": "2026-11-25T01:00:00.000Z"}});
    let stub = Stub::start(server(200, ready, json!([schedule("a")])));
    let done = bench.run(&format!("doctor {}", stub.server())).exits(0).never_says("✗");
    let done = done
        .says("✓ server")
        .says("✓ version")
        .says("✓ database           answers")
        .says("this scheduler leads (generation 3)");
    done.says("1 schedule in force")
        .says("! time zones")
        .says("2020a on the server")
        .says("tzdata")
        .says("Nothing is wrong; 1 line marked with ! may be worth a look.");
    let json = bench.run(&format!("doctor --json {}", stub.server())).exits(0).json();
    assert_eq!(
        (&json["ok"], &json["checks"][0]["name"], &json["checks"][0]["state"]),
        (&json!(true), &json!("server"), &json!("well"))
    );
}

#[test]
fn every_thing_that_is_wrong_comes_with_what_to_do() {
    let bench = Workbench::new();
    let ready = json!({"status": 503, "detail": "not ready: broker", "ready": false,
        "faults": ["a.yaml:3:1: bad\n  3 | x"],
        "parts": [{"name": "broker", "ready": false, "detail": "connection refused"}, {"name": "planner", "ready": true, "detail": "x"}],
        "leader": {"leading": false}});
    let mut paused = schedule("p");
    paused["nextDue"] = Value::Null;
    paused["paused"] = json!({"since": "2026-11-25T01:00:00.000Z", "by": "anna", "reason": "tired"});
    let over = json!({"name": "over", "timezone": "UTC", "trigger": ["j"]});
    let dated = "Date: Wed, 25 Nov 2020 02:00:00 GMT\r\n";
    let stub = Stub::dated(dated, server(503, ready, json!([paused, over])));
    let done = bench.run(&format!("doctor {}", stub.server())).exits(1);
    let done = done.says("✗ broker             connection refused").says("REVEILLE_BROKER_URL");
    let done = done.says("no scheduler leads").says("a.yaml:3:1: bad").says("reveille check PATH");
    let done = done
        .says("ahead of the server")
        .says("NTP")
        .says("! paused")
        .says("p (by anna: tired)")
        .says("reveille resume");
    done.says("! never due again    over\n").says("4 things are wrong.");
    let json = bench.run(&format!("doctor --json {}", stub.server())).exits(1).json();
    assert_eq!(json["ok"], false);
    let broker = json["checks"].as_array().unwrap().iter().find(|check| check["state"] == "wrong").unwrap();
    assert!(broker["advice"].is_string(), "{json}");
}

#[test]
fn a_server_that_is_not_there_or_not_ours_is_wrong() {
    let bench = Workbench::new();
    let (listener, address) = taken_port();
    drop(listener);
    let done = bench.run(&format!("doctor --server http://{address}")).exits(1);
    done.says("✗ server").says("can't be reached").says("reveille dev").says("1 thing is wrong.");
    let json = bench.run(&format!("doctor --json --server http://{address}")).exits(1).json();
    assert_eq!((&json["ok"], &json["checks"][0]["state"]), (&json!(false), &json!("wrong")));
    for strange in [(404, json!({})), (200, json!({"ready": true})), (200, json!("hello"))] {
        let stub = Stub::start(move |_| strange.clone());
        bench.run(&format!("doctor {}", stub.server())).exits(1).says("✗ server").says("is this a Reveille scheduler");
    }
}
