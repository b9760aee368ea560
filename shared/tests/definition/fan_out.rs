//! The key `fan_out` of a job.

use reveille_shared::definition::FanOut;
use reveille_shared::fan_out::{FailPolicy, MAX_CHILDREN, Tolerance};

use super::{read, report};

fn job(keys: &str) -> String {
    format!(
        "version: 1\njobs:\n  a: {{ function: f, {keys} }}\n  b: {{ function: f, on_success: c }}\n  c: {{ function: f }}\n"
    )
}

#[test]
fn it_is_read_in_all_its_forms() {
    let fan_out = |keys: &str| {
        let definitions = read(&job(keys)).unwrap_or_else(|faults| panic!("{faults}"));
        definitions.jobs.into_iter().find(|job| job.name == "a").unwrap().fan_out.unwrap()
    };
    let plain = FanOut { job: "b".into(), from: None, fail: FailPolicy::AtEnd, max: MAX_CHILDREN };
    assert_eq!(fan_out("fan_out: { job: b }"), plain);
    let from = Some("{{ output.images }}".to_owned());
    let whole = FanOut { from, fail: FailPolicy::Fast, max: 10, ..plain.clone() };
    assert_eq!(fan_out("fan_out: { job: b, from: '{{ output.images }}', fail: fast, max: 10 }"), whole);
    for (text, tolerance) in
        [("3", Tolerance::Number(3)), ("5%", Tolerance::OfTenThousand(500)), ("0.5%", Tolerance::OfTenThousand(50))]
    {
        let tolerant = FanOut { fail: FailPolicy::Tolerate(tolerance), ..plain.clone() };
        assert_eq!(fan_out(&format!("fan_out: {{ job: b, fail: {{ tolerate: {text} }} }}")), tolerant, "{text}");
    }
}

#[test]
fn each_fault_of_it() {
    let cases = [
        ("no job", job("fan_out: { from: '{{ output }}' }")),
        ("an unknown job", job("fan_out: { job: nobody }")),
        ("itself", job("fan_out: { job: a }")),
        ("in a circle", job("fan_out: { job: b }").replace("c: { function: f }", "c: { function: f, on_failure: a }")),
        ("a list without a template", job("fan_out: { job: b, from: images }")),
        ("a variable that there is not", job("fan_out: { job: b, from: '{{ outptu.images }}' }")),
        ("an unknown policy", job("fan_out: { job: b, fail: slow }")),
        ("no share", job("fan_out: { job: b, fail: { tolerate: 101% } }")),
        ("a number out of range", job("fan_out: { job: b, fail: { tolerate: -1 }, max: 100001 }")),
        ("a job alone", job("fan_out: b")),
    ];
    insta::assert_snapshot!(report(&cases.each_ref().map(|(title, text)| (*title, text.as_str()))));
}
