//! `GET /v1/jobs`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::view::View;
use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::extract::{Namespace, Paging, Query};
use crate::api::page::{List, Page, name};

/// Jobs in force, by name
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", operation_id = "listJobs",
    params(Paging),
    responses((status = 200, body = Page<View>, description = "A page of jobs"))
)]
pub(crate) async fn list_jobs(
    State(state): State<ApiState>,
    Namespace(namespace): Namespace,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    let list = List::of(&("jobs", &namespace));
    let after = list.place(paging.page.as_deref(), name)?.unwrap_or_default();
    let found = state.store.jobs(&namespace, &after, i64::from(paging.limit) + 1).await?;
    let page = Page::cut(found, paging.limit, &list, |last| last.item.name.clone().into_bytes());
    Ok(page.map(View::from).answer(&uri))
}
