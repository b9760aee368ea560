//! `/metrics`, `/livez` and `/readyz` of a worker, on loopback only and only if asked for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use reveille_shared::broker::{Broker, Health};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::heartbeat::LastBeat;

/// What a worker's readiness depends on.
#[derive(Clone)]
pub struct Readiness {
    pub(crate) last_beat: LastBeat,
    pub(crate) broker: Arc<dyn Broker>,
}

impl Readiness {
    /// What is amiss; empty when the worker is ready.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let silence = self.last_beat.silence().map(|silence| format!("database: no beat for {} s", silence.as_secs()));
        let broker = match self.broker.health() {
            Health::Up => None,
            Health::Down(why) => Some(format!("broker: {why}")),
        };
        silence.into_iter().chain(broker).collect()
    }
}

/// Binds the listener; an address that others can reach is refused, as there are no keys yet.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "only loopback addresses are allowed"));
    }
    TcpListener::bind(address).await
}

/// Answers until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: PrometheusHandle,
    readiness: Readiness,
    stop: CancellationToken,
) -> io::Result<()> {
    let ready = move || async move {
        match readiness.faults() {
            faults if faults.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
            faults => (StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n"),
        }
    };
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(move || async move { metrics.render() }));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
