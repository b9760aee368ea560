//! Calls an endpoint: one request, no redirects followed. What it has begun is followed in `follow`.

mod answer;
mod follow;
mod operation;

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Method, Request, Response, Url};
use reveille_shared::definition::{CancelCall, HttpCall};
use reveille_shared::telemetry::chain;
use reveille_shared::work_request::Stream;
use serde_json::{Value, json};

use self::answer::Answer;
use super::env::Variables;
use super::template::Renderer;
use super::{Left, Run, RunFailure, RunResult};
use crate::policy::Policy;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a cancel call may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const ATTEMPT: HeaderName = HeaderName::from_static("x-reveille-attempt");

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
    /// was cut. A stop drops the connection; if someone asked for it, the job's cancel call follows. A call without an
    /// answer is in doubt, unless no connection was made for it. What the call has begun is asked after by later leases,
    /// with the notes of the one before.
    pub(crate) async fn call(&self, call: &HttpCall, run: &Run, variables: &Variables, notes: Option<Value>) -> Left {
        let left = match (notes, &call.follow) {
            (Some(notes), Some(follow)) => follow::go_on(self, call, follow, run, variables, notes).await,
            _ => self.begin(call, run, variables).await,
        };
        left.unwrap_or_else(|failure| Left::Ended(Err(failure)))
    }

    async fn begin(&self, call: &HttpCall, run: &Run, variables: &Variables) -> Result<Left, RunFailure> {
        let request = request(&self.client, call, run, variables)?;
        self.policy.url(request.url(), is_shown(&call.url))?;
        if let Some(cancel) = &call.cancel
            && let Ok(url) = target(&Renderer::new(run, variables), &cancel.url)
        {
            // Nothing is begun that could not be canceled.
            self.policy.url(&url, is_shown(&cancel.url))?;
        }
        tokio::select! {
            biased;
            () = run.stop.cancelled() => {}
            left = self.exchange(call, run, variables, request) => return left,
        }
        if let Some(cancel) = &call.cancel
            && run.is_canceled()
        {
            self.cancel(cancel, run, variables).await;
        }
        Err(RunFailure::given_up())
    }

    async fn exchange(
        &self,
        call: &HttpCall,
        run: &Run,
        variables: &Variables,
        request: Request,
    ) -> Result<Left, RunFailure> {
        let response = self.send(request, is_shown(&call.url)).await?;
        let status = response.status();
        let is_success =
            if call.success.is_empty() { status.is_success() } else { call.success.contains(&status.as_u16()) };
        if is_success && call.one_way {
            return Ok(Left::Ended(Ok(json!({ "status": status.as_u16() }))));
        }
        let (answer, read) = Answer::read_some(response).await;
        if !is_success {
            // Its status says enough, even if its body is cut off.
            return Err(answer.failure(run.sink.now()));
        }
        read?;
        match &call.follow {
            Some(follow) => follow::begun(call, follow, run, variables, &answer),
            None => Ok(Left::Ended(Ok(answer.output()))),
        }
    }

    /// Makes the job's cancel call, once. What the callee says to that is a line of the log, and changes nothing.
    async fn cancel(&self, call: &CancelCall, run: &Run, variables: &Variables) {
        let request = cancel_request(&self.client, call, run, variables);
        self.tell_to_stop(request, is_shown(&call.url), run).await;
    }

    async fn tell_to_stop(&self, request: Result<Request, RunFailure>, is_shown: bool, run: &Run) {
        let answered = async { Ok::<_, RunFailure>(self.send(request?, is_shown).await?.status()) };
        let said = match answered.await {
            Ok(status) => format!("answered {status}"),
            Err(failure) => failure.message,
        };
        run.log(Stream::System, &format!("cancel call: {said}")).await;
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
        let request = built(self.client.request(Method::GET, target(&renderer, url)?).headers(headers))?;
        tokio::select! {
            biased;
            () = run.stop.cancelled() => Err(RunFailure::stopped()),
            answer = async { Answer::read(self.send(request, is_shown(url)).await?).await } => Ok(answer?.output()),
        }
    }

    /// The way of every request, be it to a URL of the job's or of a callee's answer: whoever may not be called is not. Tells
    /// the host of a refused one only if it `is_shown`.
    async fn send(&self, request: Request, is_shown: bool) -> Result<Response, RunFailure> {
        permitted(request.url())?;
        self.policy.url(request.url(), is_shown)?;
        self.client.execute(request).await.map_err(connection)
    }
}

/// Whether a URL may be called at all, be it of a job or of a callee's answer.
fn permitted(url: &Url) -> Result<(), RunFailure> {
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(())
    } else {
        Err(invalid("url is neither http nor https"))
    }
}

/// Renders the request.
fn request(client: &reqwest::Client, call: &HttpCall, run: &Run, variables: &Variables) -> Result<Request, RunFailure> {
    let renderer = Renderer::new(run, variables);
    let (method, url, mut headers) = (method(&call.method)?, target(&renderer, &call.url)?, own_headers(run));
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
    let mut builder = client.request(method, url).headers(with_headers(&renderer, &call.headers, headers)?);
    if let Some(body) = body {
        builder = builder.body(body);
    }
    built(builder)
}

/// Renders the cancel call. It has no idempotency key, as that one is the request's own.
fn cancel_request(
    client: &reqwest::Client,
    call: &CancelCall,
    run: &Run,
    variables: &Variables,
) -> Result<Request, RunFailure> {
    let renderer = Renderer::new(run, variables);
    let (method, url) = (method(&call.method)?, target(&renderer, &call.url)?);
    let headers = with_headers(&renderer, &call.headers, own_headers(run))?;
    built(client.request(method, url).headers(headers).timeout(CANCEL_TIMEOUT))
}

fn built(builder: reqwest::RequestBuilder) -> Result<Request, RunFailure> {
    builder.build().map_err(|error| invalid(format!("the request is not valid: {}", chain(&error.without_url()))))
}

fn invalid(what: impl Into<String>) -> RunFailure {
    RunFailure::fatal(what).code("InvalidRequest")
}

fn method(name: &str) -> Result<Method, RunFailure> {
    Method::from_bytes(name.as_bytes()).map_err(|_| invalid("method is not one of HTTP"))
}

/// The URL may hold a secret: neither it nor an error that quotes it is shown.
fn target(renderer: &Renderer<'_>, url: &str) -> Result<Url, RunFailure> {
    let url = renderer.text("url", url)?;
    let url = Url::parse(&url).map_err(|error| invalid(format!("url is not a URL: {error}")))?;
    permitted(&url)?;
    Ok(url)
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

/// What could not be connected to, its TLS included, has been told nothing; all else may have heard the request.
fn connection(error: reqwest::Error) -> RunFailure {
    let is_untold = error.is_connect();
    let told = format!("no answer: {}", chain(&error.without_url()));
    if is_untold {
        RunFailure::retry(told).code("HttpConnect")
    } else {
        RunFailure::in_doubt(told).code("HttpConnection")
    }
}

#[cfg(test)]
mod tests;
