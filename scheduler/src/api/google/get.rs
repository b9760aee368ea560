//! `GET /v1/operations/{id}`

use axum::Json;
use axum::extract::State;

use super::{Named, operation};
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::dialects::google::Operation;
use crate::api::error::Problem;
use crate::api::known::Known;

/// A work request, for Google's clients
///
/// With a parent before `operations` (`/v1/compartments/C/operations/{id}`) the same, named so.
#[utoipa::path(
    get, path = "/v1/operations/{id}", tag = "google", operation_id = "getOperation",
    params(("id" = String, Path, description = "The work request's id")),
    responses(
        (status = 200, body = Operation, description = "The operation; also one that has failed"),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn get_operation(
    State(state): State<ApiState>,
    tenant: Tenant,
    named: Named,
) -> Result<Json<Operation>, Problem> {
    // All of it: a verb has no business here.
    let known = Known::load(&state, &tenant, named.last.as_deref().unwrap_or_default()).await?;
    Ok(Json(operation(&state, &named, &known).await?))
}
