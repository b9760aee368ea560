//! Planning and applying definitions.

use axum::body::Body;
use axum::http::Method;
use reveille_shared::store::Outcome;
use serde_json::{Value, json};

use super::{Answer, Api};

const CHANGED: &str = "
version: 1
jobs:
  hello: { command: [echo, hi], description: Says hello }
schedules:
  often: { every: 45s, trigger: hello }
  new: { cron: '30 2 * * *', timezone: Europe/Berlin, trigger: call }
";

fn body(text: &str, more: Value) -> String {
    let mut body = json!({"files": [{"name": "test.yaml", "text": text}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

async fn plan(api: &Api, text: &str, more: Value) -> Answer {
    api.post("/v1/definitions:plan", &body(text, more)).await
}

async fn apply(api: &Api, text: &str, more: Value) -> Answer {
    api.post("/v1/definitions:apply", &body(text, more)).await
}

#[tokio::test]
async fn a_plan_says_what_would_change_and_changes_nothing() {
    let api = Api::new().await;
    let answer = plan(&api, CHANGED, json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let plan_ = &answer.json;
    assert_eq!((&plan_["inForceVersion"], &plan_["changes"]), (&json!(1), &json!(true)));
    assert_eq!(plan_["jobs"]["changed"][0]["name"], "hello");
    assert_eq!(plan_["schedules"]["added"], json!(["default/new"]));
    let changed = json!([{"name": "often", "namespace": "default", "changes": [{"member": "every", "from": "30s", "to": "45s"}]}]);
    assert_eq!(plan_["schedules"]["changed"], changed);
    assert_eq!(plan_["notInFiles"], json!({"jobs": ["default/call"], "schedules": ["default/daily"]}));
    assert_eq!(plan_["fireTimes"].as_array().unwrap().len(), 2);
    assert_eq!(plan_["clockChanges"].as_array().unwrap().len(), 2);
    assert_eq!((&plan_["collisions"], plan_.get("cut")), (&json!([]), None));
    let pruned = plan(&api, &CHANGED.replace("trigger: call", "trigger: hello"), json!({"prune": true})).await.json;
    assert_eq!(
        (&pruned["jobs"]["removed"], &pruned["schedules"]["removed"]),
        (&json!(["default/call"]), &json!(["default/daily"]))
    );
    assert_eq!(api.get("/v1/schedules/often").await.json["every"], "30s");

    let nothing = plan(&api, super::DEFINITIONS, json!({"prune": true})).await.json;
    assert_eq!((&nothing["changes"], &nothing["fireTimes"]), (&json!(false), &json!([])));
    let secret = plan(&api, &super::DEFINITIONS.replace("hunter2", "hunter3"), json!({})).await;
    assert_eq!(secret.json["changes"], true);
    assert!(secret.text.contains("another value") && !secret.text.contains("hunter"), "{}", secret.text);
}

#[tokio::test]
async fn a_plan_warns_of_what_is_due_again_before_it_has_usually_ended() {
    let api = Api::new().await;
    let files = super::DEFINITIONS.replace("every: 30s", "every: 1s");
    let before = plan(&api, &files, json!({})).await;
    assert_eq!(before.json["overruns"], json!([]), "nobody knows yet");
    api.trigger("hello").await;
    let played = api.lease().await;
    // What it takes is what the store has measured.
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    api.report(&played, Outcome::Succeeded { output: Value::Null }).await;
    let warned = plan(&api, &files, json!({})).await;
    let [overrun] = &warned.json["overruns"].as_array().unwrap()[..] else { panic!("{}", warned.text) };
    assert_eq!((&overrun["schedule"], &overrun["job"]), (&json!("often"), &json!("hello")));
    assert_eq!(overrun["intervalSeconds"], 1.0);
    let usual = overrun["usualSeconds"].as_f64().unwrap();
    assert!((1.2..60.0).contains(&usual), "{overrun}");
    let explanation = overrun["explanation"].as_str().unwrap();
    assert!(explanation.starts_with("is due again after 1s at its closest, and hello usually takes"), "{explanation}");
}

#[tokio::test]
async fn what_was_planned_is_applied_and_nothing_else() {
    let api = Api::new().await;
    let planned = plan(&api, CHANGED, json!({})).await.json["inForceVersion"].clone();
    let more = json!({"ifVersion": planned, "by": "alice", "reason": "slower"});
    let answer = apply(&api, CHANGED, more.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json, json!({"version": 2, "jobs": 1, "schedules": 2, "removed": 0}));
    assert_eq!(api.get("/v1/schedules/often").await.json["every"], "45s");
    let change = api.get("/v1/schedules/often/history").await.json["items"][0].clone();
    assert_eq!((&change["by"], &change["reason"]), (&json!("alice"), &json!("slower")));
    // Others are as they were, the whole has the digest that a folder of it all would have.
    assert_eq!(api.get("/v1/schedules/daily").await.json["version"], 1);

    let again = apply(&api, CHANGED, more).await;
    assert_eq!((again.status.as_u16(), &again.json["code"]), (409, &json!("StateMoved")));
    assert!(again.json["message"].as_str().unwrap().contains("version 2 is in force"), "{}", again.text);
    let other = apply(&api, CHANGED, json!({"ifVersion": null})).await;
    assert_eq!((other.status.as_u16(), &other.json["code"]), (409, &json!("StateMoved")));
    let same = apply(&api, CHANGED, json!({})).await;
    assert_eq!(same.json, json!({"version": 2, "jobs": 0, "schedules": 0, "removed": 0}));

    let back = apply(&api, super::DEFINITIONS, json!({"prune": true})).await;
    assert_eq!(back.json, json!({"version": 3, "jobs": 1, "schedules": 1, "removed": 1}));
    let whole = reveille_shared::definition::read_texts(&[("t.yaml".into(), super::DEFINITIONS.into())]).unwrap();
    assert_eq!(api.store.in_force().await.unwrap().unwrap().digest, whole.digest());
}

#[tokio::test]
async fn faults_are_told_all_at_once_and_change_nothing() {
    let api = Api::new().await;
    let faulty =
        "version: 1\njobs:\n  a: { function: f, timeuot: 1m }\nschedules:\n  s: { cron: '61 * * * *', trigger: a }\n";
    for verb in ["plan", "apply"] {
        let answer = api.post(&format!("/v1/definitions:{verb}"), &body(faulty, json!({}))).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json["code"]),
            (422, &json!("FaultyDefinitions")),
            "{}",
            answer.text
        );
        let faults = answer.json["faults"].as_array().unwrap();
        assert_eq!(faults.len(), 2, "{}", answer.text);
        assert_eq!((&faults[0]["file"], &faults[0]["line"]), (&json!("test.yaml"), &json!(3)));
        assert!(faults[0]["text"].as_str().unwrap().contains("^^^"), "{}", faults[0]);
        assert!(faults[0]["hint"].as_str().unwrap().contains("timeout"), "{}", faults[0]);

        let dangling = "version: 1\nschedules: { s: { every: 1h, trigger: nobody } }";
        let answer = api.post(&format!("/v1/definitions:{verb}"), &body(dangling, json!({}))).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json["code"]),
            (422, &json!("FaultyDefinitions")),
            "{}",
            answer.text
        );
        assert_eq!(answer.json["faults"][0]["file"], "schedule default/s");
    }
    assert_eq!(api.store.in_force().await.unwrap().unwrap().version, 1);
    assert_eq!(api.get("/v1/schedules").await.json["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn chains_are_checked_over_all_that_would_be_in_force() {
    let api = Api::new().await;
    let first = "version: 1\njobs: { a: { command: [a], on_success: hello } }";
    let answer = apply(&api, first, json!({})).await;
    assert_eq!(answer.status, 200, "a chain may name a job that no file has: {}", answer.text);
    let back = "version: 1\njobs: { hello: { command: [echo], on_failure: a } }";
    let answer = plan(&api, back, json!({})).await;
    assert_eq!((answer.status.as_u16(), &answer.json["code"]), (422, &json!("FaultyDefinitions")), "{}", answer.text);
    let message = answer.json["faults"][0]["message"].as_str().unwrap();
    assert_eq!(message, "its chain comes back to itself: a \u{2192} hello \u{2192} a");
    let nobody = "version: 1\njobs: { b: { command: [b], on_finish: nobody } }";
    let answer = plan(&api, nobody, json!({})).await;
    assert_eq!(answer.json["faults"][0]["file"], "job default/b", "{}", answer.text);
    // What another one calls can't be taken away from under it.
    let pruned =
        plan(&api, "version: 1\njobs: { a: { command: [a], on_success: hello } }", json!({"prune": true})).await;
    assert_eq!((pruned.status.as_u16(), &pruned.json["faults"][0]["file"]), (422, &json!("job default/a")));
}

#[tokio::test]
async fn a_body_that_holds_no_files_is_told_what_it_must_hold() {
    let api = Api::new().await;
    let file = json!({"name": "a.yaml", "text": "version: 1\n"});
    for (body, field) in [
        (json!({}), "files"),
        (json!({"files": []}), "files"),
        (json!({"files": {}}), "files"),
        (json!({"files": ["a"]}), "files[0]"),
        (json!({"files": [file, {"name": "b"}]}), "files[1]"),
        (json!({"files": [{"name": "", "text": ""}]}), "files[0]"),
        (json!({"files": [{"name": "a", "text": 7}]}), "files[0]"),
        (json!({"files": [{"name": "a", "text": "", "mode": 1}]}), "files[0]"),
        (json!({"files": [{"name": "a", "text": "#".repeat((1 << 20) + 1)}]}), "files[0]"),
        (json!({"files": [file], "prune": 1}), "prune"),
    ] {
        for verb in ["plan", "apply"] {
            let answer = api.post(&format!("/v1/definitions:{verb}"), &body.to_string()).await;
            assert_eq!((answer.status.as_u16(), answer.wrong()), (422, vec![field]), "{}", answer.text);
        }
    }
    let answer = apply(&api, "", json!({"ifVersion": "1", "by": "", "reason": ""})).await;
    assert_eq!(answer.wrong(), ["ifVersion", "by", "reason"]);
    let headers = ["content-type: application/json", "content-length: 67108865"];
    let large = api.call(Method::POST, "/v1/definitions:plan", &headers, Body::empty()).await;
    assert_eq!(large.status, 413);
    // Larger than what others take.
    let files: Vec<_> = (0..3)
        .map(|n| json!({"name": format!("{n}.yaml"), "text": format!("version: 1\n#{}", "x".repeat(1 << 19))}))
        .collect();
    assert_eq!(api.post("/v1/definitions:plan", &json!({"files": files}).to_string()).await.status, 200);
}
