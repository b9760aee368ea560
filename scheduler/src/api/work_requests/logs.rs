//! `GET /v1/workRequests/{id}/logs`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use reveille_shared::work_request::LogLine;

use super::find;
use super::view::LogView;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{Paging, Query, Segment};
use crate::api::page::{List, Page, number};

/// What a work request's attempts have printed, from the beginning
#[utoipa::path(
    get, path = "/v1/workRequests/{id}/logs", tag = "workRequests", operation_id = "listWorkRequestLogs",
    params(("id" = String, Path, description = "The work request's id"), Paging),
    responses(
        (status = 200, body = Page<LogView>, description = "A page of lines"),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn list_logs(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    let request = find(&state, &tenant, &id).await?;
    let list = List::of(&("logs", request.id));
    let after = list.place(paging.page.as_deref(), place)?.unwrap_or((0, 0));
    let found = state.store.logs(request.id, after, i64::from(paging.limit) + 1).await?;
    let page = Page::cut(found, paging.limit, &list, |LogLine { attempt, seq, .. }| {
        [attempt.to_be_bytes(), seq.to_be_bytes()].concat()
    });
    Ok(page.map(LogView::from).answer(&uri))
}

fn place(bytes: &[u8]) -> Option<(i32, i32)> {
    let (attempt, seq) = bytes.split_at_checked(4)?;
    Some((number(attempt)?, number(seq)?))
}
