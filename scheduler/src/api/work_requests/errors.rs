//! `GET /v1/workRequests/{id}/errors`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use reveille_shared::work_request::WorkRequestId;

use super::find;
use super::view::FailureView;
use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::extract::{Namespace, Paging, Query, Segment};
use crate::api::page::{List, Page, number};

/// Events read at once.
const BATCH: i64 = 500;

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
    Namespace(namespace): Namespace,
    Segment(id): Segment,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    let request = find(&state, &namespace, &id).await?;
    let list = List::of(&("errors", request.id));
    let after = list.place(paging.page.as_deref(), number)?.unwrap_or(0);
    let found = failures(&state, request.id, after, usize::from(paging.limit) + 1).await?;
    Ok(Page::cut(found, paging.limit, &list, |last| last.seq.to_be_bytes().to_vec()).answer(&uri))
}

/// Up to `limit` failures behind event `after`.
async fn failures(
    state: &ApiState,
    id: WorkRequestId,
    mut after: i32,
    limit: usize,
) -> Result<Vec<FailureView>, Problem> {
    let mut found = Vec::new();
    loop {
        let events = state.store.events(id, after, BATCH).await?;
        let last = events.last().map(|event| event.seq);
        found.extend(events.into_iter().filter_map(FailureView::of));
        match last {
            Some(last) if found.len() < limit => after = last,
            _ => break,
        }
    }
    found.truncate(limit);
    Ok(found)
}
