//! `DELETE /v1/workRequests/{id}`

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use reveille_shared::store::Cancellation;

use super::view::View;
use super::{Base, find, follow};
use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::extract::{Namespace, Segment};

/// Cancels what waits at once, and asks what runs to stop
#[utoipa::path(
    delete, path = "/v1/workRequests/{id}", tag = "workRequests", operation_id = "cancelWorkRequest",
    params(("id" = String, Path, description = "The work request's id")),
    responses(
        (status = 202, body = View, description = "It is CANCELED, or CANCELING until its worker has stopped it"),
        (status = 404, description = "There is none of this id in the namespace"),
        (status = 409, description = "It has ended"),
    )
)]
pub(crate) async fn cancel_work_request(
    State(state): State<ApiState>,
    Namespace(namespace): Namespace,
    Segment(id): Segment,
    base: Base,
) -> Result<(StatusCode, HeaderMap, Json<View>), Problem> {
    let known = find(&state, &namespace, &id).await?;
    match state.store.cancel(&namespace, known.id, "api".to_owned()).await? {
        Cancellation::Canceled | Cancellation::Canceling => {
            let request = find(&state, &namespace, &id).await?;
            let headers = follow(&base, &request);
            Ok((StatusCode::ACCEPTED, headers, Json(View::new(request, state.clock.now()))))
        }
        Cancellation::Ended => {
            // Not `IncorrectState`: clients would take that for something that passes, and try again for minutes.
            Err(Problem::new(StatusCode::CONFLICT, "Conflict", format!("work request {} has ended", known.id)))
        }
        Cancellation::Unknown => Err(Problem::not_found("work request", &id)),
    }
}
