//! The REST interface, as a caller sees it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::key;
use crate::wait::eventually;

/// How long any request may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long anything may take that nobody has set a limit to.
const LONG: Duration = Duration::from_secs(120);

/// The states that never change again.
const TERMINAL: [&str; 3] = ["SUCCEEDED", "FAILED", "CANCELED"];

/// A caller of one scheduler.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
}

impl Client {
    /// A caller of the scheduler that listens on `address`, with the key that may do everything.
    ///
    /// # Errors
    /// The HTTP client can't be built.
    pub fn new(address: SocketAddr) -> Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_str(&key::text())?);
        let http = reqwest::Client::builder().default_headers(headers).timeout(ANSWER_LIMIT).no_proxy().build()?;
        Ok(Self { base: format!("http://{address}"), http })
    }

    /// A request to add headers or a body to, for what the other functions don't do.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Asks for a run of `job` and gives the id of its work request.
    ///
    /// # Errors
    /// The answer isn't 202 with a work request.
    pub async fn trigger(&self, job: &str, input: Value) -> Result<String> {
        let request = self.request(Method::POST, &format!("/v1/jobs/{job}/trigger"));
        let accepted = answer(request.json(&json!({ "input": input })), StatusCode::ACCEPTED).await?;
        Ok(accepted["id"].as_str().with_context(|| format!("no id in {accepted}"))?.to_owned())
    }

    /// The work request.
    ///
    /// # Errors
    /// The answer isn't 200 with JSON.
    pub async fn get(&self, id: &str) -> Result<Value> {
        self.get_path(&format!("/v1/workRequests/{id}")).await
    }

    /// What any other path answers to GET.
    ///
    /// # Errors
    /// The answer isn't 200 with JSON.
    pub async fn get_path(&self, path: &str) -> Result<Value> {
        answer(self.request(Method::GET, path), StatusCode::OK).await
    }

    /// All work requests that a query such as `job=ping&status=FAILED` selects, page by page.
    ///
    /// # Errors
    /// An answer isn't 200 with a list.
    pub async fn list(&self, query: &str) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        let mut page: Option<String> = None;
        loop {
            let request = self.request(Method::GET, &format!("/v1/workRequests?{query}"));
            let mut list = answer(request.query(&[("page", &page)]), StatusCode::OK).await?;
            let items = list["items"].as_array_mut().context("no items in a list")?;
            found.append(items);
            match list["nextPage"].as_str() {
                Some(next) => page = Some(next.to_owned()),
                None => return Ok(found),
            }
        }
    }

    /// The work request's events, logs or errors, whatever `part` names.
    ///
    /// # Errors
    /// The answer isn't 200 with a list.
    pub async fn part(&self, id: &str, part: &str) -> Result<Vec<Value>> {
        let mut list = self.get_path(&format!("/v1/workRequests/{id}/{part}")).await?;
        Ok(std::mem::take(list["items"].as_array_mut().with_context(|| format!("no items in the {part}"))?))
    }

    /// Asks for the work request's end.
    ///
    /// # Errors
    /// The answer isn't 202.
    pub async fn cancel(&self, id: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &format!("/v1/workRequests/{id}"));
        let response = request.send().await?;
        ensure!(response.status() == StatusCode::ACCEPTED, "cancel answered {}", response.status());
        Ok(())
    }

    /// Waits until the work request has this status, and gives it.
    ///
    /// # Errors
    /// It hasn't within `limit`, or reached another terminal one.
    pub async fn wait_status_within(&self, id: &str, status: &str, limit: Duration) -> Result<Value> {
        let seen = eventually(&format!("work request {id} to be {status}"), limit, async || {
            // A scheduler that is down for a while is part of the game.
            let seen = self.get(id).await.map_err(|error| format!("{error:#}"))?;
            let now = seen["status"].as_str().unwrap_or("");
            if now == status || TERMINAL.contains(&now) { Ok(seen) } else { Err(seen.to_string()) }
        })
        .await?;
        ensure!(seen["status"] == status, "work request {id} ended, but not {status}: {seen}");
        Ok(seen)
    }

    /// As [`Client::wait_status_within`], with a long limit.
    ///
    /// # Errors
    /// As [`Client::wait_status_within`].
    pub async fn wait_status(&self, id: &str, status: &str) -> Result<Value> {
        self.wait_status_within(id, status, LONG).await
    }

    /// Waits until the work request's trigger is with the broker, unclaimed.
    ///
    /// # Errors
    /// It isn't seen there within a long limit.
    pub async fn wait_in_queue(&self, id: &str) -> Result<()> {
        eventually(&format!("work request {id} to be in its queue"), LONG, async || {
            let seen = self.get(id).await.map_err(|error| format!("{error:#}"))?;
            let is_there = seen["waitingFor"].as_str().is_some_and(|text| text.starts_with("in the queue"));
            if is_there { Ok(()) } else { Err(seen.to_string()) }
        })
        .await
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// It doesn't within `limit`: the text holds its last answer.
    pub async fn wait_ready(&self, limit: Duration) -> Result<()> {
        eventually(&format!("{} to be ready", self.base), limit, async || {
            let answer = answer_text(self.request(Method::GET, "/readyz")).await.map_err(|error| format!("{error:#}"));
            let (status, text) = answer?;
            if status == StatusCode::OK { Ok(()) } else { Err(format!("{status}: {text}")) }
        })
        .await
    }
}

async fn answer(request: RequestBuilder, expected: StatusCode) -> Result<Value> {
    let (status, text) = answer_text(request).await?;
    ensure!(status == expected, "answered {status}, not {expected}: {text}");
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

async fn answer_text(request: RequestBuilder) -> Result<(StatusCode, String)> {
    let response = request.send().await?;
    Ok((response.status(), response.text().await?))
}
