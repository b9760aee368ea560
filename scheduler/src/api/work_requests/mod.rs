//! Work requests: one run of one job each, from acceptance to its end.

pub(crate) mod cancel;
pub(crate) mod cancel_all;
pub(crate) mod claim;
pub(crate) mod entries;
pub(crate) mod errors;
pub(crate) mod events;
pub(crate) mod get;
pub(crate) mod heartbeat;
pub(crate) mod late_reports;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod result;
pub(crate) mod retry_failed;
pub(crate) mod stream;
pub(crate) mod stream_all;
pub(crate) mod tell;
pub(crate) mod view;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use reveille_shared::work_request::{WorkRequest, WorkRequestId};

use self::view::View;
use super::ApiState;
use super::access::Tenant;
use super::dialects::azure;
use super::error::Problem;
use super::extract::Base;
use super::known::Known;

/// The answer to whoever has started a run, or asked one to stop: where it stands, and how to follow it.
pub(crate) fn accepted(base: &Base, known: Known) -> Response {
    (StatusCode::ACCEPTED, azure::headers(base, &known), Json(View::from(known))).into_response()
}

/// The same about the run of this id.
pub(crate) async fn started(state: &ApiState, tenant: &Tenant, id: &str, base: &Base) -> Result<Response, Problem> {
    Ok(accepted(base, Known::load(state, tenant, id).await?))
}

/// The work request that a path names. Ids are opaque to callers: what is no id does not exist, nor do runs of jobs that are
/// not the caller's.
pub(crate) async fn find(state: &ApiState, tenant: &Tenant, id: &str) -> Result<WorkRequest, Problem> {
    let unknown = || Problem::not_found("work request", id);
    let parsed: WorkRequestId = id.parse().map_err(|_| unknown())?;
    let found = state.polling.look(&state.store, parsed).await?;
    let is_theirs = |run: &WorkRequest| run.namespace == tenant.namespace && tenant.jobs.has(&run.job);
    found.filter(is_theirs).ok_or_else(unknown)
}
