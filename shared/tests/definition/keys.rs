//! Keys of a job that say how many runs, which first, which are the same, and until when.

use reveille_shared::definition::{
    Concurrency, Definitions, Job, OnLost, Priority, Rate, Unique, UniqueSpan, changed_members,
};

use super::{read, report};

fn job(keys: &str) -> String {
    format!("version: 1\njobs:\n  a: {{ function: f, {keys} }}\n")
}

fn read_job(keys: &str) -> Job {
    let text = job(keys);
    read(&text).unwrap_or_else(|faults| panic!("{faults}")).jobs.remove(0)
}

#[test]
fn limits_are_read_in_all_their_forms() {
    let by_key = read_job(
        r#"priority: high, concurrency: { limit: 3, key: "{{ input.region }}" },
           rate: { limit: 20/30s, key: "{{ input.tenant }}" }, unique: { key: "{{ input.day }}", while: 10m }, expires: 1h"#,
    );
    assert_eq!(by_key.priority, Priority::High);
    assert_eq!(by_key.concurrency, Some(Concurrency { limit: 3, key: Some("{{ input.region }}".into()) }));
    let per = "30s".parse().unwrap();
    assert_eq!(by_key.rate, Some(Rate { limit: 20, per, key: Some("{{ input.tenant }}".into()) }));
    let span = UniqueSpan::Window("10m".parse().unwrap());
    assert_eq!(by_key.unique, Some(Unique { key: "{{ input.day }}".into(), span }));
    assert_eq!(by_key.expires, Some("1h".parse().unwrap()));
    insta::assert_json_snapshot!(by_key);

    let plain = read_job("priority: normal, concurrency: 1, rate: 100/m, unique: { key: all, while: waiting }");
    assert_eq!(plain.concurrency, Some(Concurrency { limit: 1, key: None }));
    assert_eq!(plain.rate, Some(Rate { limit: 100, per: "1m".parse().unwrap(), key: None }));
    assert_eq!(plain.unique.map(|unique| unique.span), Some(UniqueSpan::Waiting));
    let without = read_job("description: d");
    let limits = (without.priority, without.concurrency, without.rate, without.unique, without.expires);
    assert_eq!(limits, (Priority::Normal, None, None, None, None));
}

#[test]
fn what_a_job_says_replaces_what_its_file_says() {
    let text = r#"
version: 1
defaults: { priority: low, concurrency: 5, rate: { limit: 10/s, key: "{{ job }}" }, on_lost: fail }
jobs:
  as-the-file-says: { function: f }
  other: { function: f, priority: normal, concurrency: { limit: 2, key: k }, rate: 1/d, on_lost: retry }
"#;
    let jobs = read(text).unwrap().jobs;
    let per = |text: &str| text.parse().unwrap();
    let limits = |job: &Job| (job.priority, job.concurrency.clone(), job.rate.clone(), job.on_lost);
    let (five, two) = (Concurrency { limit: 5, key: None }, Concurrency { limit: 2, key: Some("k".into()) });
    let ten = Rate { limit: 10, per: per("1s"), key: Some("{{ job }}".into()) };
    assert_eq!(limits(&jobs[0]), (Priority::Low, Some(five), Some(ten), OnLost::Fail));
    let one = Rate { limit: 1, per: per("1d"), key: None };
    assert_eq!(limits(&jobs[1]), (Priority::Normal, Some(two), Some(one), OnLost::Retry));
}

#[test]
fn each_fault_of_limits() {
    let cases = [
        ("priority", job("priority: hihg")),
        ("a number as priority", job("priority: 5")),
        ("concurrency out of range", job("concurrency: 0")),
        ("concurrency of a key", job("concurrency: { limit: 100001, key: 5 }")),
        ("concurrency by its key alone", job("concurrency: { key: \"{{ input.a }}\", max: 3 }")),
        ("concurrency as a list", job("concurrency: [1]")),
        ("concurrency as a text", job("concurrency: \"3\"")),
        ("no concurrency", job("concurrency: none")),
        ("a rate without its span", job("rate: 100")),
        ("a rate with spaces", job("rate: 100 / m")),
        ("a rate of nothing", job("rate: 0/m")),
        ("too many starts", job("rate: { limit: 10001/m }")),
        ("too short a span", job("rate: 5/100ms")),
        ("too long a span", job("rate: 5/2d")),
        ("a rate of a key without limit", job("rate: { per: 1m, key: \"{{ input.a }}\" }")),
        ("unique without its parts", job("unique: {}")),
        ("unique as a text", job("unique: \"{{ input.a }}\"")),
        ("unique for a wrong time", job("unique: { key: x, while: runing }")),
        ("unique for too long", job("unique: { key: x, while: 8d }")),
        ("unique for a number", job("unique: { key: x, while: 10 }")),
        ("an empty key", job("unique: { key: \"\", while: waiting }")),
        ("a long key", job(&format!("unique: {{ key: {}, while: waiting }}", "k".repeat(201)))),
        (
            "keys that know too much",
            job(
                r#"concurrency: { limit: 1, key: "{{ attempt }}" }, unique: { key: "{{ inptu.a | uper }}", while: waiting }"#,
            ),
        ),
        ("a key with a secret", job(r#"rate: { limit: 1/s, key: "${env:TOKEN}" }"#)),
        ("syntax of a key", job(r#"rate: { limit: 1/s, key: "{{ input. }}" }"#)),
        ("expires", job("expires: 0s")),
        ("expires without unit", job("expires: 10")),
        (
            "defaults",
            "version: 1\ndefaults: { priority: urgent, concurrency: { limit: 3, key: \"{{ work_request_id }}\" }, \
             rate: 5, on_lost: explode, unique: { key: a, while: waiting }, expires: 5m }\n"
                .to_owned(),
        ),
    ];
    insta::assert_snapshot!(report(&cases.each_ref().map(|(title, text)| (*title, text.as_str()))));
}

#[test]
fn what_else_is_called_key_stays_hidden() {
    let text = job(r#"concurrency: { limit: 1, key: "{{ shown }}" }"#)
        + "  b: { http: { url: http://a, body: { key: \"{{ hunter2 }}\", rate: { key: \"{{ hunter2 }}\" } } } }\n\
           schedules: { unique: { every: 5s, trigger: a, input: { key: \"{{ hunter2 }}\" } } }\n";
    let told = read(&text).unwrap_err();
    assert_eq!(told.len(), 4, "{told}");
    assert!(told.to_string().contains("{{ shown }}") && !told.to_string().contains("hunter2"), "{told}");
}

/// Each key with a value, and another one.
const CHANGES: [(&str, &str, &str); 7] = [
    ("priority", "high", "low"),
    ("concurrency", "3", "{ limit: 3, key: a }"),
    ("rate", "100/m", "100/h"),
    ("unique", "{ key: a, while: running }", "{ key: a, while: waiting }"),
    ("expires", "10m", "11m"),
    ("onLost", "retry", "fail"),
    ("timeout", "10m", "1h"),
];

#[test]
fn another_value_is_another_job_and_is_told() {
    for (member, one, other) in CHANGES {
        let key = if member == "onLost" { "on_lost" } else { member };
        let (old, new) = (read_job(&format!("{key}: {one}")), read_job(&format!("{key}: {other}")));
        let changed = changed_members(&old, &new);
        let members: Vec<_> = changed.iter().map(|changed| changed.member.as_str()).collect();
        assert_eq!(members, [member]);
        assert!(changed[0].from.is_some() && changed[0].to.is_some(), "{changed:?}");
        let digest = |job: Job| Definitions { jobs: vec![job], ..Definitions::default() }.digest();
        assert_ne!(digest(old), digest(new), "{member}");
    }
}

#[test]
fn the_examples_of_the_page_are_faultless() {
    let page = include_str!("../../../docs/limits.md");
    let examples = page.split("```").filter_map(|block| block.strip_prefix("yaml\n"));
    let jobs: usize = examples.map(|text| read(text).unwrap_or_else(|faults| panic!("{faults}")).jobs.len()).sum();
    assert_eq!(jobs, 10);
}

/// A condition of the page on templates can be one.
#[test]
fn the_conditions_of_the_page_are_faultless() {
    let page = include_str!("../../../docs/templates.md");
    let (_, after) = page.split_once("true or false: ").unwrap();
    let (list, _) = after.split_once(". `body`").unwrap();
    let conditions: Vec<_> = list.split('`').skip(1).step_by(2).collect();
    assert_eq!(conditions.len(), 3);
    for condition in conditions {
        read_job(&format!("verify: {{ http: {{ url: http://a, succeeded: \"{condition}\" }} }}"));
    }
}
