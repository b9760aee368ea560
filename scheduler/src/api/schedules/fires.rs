//! `GET /v1/schedules/{schedule}/fires`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use jiff::Timestamp;
use reveille_shared::store::Fire;
use utoipa::IntoParams;

use super::find;
use super::fire_view::FireView;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{FromQuery, Query, QueryFields, Segment};
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
    Tenant { namespace, .. }: Tenant,
    Segment(name): Segment,
    Query(filter): Query<Filter>,
    uri: Uri,
) -> Result<Response, Problem> {
    let key = find(&state, &namespace, &name).await?.key();
    let list = List::of(&("fires", &key, filter.before));
    let place = list.place(filter.page.as_deref(), Place::read)?;
    let (before, passed) = match place {
        Some(Place { due_at, passed }) => (just_after(due_at), passed),
        None => (filter.before.unwrap_or(Timestamp::MAX), 0),
    };
    let mut found = state.store.fires(&key, before, i64::from(filter.limit) + 1 + i64::from(passed)).await?;
    found.drain(..found.len().min(passed as usize));
    let shown = &found[..found.len().min(usize::from(filter.limit))];
    let next = shown.last().map(|last| Place {
        due_at: last.due_at,
        passed: Place::count(shown, last.due_at)
            + place.filter(|place| place.due_at == last.due_at).map_or(0, |p| p.passed),
    });
    let page = Page::cut(found, filter.limit, &list, |_| next.map(Place::write).unwrap_or_default());
    Ok(page.map(FireView::from).answer(&uri))
}

/// Where a page ended: a due time, and how many of its entries are on this page and those before. One due time can have
/// several, by hand and by backfills.
#[derive(Debug, Clone, Copy)]
struct Place {
    due_at: Timestamp,
    passed: u16,
}

impl Place {
    fn count(fires: &[Fire], due_at: Timestamp) -> u16 {
        u16::try_from(fires.iter().rev().take_while(|fire| fire.due_at == due_at).count()).unwrap_or(u16::MAX)
    }

    fn write(self) -> Vec<u8> {
        [&self.due_at.as_microsecond().to_be_bytes()[..], &self.passed.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (due_at, passed) = bytes.split_first_chunk::<8>()?;
        let due_at = Timestamp::from_microsecond(i64::from_be_bytes(*due_at)).ok()?;
        Some(Self { due_at, passed: u16::from_be_bytes(passed.try_into().ok()?) })
    }
}

fn just_after(at: Timestamp) -> Timestamp {
    at.saturating_add(jiff::SignedDuration::from_micros(1)).unwrap_or(Timestamp::MAX)
}
