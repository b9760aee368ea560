//! What is told about texts that are wrong.

use reveille_shared::definition::Handler;

use super::{faults, read, read_named, report};

#[test]
fn malformed_yaml_of_ten_kinds_and_more() {
    let told = report(&[
        ("indentation", "version: 1\njobs:\n  a:\n    function: f\n   queue: q\n"),
        ("a tab", "version: 1\njobs:\n\ta:\n\t\tfunction: f\n"),
        ("an open quote", "version: 1\njobs:\n  a: { function: \"f }\n"),
        ("an open bracket", "version: 1\njobs:\n  a: { command: [echo, hi }\n"),
        ("a bracket open at the end", "version: 1\njobs: { a: { function: f }\n"),
        ("a colon in a text", "version: 1\njobs:\n  a:\n    description: note: this\n    function: f\n"),
        ("an alias without anchor", "version: 1\njobs: *base\n"),
        ("a cron text without quotes", "version: 1\nschedules:\n  s:\n    cron: * * * * *\n    trigger: a\n"),
        ("two documents", "version: 1\n---\nversion: 1\n"),
        ("a control character", "version: 1\nnamespace: a\u{0}b\n"),
        ("an unknown escape", "version: 1\njobs:\n  a: { command: [\"C:\\dir\"] }\n"),
        ("a map as a key", "version: 1\n{ a: b }: c\n"),
        ("a tag", "version: 1\nnamespace: !!str 5\n"),
        ("a key twice", "version: 1\njobs:\n  a: { function: f }\n  a: { function: g }\n"),
        ("a merge key", "version: 1\njobs:\n  a: &a { function: f }\n  b: { <<: *a, queue: q }\n"),
        ("a template without quotes", "version: 1\njobs:\n  a:\n    http: { url: http://a, body: {{ input.x }} }\n"),
        ("a list at the top", "- version: 1\n"),
        ("nothing", "# soon\n"),
        ("not YAML at all", "<html><body>hello</body></html>\n"),
    ]);
    insta::assert_snapshot!(told);
}

#[test]
fn all_faults_of_a_file_in_one_go() {
    let told = faults(
        r#"
verson: 2
revision: -1
namespace: My Team
defaults: { timeout: 10, retry: { max_attempts: 0, initial: 10m } }
jobs:
  Invoice Run:
    discription: typo
    command: echo hi
    timeout: 1 hour
  two:
    function: f
    http: { url: billing/run, methd: GET, method: get, headers: { "a b": 1, X: true }, success: [99, "200", 2e2] }
    on_lost: explode
    retry: 3
  none: { queue: q }
  env: { command: { argv: [a, "${env:HOME}"], env: { 1A: x, B: "${env:}", C: 0777 }, success: [], no_retry: [256] } }
  codes: { command: { argv: [a], success: [0, 7], no_retry: [7] } }
  empty:
schedules:
  nightly: { cron: "0 25 * * *", timezone: Europe/Berln, trigger: tow }
  odd: { cron: "0 25 * * *", timezone: Europe/Berlin, trigger: two }
  quick: { every: 500ms, trigger: two }
  never: { cron: "0 0 30 2 *", trigger: [] }
  both: { every: 5s, cron: "* * * * *", trigger: [two, two], input: [1] }
  past: { at: 2026-12-31T23:59:00, timezone: UTC, trigger: two, catch_up: newest, overlap: [skip] }
  input: { every: 0s, trigger: 5, input: { full: yes, mode: 0777, token: "${env:T}" } }
"#,
    );
    insta::assert_snapshot!(told);
}

fn indent(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}\n")).collect()
}

#[test]
fn what_later_versions_bring_is_refused() {
    let job = |lines: &str| format!("version: 1\njobs:\n  a:\n    function: f\n{}", indent(lines));
    let schedule = |lines: &str| {
        let head = "version: 1\njobs: { a: { function: f } }\nschedules:\n  s:\n    trigger: a\n    every: 5s\n";
        format!("{head}{}", indent(lines))
    };
    let top = ["notifications", "webhooks"].map(|key| (key, format!("version: 1\n{key}: x\n")));
    let of_job = ["resource", "limits"].map(|key| (key, job(&format!("{key}: x"))));
    let of_schedule =
        ["paused", "unique", "expires", "priority", "on_failure"].map(|key| (key, schedule(&format!("{key}: x"))));
    for (word, text) in top.into_iter().chain(of_job).chain(of_schedule) {
        let messages: Vec<_> = faults(&text).iter().map(|fault| fault.message.clone()).collect();
        assert_eq!(messages, [format!("`{word}` is not supported yet")], "{text}");
    }
}

#[test]
fn a_typo_or_a_key_of_the_future_is_one_fault() {
    for text in [
        "version: 1\njobs: { a: { comand: [x] } }",
        "version: 1\njobs: { a: { external: x } }",
        "version: 1\njobs: { a: { function: f } }\nschedules: { s: { crom: '* * * * *', trigger: a } }",
        "version: 1\njobs: { a: { function: f } }\nschedules: { s: { every: 5s, triger: a } }",
        "verison: 1\n",
    ] {
        assert_eq!(faults(text).len(), 1, "{}", faults(text));
    }
}

#[test]
fn names_across_files() {
    let one = "version: 1\njobs: { one: { function: f } }\nschedules: { s: { every: 5s, trigger: two } }\n";
    let two = "version: 1\njobs:\n  two: { function: f }\n  one: { function: g }\nschedules: { s: { every: 5s, trigger: tow } }\n";
    let other =
        "version: 1\nnamespace: other\njobs: { one: { function: f } }\nschedules: { s: { every: 5s, trigger: two } }\n";
    insta::assert_snapshot!(read_named([("a.yaml", one), ("b.yaml", two), ("c.yaml", other)]).unwrap_err());
}

#[test]
fn a_file_that_can_not_be_read_does_not_make_the_others_wrong() {
    let faults = read_named([
        ("a.yaml", "version: 1\nschedules: { s: { every: 5s, trigger: elsewhere, overlapp: skip } }\n"),
        ("b.yaml", "version: 1\njobs: { elsewhere: [ }\n"),
    ])
    .unwrap_err();
    let files: Vec<_> = faults.iter().map(|fault| fault.file.as_str()).collect();
    assert_eq!(files, ["a.yaml", "b.yaml"], "{faults}");
    assert_eq!(faults.iter().next().unwrap().message, "unknown key `overlapp`");
}

#[test]
fn places_count_characters_from_one() {
    for (text, line, column) in [
        ("version: 1\nörtchen: x\n", 2, 1),
        ("\u{feff}version: 1\r\njobs: { ä: { function: f, queue: q } }\r\n", 2, 9),
        ("version: 1\njobs: { a: { description: 'äöü', function: f, oops: 1 } }\n", 2, 47),
        ("version: 1\njobs: { a: { command: [echo, 'ü ${env:X}'] } }\n", 2, 33),
        ("version: 1\r\rjobs: { a: { function: f, oops: 1 } }", 3, 27),
    ] {
        let faults = faults(text);
        let first = faults.iter().next().unwrap();
        assert_eq!((first.line, first.column), (Some(line), Some(column)), "{faults}");
    }
}

#[test]
fn scalars_hold_no_surprise() {
    let good = ["no", "\"0777\"", "'1e3'", "10m", "12:30", "a,b", "\"\""];
    let bad = ["0777", "1e3", "5", "true", "0x1F", "~", "", "[a]", "{ a: b }"];
    for (value, ok) in good.map(|value| (value, true)).into_iter().chain(bad.map(|value| (value, false))) {
        let text = format!("version: 1\njobs:\n  a:\n    command:\n      argv: [x]\n      env:\n        A: {value}\n");
        match read(&text) {
            Ok(definitions) => {
                let Handler::Command(call) = &definitions.jobs[0].handler else { panic!("not a command") };
                assert!(ok && call.env["A"] == value.trim_matches(['"', '\'']), "{value} became {:?}", call.env["A"]);
            }
            Err(faults) => assert!(!ok && faults.len() == 1, "{faults}"),
        }
    }
}

#[test]
fn no_secret_is_told() {
    let told = faults(
        r#"
version: 1
jobs:
  a:
    http: { url: "https://me:hunter2@host", headers: { Authorization: hunter2, X: 5, "b c": hunter2 } }
  b: { command: { argv: [x], env: { PASSWORD: "hunter2 ${env:BAD-NAME}", 1X: hunter2 } } }
  c: { http: { url: "http://host", headers: [hunter2], oops: 1 } }
  d: { http: { url: "http://host", headers: { A: "x{{hunter2}}", B: "x{%hunter2", C: "{{ 'hunter2' }} {{ oops }}" } } }
  e: { command: { argv: [x], env: { PASSWORD: "p{{ hunter2 | hunter2 }}" } } }
"#,
    );
    assert!(told.len() >= 11, "{told}");
    let json = serde_json::to_string(&told).unwrap();
    assert!(!told.to_string().contains("hunter2") && !json.contains("hunter2"), "{told}\n{json}");
    let broken = "version: 1\njobs:\n  a:\n    http:\n      headers:\n        Authorization: \"hunter2\n";
    assert!(!faults(broken).to_string().contains("hunter2"), "{}", faults(broken));
}
