//! `GET /v1/schedules/{schedule}/backfills`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::view::View;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{Paging, Query, Segment};
use crate::api::page::{List, Page, name};
use crate::api::schedules::find;

/// Backfills of a schedule, by id
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}/backfills", tag = "schedules", operation_id = "listBackfills",
    params(("schedule" = String, Path, description = "The schedule's name"), Paging),
    responses(
        (status = 200, body = Page<View>, description = "A page of backfills"),
        (status = 404, description = "No such schedule is in force"),
    )
)]
pub(crate) async fn list_backfills(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    Segment(schedule): Segment,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    let key = find(&state, &namespace, &schedule).await?.key();
    let list = List::of(&("backfills", &key));
    let after = list.place(paging.page.as_deref(), name)?.unwrap_or_default();
    let found = state.store.backfills(&key, &after, i64::from(paging.limit) + 1).await?;
    let page = Page::cut(found, paging.limit, &list, |last| last.asked.id.clone().into_bytes());
    Ok(page.map(View::from).answer(&uri))
}
