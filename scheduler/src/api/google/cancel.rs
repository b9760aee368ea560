//! `POST /v1/operations/{id}:cancel`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Named;
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::error::Problem;
use crate::api::known::Known;
use crate::api::note::{NoteParameters, Noted};

/// Cancels a work request, for Google's clients
///
/// As far as that can be: one that has ended stays as it is.
#[utoipa::path(
    post, path = "/v1/operations/{id}:cancel", tag = "google", operation_id = "cancelOperation",
    params(("id" = String, Path, description = "The work request's id"), NoteParameters),
    responses(
        (status = 200, body = Value, description = "An empty object"),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn cancel_operation(
    State(state): State<ApiState>,
    tenant: Tenant,
    caller: Caller,
    named: Named,
    Noted(note): Noted,
) -> Result<Json<Value>, Problem> {
    match Known::cancel(&state, &tenant, &caller, named.id(), note).await {
        Err(problem) if problem.status() != StatusCode::CONFLICT => Err(problem),
        _ => Ok(Json(json!({}))),
    }
}
