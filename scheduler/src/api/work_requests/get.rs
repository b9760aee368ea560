//! `GET /v1/workRequests/{id}`

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;

use super::view::View;
use super::{find, poll_again};
use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::extract::{Namespace, Segment};

/// A work request
#[utoipa::path(
    get, path = "/v1/workRequests/{id}", tag = "workRequests", operation_id = "getWorkRequest",
    params(("id" = String, Path, description = "The work request's id")),
    responses(
        (status = 200, body = View, description = "The work request",
            headers(("Retry-After" = i32, description = "Until it has ended: seconds until the next poll"))),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn get_work_request(
    State(state): State<ApiState>,
    Namespace(namespace): Namespace,
    Segment(id): Segment,
) -> Result<(HeaderMap, Json<View>), Problem> {
    let request = find(&state, &namespace, &id).await?;
    let headers = poll_again(&request).into_iter().collect();
    let wait = state.store.wait_of(&request).await?;
    Ok((headers, Json(View::held(request, wait, state.clock.now()))))
}
