//! `GET /v1/keys/{prefix}`

use axum::Json;
use axum::extract::State;

use super::find;
use super::view::View;
use crate::api::ApiState;
use crate::api::access::Caller;
use crate::api::error::Problem;
use crate::api::extract::Segment;

/// A key
#[utoipa::path(
    get, path = "/v1/keys/{prefix}", tag = "keys", operation_id = "getKey",
    params(("prefix" = String, Path, description = "The key's prefix")),
    responses(
        (status = 200, body = View, description = "The key"),
        (status = 404, description = "There is none of this prefix for namespaces of the caller's"),
    )
)]
pub(crate) async fn get_key(
    State(state): State<ApiState>,
    caller: Caller,
    Segment(prefix): Segment,
) -> Result<Json<View>, Problem> {
    let key = find(&state, &caller, &prefix).await?;
    Ok(Json(View::new(key, state.clock.now())))
}
