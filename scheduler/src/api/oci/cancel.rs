//! `DELETE /20190415/workRequests/{id}`

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::dialects::oci::View;
use crate::api::error::Problem;
use crate::api::extract::Segment;
use crate::api::known::Known;
use crate::api::note::{NoteParameters, Noted};
use crate::api::polling::Tagged;

/// Cancels a work request, for OCI's clients
///
/// What waits is canceled at once, and what runs is asked to stop.
#[utoipa::path(
    delete, path = "/20190415/workRequests/{id}", tag = "oci", operation_id = "cancelOciWorkRequest",
    params(
        ("id" = String, Path, description = "The work request's id"),
        ("If-Match" = Option<String>, Header, description = "`ETag` of what is meant"),
        NoteParameters,
    ),
    responses(
        (status = 202, description = "It is CANCELED, or CANCELING until its worker has stopped it"),
        (status = 404, description = "There is none of this id in the namespace"),
        (status = 409, description = "It has ended"),
        (status = 412, description = "It is another one than `If-Match` says"),
    )
)]
pub(crate) async fn cancel_oci_work_request(
    State(state): State<ApiState>,
    tenant: Tenant,
    caller: Caller,
    Segment(id): Segment,
    asked: HeaderMap,
    Noted(note): Noted,
) -> Result<StatusCode, Problem> {
    let known = Known::load(&state, &tenant, &id).await?;
    Tagged::new(&View::full(&known)).must_match(&asked)?;
    Known::cancel(&state, &tenant, &caller, &id, note).await?;
    Ok(StatusCode::ACCEPTED)
}
