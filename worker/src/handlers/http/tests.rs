//! Calls of servers that behave, and of those that don't.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{HeaderMap as AxumHeaders, Response as AxumResponse};
use axum::routing::{any, delete, get};
use reveille_shared::work_request::MAX_OUTPUT;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::answer::MAX_BODY;
use super::*;
use crate::report::tests::{lines, run_with};
use crate::runs::Why;

async fn echo(headers: AxumHeaders, body: Bytes) -> axum::Json<Value> {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    axum::Json(json!({
        "key": header("idempotency-key"), "attempt": header("x-reveille-attempt"), "type": header("content-type"),
        "auth": header("authorization"), "body": String::from_utf8(body.to_vec()).unwrap(),
    }))
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> AxumResponse<Body> {
    let mut response = AxumResponse::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

/// A server; it ends with the returned set.
async fn server() -> (String, JoinSet<()>) {
    let cancelled = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&cancelled);
    let cancel = move |Path(id): Path<String>, headers: AxumHeaders| {
        let key = headers.get("idempotency-key").map_or("without key", |_| "with key");
        told.lock().unwrap().push(format!("{id} {} {key}", headers["authorization"].to_str().unwrap()));
        std::future::ready(answer(202, &[], ""))
    };
    let router = Router::new()
        .route("/cancel/{id}", delete(cancel))
        .route("/cancelled", get(async move || axum::Json(cancelled.lock().unwrap().clone())))
        .route(
            "/circle/{code}",
            any(async |Path(code): Path<u16>| answer(code, &[("location", &format!("/circle/{code}"))], "")),
        )
        .route("/echo", any(echo))
        .route(
            "/status/{code}",
            any(|Path(code): Path<u16>| async move {
                answer(code, &[("retry-after", "7"), ("location", "/echo")], "no\n luck")
            }),
        )
        .route("/dated", get(|| async { answer(503, &[("retry-after", "Fri, 02 Jan 2099 03:04:05 GMT")], "") }))
        .route("/empty", get(|| async { answer(204, &[], "") }))
        .route("/text", get(|| async { answer(200, &[], "not {json") }))
        .route("/binary", get(|| async { answer(200, &[], vec![0u8; MAX_BODY]) }))
        .route("/large", get(|| async { answer(200, &[], "x".repeat(3 * MAX_OUTPUT)) }))
        .route("/slow", any(std::future::pending::<()>));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (base, tasks)
}

fn get_call(url: String) -> HttpCall {
    HttpCall::new("GET", url)
}

/// Makes a call that leaves nothing behind.
async fn made(caller: &Caller, call: &HttpCall, run: &Run, variables: &Variables) -> RunResult {
    match caller.call(call, run, variables, None).await {
        Left::Ended(result) => result,
        left => panic!("{left:?}"),
    }
}

async fn call(call: &HttpCall) -> RunResult {
    call_under(Policy::default(), call).await
}

async fn call_under(policy: Policy, call: &HttpCall) -> RunResult {
    let (run, _notes) = run_with(json!({"day": "mon"}));
    let variables = Variables::of(&[("TOKEN", "s3cret"), ("OTHER", "s3cret")]).under(policy.clone());
    made(&Caller::new(policy).unwrap(), call, &run, &variables).await
}

#[tokio::test]
async fn sends_what_the_job_says_and_captures_json() {
    let (base, _server) = server().await;
    let mut post = get_call(format!("{base}/echo?day={{{{ input.day }}}}"));
    post.method = "POST".into();
    post.headers = BTreeMap::from([("Authorization".into(), "Bearer ${env:TOKEN}".into())]);
    post.body = Some(json!({"day": "{{ input.day }}", "n": 1}));
    let output = call(&post).await.unwrap();
    assert_eq!(output["status"], 200);
    let seen = &output["body"];
    assert_eq!(seen["body"], "{\"day\":\"mon\",\"n\":1}");
    assert_eq!((&seen["auth"], &seen["type"]), (&json!("Bearer s3cret"), &json!("application/json")));
    assert_eq!(seen["attempt"], "1");
    assert!(seen["key"].as_str().unwrap().parse::<uuid::Uuid>().is_ok());

    post.body = Some(json!("plain {{ attempt }}"));
    post.headers = BTreeMap::from([("Idempotency-Key".into(), "order-{{ input.day }}".into())]);
    let output = call(&post).await.unwrap();
    assert_eq!(output["body"]["body"], "plain 1");
    assert_eq!(output["body"]["key"], "order-mon", "the job's own key wins");
}

#[tokio::test]
async fn status_codes_decide_and_redirects_are_not_followed() {
    let (base, _server) = server().await;
    let cases =
        [(500, true), (503, true), (404, false), (400, false), (408, true), (425, true), (429, true), (302, true)];
    for (code, retryable) in cases {
        let failure = call(&get_call(format!("{base}/status/{code}"))).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("HttpStatus", retryable), "{code}");
        assert!(failure.message.contains(&code.to_string()) && failure.message.ends_with(": no luck"), "{failure:?}");
        assert_eq!(failure.not_before, retryable.then_some(Duration::from_secs(7)), "{code}");
    }
    let dated = call(&get_call(format!("{base}/dated"))).await.unwrap_err();
    assert!(dated.not_before.unwrap() > Duration::from_secs(365 * 86_400));
    let mut tolerant = get_call(format!("{base}/status/404"));
    tolerant.success = vec![200, 404];
    assert_eq!(call(&tolerant).await.unwrap(), json!({"status": 404, "body": "no\n luck"}));
    tolerant.url = format!("{base}/empty");
    assert!(call(&tolerant).await.is_err(), "204 is not in the list");
    assert_eq!(call(&get_call(format!("{base}/empty"))).await.unwrap(), json!({"status": 204, "body": null}));
}

#[tokio::test]
async fn bodies_that_are_no_json_or_too_large_become_text() {
    let (base, _server) = server().await;
    assert_eq!(call(&get_call(format!("{base}/text"))).await.unwrap()["body"], "not {json");
    for path in ["large", "binary"] {
        let output = call(&get_call(format!("{base}/{path}"))).await.unwrap();
        let length = output.to_string().len();
        assert!(
            output["truncated"] == true && length <= MAX_OUTPUT && length > MAX_OUTPUT * 9 / 10,
            "{path}: {length}"
        );
    }
}

/// Writes what `bytes` gives to whoever connects: one after the other, with pauses, for ever.
async fn dripping(start: &'static [u8], drop: &'static [u8], pause: Duration) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await.unwrap();
            let mut next = start;
            // Ends when the caller has hung up.
            while socket.write_all(next).await.is_ok() {
                next = drop;
                tokio::time::sleep(pause).await;
            }
        }
    });
    (url, tasks)
}

#[tokio::test]
async fn who_never_comes_to_an_end_is_left_when_time_is_over() {
    let second = Duration::from_secs(1);
    let servers = [
        dripping(b"", b"", second).await,
        dripping(b"HTTP/1.1 200 OK\r\nx-slow: ", b"x", second).await,
        dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x", second).await,
        dripping(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n", second).await,
    ];
    for (url, _server) in servers {
        let (run, _notes) = run_with(Value::Null);
        let (caller, call, variables) = (Caller::new(Policy::default()).unwrap(), get_call(url), Variables::of(&[]));
        let start = std::time::Instant::now();
        let (result, ()) = tokio::join!(made(&caller, &call, &run, &variables), async {
            tokio::time::sleep(Duration::from_millis(1200)).await;
            run.handle.stop(Why::TimedOut);
        });
        assert_eq!(result, Err(RunFailure::given_up()));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn of_an_endless_body_the_beginning_is_kept() {
    static FLOOD: [u8; 65536] = [b'x'; 65536];
    let (url, _server) = dripping(b"HTTP/1.1 200 OK\r\n\r\n", &FLOOD, Duration::ZERO).await;
    let output = call(&get_call(url)).await.unwrap();
    assert_eq!((&output["status"], &output["truncated"]), (&json!(200), &json!(true)));
    assert!(output.to_string().len() <= MAX_OUTPUT);
}

#[tokio::test]
async fn a_redirect_says_that_it_is_not_followed() {
    let (base, _server) = server().await;
    for code in [301, 302, 303, 307, 308] {
        let failure = call(&get_call(format!("{base}/circle/{code}"))).await.unwrap_err();
        assert!(failure.message.contains("redirects are not followed"), "{failure:?}");
    }
}

/// Calls an endpoint that never answers, stops the run for this reason, and answers with what its log says.
async fn stopped(base: &str, why: Why, cancel: CancelCall) -> Vec<String> {
    let (run, mut notes) = run_with(json!({"id": "b7"}));
    let slow = HttpCall { cancel: Some(cancel), ..get_call(format!("{base}/slow")) };
    let (caller, variables) = (Caller::new(Policy::default()).unwrap(), Variables::of(&[("TOKEN", "s3cret")]));
    let (result, ()) = tokio::join!(made(&caller, &slow, &run, &variables), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        run.handle.stop(why);
    });
    assert_eq!(result, Err(RunFailure::given_up()), "whatever became of the cancel call");
    lines(&mut notes).into_iter().filter(|line| line.stream == Stream::System).map(|line| line.text).collect()
}

fn cancel_call(base: &str, path: &str) -> CancelCall {
    let headers = BTreeMap::from([("Authorization".to_owned(), "Bearer ${env:TOKEN}".to_owned())]);
    CancelCall { method: "DELETE".into(), url: format!("{base}{path}"), headers }
}

#[tokio::test]
async fn only_who_cancels_has_the_callee_told() {
    let (base, _server) = server().await;
    let cancel = || cancel_call(&base, "/cancel/{{ input.id }}");
    assert_eq!(stopped(&base, Why::Asked, cancel()).await, ["cancel call: answered 202 Accepted"]);
    let seen = call(&get_call(format!("{base}/cancelled"))).await.unwrap();
    assert_eq!(seen["body"], json!(["b7 Bearer s3cret without key"]), "once, and with no idempotency key");
    for why in [Why::TimedOut, Why::Drained, Why::LeaseLost] {
        assert!(stopped(&base, why, cancel()).await.is_empty(), "{why:?}");
    }
    let seen = call(&get_call(format!("{base}/cancelled"))).await.unwrap();
    assert_eq!(seen["body"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_cancel_call_that_fails_says_why_and_shows_no_secret() {
    let (base, _server) = server().await;
    for (path, expected) in
        [("/status/500", "answered 500"), ("/slow", "no answer: "), ("/{{ nope }}", "url can't be rendered")]
    {
        let start = std::time::Instant::now();
        let said = stopped(&base, Why::Asked, cancel_call(&base, path)).await;
        assert!(said.len() == 1 && said[0].starts_with(&format!("cancel call: {expected}")), "{said:?}");
        assert!(!said[0].contains("s3cret"), "{said:?}");
        assert!(start.elapsed() < CANCEL_TIMEOUT + Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_stop_drops_the_request() {
    let (base, _server) = server().await;
    let (run, _notes) = run_with(Value::Null);
    let stop = run.stop.clone();
    let (caller, slow, variables) =
        (Caller::new(Policy::default()).unwrap(), get_call(format!("{base}/slow")), Variables::of(&[]));
    let (result, ()) = tokio::join!(made(&caller, &slow, &run, &variables), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        stop.cancel();
    });
    assert_eq!(result, Err(RunFailure::given_up()));
}

#[tokio::test]
async fn broken_servers_are_worth_a_retry_and_show_no_secret() {
    let garbage: [&'static [u8]; 3] =
        [b"", b"\x00\x01 what\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort"];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        for bytes in garbage {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = socket.read(&mut request).await.unwrap();
            socket.write_all(bytes).await.unwrap();
        }
    });
    for bytes in garbage {
        let failure = call(&get_call(format!("http://{address}/${{env:TOKEN}}"))).await.unwrap_err();
        assert!(failure.in_doubt && failure.code == "HttpConnection", "{bytes:?}: {failure:?}");
        assert!(!failure.message.contains("s3cret"), "{failure:?}");
    }
    while tasks.join_next().await.is_some() {}
    let refused = call(&get_call(format!("http://{address}/${{env:TOKEN}}"))).await.unwrap_err();
    assert!(refused.retryable && refused.code == "HttpConnect" && !refused.message.contains("s3cret"), "{refused:?}");
}

/// Reads a little of whatever comes, answers with these bytes, and hangs up; again and again.
async fn curt(answer: &'static [u8]) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.read(&mut [0; 1024]).await.unwrap();
            socket.write_all(answer).await.unwrap();
        }
    });
    (address, tasks)
}

#[tokio::test]
async fn only_what_may_have_been_heard_is_in_doubt() {
    let (silent, _hangs_up) = curt(b"").await;
    let cut_off = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 100\r\n\r\nshort").leak().as_bytes();
    let (good, _cuts_off) = curt(cut_off("200 OK")).await;
    let (bad, _breaks) = curt(cut_off("503 Service Unavailable")).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = gone.local_addr().unwrap();
    drop(gone);
    for (url, code, in_doubt) in [
        (format!("http://{silent}/"), "HttpConnection", true),
        (format!("http://{good}/"), "HttpConnection", true),
        (format!("http://{bad}/"), "HttpStatus", false),
        (format!("http://{nobody}/"), "HttpConnect", false),
        // It speaks no TLS, and hangs up in the middle of the handshake.
        (format!("https://{silent}/"), "HttpConnect", false),
        (format!("https://{good}/"), "HttpConnect", false),
    ] {
        for one_way in [false, true] {
            let made = call(&HttpCall { one_way, method: "POST".into(), ..get_call(url.clone()) }).await;
            if one_way && url.contains(&good) && url.starts_with("http:") {
                assert_eq!(made, Ok(json!({"status": 200})), "its status is all that is wanted");
                continue;
            }
            let failure = made.unwrap_err();
            assert!(failure.retryable, "{url}: {failure:?}");
            assert_eq!((failure.code.as_str(), failure.in_doubt), (code, in_doubt), "{url}: {failure:?}");
        }
    }
}

#[tokio::test]
async fn invalid_requests_are_not_repeated_and_show_no_secret() {
    for url in ["ftp://${env:TOKEN}/", "${env:TOKEN}", "http://[${env:TOKEN}/"] {
        let failure = call(&get_call(url.into())).await.unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("InvalidRequest", false), "{failure:?}");
        assert!(!failure.message.contains("s3cret"), "{failure:?}");
    }
    let mut bad = get_call("http://127.0.0.1:9/".into());
    bad.headers = BTreeMap::from([("X-A".into(), "${env:TOKEN}\n{{ input.day }}".into())]);
    let failure = call(&bad).await.unwrap_err();
    assert!(failure.message.contains("X-A") && !failure.message.contains("s3cret"), "{failure:?}");
}

#[tokio::test]
async fn what_a_policy_does_not_allow_is_never_called() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (local, evil) = (format!("http://127.0.0.1:{port}/"), format!("http://127.0.0.2:{port}/"));
    let policy = crate::policy::tests::policy("version: 1\nhosts: ['127.0.0.2:*']\nenvironment: [TOKEN]\n");
    let mut with_other = get_call(evil.clone());
    with_other.headers = BTreeMap::from([("X".into(), "${env:OTHER}".into())]);
    let with_cancel = HttpCall { cancel: Some(cancel_call(&local, "x")), ..get_call(evil) };
    let hidden = get_call(format!("http://${{env:TOKEN}}.org:{port}/"));
    // The name may lead anywhere; what is judged is the rendered one.
    let rendered = get_call(format!("http://127.0.0.{{{{ 1 }}}}:{port}/"));
    for (call, part) in [
        (get_call(local), "127.0.0.1:"),
        (rendered, "127.0.0.1:"),
        (with_cancel, "127.0.0.1:"),
        (with_other, "allows environment [TOKEN]; `OTHER` is none"),
        (hidden, "the URL's host is none of them (policy.yaml:2)"),
    ] {
        let refused = tokio::time::timeout(Duration::from_secs(10), call_under(policy.clone(), &call)).await;
        let failure = refused.expect("it was called").unwrap_err();
        assert_eq!((failure.code.as_str(), failure.retryable), ("Refused", false), "{failure:?}");
        assert!(failure.message.contains(part) && !failure.message.contains("s3cret"), "{failure:?}");
    }
    let nobody_came = tokio::time::timeout(Duration::from_millis(20), listener.accept()).await;
    assert!(nobody_came.is_err(), "{nobody_came:?}");
}

#[tokio::test]
async fn of_a_one_way_call_only_the_status_counts() {
    let (base, _server) = server().await;
    // A body that never ends is not waited for.
    let (endless, _dripping) = dripping(b"HTTP/1.1 202 Accepted\r\n\r\n", b"x", Duration::from_secs(1)).await;
    for (url, status) in [(format!("{base}/large"), 200), (endless, 202)] {
        let one_way = HttpCall { one_way: true, ..get_call(url) };
        assert_eq!(call(&one_way).await, Ok(json!({ "status": status })));
    }
    let one_way = HttpCall { one_way: true, ..get_call(format!("{base}/status/503")) };
    let failure = call(&one_way).await.unwrap_err();
    assert!(failure.retryable && failure.message.ends_with("no\n luck".replace('\n', "").as_str()), "{failure:?}");
}
