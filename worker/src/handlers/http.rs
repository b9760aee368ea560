//! Calls an endpoint: one request, no redirects followed.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Method, Response, StatusCode, Url};
use reveille_shared::definition::HttpCall;
use reveille_shared::telemetry::chain;
use reveille_shared::work_request::MAX_OUTPUT;
use serde_json::{Value, json};

use super::env::Variables;
use super::template::Renderer;
use super::{Run, RunFailure, RunResult};
use crate::report::cut;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of an answer is kept: what fits into an output beside the members around it.
const MAX_BODY: usize = MAX_OUTPUT - 1024;

/// Makes requests; connections are kept for later ones.
#[derive(Debug)]
pub(crate) struct Caller(reqwest::Client);

impl Caller {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()?;
        Ok(Self(client))
    }

    /// Makes the request and captures the answer as `{"status": …, "body": …}`, with `"truncated": true` if the body
    /// was cut. A stop drops the connection.
    pub(crate) async fn call(&self, call: &HttpCall, run: &Run, variables: &Variables) -> RunResult {
        let request = request(&self.0, call, run, variables)?;
        tokio::select! {
            biased;
            () = run.stop.cancelled() => Err(RunFailure::stopped()),
            answer = self.exchange(call, run, request) => answer,
        }
    }

    async fn exchange(&self, call: &HttpCall, run: &Run, request: reqwest::Request) -> RunResult {
        let mut response = self.0.execute(request).await.map_err(connection)?;
        let status = response.status();
        let wait = retry_after(response.headers(), run);
        let (body, truncated) = capture(&mut response).await?;
        let is_success =
            if call.success.is_empty() { status.is_success() } else { call.success.contains(&status.as_u16()) };
        if is_success { Ok(output(status, &body, truncated)) } else { Err(failure(status, &body, wait)) }
    }
}

/// Renders the request.
fn request(
    client: &reqwest::Client,
    call: &HttpCall,
    run: &Run,
    variables: &Variables,
) -> Result<reqwest::Request, RunFailure> {
    let renderer = Renderer::new(run, variables);
    let invalid = |what: String| RunFailure::fatal(what).code("InvalidRequest");
    let method = Method::from_bytes(call.method.as_bytes()).map_err(|_| invalid("method is not one of HTTP".into()))?;
    // The URL may hold a secret: neither it nor an error that quotes it is shown.
    let url = renderer.text("url", &call.url)?;
    let url = Url::parse(&url).map_err(|error| invalid(format!("url is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("url is neither http nor https".into()));
    }
    let mut headers = HeaderMap::new();
    let own = [
        ("idempotency-key", run.id.to_string()),
        ("x-reveille-attempt", run.attempt.to_string()),
        (USER_AGENT.as_str(), format!("reveille/{}", env!("CARGO_PKG_VERSION"))),
    ];
    for (name, value) in own {
        let value = HeaderValue::try_from(value).map_err(|_| invalid(format!("header {name} is not valid")))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    let body = match &call.body {
        None => None,
        Some(Value::String(text)) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            Some(renderer.text("body", text)?)
        }
        Some(json) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Some(renderer.json("body", json)?.to_string())
        }
    };
    for (name, value) in &call.headers {
        let value = renderer.text(&format!("headers.{name}"), value)?;
        let mut value =
            HeaderValue::try_from(value).map_err(|_| invalid(format!("the value of header {name} is not valid")))?;
        value.set_sensitive(true);
        let name = HeaderName::try_from(name).map_err(|_| invalid(format!("{name:?} is not the name of a header")))?;
        headers.insert(name, value);
    }
    let mut builder = client.request(method, url).headers(headers);
    if let Some(body) = body {
        builder = builder.body(body);
    }
    builder.build().map_err(|error| invalid(format!("the request is not valid: {}", chain(&error.without_url()))))
}

fn connection(error: reqwest::Error) -> RunFailure {
    let code = if error.is_connect() { "HttpConnect" } else { "HttpConnection" };
    RunFailure::retry(format!("no answer: {}", chain(&error.without_url()))).code(code)
}

/// Reads the body up to what is kept, and no further.
async fn capture(response: &mut Response) -> Result<(Vec<u8>, bool), RunFailure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(connection)? {
        let room = MAX_BODY - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok((body, true));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, false))
}

fn output(status: StatusCode, body: &[u8], truncated: bool) -> Value {
    let status = status.as_u16();
    if body.is_empty() {
        return json!({ "status": status, "body": null });
    }
    if !truncated && let Ok(body) = serde_json::from_slice::<Value>(body) {
        let output = json!({ "status": status, "body": body });
        // Numbers can be longer than they came.
        if output.to_string().len() <= MAX_OUTPUT {
            return output;
        }
    }
    // Escapes make a text longer, by a factor of six at most.
    let text = String::from_utf8_lossy(body);
    let (mut kept, mut truncated) = (&*text, truncated);
    loop {
        let mut output = json!({ "status": status, "body": kept });
        if truncated {
            output["truncated"] = true.into();
        }
        let length = output.to_string().len();
        if length <= MAX_OUTPUT {
            return output;
        }
        kept = cut(kept, kept.len() * MAX_BODY / length);
        truncated = true;
    }
}

fn failure(status: StatusCode, body: &[u8], wait: Option<Duration>) -> RunFailure {
    let text = String::from_utf8_lossy(&body[..body.len().min(1024)]);
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = if text.is_empty() { String::new() } else { format!(": {}", cut(&text, 300)) };
    let retryable = !status.is_client_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
    RunFailure {
        code: "HttpStatus".into(),
        message: format!("answered {status}{said}"),
        retryable,
        not_before: wait.filter(|_| retryable),
    }
}

/// `Retry-After` in seconds or as a date.
fn retry_after(headers: &HeaderMap, run: &Run) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at: Timestamp = rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(at.duration_since(run.sink.now())).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::http::{HeaderMap as AxumHeaders, Response as AxumResponse};
    use axum::routing::{any, get};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;
    use crate::report::tests::run_with;

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
        let router = Router::new()
            .route("/echo", any(echo))
            .route(
                "/status/{code}",
                any(|axum::extract::Path(code): axum::extract::Path<u16>| async move {
                    answer(code, &[("retry-after", "7"), ("location", "/echo")], "no\n luck")
                }),
            )
            .route("/dated", get(|| async { answer(503, &[("retry-after", "Fri, 02 Jan 2099 03:04:05 GMT")], "") }))
            .route("/empty", get(|| async { answer(204, &[], "") }))
            .route("/text", get(|| async { answer(200, &[], "not {json") }))
            .route("/binary", get(|| async { answer(200, &[], vec![0u8; MAX_BODY]) }))
            .route("/large", get(|| async { answer(200, &[], "x".repeat(3 * MAX_OUTPUT)) }))
            .route("/slow", get(std::future::pending::<()>));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        (base, tasks)
    }

    fn get_call(url: String) -> HttpCall {
        HttpCall { method: "GET".into(), url, headers: BTreeMap::new(), body: None, success: vec![], cancel: None }
    }

    async fn call(call: &HttpCall) -> RunResult {
        let (run, _notes) = run_with(json!({"day": "mon"}));
        let variables = Variables::of(&[("TOKEN", "s3cret")]);
        Caller::new().unwrap().call(call, &run, &variables).await
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
            assert!(
                failure.message.contains(&code.to_string()) && failure.message.ends_with(": no luck"),
                "{failure:?}"
            );
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

    #[tokio::test]
    async fn a_stop_drops_the_request() {
        let (base, _server) = server().await;
        let (run, _notes) = run_with(Value::Null);
        let stop = run.stop.clone();
        let (caller, slow, variables) = (Caller::new().unwrap(), get_call(format!("{base}/slow")), Variables::of(&[]));
        let (result, ()) = tokio::join!(caller.call(&slow, &run, &variables), async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stop.cancel();
        });
        assert_eq!(result, Err(RunFailure::stopped()));
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
            assert!(failure.retryable && failure.code == "HttpConnection", "{bytes:?}: {failure:?}");
            assert!(!failure.message.contains("s3cret"), "{failure:?}");
        }
        while tasks.join_next().await.is_some() {}
        let refused = call(&get_call(format!("http://{address}/${{env:TOKEN}}"))).await.unwrap_err();
        assert!(
            refused.retryable && refused.code == "HttpConnect" && !refused.message.contains("s3cret"),
            "{refused:?}"
        );
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
}
