//! `GET /v1/workRequests`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use jiff::Timestamp;
use reveille_shared::state::Status;
use reveille_shared::store::ListFilter;
use reveille_shared::work_request::WorkRequestId;
use utoipa::IntoParams;

use super::view::{StatusName, View};
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{FromQuery, Name, Query, QueryFields};
use crate::api::known::Known;
use crate::api::page::Page;
use crate::api::time::Instant;

/// Which work requests.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(crate) struct Filter {
    /// Only of this job.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    job: Option<Name>,
    /// Only called for by this schedule.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    schedule: Option<Name>,
    /// Only children of this work request.
    #[param(value_type = Option<uuid::Uuid>)]
    parent: Option<WorkRequestId>,
    /// Only in one of these states: several times, or once as a list with commas.
    #[param(value_type = Option<Vec<StatusName>>)]
    status: Vec<Status>,
    /// Only accepted at this instant or later.
    #[param(value_type = Option<Instant>)]
    accepted_after: Option<Timestamp>,
    /// Only accepted before this instant.
    #[param(value_type = Option<Instant>)]
    accepted_before: Option<Timestamp>,
    /// How many at most.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 50)]
    limit: u16,
    /// `nextPage` of the page before.
    page: Option<String>,
}

impl FromQuery for Filter {
    fn read(query: &mut QueryFields) -> Self {
        let (limit, page) = query.paging();
        Self {
            job: query.one("job"),
            schedule: query.one("schedule"),
            parent: query.one("parent"),
            status: query.many("status"),
            accepted_after: query.instant("acceptedAfter"),
            accepted_before: query.instant("acceptedBefore"),
            limit,
            page,
        }
    }
}

/// Work requests, newest first
#[utoipa::path(
    get, path = "/v1/workRequests", tag = "workRequests", operation_id = "listWorkRequests",
    params(Filter),
    responses((status = 200, body = Page<View>, description = "A page of work requests",
        headers(("opc-next-page" = String, description = "The same as nextPage"), ("Link" = String, description = "The next page, rel=next"))))
)]
pub(crate) async fn list_work_requests(
    State(state): State<ApiState>,
    tenant: Tenant,
    Query(query): Query<Filter>,
    uri: Uri,
) -> Result<Response, Problem> {
    let filter = ListFilter {
        namespace: tenant.namespace.clone(),
        job: query.job.map(|Name(job)| job),
        schedule: query.schedule.map(|Name(schedule)| schedule),
        parent: query.parent,
        status: query.status,
        accepted_after: query.accepted_after,
        accepted_before: query.accepted_before,
        ..ListFilter::default()
    };
    let page = Known::list(&state, &tenant, filter, query.limit, ("page", query.page.as_deref())).await?;
    Ok(page.map(View::from).answer(&uri))
}
