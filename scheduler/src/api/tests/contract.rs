//! What every operation of the document refuses: a wrong body or parameter of whatever kind, by name, and with no effect.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

use super::webhooks::KEY;
use super::{Access, Answer, Api};

/// Parameters that are any line of text.
const LINES: [&str; 2] = ["by", "reason"];

/// An operation of the document, with its path filled in.
struct Operation {
    method: Method,
    path: String,
    declared: Value,
}

/// All operations, on what there is: a run, a webhook with a delivery, a job and a schedule.
async fn operations(api: &Api) -> Vec<Operation> {
    let hook = api.post("/v1/webhooks", r#"{"url": "https://portal.example.com/", "statuses": ["CANCELED"]}"#).await;
    let hook = hook.json["id"].as_str().unwrap().to_owned();
    let run = api.trigger("hello").await;
    let document = document();
    let mut operations = Vec::new();
    for (template, methods) in document["paths"].as_object().unwrap() {
        let id = if template.starts_with("/v1/webhooks") { &hook } else { &run };
        let path = template.replace("{job}", "hello").replace("{schedule}", "often").replace("{id}", id);
        for (method, declared) in methods.as_object().unwrap() {
            let (method, path) = (method.to_uppercase().parse().unwrap(), path.replace(['{', '}'], ""));
            operations.push(Operation { method, path, declared: declared.clone() });
        }
    }
    operations
}

fn document() -> Value {
    serde_json::from_str(include_str!("../../../openapi.json")).unwrap()
}

/// A schema without its references and alternatives: what it may be besides null.
fn resolved(schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return resolved(&document()["components"]["schemas"][name]);
    }
    let alternatives = schema["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    match alternatives.iter().filter(|one| one["type"] != "null").collect::<Vec<_>>()[..] {
        [] => schema.clone(),
        [one] => resolved(one),
        _ => json!({"type": alternatives.iter().map(|one| one["type"].clone()).collect::<Vec<_>>()}),
    }
}

fn kinds(schema: &Value) -> BTreeSet<&str> {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

/// Values that a schema does not take: of every other type, too small and too large, and of another form.
fn wrong_values(schema: &Value) -> Vec<Value> {
    let schema = resolved(schema);
    let kinds = kinds(&schema);
    let mut wrong = Vec::new();
    for (kind, value) in [
        ("string", json!("?\u{0}")),
        ("integer", json!(7)),
        ("boolean", json!(true)),
        ("array", json!([[]])),
        ("object", json!({"\u{0}": 1})),
    ] {
        let is_text_of_a_form = kind == "string" && ["pattern", "format"].iter().any(|rule| !schema[rule].is_null());
        if !kinds.contains(kind) || is_text_of_a_form {
            wrong.push(value);
        }
    }
    let bound = |name: &str| schema[name].as_u64();
    let text = |length: u64| json!("x".repeat(usize::try_from(length).unwrap()));
    wrong.extend(bound("maxLength").map(|most| text(most + 1)));
    wrong.extend(bound("minLength").filter(|least| *least > 0).map(|least| text(least - 1)));
    wrong.extend(schema["maximum"].as_i64().map(|most| json!(most + 1)));
    wrong.extend(schema["minimum"].as_i64().map(|least| json!(least - 1)));
    if kinds.contains("integer") {
        wrong.extend([json!(1.5), json!(-1e300), json!(u64::MAX), json!("1")]);
    }
    let items = |count: u64| json!((0..count).map(|at| format!("a{at}")).collect::<Vec<_>>());
    wrong.extend(bound("maxItems").map(|most| items(most + 1)));
    wrong.extend(bound("minItems").filter(|least| *least > 0).map(|least| items(least - 1)));
    if kinds.contains("array") {
        wrong.extend([json!([7]), json!([null]), json!(["A b"])]);
    }
    wrong
}

/// Everything that there is, to see that nothing has changed.
async fn all(api: &Api) -> Vec<String> {
    let mut all = Vec::new();
    for path in ["/v1/workRequests", "/v1/audit", "/v1/keys", "/v1/webhooks", "/v1/schedules", "/v1/jobs"] {
        all.push(api.get(path).await.text);
    }
    all
}

impl Operation {
    fn body(&self) -> Option<(&str, &Value)> {
        self.declared["requestBody"]["content"].as_object()?.iter().next().map(|(kind, body)| (kind.as_str(), body))
    }

    async fn send(&self, api: &Api, kind: &str, body: impl Into<Body>) -> Answer {
        api.call(self.method.clone(), &self.path, &[&format!("content-type: {kind}")], body).await
    }

    fn parameters(&self) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.declared["parameters"].as_array().into_iter().flatten();
        all.filter(|one| one["in"] == "query").map(|one| (one["name"].as_str().unwrap(), &one["schema"]))
    }

    /// What is wrong with the request when these parameters have these values.
    async fn refusal(&self, api: &Api, query: &[(&str, &str)]) -> (u16, Vec<String>) {
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let query: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let query = query.join("&");
        let answer = api.call(self.method.clone(), &format!("{}?{query}", self.path), &[], Body::empty()).await;
        (answer.status.as_u16(), answer.wrong().into_iter().map(str::to_owned).collect())
    }
}

#[tokio::test]
async fn every_member_of_every_body_is_refused_when_it_is_wrong() {
    let api = Api::with_key(Access::Open, Some(KEY)).await;
    let operations = operations(&api).await;
    let before = all(&api).await;
    let mut tried = 0;
    for operation in &operations {
        let Some((kind @ "application/json", body)) = operation.body() else { continue };
        let schema = resolved(&body["schema"]);
        let refused = async |body: &Value, field: &str| {
            let answer = operation.send(&api, kind, body.to_string()).await;
            let context = format!("{} {} {body:.200} {}", operation.method, operation.path, answer.text);
            assert_eq!(answer.status, 422, "{context}");
            let is_named = answer.wrong().iter().any(|wrong| wrong.split('[').next() == Some(field));
            assert!(is_named, "{field} of {context}");
        };
        for (name, member) in schema["properties"].as_object().unwrap() {
            for value in wrong_values(member) {
                refused(&json!({name: value}), name).await;
                tried += 1;
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            refused(&json!({}), name.as_str().unwrap()).await;
        }
        refused(&json!({"zeal": 1}), "zeal").await;
    }
    assert!(tried > 300, "{tried}");
    assert!(all(&api).await == before, "something has changed");
}

#[tokio::test]
async fn no_body_is_taken_that_is_not_json_of_a_size_that_means_one_thing() {
    let api = Api::with_key(Access::Open, Some(KEY)).await;
    let operations = operations(&api).await;
    let before = all(&api).await;
    let deep = |open: &str, close: &str| format!("{{\"by\": {}1{}}}", open.repeat(10_000), close.repeat(10_000));
    let mut tried = 0;
    for operation in &operations {
        let Some((kind, _)) = operation.body() else { continue };
        for (body, message) in [
            (br#"{"by": "a", "by": "a"}"#.to_vec(), "names a member twice"),
            (br#"{"by": {"a": 1, "\u0061": 2}}"#.to_vec(), "names a member twice"),
            (deep("[", "]").into_bytes(), "recursion limit"),
            (deep("{\"a\":", "}").into_bytes(), "recursion limit"),
            (b"{\"by\": \"\xff\"}".to_vec(), "line 1"),
            (b"{\"by\": \"\xed\xa0\x80\"}".to_vec(), "line 1"),
            (b"\xef\xbb\xbf{}".to_vec(), "line 1"),
            (b"{\"by\": \"a\"".to_vec(), "line 1"),
            (b"{} {}".to_vec(), "line 1"),
            (b"[]".to_vec(), "must be a JSON object"),
            (b"7".to_vec(), "must be a JSON object"),
        ] {
            let answer = operation.send(&api, kind, body).await;
            let context = format!("{} {} {}", operation.method, operation.path, answer.text);
            assert_eq!(answer.status, 400, "{context}");
            assert!(answer.json["detail"].as_str().unwrap().contains(message), "{message}: {context}");
            tried += 1;
        }
        let other = operation.send(&api, "text/plain", "{}").await;
        assert!(matches!(other.status.as_u16(), 400 | 415), "{} {}", operation.path, other.text);
        let headers = [&format!("content-type: {kind}"), "content-length: 70000000"];
        let large = api.call(operation.method.clone(), &operation.path, &headers, Body::empty()).await;
        assert_eq!(large.status, 413, "{} {}", operation.path, large.text);
    }
    assert!(tried > 180, "{tried}");
    assert!(all(&api).await == before, "something has changed");
}

#[tokio::test]
async fn every_parameter_is_refused_when_it_is_wrong() {
    let api = Api::with_key(Access::Open, Some(KEY)).await;
    let mut tried = 0;
    for operation in &operations(&api).await {
        let mut names = BTreeSet::new();
        for (name, schema) in operation.parameters() {
            names.insert(name);
            let schema = resolved(schema);
            let item = if schema["type"] == "array" { resolved(&schema["items"]) } else { schema.clone() };
            let mut wrong: Vec<String> = Vec::new();
            let is_of_a_form = ["pattern", "format", "enum"].iter().any(|rule| !item[rule].is_null());
            if LINES.contains(&name) {
                wrong.extend(["".to_owned(), "\0".to_owned(), "x\ny".to_owned()]);
            } else if is_of_a_form || item["type"] == "boolean" {
                wrong.extend(["x y".to_owned(), "\0".to_owned(), "'; --".to_owned()]);
            }
            if item["type"] == "integer" {
                let (least, most) = (item["minimum"].as_i64().unwrap(), item["maximum"].as_i64().unwrap());
                wrong.extend([(least - 1).to_string(), (most + 1).to_string(), "9".repeat(40), "1.5".to_owned()]);
                wrong.extend(["".to_owned(), "+1".to_owned(), "0x1".to_owned(), "\u{661}".to_owned()]);
            }
            wrong.extend(schema["maxLength"].as_u64().map(|most| "x".repeat(usize::try_from(most + 1).unwrap())));
            for value in &wrong {
                let told = operation.refusal(&api, &[(name, value)]).await;
                assert_eq!(told, (400, vec![name.to_owned()]), "{} {name}={value}", operation.path);
                tried += 1;
            }
            if schema["type"] != "array" && !name.starts_with("return") {
                let (status, told) = operation.refusal(&api, &[(name, "1"), (name, "1")]).await;
                assert!(status == 400 && told.contains(&name.to_owned()), "{} {name} {told:?}", operation.path);
            }
        }
        // Where nothing is asked for but who and why, clients of dialects have parameters of their own.
        if !names.iter().all(|name| LINES.contains(name)) {
            let told = operation.refusal(&api, &[("zeal", "1")]).await;
            assert_eq!(told, (400, vec!["zeal".to_owned()]), "{}", operation.path);
        }
    }
    assert!(tried > 300, "{tried}");
}

#[tokio::test]
async fn no_list_takes_a_cursor_that_it_has_not_given() {
    let api = Api::with_key(Access::Open, Some(KEY)).await;
    let operations = operations(&api).await;
    for _ in 0..2 {
        api.trigger("hello").await;
    }
    let page = api.get("/v1/workRequests?limit=1&job=hello").await;
    let of_another_list = page.json["nextPage"].as_str().unwrap();
    let mut lists = 0;
    for operation in &operations {
        let Some((name, _)) = operation.parameters().find(|(name, _)| matches!(*name, "page" | "pageToken")) else {
            continue;
        };
        let (garbage, long) = ("0".repeat(48), "a".repeat(5_000));
        let cut = &of_another_list[..of_another_list.len() - 2];
        for made_up in [of_another_list, cut, &garbage, &long, "x", "\0", "%", "' or 1=1", "\u{1f600}"] {
            let told = operation.refusal(&api, &[(name, made_up)]).await;
            assert_eq!(told, (400, vec![name.to_owned()]), "{} {name}={made_up:.60}", operation.path);
        }
        lists += 1;
    }
    assert!(lists >= 25, "{lists}");
}

#[tokio::test]
async fn a_cursor_is_good_for_its_filter_only() {
    let api = Api::with_key(Access::Open, Some(KEY)).await;
    let run = api.trigger("hello").await;
    for _ in 0..2 {
        api.trigger("hello").await;
        api.post("/v1/keys", r#"{"name": "ci", "role": "viewer"}"#).await;
    }
    for (list, page, filter, others) in [
        (
            "/v1/workRequests?limit=1",
            "page",
            "job=hello",
            &["", "job=call", "schedule=often", "status=FAILED", "parent=PARENT", "acceptedAfter=2020-01-01T00:00:00Z"]
                [..],
        ),
        (
            "/v1/workRequests?limit=1",
            "page",
            "acceptedAfter=2020-01-01T00:00:00Z",
            &["acceptedAfter=2020-01-01T00:00:01Z", "acceptedBefore=2020-01-01T00:00:00Z"],
        ),
        ("/v1/operations?pageSize=1", "pageToken", "filter=job=hello", &["", "filter=done=true", "filter=job=call"]),
        (
            "/20160918/workRequests?limit=1",
            "page",
            "status=ACCEPTED",
            &["", "status=FAILED", "sortOrder=ASC", "sortBy=ID", "workRequestId=PARENT", "resourceId=x"],
        ),
        ("/v1/keys?limit=1", "page", "search=c", &["", "search=ci"]),
        ("/v1/jobs?limit=1", "page", "search=l", &["", "search=ll"]),
        ("/v1/audit?limit=1", "page", "everywhere=false", &["everywhere=true"]),
    ] {
        let first = api.get(&format!("{list}&{filter}")).await;
        let next = first.json["nextPage"].as_str().or(first.json["nextPageToken"].as_str());
        let next = next.unwrap_or(first.header("opc-next-page")).to_owned();
        assert!(!next.is_empty(), "{list} {filter} {}", first.text);
        let again = api.get(&format!("{list}&{filter}&{page}={next}")).await;
        assert_eq!(again.status, 200, "{list} {filter} {}", again.text);
        for other in others {
            let other = other.replace("PARENT", &run);
            let answer = api.get(&format!("{list}&{other}&{page}={next}")).await;
            assert_eq!((answer.status.as_u16(), answer.wrong()), (400, vec![page]), "{list} {filter} {other}");
        }
    }
    let elsewhere = ["x-reveille-namespace: other"];
    let mine = api.get("/v1/workRequests?limit=1").await.json["nextPage"].as_str().unwrap().to_owned();
    let path = format!("/v1/workRequests?limit=1&page={mine}");
    assert_eq!(api.call(Method::GET, &path, &elsewhere, Body::empty()).await.wrong(), ["page"]);
}
