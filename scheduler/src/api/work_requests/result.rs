//! `GET /v1/workRequests/{id}/result`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use reveille_shared::state::Status;
use serde_json::Value;

use super::view::View;
use super::{Base, find, follow};
use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::extract::{Namespace, Segment};

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
    Namespace(namespace): Namespace,
    Segment(id): Segment,
    base: Base,
) -> Result<Response, Problem> {
    let request = find(&state, &namespace, &id).await?;
    let failed = |code: &str, message: &str| Err(Problem::new(StatusCode::CONFLICT, code, message));
    match request.status {
        Status::Succeeded => {
            let output = state.store.output(request.id).await?.unwrap_or(Value::Null);
            Ok(Json(output).into_response())
        }
        Status::Canceled => failed("Canceled", "the work request was canceled"),
        Status::Failed => match &request.error {
            Some(error) => failed(&error.code, &error.message),
            None => failed("Failed", "the work request failed"),
        },
        Status::Accepted | Status::InProgress | Status::Canceling => {
            let headers = follow(&base, &request);
            Ok((StatusCode::ACCEPTED, headers, Json(View::new(request, state.clock.now()))).into_response())
        }
    }
}
