//! One run in the words of each dialect.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use reveille_shared::store::Outcome;
use reveille_shared::work_request::RunError;
use serde_json::{Value, json};

use super::{Answer, Api, HOST};

const OCI: [&str; 3] = ["/20160918", "/20190415", "/20220504"];

fn items(answer: &Answer) -> Vec<Value> {
    let list = if answer.json.is_array() { &answer.json } else { &answer.json["items"] };
    list.as_array().unwrap_or_else(|| panic!("{}", answer.text)).clone()
}

/// All pages of a list of OCI's.
async fn pages(api: &Api, path: &str) -> Vec<Value> {
    let (mut all, mut at) = (Vec::new(), path.to_owned());
    loop {
        let answer = api.get(&at).await;
        assert_eq!(answer.status, 200, "{at}: {}", answer.text);
        all.extend(items(&answer));
        if answer.headers.get("opc-next-page").is_none() {
            return all;
        }
        at = format!("{path}&page={}", answer.header("opc-next-page"));
    }
}

/// A run that SUCCEEDED in its second attempt, one that FAILED, one that was CANCELED, and one that waits.
async fn lives(api: &Api) -> [String; 4] {
    let resource = r#"{"resource": {"type": "share", "name": "s1", "location": "/shares/s1"}}"#;
    let good = api.post("/v1/jobs/hello/trigger", resource).await.json["id"].as_str().unwrap().to_owned();
    for outcome in [
        Outcome::Failed { error: RunError::new("Timeout", "too slow"), retry: Some(Duration::ZERO) },
        Outcome::Succeeded { output: json!({"copied": 7}) },
    ] {
        let played = api.lease().await;
        api.report(&played, outcome).await;
    }
    let bad = api.trigger("hello").await;
    for retry in [Some(Duration::ZERO), None] {
        let played = api.lease().await;
        api.report(&played, Outcome::Failed { error: RunError::new("ExitCode", ""), retry }).await;
    }
    let ugly = api.trigger("hello").await;
    api.call(Method::DELETE, &format!("/v1/workRequests/{ugly}"), &[], Body::empty()).await;
    [good, bad, ugly, api.trigger("hello").await]
}

#[tokio::test]
async fn oci_reads_a_work_request_under_each_base_path() {
    let api = Api::new().await;
    let [good, bad, ugly, waiting] = lives(&api).await;
    for base in OCI {
        for (id, status, percent, times) in [
            (&good, "SUCCEEDED", 100.0, 3),
            (&bad, "FAILED", 0.0, 3),
            (&ugly, "CANCELED", 0.0, 2),
            (&waiting, "ACCEPTED", 0.0, 1),
        ] {
            let answer = api.get(&format!("{base}/workRequests/{id}")).await;
            assert_eq!(answer.json["id"], **id);
            assert_eq!((&answer.json["status"], &answer.json["percentComplete"]), (&json!(status), &json!(percent)));
            assert_eq!(answer.json["operationType"], "hello");
            assert_eq!(answer.json["compartmentId"], "default");
            let known: Vec<_> = ["timeAccepted", "timeStarted", "timeFinished"]
                .iter()
                .filter_map(|name| answer.json[name].as_str())
                .collect();
            assert!(known.len() == times && known.is_sorted(), "{}", answer.text);
            assert_eq!(answer.headers.contains_key("retry-after"), status == "ACCEPTED");
        }
        let resources = &api.get(&format!("{base}/workRequests/{good}")).await.json["resources"];
        assert_eq!(
            *resources,
            json!([{"actionType": "CREATED", "entityType": "share", "identifier": "s1", "entityUri": "/shares/s1"}])
        );
        assert_eq!(api.get(&format!("{base}/workRequests/{bad}")).await.json["resources"], json!([]));
    }
}

#[tokio::test]
async fn oci_lists_have_the_shape_of_their_base_path() {
    let api = Api::new().await;
    let ids = lives(&api).await;
    for base in OCI {
        let answer = api.get(&format!("{base}/workRequests?compartmentId=default")).await;
        assert_eq!(answer.json.is_array(), base != "/20220504", "{}", answer.text);
        let all = items(&answer);
        assert!(all.iter().all(|summary| summary.get("resources").is_none()));
        let newest_first: Vec<_> = ids.iter().rev().map(|id| json!(id)).collect();
        assert_eq!(all.iter().map(|summary| summary["id"].clone()).collect::<Vec<_>>(), newest_first);
        let paged = pages(
            &api,
            &format!("{base}/workRequests?compartmentId=default&limit=1&sortBy=timeAccepted&sortOrder=ASC"),
        )
        .await;
        assert_eq!(paged, all.iter().rev().cloned().collect::<Vec<_>>());
        for (query, count) in [
            ("compartmentId=elsewhere", 0),
            ("status=FAILED", 1),
            ("status=WAITING", 0),
            ("resourceId=s1", 1),
            ("resourceId=s2", 0),
            ("resourceId=s1&status=FAILED", 0),
            (&format!("workRequestId={}", ids[2]), 1),
            ("workRequestId=unknown", 0),
        ] {
            assert_eq!(pages(&api, &format!("{base}/workRequests?{query}&limit=7")).await.len(), count, "{query}");
        }
        for wrong in [
            "limit=0",
            "limit=x",
            "page=x",
            "page=",
            "sortOrder=UP",
            "sortBy=name",
            "status=DONE",
            "page=x&status=WAITING",
        ] {
            assert_eq!(api.get(&format!("{base}/workRequests?{wrong}")).await.status, 400, "{wrong}");
        }
    }
}

#[tokio::test]
async fn oci_lists_are_sorted_by_what_was_asked_for() {
    let api = Api::new().await;
    lives(&api).await;
    api.trigger("call").await;
    for (by, member) in [
        ("ID", "id"),
        ("OPERATION_TYPE", "operationType"),
        ("STATUS", "status"),
        ("TIME_ACCEPTED", "timeAccepted"),
        ("TIME_STARTED", "timeStarted"),
        ("TIME_FINISHED", "timeFinished"),
    ] {
        let path =
            |order: &str| format!("/20190415/workRequests?compartmentId=default&limit=2&sortBy={by}&sortOrder={order}");
        let (up, down) = (pages(&api, &path("ASC")).await, pages(&api, &path("DESC")).await);
        assert_eq!(up.len(), 5, "{by}");
        assert_eq!(up.iter().rev().cloned().collect::<Vec<_>>(), down, "{by}");
        // What has no such time yet comes last.
        let keys: Vec<_> = up.iter().filter_map(|summary| summary[member].as_str()).collect();
        assert!(keys.is_sorted(), "{by}: {keys:?}");
    }
}

#[tokio::test]
async fn oci_logs_and_errors_can_be_read_from_either_end() {
    let api = Api::new().await;
    let [good, bad, _, waiting] = lives(&api).await;
    for base in OCI {
        for (id, logs, errors) in [(&good, 5, 0), (&bad, 5, 2), (&waiting, 1, 0)] {
            for (what, count) in [("logs", logs), ("errors", errors)] {
                let path = |order: &str| format!("{base}/workRequests/{id}/{what}?limit=2&sortOrder={order}");
                let (up, down) = (pages(&api, &path("ASC")).await, pages(&api, &path("DESC")).await);
                assert_eq!((up.len(), up.iter().rev().collect::<Vec<_>>()), (count, down.iter().collect()), "{what}");
                assert_eq!(up, items(&api.get(&format!("{base}/workRequests/{id}/{what}")).await));
                for entry in &up {
                    assert!(
                        !entry["message"].as_str().unwrap().is_empty() && entry["timestamp"].is_string(),
                        "{entry}"
                    );
                }
            }
        }
        // Not even a run that has said nothing leaves them empty.
        let errors = items(&api.get(&format!("{base}/workRequests/{bad}/errors")).await);
        assert_eq!((&errors[1]["code"], &errors[1]["message"]), (&json!("ExitCode"), &json!("ExitCode")));
        assert_eq!(api.get(&format!("{base}/workRequests/unknown/logs")).await.status, 404);
        assert_eq!(api.get(&format!("{base}/workRequests/{bad}/errors?page=00")).await.status, 400);
    }
}

#[tokio::test]
async fn oci_cancels_where_its_clients_do() {
    let api = Api::new().await;
    let [good, _, _, waiting] = lives(&api).await;
    let cancel = async |base: &str, id: &str, headers: &[&str]| {
        let headers: Vec<_> =
            headers.iter().copied().chain(["content-type: application/json", "content-length: 0"]).collect();
        api.call(Method::DELETE, &format!("{base}/workRequests/{id}"), &headers, Body::empty()).await
    };
    let core = cancel(OCI[0], &waiting, &[]).await;
    assert_eq!((core.status.as_u16(), core.header("allow")), (405, "GET,HEAD"));
    for base in &OCI[1..] {
        let ended = cancel(base, &good, &[]).await;
        assert_eq!((ended.status.as_u16(), &ended.json["code"]), (409, &json!("Conflict")));
        assert_eq!(cancel(base, "unknown", &[]).await.status, 404);
        assert_eq!(cancel(base, &waiting, &["if-match: \"another\""]).await.status, 412);
        let id = api.trigger("hello").await;
        let tag = api.get(&format!("{base}/workRequests/{id}")).await.header("etag").to_owned();
        let canceled = cancel(base, &id, &[&format!("if-match: {tag}")]).await;
        assert_eq!((canceled.status.as_u16(), canceled.text.as_str()), (202, ""));
        assert_eq!(api.get(&format!("{base}/workRequests/{id}")).await.json["status"], "CANCELED");
    }
}

#[tokio::test]
async fn azure_follows_the_monitor_to_the_result() {
    let api = Api::new().await;
    let [good, bad, ugly, waiting] = lives(&api).await;
    let monitor = async |id: &str| api.get(&format!("/v1/workRequests/{id}")).await;
    let result = async |id: &str| api.get(&format!("/v1/workRequests/{id}/result")).await;
    let going = monitor(&waiting).await;
    assert_eq!((going.header("retry-after"), going.json.get("error")), ("1", None));
    let early = result(&waiting).await;
    assert_eq!((early.status.as_u16(), early.header("retry-after")), (202, "1"));
    assert_eq!(early.header("location"), format!("http://{HOST}/v1/workRequests/{waiting}/result"));
    let done = monitor(&good).await;
    assert!(done.headers.get("retry-after").is_none() && done.json.get("error").is_none());
    assert_eq!(result(&good).await.json, json!({"copied": 7}));
    for (id, code) in [(&bad, "ExitCode"), (&ugly, "Canceled")] {
        let failed = monitor(id).await;
        assert_eq!((failed.status.as_u16(), &failed.json["error"]["code"]), (200, &json!(code)));
        assert!(!failed.json["error"]["message"].as_str().unwrap().is_empty());
        let nothing = result(id).await;
        assert_eq!((nothing.status.as_u16(), &nothing.json["error"]["code"]), (409, &json!(409)));
        assert_eq!(nothing.json["code"], code);
    }
}

#[tokio::test]
async fn while_others_may_follow_a_failed_attempt_is_no_failure() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    let played = api.lease().await;
    let error = RunError::new("Timeout", "too slow");
    api.report(&played, Outcome::Failed { error, retry: Some(Duration::from_secs(20)) }).await;
    let answer = api.get(&format!("/v1/workRequests/{id}")).await;
    assert_eq!((answer.json.get("error"), &answer.json["lastError"]["code"]), (None, &json!("Timeout")));
    // Nothing happens before the next attempt.
    let seconds: u32 = answer.header("retry-after").parse().unwrap();
    assert!((15..=20).contains(&seconds), "{seconds}");
}

/// What google-api-core's parser allows, and no more.
fn assert_operation(operation: &Value, name: &str) {
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let allowed = |value: &Value, names: &[&str]| {
        let strange: Vec<_> = members(value).into_iter().filter(|member| !names.contains(&&**member)).collect();
        assert!(strange.is_empty(), "{strange:?} in {value}");
    };
    allowed(operation, &["name", "metadata", "done", "error", "response"]);
    assert_eq!(operation["name"], name);
    let is_done = operation["done"].as_bool().unwrap();
    let ends = ["error", "response"].iter().filter(|end| operation.get(**end).is_some()).count();
    assert_eq!(ends, usize::from(is_done), "{operation}");
    for any in ["metadata", "response"].iter().filter_map(|any| operation.get(*any)) {
        assert_eq!(any["@type"], "type.googleapis.com/google.protobuf.Struct");
        assert!(any["value"].is_object() && members(any).len() == 2, "{any}");
    }
    if let Some(error) = operation.get("error") {
        allowed(error, &["code", "message", "details"]);
        assert!((1..=16).contains(&error["code"].as_i64().unwrap()), "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn google_reads_operations_by_either_name() {
    let api = Api::new().await;
    let [good, bad, ugly, waiting] = lives(&api).await;
    for collection in ["operations", "compartments/default/operations", "a/b/c/operations"] {
        let get = async |id: &str| {
            let name = format!("{collection}/{id}");
            let answer = api.get(&format!("/v1/{name}")).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_operation(&answer.json, &name);
            answer.json
        };
        let (good, bad, ugly, waiting) = (get(&good).await, get(&bad).await, get(&ugly).await, get(&waiting).await);
        assert_eq!(good["response"]["value"], json!({"copied": 7}));
        assert_eq!(good["metadata"]["value"]["percentComplete"], 100.0);
        assert_eq!((&bad["error"]["code"], &bad["error"]["message"]), (&json!(2), &json!("the work request failed")));
        assert_eq!(bad["error"]["details"][0]["reason"], "EXIT_CODE");
        assert_eq!(ugly["error"]["code"], 1);
        assert_eq!((&waiting["done"], &waiting["metadata"]["value"]["status"]), (&json!(false), &json!("ACCEPTED")));
        assert_eq!(api.get(&format!("/v1/{collection}/unknown")).await.status, 404);
        assert_eq!(api.get(&format!("/v1/{collection}/{}:cancel", &waiting["name"])).await.status, 404);
    }
}

#[tokio::test]
async fn google_lists_operations_page_by_page() {
    let api = Api::new().await;
    lives(&api).await;
    for collection in ["operations", "compartments/default/operations"] {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let answer = api.get(&format!("/v1/{collection}?pageSize=3&pageToken={token}")).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            for operation in answer.json["operations"].as_array().unwrap() {
                let id = operation["metadata"]["value"]["id"].as_str().unwrap();
                assert_operation(operation, &format!("{collection}/{id}"));
                all.push(operation.clone());
            }
            match answer.json["nextPageToken"].as_str() {
                Some(next) => next.clone_into(&mut token),
                None => break,
            }
        }
        assert_eq!(all.len(), 4);
        assert_eq!(all[3]["response"]["value"], json!({"copied": 7}), "its output is there in lists too");
        let count = async |query: &str| {
            let answer = api.get(&format!("/v1/{collection}?{query}")).await;
            answer.json["operations"].as_array().map(Vec::len).ok_or(answer.status.as_u16())
        };
        assert_eq!(count("filter=done%3Dfalse").await, Ok(1));
        assert_eq!(count("filter=status%3DFAILED%20AND%20job%3Dhello").await, Ok(1));
        assert_eq!(count("pageSize=0&returnPartialSuccess=true&$alt=json").await, Ok(4));
        for wrong in
            ["filter=name%3Dx", "pageToken=garbled", "pageSize=-1", "pageSize=x", "limit=1", "returnPartialSuccess=x"]
        {
            assert_eq!(count(wrong).await, Err(400), "{wrong}");
        }
    }
}

#[tokio::test]
async fn google_cancels_waits_and_does_not_delete() {
    let api = Api::new().await;
    let [good, ..] = lives(&api).await;
    for collection in ["operations", "compartments/default/operations"] {
        let post = async |id: &str, verb: &str, body: &str| {
            let path = format!("/v1/{collection}/{id}:{verb}");
            let length = format!("content-length: {}", body.len());
            api.call(Method::POST, &path, &["content-type: application/json", &length], body.to_owned()).await
        };
        let id = api.trigger("hello").await;
        let quick = post(&id, "wait", r#"{"timeout": "0.05s"}"#).await;
        assert_eq!((quick.status.as_u16(), &quick.json["done"]), (200, &json!(false)));
        let wait = post(&id, "wait", "");
        let cancel = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            post(&id, "cancel", "").await
        };
        let (waited, canceled) = tokio::join!(wait, cancel);
        assert_eq!((canceled.status.as_u16(), &canceled.json), (200, &json!({})));
        assert_operation(&waited.json, &format!("{collection}/{id}"));
        assert_eq!(waited.json["error"]["code"], 1);
        assert_eq!(post(&good, "cancel", "{}").await.json, json!({}), "best effort");
        assert_eq!(post("unknown", "cancel", "").await.status, 404);
        assert_eq!(post(&id, "explode", "").await.json["code"], "UnknownVerb");
        assert_eq!(post(&id, "wait", r#"{"timeout": "1m"}"#).await.wrong(), ["timeout"]);
        for (method, path, allow) in [
            (Method::DELETE, format!("/v1/{collection}/{id}"), "GET,HEAD"),
            (Method::POST, format!("/v1/{collection}/{id}"), "GET,HEAD"),
            (Method::DELETE, format!("/v1/{collection}"), "GET,HEAD"),
        ] {
            let answer = api.call(method, &path, &["content-type: application/json"], Body::empty()).await;
            assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, allow), "{path}");
        }
    }
}

#[tokio::test]
async fn another_tenant_sees_nothing_in_any_dialect() {
    let api = Api::new().await;
    let id = api.trigger("hello").await;
    let foreign = async |method: Method, path: &str| {
        api.call(method, path, &["x-reveille-namespace: other"], Body::empty()).await
    };
    for path in [
        format!("/20160918/workRequests/{id}"),
        format!("/20160918/workRequests/{id}/logs"),
        format!("/20220504/workRequests/{id}/errors"),
        format!("/v1/operations/{id}"),
        format!("/v1/compartments/default/operations/{id}"),
        format!("/v1/workRequests/{id}?wait=30s"),
    ] {
        assert_eq!(foreign(Method::GET, &path).await.status, 404, "{path}");
    }
    assert_eq!(foreign(Method::DELETE, &format!("/20190415/workRequests/{id}")).await.status, 404);
    assert_eq!(foreign(Method::POST, &format!("/v1/operations/{id}:cancel")).await.status, 404);
    assert_eq!(foreign(Method::POST, &format!("/v1/operations/{id}:wait")).await.status, 404);
    for list in ["/20160918/workRequests?compartmentId=default", "/20160918/workRequests", "/v1/operations"] {
        let answer = foreign(Method::GET, list).await;
        assert!(answer.status == 200 && !answer.text.contains(&id), "{list}: {}", answer.text);
    }
}
