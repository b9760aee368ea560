//! `GET /v1/jobs`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::view::View;
use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::extract::{Namespace, Query, Search};
use crate::api::page::{List, Page, name};

/// Jobs in force, by name
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", operation_id = "listJobs",
    params(Search),
    responses((status = 200, body = Page<View>, description = "A page of jobs"))
)]
pub(crate) async fn list_jobs(
    State(state): State<ApiState>,
    Namespace(namespace): Namespace,
    Query(asked): Query<Search>,
    uri: Uri,
) -> Result<Response, Problem> {
    let list = List::of(&("jobs", &namespace, &asked.search));
    let after = list.place(asked.page.as_deref(), name)?.unwrap_or_default();
    let found = state.store.search_jobs(&namespace, &after, &asked.search, i64::from(asked.limit) + 1).await?;
    let page = Page::cut(found, asked.limit, &list, |last| last.item.name.clone().into_bytes());
    Ok(page.map(View::from).answer(&uri))
}
