//! `GET /v1/schedules`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::view::View;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{Query, Search};
use crate::api::page::{List, Page, name};

/// Schedules in force, by name
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedules", operation_id = "listSchedules",
    params(Search),
    responses((status = 200, body = Page<View>, description = "A page of schedules"))
)]
pub(crate) async fn list_schedules(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    Query(asked): Query<Search>,
    uri: Uri,
) -> Result<Response, Problem> {
    let list = List::of(&("schedules", &namespace, &asked.search));
    let after = list.place(asked.page.as_deref(), name)?.unwrap_or_default();
    let found = state.store.schedules(&namespace, &after, &asked.search, i64::from(asked.limit) + 1).await?;
    let page = Page::cut(found, asked.limit, &list, |last| last.schedule.name.clone().into_bytes());
    Ok(page.map(View::from).answer(&uri))
}
