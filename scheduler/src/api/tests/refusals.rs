//! Whatever is wrong is one clear error in one shape, and changes nothing.

use axum::body::Body;
use axum::http::{Method, Request};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{Api, HOST};

const HELLO: &str = "/v1/jobs/hello/trigger";

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let api = Api::new().await;
    for path in [
        "/v1",
        "/nowhere",
        "/v1/nowhere",
        "/v1/jobs/",
        "/v1/jobs/unheard-of",
        "/v1/jobs/A%20B",
        "/v1/jobs/%00",
        "/v1/jobs/%ff",
        "/v1/schedules/unheard-of",
        "/v1/schedules/x/next",
        "/v1/schedules/x/fires",
        "/v1/schedules/%2e%2e",
        "/v1/workRequests/x",
        "/v1/workRequests/00000000-0000-0000-0000-000000000000",
        "/v1/workRequests/%00/events",
        "/v1/workRequests/x/logs",
        "/v1/workRequests/x/errors",
        "/v1/workRequests/x/result",
    ] {
        assert_eq!(api.get(path).await.status, 404, "{path}");
    }
    assert_eq!(api.post("/v1/jobs/unheard-of/trigger", "{}").await.status, 404);
    let answer = api.get("/v1/jobs/unheard-of").await;
    assert_eq!(answer.json["message"], r#"job "unheard-of" does not exist"#);
    // What a path says does not reach a terminal as it is.
    assert!(!api.get("/v1/jobs/%1b%5b31m").await.json["message"].as_str().unwrap().contains('\u{1b}'));
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_told_which_it_does() {
    let api = Api::new().await;
    for (method, path, allow) in [
        ("POST", "/v1/jobs", "GET,HEAD"),
        ("GET", HELLO, "POST"),
        ("PUT", "/v1/workRequests/x", "DELETE,GET,HEAD"),
        ("POST", "/v1/workRequests/x", "DELETE,GET,HEAD"),
        ("DELETE", "/", "GET,HEAD"),
        ("TRACE", "/livez", "GET,HEAD"),
        ("QUERY", "/openapi.json", "GET,HEAD"),
        ("OPTIONS", "/v1/jobs", "GET,HEAD"),
    ] {
        let answer = api.call(Method::from_bytes(method.as_bytes()).unwrap(), path, &[], Body::empty()).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, allow), "{method} {path}");
    }
}

#[tokio::test]
async fn json_faults_say_where_they_are() {
    let api = Api::new().await;
    for (body, message) in [
        ("{\"input\":\n  {\"a\": }}", "line 2 column 9"),
        ("{", "line 1 column 1"),
        ("nonsense", "line 1 column 2"),
        ("[]", "must be a JSON object, not an array"),
        (r#"{"input": {"a": "\ud800"}}"#, "line 1"),
        (r#"{"input": {"a": 1e999}}"#, "number out of range"),
        (&format!("{{\"input\": {}1{}}}", "[".repeat(200), "]".repeat(200)), "recursion limit"),
    ] {
        let answer = api.post(HELLO, body).await;
        assert_eq!((answer.status.as_u16(), &answer.json["code"]), (400, &json!("InvalidJson")), "{body}");
        assert!(answer.json["message"].as_str().unwrap().contains(message), "{}", answer.text);
    }
    let invalid = api.call(Method::POST, HELLO, &["content-type: application/json"], vec![b'{', 0xff]).await;
    assert_eq!(invalid.status, 400);
}

#[tokio::test]
async fn every_wrong_member_is_named_at_once() {
    let api = Api::new().await;
    let answer = api.post(HELLO, r#"{"input": [1], "delay": "soon", "resource": "x", "inptu": {}, "zeal": 1}"#).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.wrong(), ["input", "delay", "resource", "inptu", "zeal"]);
    assert!(answer.json["message"].as_str().unwrap().contains("inptu: unknown member"));
    for (body, field) in [
        (r#"{"delay": 5}"#, "delay"),
        (r#"{"delay": ""}"#, "delay"),
        (r#"{"delay": "-5s"}"#, "delay"),
        (r#"{"delay": "99999999999d"}"#, "delay"),
        (r#"{"input": {"a": ["\u0000"]}}"#, "input"),
        (r#"{"resource": {"\u0000": 1}}"#, "resource"),
    ] {
        let answer = api.post(HELLO, body).await;
        assert_eq!((answer.status.as_u16(), answer.wrong()), (422, vec![field]), "{body}");
    }
}

#[tokio::test]
async fn a_body_is_json_or_refused() {
    let api = Api::new().await;
    for headers in [&[][..], &["content-type: text/plain"], &["content-type: application/x-www-form-urlencoded"]] {
        assert_eq!(api.call(Method::POST, HELLO, headers, "{}").await.status, 415, "{headers:?}");
    }
}

#[tokio::test]
async fn large_inputs_are_refused_by_their_limit() {
    let api = Api::new().await;
    let input = |size: usize| format!("{{\"input\": {{\"a\": \"{}\"}}}}", "x".repeat(size));
    assert_eq!(api.post(HELLO, &input(256 * 1024 - 8)).await.status, 202);
    let over = api.post(HELLO, &input(256 * 1024 - 7)).await;
    assert_eq!((over.status.as_u16(), over.wrong()), (422, vec!["input"]));
    assert_eq!(api.post(HELLO, &input(1_000_000)).await.status, 422);
    assert_eq!(api.post(HELLO, &input(33 * 1024 * 1024)).await.status, 413);
    let resource = format!("{{\"resource\": {{\"a\": \"{}\"}}}}", "x".repeat(16 * 1024));
    assert_eq!(api.post(HELLO, &resource).await.wrong(), ["resource"]);
}

#[tokio::test]
async fn a_body_of_100_mb_is_refused_without_being_read() {
    let api = Api::new().await;
    // A trigger may have many inputs. Of what does not say how large it is, a piece is read to find out whether it is large.
    for (path, most) in [("/v1/schedules/often:pause", 3_000_000), (HELLO, 36_000_000)] {
        let read = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for announced in [Some("content-length: 100000000"), None] {
            let counter = std::sync::Arc::clone(&read);
            let chunks = stream::iter(0..100).map(move |_| {
                counter.fetch_add(1_000_000, std::sync::atomic::Ordering::Relaxed);
                Ok::<_, std::io::Error>(vec![b' '; 1_000_000])
            });
            let mut headers = vec!["content-type: application/json"];
            headers.extend(announced);
            let answer = api.call(Method::POST, path, &headers, Body::from_stream(chunks)).await;
            assert_eq!(answer.status, 413);
        }
        let read = read.load(std::sync::atomic::Ordering::Relaxed);
        assert!(read <= most, "{read} bytes of {path}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_callers_fault() {
    let api = Api::new().await;
    let broken = stream::iter([Ok(b"{".to_vec()), Err(std::io::Error::other("cut"))]);
    let answer = api.call(Method::POST, HELLO, &["content-type: application/json"], Body::from_stream(broken)).await;
    assert_eq!((answer.status.as_u16(), &answer.json["code"]), (400, &json!("InvalidBody")));
}

#[tokio::test]
async fn other_hosts_and_origins_are_refused() {
    let api = Api::new().await;
    let send = async |method: &str, host: Option<&str>, header: &str| {
        let path = if method == "POST" { HELLO } else { "/v1/jobs" };
        let mut request = Request::builder().method(method).uri(path);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        if let Some((name, value)) = header.split_once(": ") {
            request = request.header(name, value);
        }
        api.send(request.body(Body::empty()).unwrap()).await.status.as_u16()
    };
    for method in ["GET", "POST"] {
        let fine = if method == "POST" { 202 } else { 200 };
        assert_eq!(send(method, None, "").await, 400);
        for host in ["evil.example:8080", "localhost:8081", "localhost", "127.0.0.1.evil.example:8080"] {
            assert_eq!(send(method, Some(host), "").await, 421, "{host}");
        }
        assert_eq!(send(method, Some(HOST), "host: evil.example:8080").await, 421);
        for host in ["localhost:8080", "[::1]:8080", HOST] {
            assert_eq!(send(method, Some(host), "").await, fine, "{host}");
            assert_eq!(send(method, Some(host), &format!("origin: http://{host}")).await, fine, "{host}");
        }
        for origin in [
            "null",
            "https://evil.example",
            "http://localhost:3000",
            "http://localhost",
            "http://evil.example:8080",
            "file://",
        ] {
            assert_eq!(send(method, Some(HOST), &format!("origin: {origin}")).await, 403, "{origin}");
        }
        for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", fine), ("none", fine)] {
            assert_eq!(send(method, Some(HOST), &format!("sec-fetch-site: {site}")).await, status, "{site}");
        }
    }
    assert_eq!(api.get("/v1/workRequests").await.json["items"].as_array().unwrap().len(), 8);
    let absolute = Request::builder().uri("http://evil.example:8080/v1/jobs").header("host", HOST);
    assert_eq!(api.send(absolute.body(Body::empty()).unwrap()).await.status, 421);
    let preflight = ["origin: https://evil.example", "access-control-request-method: POST"];
    let answer = api.call(Method::OPTIONS, HELLO, &preflight, Body::empty()).await;
    assert!(answer.status == 403 && !answer.headers.keys().any(|name| name.as_str().starts_with("access-control")));
}

#[tokio::test]
async fn a_namespace_is_a_name() {
    let api = Api::new().await;
    for name in ["", "A", "a b", "-a", "\u{e9}", &"a".repeat(65)] {
        let header = format!("x-reveille-namespace: {name}");
        let answer = api.call(Method::GET, "/v1/jobs", &[&header], Body::empty()).await;
        assert_eq!((answer.status.as_u16(), answer.wrong()), (400, vec!["X-Reveille-Namespace"]), "{name:?}");
    }
}

#[tokio::test]
async fn a_handler_that_panics_takes_only_its_request_with_it() {
    let api = Api::new().await;
    let answer = api.get("/broken").await;
    assert_eq!((answer.status.as_u16(), &answer.json["code"]), (500, &json!("InternalError")));
    assert!(!answer.text.contains("broken"));
    assert_eq!(api.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_requests_id_comes_back() {
    let api = Api::new().await;
    for path in ["/v1/jobs", "/nowhere"] {
        let answer = api.call(Method::GET, path, &["opc-request-id: ABC/1"], Body::empty()).await;
        assert_eq!(answer.header("opc-request-id"), "ABC/1");
    }
    let fresh = [api.get("/livez").await, api.get("/livez").await];
    assert_ne!(fresh[0].header("opc-request-id"), fresh[1].header("opc-request-id"));
}
