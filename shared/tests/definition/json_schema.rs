//! The JSON Schema: committed, and of one mind with the reader.

use reveille_shared::definition::json_schema;
use serde_json::{Value, json};

use super::files::samples;
use super::{read, schema_check};

#[test]
fn the_committed_json_schema_is_up_to_date() {
    let path = samples().join("reveille.schema.json");
    let text = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    if std::env::var_os("REVEILLE_REFRESH").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "deploy/schedules/reveille.schema.json is out of date; refresh it with:\n  \
         REVEILLE_REFRESH=1 cargo test -p reveille-shared --test definition json_schema"
    );
}

/// A document with every key, as JSON, which is YAML too.
fn with_every_key() -> Value {
    json!({
        "version": 1,
        "revision": 2,
        "namespace": "n",
        "defaults": {
            "timeout": "5m", "retry": {"max_attempts": 2}, "queue": "q", "priority": "low", "concurrency": 2,
            "rate": {"limit": "100/m", "key": "{{ job }}"}, "on_lost": "fail",
        },
        "jobs": {
            "h": {
                "description": "d",
                "http": {"method": "GET", "url": "http://a", "headers": {"A": "b"}, "body": [1], "success": [200],
                    "cancel": {"method": "DELETE", "url": "http://a/{{ work_request_id }}", "headers": {"A": "b"}},
                },
                "verify": {
                    "http": {
                        "url": "http://a", "headers": {"A": "b"}, "succeeded": "status == 200",
                        "failed": "status == 404", "running": "body.state == 'running'",
                    },
                    "timeout": "5s",
                },
            },
            "o": {
                "http": {
                    "url": "http://a",
                    "follow": {
                        "url": "http://a/{{ body.id }}", "succeeded": "body.ok", "failed": "status == 500",
                        "running": "status == 200", "percent": "body.n", "poll": {"min": "2s", "max": "5m"},
                        "cancel": "delete",
                    },
                },
            },
            "p": {"http": {"url": "http://a", "one_way": true}},
            "q": {"http": {"url": "http://a", "follow": true}},
            "c": {
                "command": ["a", "b"], "on_lost": "fail", "queue": "q", "timeout": "1h30m",
                "on_success": "f", "on_failure": {"job": "l", "input": {"a": 1}}, "on_finish": ["h", {"job": "f"}],
                "fan_out": {"job": "l", "from": "{{ output.items }}", "fail": {"tolerate": "5%"}, "max": 10},
            },
            "e": {"external": {"lease": "30s"}, "queue": "e"},
            "l": {"command": {"argv": ["a"], "env": {"A": "b"}, "working_dir": "/", "success": [1], "no_retry": [2]}, "verify": {"command": ["a"]}},
            "s": {
                "ssh": {
                    "host": "{{ input.host }}", "port": 22, "user": "u", "command": ["a", "{{ input.a }}"], "env": {"A": "b"},
                    "working_dir": "/", "identity_file": "/i", "passphrase": "${env:P}", "known_hosts": "/k",
                    "connect_timeout": "5s", "idle_timeout": "1m", "success": [1], "no_retry": [2],
                },
            },
            "t": {"ssh": {"host": "h", "user": "u", "command": "a | b"}},
            "f": {
                "function": "f", "retry": {"initial": "1s", "max": "2s", "backoff": "constant"}, "priority": "high",
                "concurrency": {"limit": 3, "key": "{{ input.region }}"}, "rate": "20/30s",
                "unique": {"key": "{{ input.day }}", "while": "running"}, "expires": "10m",
                "verify": {"command": {"argv": ["a", "{{ input.a }}"], "env": {"A": "b"}, "working_dir": "/"}},
            },
        },
        "schedules": {
            "c": {
                "cron": "* * * * *", "timezone": "UTC", "trigger": "c", "overlap": "allow", "catch_up": "none",
                "dst": {"gap": "skip", "fold": "both"}, "except": ["days", "2026-12-24/2026-12-26"], "only": ["MON-FRI"],
            },
            "e": {
                "every": "5s", "trigger": ["c", "h"], "input": {"a": 1},
                "catch_up": {"policy": "all", "window": "1h", "max": 5}, "jitter": "1s",
                "overlap": {"policy": "queue_all", "max": 20, "count_manual": true},
                "max_fires": 7, "pause_after_failures": 3,
            },
            "a": {
                "at": "2026-12-31T23:59:00Z", "trigger": "c", "description": "d",
                "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2027-01-01T00:00:00Z",
            },
        },
        "calendars": {"days": ["2026-05-01", "SAT"]},
    })
}

#[test]
fn schema_and_reader_judge_alike() {
    let (schema, good) = (json_schema(), with_every_key());
    assert_eq!(schema_check::violations(&schema, &good), Vec::<String>::new());
    read(&good.to_string()).unwrap_or_else(|faults| panic!("{faults}"));
    // Every place of the document, made wrong in several ways.
    let mut tried = 0;
    for pointer in schema_check::pointers(&good) {
        for wrong in [json!(true), json!(-5), json!({"oops": 1}), json!([[]])] {
            let mut bad = good.clone();
            *bad.pointer_mut(&pointer).unwrap() = wrong.clone();
            // Only the reader knows which jobs there are.
            let by_reader = read(&bad.to_string()).map_err(|faults| faults.to_string());
            let by_schema = schema_check::violations(&schema, &bad);
            assert_eq!(by_schema.is_empty(), by_reader.is_ok(), "{wrong} at {pointer}: {by_schema:?} {by_reader:?}");
            tried += 1;
        }
    }
    assert!(tried > 150, "only {tried} places");
}

#[test]
fn every_key_of_the_table_is_in_the_document() {
    let (schema, good) = (json_schema(), with_every_key().to_string());
    let objects = std::iter::once(&schema).chain(schema["$defs"].as_object().unwrap().values());
    for name in objects.flat_map(|object| object["properties"].as_object().unwrap().keys()) {
        assert!(good.contains(&format!("\"{name}\":")), "{name} is not tried");
    }
}
