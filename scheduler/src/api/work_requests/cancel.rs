//! `DELETE /v1/workRequests/{id}`

use axum::extract::State;
use axum::response::Response;

use super::accepted;
use super::view::View;
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::error::Problem;
use crate::api::extract::{Base, Segment};
use crate::api::known::Known;
use crate::api::note::{NoteParameters, Noted};

/// Cancels what waits at once, and asks what runs to stop
#[utoipa::path(
    delete, path = "/v1/workRequests/{id}", tag = "workRequests", operation_id = "cancelWorkRequest",
    params(("id" = String, Path, description = "The work request's id"), NoteParameters),
    responses(
        (status = 202, body = View, description = "It is CANCELED, or CANCELING until its worker has stopped it"),
        (status = 404, description = "There is none of this id in the namespace"),
        (status = 409, description = "It has ended"),
    )
)]
pub(crate) async fn cancel_work_request(
    State(state): State<ApiState>,
    tenant: Tenant,
    caller: Caller,
    Segment(id): Segment,
    base: Base,
    Noted(note): Noted,
) -> Result<Response, Problem> {
    Ok(accepted(&base, Known::cancel(&state, &tenant, &caller, &id, note).await?))
}
