//! `GET /v1/schedules/{schedule}/history`

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

/// Who changed, paused and resumed a schedule, when and why, newest first
///
/// Also of one that is not in force any more.
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}/history", tag = "schedules", operation_id = "listScheduleHistory",
    params(("schedule" = String, Path, description = "The schedule's name"), Paging),
    responses(
        (status = 200, body = Page<ChangeView>, description = "A page of changes"),
        (status = 404, description = "No such schedule is or was in force"),
    )
)]
pub(crate) async fn list_history(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    Segment(name): Segment,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    history::list(&state, DefinitionKind::Schedule, namespace, name, &paging, &uri).await
}
