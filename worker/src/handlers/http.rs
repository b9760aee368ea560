//! Calls an endpoint: one request, no redirects followed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Method, Response, StatusCode, Url};
use reveille_shared::definition::{CancelCall, HttpCall};
use reveille_shared::telemetry::chain;
use reveille_shared::work_request::{MAX_OUTPUT, Stream};
use serde_json::{Value, json};

use super::env::Variables;
use super::template::Renderer;
use super::{Run, RunFailure, RunResult};
use crate::policy::Policy;
use crate::report::cut;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a cancel call may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ATTEMPT: HeaderName = HeaderName::from_static("x-reveille-attempt");
/// How much of an answer is kept: what fits into an output beside the members around it.
const MAX_BODY: usize = MAX_OUTPUT - 1024;

/// Makes requests; connections are kept for later ones.
#[derive(Debug)]
pub(crate) struct Caller {
    client: reqwest::Client,
    policy: Policy,
}

impl Caller {
    pub(crate) fn new(policy: Policy) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()?;
        Ok(Self { client, policy })
    }

    /// Makes the request and captures the answer as `{"status": …, "body": …}`, with `"truncated": true` if the body
    /// was cut. A stop drops the connection; if someone asked for it, the job's cancel call follows.
    pub(crate) async fn call(&self, call: &HttpCall, run: &Run, variables: &Variables) -> RunResult {
        let request = self.request(call, run, variables)?;
        if let Some(cancel) = &call.cancel
            && let Ok(url) = parse(&Renderer::new(run, variables), &cancel.url)
        {
            // Nothing is begun that could not be canceled.
            self.policy.url(&url, is_shown(&cancel.url))?;
        }
        tokio::select! {
            biased;
            () = run.stop.cancelled() => {}
            answer = self.exchange(call, run, request) => return answer,
        }
        if let Some(cancel) = &call.cancel
            && run.is_canceled()
        {
            let said = self.cancel(cancel, run, variables).await.unwrap_or_else(|failure| failure.message);
            run.log(Stream::System, &format!("cancel call: {said}")).await;
        }
        Err(RunFailure::stopped())
    }

    /// Tells the callee to stop, once. Answers what it said to that, which changes nothing.
    async fn cancel(&self, call: &CancelCall, run: &Run, variables: &Variables) -> Result<String, RunFailure> {
        let request = self.cancel_request(call, run, variables)?;
        let response = self.client.execute(request).await.map_err(connection)?;
        Ok(format!("answered {}", response.status()))
    }

    /// Gets a resource, whatever its status: `{"status": …, "body": …}`. A stop drops the connection.
    pub(super) async fn get(
        &self,
        url: &str,
        headers: &BTreeMap<String, String>,
        run: &Run,
        variables: &Variables,
    ) -> RunResult {
        let renderer = Renderer::new(run, variables);
        let headers = with_headers(&renderer, headers, own_headers(run))?;
        let request = built(self.client.request(Method::GET, self.target(&renderer, url)?).headers(headers))?;
        let exchange = async {
            let mut response = self.client.execute(request).await.map_err(connection)?;
            let status = response.status();
            let (body, truncated) = capture(&mut response).await?;
            Ok(output(status, &body, truncated))
        };
        tokio::select! {
            biased;
            () = run.stop.cancelled() => Err(RunFailure::stopped()),
            answer = exchange => answer,
        }
    }

    async fn exchange(&self, call: &HttpCall, run: &Run, request: reqwest::Request) -> RunResult {
        let mut response = self.client.execute(request).await.map_err(connection)?;
        let status = response.status();
        let wait = retry_after(response.headers(), run);
        let (body, truncated) = capture(&mut response).await?;
        let is_success =
            if call.success.is_empty() { status.is_success() } else { call.success.contains(&status.as_u16()) };
        if is_success { Ok(output(status, &body, truncated)) } else { Err(failure(status, &body, wait)) }
    }

    /// Renders the request.
    fn request(&self, call: &HttpCall, run: &Run, variables: &Variables) -> Result<reqwest::Request, RunFailure> {
        let renderer = Renderer::new(run, variables);
        let (method, url, mut headers) = (method(&call.method)?, self.target(&renderer, &call.url)?, own_headers(run));
        if let Ok(key) = HeaderValue::try_from(run.id.to_string()) {
            headers.insert(IDEMPOTENCY_KEY, key);
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
        let mut builder = self.client.request(method, url).headers(with_headers(&renderer, &call.headers, headers)?);
        if let Some(body) = body {
            builder = builder.body(body);
        }
        built(builder)
    }

    /// Renders the cancel call. It has no idempotency key, as that one is the request's own.
    fn cancel_request(
        &self,
        call: &CancelCall,
        run: &Run,
        variables: &Variables,
    ) -> Result<reqwest::Request, RunFailure> {
        let renderer = Renderer::new(run, variables);
        let (method, url) = (method(&call.method)?, self.target(&renderer, &call.url)?);
        let headers = with_headers(&renderer, &call.headers, own_headers(run))?;
        built(self.client.request(method, url).headers(headers).timeout(CANCEL_TIMEOUT))
    }

    /// Where a request goes, if the policy lets it.
    fn target(&self, renderer: &Renderer<'_>, url: &str) -> Result<Url, RunFailure> {
        let target = parse(renderer, url)?;
        self.policy.url(&target, is_shown(url))?;
        Ok(target)
    }
}

fn built(builder: reqwest::RequestBuilder) -> Result<reqwest::Request, RunFailure> {
    builder.build().map_err(|error| invalid(format!("the request is not valid: {}", chain(&error.without_url()))))
}

fn invalid(what: impl Into<String>) -> RunFailure {
    RunFailure::fatal(what).code("InvalidRequest")
}

fn method(name: &str) -> Result<Method, RunFailure> {
    Method::from_bytes(name.as_bytes()).map_err(|_| invalid("method is not one of HTTP"))
}

/// The URL may hold a secret: neither it nor an error that quotes it is shown.
fn parse(renderer: &Renderer<'_>, url: &str) -> Result<Url, RunFailure> {
    let url = renderer.text("url", url)?;
    let url = Url::parse(&url).map_err(|error| invalid(format!("url is not a URL: {error}")))?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err(invalid("url is neither http nor https")) }
}

/// Whether a URL's host may be told: values of the environment may be in it otherwise.
fn is_shown(url: &str) -> bool {
    !url.contains("${env:")
}

/// What every request says about itself.
fn own_headers(run: &Run) -> HeaderMap {
    let agent = HeaderValue::from_static(concat!("reveille/", env!("CARGO_PKG_VERSION")));
    HeaderMap::from_iter([(USER_AGENT, agent), (ATTEMPT, HeaderValue::from(run.attempt))])
}

/// Adds the job's headers, which win.
fn with_headers(
    renderer: &Renderer<'_>,
    texts: &BTreeMap<String, String>,
    mut headers: HeaderMap,
) -> Result<HeaderMap, RunFailure> {
    for (name, value) in texts {
        let value = renderer.text(&format!("headers.{name}"), value)?;
        let mut value =
            HeaderValue::try_from(value).map_err(|_| invalid(format!("the value of header {name} is not valid")))?;
        value.set_sensitive(true);
        let name = HeaderName::try_from(name).map_err(|_| invalid(format!("{name:?} is not the name of a header")))?;
        headers.insert(name, value);
    }
    Ok(headers)
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
    let hint = if status.is_redirection() { " (redirects are not followed: name the final URL)" } else { "" };
    RunFailure {
        retryable,
        not_before: wait.filter(|_| retryable),
        ..RunFailure::retry(format!("answered {status}{hint}{said}")).code("HttpStatus")
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
mod tests;
