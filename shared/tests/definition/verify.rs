//! Keys of a job that ask whether a lost run took effect, and that tell a callee to stop.

use reveille_shared::definition::{
    CancelCall, CommandCall, Handler, Job, Verify, VerifyCall, VerifyHttp, changed_members,
};

use super::{faults, read, report};

fn job(keys: &str) -> String {
    format!("version: 1\njobs:\n  a: {{ {keys} }}\n")
}

fn read_job(keys: &str) -> Job {
    read(&job(keys)).unwrap_or_else(|faults| panic!("{faults}")).jobs.remove(0)
}

fn verify(keys: &str) -> Verify {
    read_job(&format!("function: f, verify: {{ {keys} }}")).verify.unwrap()
}

#[test]
fn questions_are_read_in_all_their_forms() {
    let http = |failed: Option<&str>| {
        let (url, succeeded) = ("https://a/{{ work_request_id }}".into(), "status == 200".into());
        VerifyCall::Http(VerifyHttp {
            url,
            headers: [].into(),
            succeeded,
            failed: failed.map(str::to_owned),
            running: None,
        })
    };
    let of = |how, timeout: &str| Verify { how, timeout: timeout.parse().unwrap() };
    let asked = r#"url: "https://a/{{ work_request_id }}", succeeded: status == 200"#;
    assert_eq!(verify(&format!("http: {{ {asked} }}")), of(http(None), "10s"));
    let failed = "failed: \"status == 404\"";
    assert_eq!(verify(&format!("http: {{ {asked}, {failed} }}, timeout: 60s")), of(http(Some("status == 404")), "60s"));
    let plain = CommandCall {
        argv: vec!["invoice".into(), "verify".into(), "{{ work_request_id }}".into()],
        env: [].into(),
        working_dir: None,
        success: vec![],
        no_retry: vec![],
    };
    let argv = r#"[invoice, verify, "{{ work_request_id }}"]"#;
    assert_eq!(verify(&format!("command: {argv}")), of(VerifyCall::Command(plain.clone()), "10s"));
    let long = CommandCall { env: [("T".into(), "${env:T}".into())].into(), working_dir: Some("/srv".into()), ..plain };
    let text = format!("command: {{ argv: {argv}, env: {{ T: \"${{env:T}}\" }}, working_dir: /srv }}, timeout: 1ms");
    assert_eq!(verify(&text), of(VerifyCall::Command(long), "1ms"));
}

#[test]
fn a_callee_is_told_to_stop_by_post_unless_another_method_is_named() {
    let cancel = |keys: &str| match read_job(&format!("http: {{ url: http://a, {keys} }}")).handler {
        Handler::Http(call) => call.cancel,
        handler => panic!("{handler:?}"),
    };
    let call = |method: &str, headers: &[(&str, &str)]| CancelCall {
        method: method.into(),
        url: "http://a/{{ work_request_id }}".into(),
        headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
    };
    let url = r#"url: "http://a/{{ work_request_id }}""#;
    assert_eq!(cancel("method: PUT"), None);
    assert_eq!(cancel(&format!("cancel: {{ {url} }}")), Some(call("POST", &[])));
    let long = format!("cancel: {{ method: DELETE, {url}, headers: {{ A: \"${{env:T}}\" }} }}");
    assert_eq!(cancel(&long), Some(call("DELETE", &[("A", "${env:T}")])));
}

#[test]
fn a_whole_job_with_everything() {
    let text = r#"
version: 1
jobs:
  invoice-run:
    description: Bill yesterday's usage
    queue: billing
    http:
      url: https://billing.internal/invoices
      headers: { Authorization: "Bearer ${env:BILLING_TOKEN}" }
      body: { day: "{{ input.day }}" }
      cancel: { method: DELETE, url: "https://billing.internal/invoices/{{ work_request_id }}" }
    timeout: 45m
    retry: { max_attempts: 5 }
    priority: high
    concurrency: { limit: 3, key: "{{ input.region }}" }
    rate: 100/m
    unique: { key: "{{ input.day }}", while: running }
    expires: 10m
    on_lost: fail
    verify:
      http:
        url: "https://billing.internal/invoices/{{ work_request_id }}"
        headers: { Authorization: "Bearer ${env:BILLING_TOKEN}" }
        succeeded: status == 200 and body.state == 'done'
        failed: status == 404
        running: body.state == 'running' and body.by == work_request_id
      timeout: 5s
    on_success: ledger-close
  ledger-close: { function: close }
"#;
    insta::assert_json_snapshot!(read(text).unwrap().jobs[0]);
}

#[test]
fn each_fault_of_verify_and_cancel() {
    let verify = |keys: &str| job(&format!("function: f, verify: {keys}"));
    let http = |keys: &str| verify(&format!("{{ http: {{ url: http://a, {keys} }} }}"));
    let cancel = |keys: &str| job(&format!("http: {{ url: http://a, cancel: {keys} }}"));
    let cases = [
        ("nobody to ask", verify("{ timeout: 5s }")),
        ("two to ask", verify("{ http: { url: http://a, succeeded: status == 200 }, command: [a] }")),
        ("not a map", verify("http://a")),
        ("no condition", verify("{ http: { url: http://a } }")),
        ("syntax of a condition", http("succeeded: status = 200")),
        ("a template for a condition", http("succeeded: \"{{ status == 200 }}\"")),
        ("an empty condition", http("succeeded: \"\"")),
        ("a boolean for a condition", http("succeeded: true")),
        ("unknown names", http("succeeded: \"stats == 200\", failed: body.x | lowr, running: output.done")),
        ("a secret in a condition", http("succeeded: \"body.token == '${env:TOKEN}'\"")),
        ("a long condition", http(&format!("succeeded: {}status == 200", "not ".repeat(600)))),
        ("a method", http("method: POST, body: {}, succeeded: status == 200")),
        (
            "faults of its call",
            verify(
                "{ http: { url: a, headers: { A: \"x{{ tokn }}\", \"B C\": d }, succeeded: status == 200, timeout: 5s } }",
            ),
        ),
        ("too long", verify("{ command: [a], timeout: 61s }")),
        ("exit codes", verify("{ command: { argv: [a], success: [0], no_retry: [1] } }")),
        ("faults of its command", verify("{ command: [a, \"{{ status }}\", \"${env:X}\"] }")),
        ("verify of a handler", job("http: { url: http://a, verify: { command: [a] } }")),
        ("on_lost", job("function: f, on_lost: verify")),
        ("cancel without a url", cancel("{ method: DELETE }")),
        ("cancel as a text", cancel("http://a")),
        (
            "faults of cancel",
            cancel("{ method: delete, url: \"http://a/{{ work_request }}\", headers: { A: 1 }, body: {} }"),
        ),
        ("cancel of a job", job("function: f, cancel: { url: http://a }")),
    ];
    insta::assert_snapshot!(report(&cases.each_ref().map(|(title, text)| (*title, text.as_str()))));
}

#[test]
fn conditions_know_the_answer_and_the_run_and_templates_of_the_call_only_the_run() {
    let run = ["input", "scheduled_for", "fired_at", "work_request_id", "attempt", "job", "namespace", "schedule"];
    let templates = |names: &[&str]| names.iter().map(|name| format!("{{{{ {name} }}}}")).collect::<String>();
    let conditions = |names: &[&str]| names.join(" == ");
    let text = |known: &str, of_condition: &str| {
        format!(
            r#"version: 1
jobs:
  a:
    http: {{ url: "http://a", cancel: {{ url: "http://a/{known}", headers: {{ A: "{known}" }} }} }}
    verify:
      http: {{ url: "http://a/{known}", headers: {{ A: "{known}" }}, succeeded: "{of_condition}", failed: "{of_condition}", running: "{of_condition}" }}
  b: {{ function: f, verify: {{ command: {{ argv: [x, "{known}"], env: {{ A: "{known}" }} }} }} }}
"#
        )
    };
    let answer = [run.as_slice(), &["status", "body"]].concat();
    read(&text(&templates(&run), &conditions(&answer))).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(faults(&text(&templates(&answer), &conditions(&run))).len(), 6 * 2, "status and body in six places");
    let more = [answer.as_slice(), &["output", "error", "parent"]].concat();
    assert_eq!(faults(&text(&templates(&run), &conditions(&more))).len(), 3 * 3);
}

#[test]
fn no_secret_of_a_question_is_told() {
    let told = faults(
        r#"
version: 1
jobs:
  a:
    http: { url: http://a, cancel: { url: "http://me:hunter2@a", headers: { A: "{{ hunter2 }}", "B C": hunter2 } } }
    verify: { http: { url: "http://me:hunter2@a", headers: { A: "{{ hunter2 }}", B: 5, "C D": hunter2 } } }
  b: { function: f, verify: { command: { argv: [a], env: { A: "{{ hunter2 }}", 1B: hunter2 } } } }
"#,
    );
    assert_eq!(told.len(), 10, "{told}");
    assert!(!told.to_string().contains("hunter2"), "{told}");
}

#[test]
fn another_question_or_cancel_call_is_another_job() {
    let of = |cancel: &str, state: &str| {
        read_job(&format!(
            "http: {{ url: http://a, cancel: {{ url: {cancel} }} }}, \
             verify: {{ http: {{ url: http://a, succeeded: \"body.state == '{state}'\" }} }}"
        ))
    };
    let members = |old: &Job, new: &Job| changed_members(old, new).into_iter().map(|it| it.member).collect::<Vec<_>>();
    let old = of("http://a/1", "done");
    assert_eq!(members(&old, &of("http://a/2", "done")), ["handler"]);
    assert_eq!(members(&old, &of("http://a/1", "ended")), ["verify"]);
}
