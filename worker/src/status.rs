//! `/metrics`, `/livez` and `/readyz` of a worker, only if asked for, with the keys and the answers of the scheduler's.

mod refusal;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use reveille_shared::access::{Names, Rule, key_shown};
use reveille_shared::broker::{Broker, Health};
use reveille_shared::clock::Clock;
use reveille_shared::periodic::Vitals;
use reveille_shared::store::{ApiKey, KeyRing, NoKey, Store};
use tokio::sync::Mutex;

use self::refusal::Refusal;
use crate::heartbeat::LastBeat;

/// Paths that need no key.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// What a worker's readiness depends on.
#[derive(Clone)]
pub struct Readiness {
    pub(crate) last_beat: LastBeat,
    pub(crate) broker: Arc<dyn Broker>,
}

impl Readiness {
    /// What is amiss, each part with what is wrong with it; empty when the worker is ready.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let silence = self.last_beat.silence();
        let silence = silence.map(|silence| ("database", format!("no beat for {} s", silence.as_secs())));
        let broker = match self.broker.health() {
            Health::Up => None,
            Health::Down(why) => Some(("broker", why)),
        };
        silence.into_iter().chain(broker).collect()
    }
}

/// What is asked.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) metrics: PrometheusHandle,
    pub(crate) readiness: Readiness,
    /// What the pass of the listener's certificate reports is told beside the rest, and makes no worker unready.
    pub(crate) certificate: Vitals,
    pub(crate) door: Arc<Door>,
}

/// Who may ask.
pub(crate) struct Door {
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    /// One look at the store at a time: whoever guesses keys takes one of the connections that beats and claims need, not all.
    pub(crate) turn: Mutex<()>,
}

/// The key that came with a request, if one did.
#[derive(Clone)]
struct Shown(Option<Arc<ApiKey>>);

pub(crate) fn router(endpoint: Endpoint) -> Router {
    let door = Arc::clone(&endpoint.door);
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|State(endpoint): State<Endpoint>| async move { endpoint.metrics.render() }))
        .layer(from_fn_with_state(door, admit))
        .with_state(endpoint)
}

/// Lets a request through if its caller may make it.
async fn admit(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match door.let_in(&parts).await {
        Ok(key) => {
            parts.extensions.insert(Shown(key));
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refused) => refused.into_response(),
    }
}

impl Door {
    async fn let_in(&self, request: &Parts) -> Result<Option<Arc<ApiKey>>, Refusal> {
        let is_open = OPEN.contains(&request.uri.path());
        let shown = key_shown(|name| request.headers.get_all(name).iter().map(HeaderValue::as_bytes));
        if is_open && shown.is_none() {
            return Ok(None);
        }
        let found = {
            let _turn = self.turn.lock().await;
            self.ring.find(&self.store, shown, self.clock.now()).await
        };
        let key = found.map_err(|why| match why {
            NoKey::Store(error) => Refusal::unavailable(&error),
            why => Refusal::unauthorized(why.to_string()),
        })?;
        if !is_open {
            Rule::READ_EVERYWHERE.allows(&key.grant).map_err(|denied| Refusal::forbidden(denied.to_string()))?;
        }
        Ok(Some(key))
    }
}

/// Without a key that is for all namespaces: of each part only whether it works.
async fn ready(State(endpoint): State<Endpoint>, Extension(Shown(key)): Extension<Shown>) -> (StatusCode, String) {
    let tells = key.is_some_and(|key| key.grant.namespaces == Names::All);
    let faults = endpoint.readiness.faults();
    if faults.is_empty() {
        let certificate = endpoint.certificate.last().filter(|_| tells).and_then(|vital| vital.outcome.ok());
        return (StatusCode::OK, certificate.map_or_else(|| "ready\n".into(), |report| format!("ready\n{report}\n")));
    }
    let lines = faults.iter().map(|(part, why)| if tells { format!("{part}: {why}\n") } else { format!("{part}\n") });
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}
