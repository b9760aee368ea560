//! The REST interface and what surrounds it. In reading order:
//!
//! - [`guard`]: whose requests are looked at at all, and for how long; [`access`]: who calls, and what they may do.
//! - [`server_names`]: by which names callers reach us, and how absolute URLs begin.
//! - [`keys`], [`audit`]: who may call; who changed what.
//! - [`rate`]: how many requests they may make.
//! - [`heavy`]: large bodies, as many at a time as there is memory for.
//! - [`extract`], [`body`]: what handlers take from a request; [`page`]: lists; [`note`]: who asks, and why; [`error`]: what is answered when it fails.
//! - [`idempotency`]: requests that are repeated; [`known`]: what is known of a run; [`polling`]: asking after it cheaply;
//!   [`sse`]: being told.
//! - [`jobs`], [`schedules`], [`definitions`], [`work_requests`], [`operations`]: a folder per resource, a file per verb;
//!   [`verbs`]: those that stand behind a name. [`history`], [`hide`]: what several of them show.
//! - [`webhooks`]: who has it posted what happens.
//! - [`dialects`]: what is known of a run in the words of others' clients; [`oci`], [`google`]: where these ask.
//! - [`openapi`]: the routes, and the document that is generated from them.

pub(crate) mod access;
mod audit;
mod body;
mod definitions;
mod dialects;
mod error;
mod extract;
mod google;
mod guard;
mod heavy;
mod hide;
mod history;
mod idempotency;
mod jobs;
mod keys;
mod known;
mod note;
mod oci;
mod openapi;
mod operations;
mod page;
pub(crate) mod polling;
pub(crate) mod rate;
mod schedules;
pub(crate) mod server_names;
mod sse;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod verbs;
mod webhooks;
pub(crate) mod work_requests;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use metrics_exporter_prometheus::PrometheusHandle;
use reveille_shared::clock::Clock;
use reveille_shared::store::Store;
use tokio::sync::Mutex;
use tower_http::catch_panic::CatchPanicLayer;

use self::access::Access;
use self::polling::Polling;
use self::rate::Meter;
pub use self::rate::RateLimits;
use self::server_names::ServerNames;
use crate::dashboard;
use crate::events_in::EventsIn;
use crate::handover::Handover;
use crate::queued::Queued;
use crate::status::Status;
use crate::webhooks::Webhooks;

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    /// The durable truth.
    pub store: Store,
    /// This process's clock.
    pub clock: Arc<dyn Clock>,
    /// The last word of each part of this process, for `/readyz` and the dashboard.
    pub status: Arc<Status>,
    /// What `/metrics` prints.
    pub metrics: PrometheusHandle,
    /// The address that the listener is bound to.
    pub address: SocketAddr,
    /// By which names and how callers reach it.
    pub names: Arc<ServerNames>,
    /// Whether callers need keys.
    pub access: Access,
    /// How many requests callers have left.
    pub meter: Arc<Meter>,
    /// How much of each namespace waits.
    pub queued: Arc<Queued>,
    /// Who looks at everything, all definitions or a history in an order without an index, takes much: one caller at a time.
    pub whole: Arc<Mutex<()>>,
    /// Where what workers in other languages tell goes.
    pub events: Arc<EventsIn>,
    /// The dispatcher of this process, if it has one.
    pub handover: Option<Handover>,
    /// What is remembered for those who ask after runs again and again.
    pub polling: Arc<Polling>,
    /// What keeps webhooks' secrets, and posts.
    pub webhooks: Arc<Webhooks>,
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState").field("store", &self.store).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Everything that the scheduler answers over HTTP: the API, its description, probes, metrics and the dashboard.
pub fn router(state: ApiState) -> Router {
    surround(openapi::routes().merge(dashboard::routes()), state)
}

/// Puts around routes what holds for all of them.
fn surround(routes: Router<ApiState>, state: ApiState) -> Router {
    // Later layers are around earlier ones: a request passes them from the bottom up.
    routes
        .layer(from_fn_with_state(heavy::room(), heavy::by_turns))
        .layer(from_fn_with_state(state.clone(), rate::limit))
        .layer(from_fn_with_state(state.clone(), access::admit))
        .layer(from_fn_with_state(state.clone(), guard::only_our_own))
        .layer(from_fn(guard::in_time))
        .layer(CatchPanicLayer::custom(guard::panicked))
        .layer(from_fn(error::all_errors_are_problems))
        .layer(from_fn(guard::headers))
        .layer(from_fn(operations::metrics::count))
        .with_state(state)
}
