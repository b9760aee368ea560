//! `GET /v1/schedules/{schedule}/backfills/{id}`

use axum::Json;
use axum::extract::State;

use super::find;
use super::view::View;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::TwoSegments;

/// A backfill, and how far it is
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}/backfills/{id}", tag = "schedules", operation_id = "getBackfill",
    params(
        ("schedule" = String, Path, description = "The schedule's name"),
        ("id" = String, Path, description = "The backfill's id"),
    ),
    responses(
        (status = 200, body = View, description = "The backfill"),
        (status = 404, description = "There is none of this id"),
    )
)]
pub(crate) async fn get_backfill(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    TwoSegments(schedule, id): TwoSegments,
) -> Result<Json<View>, Problem> {
    Ok(Json(find(&state, &namespace, &schedule, &id).await?.into()))
}
