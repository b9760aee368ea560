//! Probes, metrics, workers, queues, the document and the page.

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

use super::Api;

#[tokio::test]
async fn readiness_names_the_part_that_is_missing() {
    let api = Api::new().await;
    assert_eq!(api.get("/livez").await.json, json!({"status": "live"}));
    let ready = api.get("/readyz").await;
    assert_eq!((ready.status.as_u16(), &ready.json["ready"]), (200, &json!(true)), "{}", ready.text);
    let names: Vec<_> = ready.json["parts"].as_array().unwrap().iter().map(|part| part["name"].clone()).collect();
    assert_eq!(names, ["broker", "database"]);

    api.status.tell("definitions", false, "2 faults in schedules.yaml");
    api.status.tell_faults(vec!["schedules.yaml:3:1: unknown key".into()]);
    let answer = api.get("/readyz").await;
    assert_eq!((answer.status.as_u16(), &answer.json["message"]), (503, &json!("not ready: definitions")));
    assert_eq!(answer.json["faults"], json!(["schedules.yaml:3:1: unknown key"]));
    let part =
        json!({"name": "definitions", "ready": false, "attention": false, "detail": "2 faults in schedules.yaml"});
    assert!(answer.json["parts"].as_array().unwrap().contains(&part));

    // The last good ones are in force: no reason to send callers away.
    api.status.tell_attention("definitions", "2 faults in schedules.yaml");
    let answer = api.get("/readyz").await;
    assert_eq!((answer.status.as_u16(), answer.json["faults"].as_array().unwrap().len()), (200, 1));
    let part = json!({"name": "definitions", "ready": true, "attention": true, "detail": "2 faults in schedules.yaml"});
    assert!(answer.json["parts"].as_array().unwrap().contains(&part));
    assert_eq!(api.get("/livez").await.status, 200);
}

#[tokio::test]
async fn readiness_and_figures_say_who_leads() {
    let api = Api::new().await;
    // The test itself leads, as another process would.
    let elsewhere = api.get("/readyz").await.json;
    assert_eq!(elsewhere["leader"], json!({"leading": false, "generation": 1}));
    assert!(elsewhere["timezoneData"]["source"].is_string(), "{elsewhere}");
    assert!(!api.get("/metrics").await.text.contains("reveille_leader"));

    let leadership = std::sync::Arc::new(crate::leader::Leadership::default());
    api.status.may_lead(std::sync::Arc::clone(&leadership));
    assert!(api.get("/metrics").await.text.contains("reveille_leader 0\n"));
    leadership.set(Some(reveille_shared::store::Generation(7)));
    api.status.tell_decision("2026-01-02T03:04:05.678Z".parse().unwrap());
    let here = api.get("/readyz").await.json;
    assert_eq!(here["leader"], json!({"leading": true, "generation": 7, "lastDecision": "2026-01-02T03:04:05.678Z"}));
    let figures = api.get("/metrics").await.text;
    for line in
        ["reveille_leader 1", "reveille_leader_generation 7", "reveille_last_decision_timestamp_seconds 1767323045.678"]
    {
        assert!(figures.lines().any(|printed| printed == line), "{line} is not in\n{figures}");
    }
    api.status.tell("definitions", false, "faulty");
    assert_eq!(api.get("/readyz").await.json["leader"], here["leader"]);
}

#[tokio::test]
async fn a_process_is_alive_while_its_passes_finish_rounds() {
    let api = Api::new().await;
    api.status.watch("planner", reveille_shared::periodic::Vitals::default(), std::time::Duration::from_secs(8));
    assert!(api.get("/metrics").await.text.contains("reveille_pass_age_seconds{pass=\"planner\"} 0."));
    assert_eq!(api.get("/livez").await.status, 200);
    // Not ready is not dead.
    assert_eq!(api.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn workers_and_queues_show_what_is_there() {
    let api = Api::new().await;
    api.trigger("hello").await;
    let played = api.lease().await;
    api.trigger("hello").await;
    api.trigger("call").await;
    let workers = api.get("/v1/workers").await.json;
    let worker = &workers["items"][0];
    assert_eq!((&worker["id"], &worker["live"]), (&json!(played.id.to_string()), &json!(true)));
    assert_eq!((&worker["slots"], &worker["running"]), (&json!(4), &json!(1)));
    let queue = |name, due, leased, workers| json!({"name": name, "held": 0, "due": due, "sent": 0, "leased": leased, "parked": 0, "workers": workers});
    let queues = api.get("/v1/queues").await.json;
    assert_eq!(queues, json!({"items": [queue("default", 1, 1, 1), queue("web", 1, 0, 0)]}));

    let figures = api.get("/metrics").await;
    assert!(figures.header("content-type").starts_with("text/plain"));
    for line in [
        "reveille_workers_live 1",
        "reveille_worker_slots 4",
        "reveille_queue_runs{queue=\"default\",phase=\"leased\"} 1",
        "reveille_queue_runs{queue=\"web\",phase=\"due\"} 1",
    ] {
        assert!(figures.text.lines().any(|printed| printed == line), "{line} is not in\n{}", figures.text);
    }
}

#[tokio::test]
async fn the_document_is_served_and_every_path_of_it_is_there() {
    let api = Api::new().await;
    let document = api.get("/openapi.json").await;
    assert_eq!(document.header("content-type"), "application/json");
    assert_eq!(document.json["openapi"].as_str().map(|version| &version[..4]), Some("3.1."));
    for (path, methods) in document.json["paths"].as_object().unwrap() {
        let path = path.replace("{job}", "hello").replace("{schedule}", "often").replace("{id}", "x");
        for method in methods.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            // The stream of all runs never ends; where there is nothing behind an event it answers like others.
            let answer = api.call(method.clone(), &path, &["last-event-id: 7"], Body::empty()).await;
            let declared = methods[method.as_str().to_lowercase()]["responses"].as_object().unwrap();
            assert!(declared.contains_key(answer.status.as_str()), "{method} {path}: {}", answer.status);
            assert_ne!(answer.status, 405, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_page_is_embedded_and_asks_nobody_else() {
    let api = Api::new().await;
    let page = api.get("/").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    let mut files: Vec<_> = page.text.split('"').filter(|text| text.starts_with("/ui/")).collect();
    files.sort_unstable();
    files.dedup();
    assert!(!files.is_empty());
    for path in files {
        let asset = api.get(path).await;
        assert_eq!(asset.status, 200, "{path}");
        for line in asset.text.lines().filter(|line| line.contains(" from \"./")) {
            let import = line.split("\"./").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            assert_eq!(api.get(&format!("/ui/{import}")).await.status, 200, "{import}");
        }
        for strange in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "https://", "//cdn"]
        {
            assert!(!asset.text.contains(strange), "{path} has {strange}");
        }
        let etag = format!("if-none-match: {}", asset.header("etag"));
        let again = api.call(Method::GET, path, &[&etag], Body::empty()).await;
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{path}");
        let stale = api.call(Method::GET, path, &["if-none-match: \"other\""], Body::empty()).await;
        assert_eq!(stale.status, 200, "{path}");
    }
    assert_eq!(page.json, Value::Null);
}
