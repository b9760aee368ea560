//! `GET /v1/schedules/{schedule}/fires`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use jiff::Timestamp;
use utoipa::IntoParams;

use super::find;
use super::view::FireView;
use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::extract::{FromQuery, Namespace, Query, QueryFields, Segment};
use crate::api::page::{List, Page};
use crate::api::time::Instant;

/// Which fires.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Only due before this instant.
    #[param(value_type = Option<Instant>)]
    before: Option<Timestamp>,
    /// How many at most.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 50)]
    limit: u16,
    /// `nextPage` of the page before.
    page: Option<String>,
}

impl FromQuery for Filter {
    fn read(query: &mut QueryFields) -> Self {
        let (limit, page) = query.paging();
        Self { before: query.instant("before"), limit, page }
    }
}

/// What was decided for a schedule's due times, newest first
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}/fires", tag = "schedules", operation_id = "listFires",
    params(("schedule" = String, Path, description = "The schedule's name"), Filter),
    responses(
        (status = 200, body = Page<FireView>, description = "A page of the ledger"),
        (status = 404, description = "No such schedule is in force"),
    )
)]
pub(crate) async fn list_fires(
    State(state): State<ApiState>,
    Namespace(namespace): Namespace,
    Segment(name): Segment,
    Query(filter): Query<Filter>,
    uri: Uri,
) -> Result<Response, Problem> {
    let key = find(&state, &namespace, &name).await?.key();
    let list = List::of(&("fires", &key, filter.before));
    let before = list.place(filter.page.as_deref(), instant)?.or(filter.before).unwrap_or(Timestamp::MAX);
    let found = state.store.fires(&key, before, i64::from(filter.limit) + 1).await?;
    let page = Page::cut(found, filter.limit, &list, |last| last.due_at.as_microsecond().to_be_bytes().to_vec());
    Ok(page.map(FireView::from).answer(&uri))
}

fn instant(bytes: &[u8]) -> Option<Timestamp> {
    Timestamp::from_microsecond(i64::from_be_bytes(bytes.try_into().ok()?)).ok()
}
