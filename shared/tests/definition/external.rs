//! Jobs that workers in other languages run.

use reveille_shared::definition::{ExternalWork, Handler};
use reveille_shared::duration::HumanDuration;

use super::{faults, read, read_named, report};

fn jobs(jobs: &str) -> String {
    format!("version: 1\njobs:\n{jobs}\n")
}

#[test]
fn external_jobs_say_how_long_their_worker_may_be_silent() {
    let handler = |text: &str| read(&jobs(text)).unwrap_or_else(|faults| panic!("{faults}")).jobs.remove(0).handler;
    let external = |secs| Handler::External(ExternalWork { lease: HumanDuration::from_secs(secs) });
    assert_eq!(handler("  a: { external: {}, queue: thumbnails }"), external(60));
    assert_eq!(handler("  a: { external: { lease: 10s } }"), external(10));
    assert_eq!(handler("  a: { external: { lease: 1h } }"), external(3600));
    for lease in ["9s", "61m"] {
        let told = faults(&jobs(&format!("  a: {{ external: {{ lease: {lease} }} }}"))).to_string();
        assert!(told.contains("may be silent for"), "{told}");
    }
}

#[test]
fn what_can_not_be_of_external_jobs_is_refused() {
    let verify = jobs("  a:\n    external: {}\n    verify: { command: [v] }");
    let shared = "
version: 1
defaults: { queue: pictures }
jobs:
  resize: { external: {}, queue: pictures }
  shrink: { external: {} }
  copy: { command: [cp] }
  other: { external: {}, queue: own }
  another: { external: {}, queue: own }
  default: { command: [cp], queue: default }
";
    insta::assert_snapshot!(report(&[("verify", &verify), ("a queue of two kinds", shared)]));
}

#[test]
fn jobs_of_every_other_kind_need_another_queue() {
    for other in
        ["command: [cp]", "http: { url: 'http://a' }", "ssh: { host: h, user: u, command: [cp] }", "function: f"]
    {
        let told = faults(&jobs(&format!("  a: {{ external: {{}} }}\n  b: {{ {other} }}"))).to_string();
        assert!(told.contains("shares the queue `default` with `b`"), "{other}: {told}");
    }
}

#[test]
fn a_queue_is_shared_across_files_and_namespaces() {
    let told = read_named([
        ("a.yaml", "version: 1\nnamespace: one\njobs: { a: { function: f } }\n"),
        ("b.yaml", "version: 1\nnamespace: two\njobs: { b: { external: {} } }\n"),
    ]);
    let told = told.unwrap_err().to_string();
    assert!(
        told.contains("b.yaml:3:9") && told.contains("`default` with `a`") && told.contains("a.yaml:3:9"),
        "{told}"
    );
}
