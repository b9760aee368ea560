//! `GET /20160918/workRequests/{id}`

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::dialects::oci::View;
use crate::api::error::Problem;
use crate::api::extract::Segment;
use crate::api::known::Known;
use crate::api::polling::Tagged;

/// A work request, for OCI's clients
#[utoipa::path(
    get, path = "/20160918/workRequests/{id}", tag = "oci", operation_id = "getOciWorkRequest",
    params(
        ("id" = String, Path, description = "The work request's id"),
        ("If-None-Match" = Option<String>, Header, description = "`ETag` of what the caller has"),
    ),
    responses(
        (status = 200, body = View, description = "The work request",
            headers(
                ("Retry-After" = i32, description = "Until it has ended: seconds until the next poll"),
                ("ETag" = String, description = "Tells this answer from others"),
            )),
        (status = 304, description = "The caller has it", headers(("ETag" = String, description = "The same"))),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn get_oci_work_request(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
    asked: HeaderMap,
) -> Result<Response, Problem> {
    let known = Known::load(&state, &tenant, &id).await?;
    let headers = known.retry_after().into_iter().collect();
    Ok(Tagged::new(&View::full(&known)).answer(&asked, headers))
}
