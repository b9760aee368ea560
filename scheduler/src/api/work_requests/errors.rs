//! `GET /v1/workRequests/{id}/errors`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::entries::entries;
use super::find;
use super::view::FailureView;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{Paging, Query, Segment};
use crate::api::page::{List, Page, number};

/// What has failed in a work request so far, from its beginning
#[utoipa::path(
    get, path = "/v1/workRequests/{id}/errors", tag = "workRequests", operation_id = "listWorkRequestErrors",
    params(("id" = String, Path, description = "The work request's id"), Paging),
    responses(
        (status = 200, body = Page<FailureView>, description = "A page of failures: one for each failed attempt"),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn list_errors(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    let request = find(&state, &tenant, &id).await?;
    let list = List::of(&("errors", request.id));
    let after = list.place(paging.page.as_deref(), number)?.unwrap_or(0);
    let found = entries(&state, request.id, after, true, paging.limit, FailureView::of).await?;
    let page = Page::cut(found, paging.limit, &list, |(seq, _)| seq.to_be_bytes().to_vec());
    Ok(page.map(|(_, failure)| failure).answer(&uri))
}
