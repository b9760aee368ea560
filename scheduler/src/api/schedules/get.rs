//! `GET /v1/schedules/{schedule}`

use axum::Json;
use axum::extract::State;

use super::find;
use super::view::View;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::Segment;

/// A schedule
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}", tag = "schedules", operation_id = "getSchedule",
    params(("schedule" = String, Path, description = "The schedule's name")),
    responses(
        (status = 200, body = View, description = "The schedule as it is in force"),
        (status = 404, description = "No such schedule is in force"),
    )
)]
pub(crate) async fn get_schedule(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    Segment(name): Segment,
) -> Result<Json<View>, Problem> {
    Ok(Json(find(&state, &namespace, &name).await?.into()))
}
