//! The whole router against a real SQLite store.

mod access;
mod backfills;
mod contract;
mod definitions;
mod dialects;
mod external;
mod fair_use;
mod fan_out;
mod heavy;
mod idempotency;
mod lists;
mod lives;
mod notes;
mod polling;
mod probes;
mod refusals;
mod schedules;
mod stream;
mod stream_all;
mod triggers;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use metrics_exporter_prometheus::PrometheusBuilder;
use reveille_shared::clock::SystemClock;
use reveille_shared::definition::read_texts;
use reveille_shared::store::{Claim, Generation, NewWorker, Outcome, Report, Store};
use reveille_shared::work_request::WorkRequestId;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::access::Access;
use super::rate::{Meter, RateLimits};
use super::server_names::ServerNames;
use super::{ApiState, openapi, surround};
use crate::queued::Queued;
use crate::status::Status;

const HOST: &str = "127.0.0.1:8080";

const DEFINITIONS: &str = "
version: 1
jobs:
  hello: { command: [echo, hello], description: Says hello }
  call:
    queue: web
    http:
      url: https://example.test/run
      headers: { Authorization: 'Bearer hunter2' }
schedules:
  often: { every: 30s, trigger: hello }
  daily: { cron: '0 2 * * *', timezone: Europe/Berlin, trigger: [hello, call] }
";

/// The router, and the store behind it.
struct Api {
    router: Router,
    store: Store,
    status: Arc<Status>,
    leader: Generation,
    _folder: TempDir,
}

/// An answer that was read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    json: Value,
}

/// A worker that the test plays.
struct Played {
    id: Uuid,
    token: Uuid,
    run: WorkRequestId,
}

impl Api {
    async fn new() -> Self {
        Self::with(Access::Open).await
    }

    async fn with(access: Access) -> Self {
        Self::made(access, Some(webhooks::KEY), RateLimits::NONE, 0).await
    }

    /// With what encrypts webhooks' secrets, or without.
    async fn with_key(access: Access, key: Option<&str>) -> Self {
        Self::made(access, key, RateLimits::NONE, 0).await
    }

    /// With limits of requests, and of the runs of a namespace that may wait.
    async fn limited(access: Access, rates: RateLimits, most_queued: u32) -> Self {
        Self::made(access, None, rates, most_queued).await
    }

    async fn made(access: Access, key: Option<&str>, rates: RateLimits, most_queued: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().display());
        let store = Store::connect(&url, "test", Arc::new(SystemClock)).await.unwrap();
        let definitions = read_texts(&[("test.yaml".into(), DEFINITIONS.into())]).unwrap();
        let generation = store.lead(Uuid::new_v4(), Duration::from_secs(60)).await.unwrap().unwrap();
        store.apply_definitions(generation, &definitions, &definitions.digest(), "test").await.unwrap();
        let broker = reveille_shared::broker::connect("embedded", "test", CancellationToken::new()).unwrap();
        let status = Arc::new(Status::new(Arc::new(SystemClock), broker));
        let state = ApiState {
            store: store.clone(),
            clock: Arc::new(SystemClock),
            status: Arc::clone(&status),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            address: HOST.parse().unwrap(),
            access,
            meter: Arc::new(Meter::new(rates)),
            queued: Arc::new(Queued::new(most_queued)),
            names: Arc::new(ServerNames::new(8080, false, None)),
            whole: Arc::default(),
            events: Arc::new(crate::events_in::EventsIn::new(store.clone())),
            handover: None,
            polling: Arc::default(),
            webhooks: webhooks::keeper(key),
        };
        // Beside what the scheduler serves, a handler that panics.
        let broken = Router::new().route("/broken", axum::routing::get(async || -> &'static str { panic!("broken") }));
        let served = openapi::routes().merge(crate::dashboard::routes());
        Self { router: surround(served.merge(broken), state), store, status, leader: generation, _folder: folder }
    }

    /// Sends a request as it is, and holds its answer to what every answer must be.
    async fn send(&self, request: Request<Body>) -> Answer {
        let line = format!("{} {}", request.method(), request.uri());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8(axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Answer { status: parts.status, headers: parts.headers, text, json };
        assert!(!answer.header("opc-request-id").is_empty(), "{line}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{line}");
        if answer.status.as_u16() >= 400 {
            answer.assert_envelope(&line);
        }
        answer
    }

    /// Sends a request of this host, with headers written as `name: value`.
    async fn call(&self, method: Method, path: &str, headers: &[&str], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", HOST);
        for header in headers {
            let (name, value) = header.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], Body::empty()).await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        self.call(Method::POST, path, &["content-type: application/json"], body.to_owned()).await
    }

    /// Triggers a job and answers with the work request's id.
    async fn trigger(&self, job: &str) -> String {
        let answer = self.post(&format!("/v1/jobs/{job}/trigger"), "").await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json["id"].as_str().unwrap().to_owned()
    }

    /// Plays dispatcher and worker until the one run that is due is leased.
    async fn lease(&self) -> Played {
        let [out] = &self.store.take_due(10).await.unwrap()[..] else { panic!("not one trigger is due") };
        let (id, token, run) = (Uuid::new_v4(), Uuid::new_v4(), out.trigger.id);
        let worker = NewWorker {
            incarnation: id,
            name: "played".into(),
            queues: vec!["default".into()],
            slots: 4,
            version: "0".into(),
            lease_ttl: Duration::from_secs(15),
        };
        self.store.register_worker(&worker).await.unwrap();
        self.store.claim(id, &[Claim { id: run, n: out.trigger.n, token }]).await.unwrap()[0].as_ref().unwrap();
        Played { id, token, run }
    }

    async fn report(&self, played: &Played, outcome: Outcome) {
        let report = Report::new(played.run, played.token, outcome);
        self.store.report(vec![report]).await.unwrap()[0].unwrap();
    }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Names of the fields that the answer finds wrong.
    fn wrong(&self) -> Vec<&str> {
        let faults = self.json["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        faults.iter().map(|fault| fault["field"].as_str().unwrap()).collect()
    }

    fn assert_envelope(&self, line: &str) {
        let context = format!("{line}: {} {}", self.status, self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{context}");
        let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        assert!(text(&self.json["code"]) && text(&self.json["message"]) && text(&self.json["detail"]), "{context}");
        assert_eq!(self.json["status"], self.status.as_u16(), "{context}");
        assert_eq!(self.json["error"]["code"], self.status.as_u16(), "{context}");
        assert!(text(&self.json["error"]["message"]) && text(&self.json["error"]["status"]), "{context}");
        assert!(self.json["error"]["details"].is_array(), "{context}");
        let may_come_again = matches!(self.status.as_u16(), 429 | 503);
        assert_eq!(self.headers.contains_key("retry-after"), may_come_again, "{context}");
    }
}
