//! `GET /v1/jobs/{job}/history`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use reveille_shared::store::DefinitionKind;

use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{Paging, Query, Segment};
use crate::api::history::{self, ChangeView};
use crate::api::page::Page;

/// Who changed a job, when and why, newest first
///
/// Also of one that is not in force any more.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/history", tag = "jobs", operation_id = "listJobHistory",
    params(("job" = String, Path, description = "The job's name"), Paging),
    responses(
        (status = 200, body = Page<ChangeView>, description = "A page of changes"),
        (status = 404, description = "No such job is or was in force"),
    )
)]
pub(crate) async fn list_history(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(name): Segment,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    if !tenant.jobs.has(&name) {
        return Err(Problem::not_found("job", &name));
    }
    history::list(&state, DefinitionKind::Job, tenant.namespace, name, &paging, &uri).await
}
