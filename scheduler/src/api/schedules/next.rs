//! `GET /v1/schedules/{schedule}/next`

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{due_times, find};
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{FromQuery, Query, QueryFields, Segment};
use crate::api::time::Instant;

const MAX_COUNT: u16 = 1000;

/// From when, and how many.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Span {
    /// The due times after this instant; default now.
    #[param(value_type = Option<Instant>)]
    from: Option<Timestamp>,
    /// How many at most.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 10)]
    count: u16,
}

impl FromQuery for Span {
    fn read(query: &mut QueryFields) -> Self {
        Self { from: query.instant("from"), count: query.number("count", 1, MAX_COUNT, 10) }
    }
}

/// Due times of a schedule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Next {
    /// In order; fewer than asked for when it will not be due that often.
    items: Vec<Instant>,
}

/// When a schedule is due next
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}/next", tag = "schedules", operation_id = "nextDueTimes",
    params(("schedule" = String, Path, description = "The schedule's name"), Span),
    responses(
        (status = 200, body = Next, description = "Its due times"),
        (status = 404, description = "No such schedule is in force"),
    )
)]
pub(crate) async fn next_due_times(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    Segment(name): Segment,
    Query(span): Query<Span>,
) -> Result<Json<Next>, Problem> {
    let schedule = find(&state, &namespace, &name).await?.schedule;
    let due = due_times(&schedule)?;
    let first = due.next_after(span.from.unwrap_or_else(|| state.clock.now()));
    let times = std::iter::successors(first, |last| due.next_after(*last));
    Ok(Json(Next { items: times.take(usize::from(span.count)).map(Instant).collect() }))
}
