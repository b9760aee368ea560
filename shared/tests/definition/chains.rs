//! Jobs that the end of another job's run calls.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use reveille_shared::definition::Chained;
use serde_json::json;

use super::{faults, read, read_named, report};

#[test]
fn calls_are_read_in_all_their_forms() {
    let text = r#"
version: 1
jobs:
  a:
    function: f
    on_success: b
    on_failure: { job: c, input: { day: "{{ input.day }}", n: 1 } }
    on_finish: [b, { job: c }, { job: d, input: {} }]
  b: { function: f }
  c: { function: f }
  d: { function: f }
"#;
    let definitions = read(text).unwrap();
    let (a, b) = (&definitions.jobs[0], &definitions.jobs[1]);
    let plain = |job: &str| Chained { job: job.to_owned(), input: None };
    let given = |job: &str, input| Chained { input: Some(input), ..plain(job) };
    assert_eq!(a.on_success, [plain("b")]);
    assert_eq!(a.on_failure, [given("c", json!({"day": "{{ input.day }}", "n": 1}))]);
    assert_eq!(a.on_finish, [plain("b"), plain("c"), given("d", json!({}))]);
    assert!(a.is_chained() && !b.is_chained());
    insta::assert_json_snapshot!(a);
}

#[test]
fn each_fault_of_calls() {
    let job = |calls: &str| format!("version: 1\njobs:\n  a: {{ function: f, {calls} }}\n  bill: {{ function: f }}\n");
    let cases = [
        ("unknown jobs", job("on_success: bil, on_failure: [x, { job: bli }], on_finish: { job: a-b-c }")),
        ("twice in one list", job("on_success: [bill, { job: bill, input: { a: 1 } }], on_failure: bill")),
        ("itself", job("on_finish: [bill, a]")),
        ("not calls", job("on_success: 5, on_failure: [], on_finish: { jobs: bill, input: 5 }")),
        ("not calls either", job("on_success: [[bill], { input: {} }, My Job]")),
        (
            "not yet of a schedule",
            "version: 1\nschedules: { s: { every: 5s, trigger: a, on_success: b } }\njobs: { a: { function: f } }\n"
                .to_owned(),
        ),
    ];
    insta::assert_snapshot!(report(&cases.each_ref().map(|(title, text)| (*title, text.as_str()))));
}

#[test]
fn a_circle_is_told_with_all_its_calls_whatever_their_kinds_and_files() {
    let one = "version: 1\njobs:\n  a: { function: f, on_success: [d, b] }\n  d: { function: f, on_success: c }\n";
    let two = "version: 1\njobs:\n  b:\n    function: f\n    on_failure: { job: c }\n";
    let three = "version: 1\njobs:\n  c: { function: f, on_finish: [d, a] }\n";
    let other = "version: 1\nnamespace: other\njobs:\n  a: { function: f }\n  c: { function: f, on_finish: a }\n";
    let told = read_named([("1.yaml", one), ("2.yaml", two), ("3.yaml", three), ("4.yaml", other)]).unwrap_err();
    insta::assert_snapshot!(told);
    let cut = three.replace("[d, a]", "d");
    let told = read_named([("1.yaml", one), ("2.yaml", two), ("3.yaml", cut.as_str())]).unwrap_err();
    assert_eq!(told.len(), 1, "{told}");
    let cut = three.replace("on_finish: [d, a]", "description: free");
    assert!(read_named([("1.yaml", one), ("2.yaml", two), ("3.yaml", cut.as_str())]).is_ok());
}

#[test]
fn a_long_circle_is_cut_in_the_middle() {
    let mut text = "version: 1\njobs:\n".to_owned();
    for job in 0..15_000 {
        let _ = writeln!(text, "  j{job}: {{ function: f, on_success: j{} }}", (job + 1) % 15_000);
    }
    let started = Instant::now();
    insta::assert_snapshot!(faults(&text));
    // Less than a second in truth; the limit is for a loaded machine and a debug build.
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
}
