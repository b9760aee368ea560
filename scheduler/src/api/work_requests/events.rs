//! `GET /v1/workRequests/{id}/events`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::find;
use super::view::EventView;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{Paging, Query, Segment};
use crate::api::page::{List, Page, number};

/// A work request's history, from its beginning
#[utoipa::path(
    get, path = "/v1/workRequests/{id}/events", tag = "workRequests", operation_id = "listWorkRequestEvents",
    params(("id" = String, Path, description = "The work request's id"), Paging),
    responses(
        (status = 200, body = Page<EventView>, description = "A page of the history"),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn list_events(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    let request = find(&state, &tenant, &id).await?;
    let list = List::of(&("events", request.id));
    let after = list.place(paging.page.as_deref(), number)?.unwrap_or(0);
    let found = state.store.events(request.id, after, i64::from(paging.limit) + 1).await?;
    let page = Page::cut(found, paging.limit, &list, |last| last.seq.to_be_bytes().to_vec());
    Ok(page.map(EventView::from).answer(&uri))
}
