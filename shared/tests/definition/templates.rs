//! Templates in definitions: what can be told before anything is rendered.

use super::{faults, read, report};

#[test]
fn each_fault_of_a_template_where_it_stands() {
    let job = |handler: &str| format!("version: 1\njobs:\n  a: {{ {handler} }}\n");
    let schedule = |input: &str| {
        let head = "version: 1\njobs: { a: { function: f } }\nschedules:\n  s:\n    every: 5s\n    trigger: a\n";
        format!("{head}    input: {input}\n")
    };
    let chain = |input: &str| {
        let head = "version: 1\njobs:\n  b: { function: f }\n  a:\n    function: f\n    on_failure:\n      job: b\n";
        format!("{head}      input: {input}\n")
    };
    let cases = [
        ("syntax of a command", job(r#"command: [echo, "{{ input. }}", '{{ input', "{% if %}"]"#)),
        ("syntax of another language", job("command: [docker, inspect, -f, '{{.State.Running}}', x]")),
        ("a url", job(r#"http: { url: "https://a/{{ input.day | dat }}?x={{ scheduled }}" }"#)),
        (
            "headers and body",
            job(r#"http: { url: "https://a", headers: { A: "{{ tokn }}" }, body: { a: [1, "{{ inputs.x }}"] } }"#),
        ),
        ("environment", job(r#"command: { argv: [x], env: { A: "${env:B} {{ output }}" } }"#)),
        ("an input", schedule(r#"{ day: "{{ schedule_for | date }}", list: [{ a: "{{ input.x }}" }] }"#)),
        ("a call's input", chain(r#"{ a: "{{ parent.job }} {{ err.message }} {{ attempt }}", b: "{{ 1 + }}" }"#)),
        ("escapes", schedule(r#"{ day: "a\tb {{ nope }}" }"#)),
        ("a block", schedule("{\n      text: 'a\n        {{ nope }}' }")),
    ];
    insta::assert_snapshot!(report(&cases.each_ref().map(|(title, text)| (*title, text.as_str()))));
}

#[test]
fn what_is_known_depends_on_the_place() {
    let run = ["input", "scheduled_for", "fired_at", "work_request_id", "attempt", "job", "namespace", "schedule"];
    let fire = ["scheduled_for", "fired_at", "schedule", "namespace"];
    let chain = ["output", "input", "error", "parent", "namespace", "schedule", "scheduled_for", "fired_at"];
    let text = |names: &[&str]| names.iter().map(|name| format!("{{{{ {name} }}}}")).collect::<String>();
    let good = format!(
        r#"
version: 1
jobs:
  a:
    http: {{ url: "https://a/{run}", headers: {{ A: "{run}" }}, body: "{run}" }}
    on_success: {{ job: b, input: {{ a: ["{chain}"] }} }}
  b: {{ command: {{ argv: [x, "{run}"], env: {{ A: "{run}" }} }} }}
schedules:
  s: {{ every: 5s, trigger: a, input: {{ a: {{ b: "{fire}" }} }} }}
"#,
        run = text(&run),
        chain = text(&chain),
        fire = text(&fire),
    );
    read(&good).unwrap_or_else(|faults| panic!("{faults}"));
    let all = text(&[run.as_slice(), &chain].concat());
    assert_eq!(faults(&good.replace(&text(&run), &all)).len(), 5 * 3, "output, error and parent in five places");
    assert_eq!(faults(&good.replace(&text(&chain), &all)).len(), 3, "attempt, job and work_request_id");
    assert_eq!(faults(&good.replace(&text(&fire), &all)).len(), 7);
}

#[test]
fn where_nothing_is_rendered_braces_are_braces() {
    let text = "version: 1\njobs:\n  a: { description: '{{ nope', command: { argv: [x], working_dir: '{{ nope' } }\n";
    read(text).unwrap_or_else(|faults| panic!("{faults}"));
    let keys = "version: 1\njobs: { a: { function: f } }\nschedules:\n  s: { every: 5s, trigger: a, input: { '{{ nope': 1 } }\n";
    read(keys).unwrap_or_else(|faults| panic!("{faults}"));
}
