//! `/metrics`, `/livez` and `/readyz` of a worker, on loopback only and only if asked for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use reveille_shared::broker::{Broker, Health};
use reveille_shared::clock::Clock;
use reveille_shared::listen::{ListenError, Listener, Reload, TlsFiles};
use reveille_shared::periodic::Vitals;
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

/// Binds the listener; an address that others can reach is refused, as it asks for no key.
pub(crate) async fn bind(
    address: SocketAddr,
    tls: &TlsFiles,
    clock: Arc<dyn Clock>,
) -> Result<(Listener, Option<Reload>), ListenError> {
    if !address.ip().is_loopback() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "only loopback addresses are allowed");
        return Err(ListenError::Address { address, source });
    }
    Listener::bind(address, tls, clock).await
}

/// Answers until `stop`. What the pass of the listener's certificate reports is told beside the rest, and makes no worker
/// unready.
pub(crate) async fn serve(
    listener: Listener,
    certificate: Vitals,
    metrics: PrometheusHandle,
    readiness: Readiness,
    stop: CancellationToken,
) -> io::Result<()> {
    let ready = move || async move {
        match readiness.faults() {
            faults if faults.is_empty() => {
                let certificate = certificate.last().and_then(|vital| vital.outcome.ok());
                (
                    StatusCode::OK,
                    certificate.map_or_else(|| "ready\n".to_owned(), |report| format!("ready\n{report}\n")),
                )
            }
            faults => (StatusCode::SERVICE_UNAVAILABLE, faults.join("\n") + "\n"),
        }
    };
    let router = Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(move || async move { metrics.render() }));
    listener.serve(router, stop.cancelled_owned()).await;
    Ok(())
}
