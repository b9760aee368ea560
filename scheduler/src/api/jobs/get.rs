//! `GET /v1/jobs/{job}`

use axum::Json;
use axum::extract::State;

use super::find;
use super::view::View;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::Segment;

/// A job
#[utoipa::path(
    get, path = "/v1/jobs/{job}", tag = "jobs", operation_id = "getJob",
    params(("job" = String, Path, description = "The job's name")),
    responses(
        (status = 200, body = View, description = "The job as it is in force"),
        (status = 404, description = "No such job is in force"),
    )
)]
pub(crate) async fn get_job(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(name): Segment,
) -> Result<Json<View>, Problem> {
    Ok(Json(find(&state, &tenant, &name).await?.into()))
}
