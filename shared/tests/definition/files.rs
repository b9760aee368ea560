//! From files on disk to definitions.

use std::path::{Path, PathBuf};

use reveille_shared::definition::{Definitions, MOST_BYTES, Schedule, Timing, read_path};
use reveille_shared::duration::HumanDuration;

use super::{read, read_named};

#[test]
fn a_whole_file_with_everything() {
    let text = r#"
version: 1
revision: 7
namespace: billing
defaults: { timeout: 20m, retry: { max_attempts: 5, initial: 1s }, queue: slow }
jobs:
  invoice-run:
    description: Bill yesterday's usage
    http:
      url: https://billing.internal/invoices/run
      headers: { Authorization: "Bearer ${env:BILLING_TOKEN}" }
      body: { day: "{{ scheduled_for }}", dry: false, rate: 1e-3, none: ~, codes: [1, -2] }
      success: [200, 202]
    timeout: 45m
    retry: { max: 2s, backoff: constant }
    on_lost: fail
  ledger-close:
    queue: ledger
    command: [ledger, close, --day, "{{ input.day }}", "1", no]
  report:
    command: { argv: [report], env: { MODE: full }, working_dir: /srv, success: [0, 3], no_retry: [2] }
schedules:
  nightly:
    description: Every night
    cron: "0 2 * * *"
    timezone: europe/berlin
    trigger: [invoice-run, report]
    input: { full: true }
    overlap: allow
    catch_up: { window: 6h }
  ping: { every: 30s, trigger: report, catch_up: none }
  year-end: { at: 2026-12-31T23:59:00+01:00, trigger: ledger-close }
"#;
    insta::assert_json_snapshot!(read(text).unwrap());
}

#[test]
fn a_folder_is_read_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let told = |path: &Path| read_path(path).unwrap_err().to_string();

    assert!(told(folder.path()).contains("holds no schedule file"));
    assert!(told(&folder.path().join("none")).contains("does not exist"));

    write("b.yml", b"version: 1\nrevision: 3\njobs: { b: { function: f } }\n");
    write("a.yaml", b"version: 1\nrevision: 2\nschedules: { s: { every: 5s, trigger: b } }\n");
    write(".hidden.yaml", b"nonsense");
    write("notes.txt", b"nonsense");
    std::fs::create_dir(folder.path().join("sub.yaml")).unwrap();
    let definitions = read_path(folder.path()).unwrap();
    assert_eq!((definitions.revision, definitions.jobs.len(), definitions.schedules.len()), (Some(3), 1, 1));
    assert_eq!(read_path(&folder.path().join("b.yml")).unwrap().jobs.len(), 1);

    write("b.yml", b"version: 1\nnamespace: \xff\n");
    write("d.yaml", &vec![b'#'; MOST_BYTES + 1]);
    write("e.yaml", b"version: 1\nrevison: 1\n");
    let told = told(folder.path());
    for expected in [
        "b.yml:2:12: this byte is not UTF-8",
        "d.yaml: the file is larger than 1048576 bytes",
        "e.yaml:2:1: unknown key",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
    // The job is in a file that can't be read.
    assert!(!told.contains("there is no job"), "{told}");
}

#[test]
fn the_digest_depends_on_the_content_alone() {
    let one = read("version: 1\njobs: { a: { function: f, timeout: 60s }, b: { function: g } }\n").unwrap();
    let same = read_named([
        ("x", "version: 1\njobs: { b: { function: g } }\n"),
        ("y", "# moved\nversion: 1\njobs:\n  a:\n    timeout: 1m\n    function: f\n"),
    ]);
    let other = read("version: 1\njobs: { a: { function: f, timeout: 61s }, b: { function: g } }\n").unwrap();
    assert_eq!(one.digest(), same.unwrap().digest());
    assert_ne!(one.digest(), other.digest());
    assert_eq!(one.digest().len(), 64);
    let with = |input: &str| {
        let schedules = format!("schedules: {{ s: {{ every: 5s, trigger: a, input: {input} }} }}");
        read(&format!("version: 1\njobs: {{ a: {{ function: f }} }}\n{schedules}\n")).unwrap().digest()
    };
    assert_eq!(with("{ a: 1, b: { c: 2, d: 3 } }"), with("{ b: { d: 3, c: 2 }, a: 1 }"));
    assert_ne!(with("{ a: 1, b: { c: 2, d: 3 } }"), with("{ a: 1, b: { c: 3, d: 2 } }"));
}

pub(crate) fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/schedules")
}

#[test]
fn the_samples_are_faultless_and_soon_seen() {
    let definitions = read_path(&samples()).unwrap_or_else(|faults| panic!("{faults}"));
    let seen_soon =
        |schedule: &Schedule| matches!(schedule.timing, Timing::Every(every) if every <= HumanDuration::from_secs(5));
    assert!(definitions.schedules.iter().any(seen_soon));
    assert!(definitions.schedules.iter().any(|schedule| schedule.trigger.len() > 1));
    for entry in std::fs::read_dir(samples()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# yaml-language-server: $schema=./reveille.schema.json\n"), "{}", path.display());
        }
    }
}

#[test]
fn the_example_of_the_readme_is_faultless() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap();
    let example = readme.split("```").find_map(|block| block.strip_prefix("yaml\n")).unwrap();
    read(example).unwrap_or_else(|faults| panic!("{faults}"));
}

/// What a build stored that knew nothing of chains, exclusions, jitter and the like.
const STORED_EARLIER: &str = r#"{
  "revision": 7,
  "jobs": [{
    "namespace": "billing", "name": "report", "queue": "slow",
    "handler": {"command": {"argv": ["report"], "env": {"MODE": "full"}}},
    "timeout": "20m",
    "retry": {"maxAttempts": 5, "initial": "1s", "max": "5m", "backoff": "exponential"},
    "onLost": "retry"
  }],
  "schedules": [
    {
      "namespace": "billing", "name": "nightly", "description": "Every night", "cron": "0 2 * * *",
      "timezone": "Europe/Berlin", "trigger": ["report"], "input": {"full": true}, "overlap": "allow",
      "catchUp": {"policy": "latest", "window": "6h"}
    },
    {
      "namespace": "billing", "name": "ping", "every": "30s", "timezone": "UTC", "trigger": ["report"],
      "overlap": "skip", "catchUp": {"policy": "none", "window": "1h"}
    }
  ]
}"#;

#[test]
fn what_an_earlier_build_stored_is_what_is_read_today() {
    let text = r"
version: 1
revision: 7
namespace: billing
defaults: { timeout: 20m, retry: { max_attempts: 5, initial: 1s }, queue: slow }
jobs:
  report: { command: { argv: [report], env: { MODE: full } } }
schedules:
  nightly:
    description: Every night
    cron: 0 2 * * *
    timezone: Europe/Berlin
    trigger: report
    input: { full: true }
    overlap: allow
    catch_up: { window: 6h }
  ping: { every: 30s, trigger: report, catch_up: none }
";
    let (stored, read) = (serde_json::from_str::<Definitions>(STORED_EARLIER).unwrap(), read(text).unwrap());
    assert_eq!(stored, read);
    let today: serde_json::Value = serde_json::to_value(&read).unwrap();
    assert_eq!(
        today,
        serde_json::from_str::<serde_json::Value>(STORED_EARLIER).unwrap(),
        "and it is written as it was"
    );
}
