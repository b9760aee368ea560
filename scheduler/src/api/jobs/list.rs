//! `GET /v1/jobs`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::view::View;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{Query, Search};
use crate::api::page::{List, Page, name};

/// Jobs in force, by name
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", operation_id = "listJobs",
    params(Search),
    responses((status = 200, body = Page<View>, description = "A page of jobs"))
)]
pub(crate) async fn list_jobs(
    State(state): State<ApiState>,
    tenant: Tenant,
    Query(asked): Query<Search>,
    uri: Uri,
) -> Result<Response, Problem> {
    let list = List::of(&("jobs", &tenant.namespace, &asked.search));
    let after = list.place(asked.page.as_deref(), name)?.unwrap_or_default();
    let found = match tenant.jobs.listed() {
        None => state.store.search_jobs(&tenant.namespace, &after, &asked.search, i64::from(asked.limit) + 1).await?,
        Some(names) => {
            let mut found = Vec::new();
            for name in names.iter().filter(|name| **name > after && name.contains(&asked.search)) {
                found.extend(state.store.job(&tenant.namespace, name).await?);
            }
            found.truncate(usize::from(asked.limit) + 1);
            found
        }
    };
    let page = Page::cut(found, asked.limit, &list, |last| last.item.name.clone().into_bytes());
    Ok(page.map(View::from).answer(&uri))
}
