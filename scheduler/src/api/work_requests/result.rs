//! `GET /v1/workRequests/{id}/result`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::accepted;
use super::view::View;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::dialects::azure;
use crate::api::error::Problem;
use crate::api::extract::{Base, Segment};
use crate::api::known::Known;

/// What a run has answered
#[utoipa::path(
    get, path = "/v1/workRequests/{id}/result", tag = "workRequests", operation_id = "getWorkRequestResult",
    params(("id" = String, Path, description = "The work request's id")),
    responses(
        (status = 200, body = Value, description = "It SUCCEEDED: its output, or null"),
        (status = 202, body = View, description = "It has not ended: look again after Retry-After"),
        (status = 404, description = "There is none of this id in the namespace"),
        (status = 409, description = "It FAILED, with the run's own code and message, or was CANCELED"),
    )
)]
pub(crate) async fn get_result(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
    base: Base,
) -> Result<Response, Problem> {
    let known = Known::load(&state, &tenant, &id).await?;
    if let Some(problem) = azure::no_result(&known) {
        return Err(problem);
    }
    if !known.request.status.is_terminal() {
        return Ok(accepted(&base, known));
    }
    let output = state.store.output(known.request.id).await?.unwrap_or(Value::Null);
    Ok(Json(output).into_response())
}
