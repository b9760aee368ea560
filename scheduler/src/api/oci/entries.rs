//! `GET /20160918/workRequests/{id}/errors`, `…/logs`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use reveille_shared::state::Status;
use reveille_shared::work_request::HistoryEvent;
use serde::Serialize;
use utoipa::IntoParams;

use super::{Ascending, answer};
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::dialects::oci::{Failure, LogEntry};
use crate::api::error::Problem;
use crate::api::extract::{FromQuery, Query, QueryFields, Segment};
use crate::api::page::{List, Page, number};
use crate::api::work_requests::entries::entries;
use crate::api::work_requests::find;

/// In which order, and how many.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(crate) struct Paging {
    /// How many at most.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 50)]
    limit: u16,
    /// `opc-next-page` of the page before.
    page: Option<String>,
    /// By when they were recorded: there is nothing else.
    #[param(value_type = Option<String>, pattern = "^(timeAccepted|timestamp)$")]
    #[allow(dead_code, reason = "read to be checked")]
    sort_by: Option<SortBy>,
    /// `ASC`, which is the default, or `DESC`: the reverse.
    #[param(value_type = Option<String>, pattern = "^(ASC|DESC)$")]
    sort_order: Ascending,
}

#[derive(Debug)]
pub(crate) struct SortBy;

impl std::str::FromStr for SortBy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        matches!(text, "timeAccepted" | "timestamp").then_some(Self).ok_or("not timeAccepted")
    }
}

impl FromQuery for Paging {
    fn read(query: &mut QueryFields) -> Self {
        let (limit, page) = query.paging();
        let (sort_by, sort_order) = (query.one("sortBy"), query.one("sortOrder"));
        Self { limit, page, sort_by, sort_order: sort_order.unwrap_or(Ascending(true)) }
    }
}

/// What has failed in a work request, for OCI's clients
///
/// Nothing once it has SUCCEEDED, whatever has failed before.
#[utoipa::path(
    get, path = "/20160918/workRequests/{id}/errors", tag = "oci", operation_id = "listOciWorkRequestErrors",
    params(("id" = String, Path, description = "The work request's id"), Paging),
    responses(
        (status = 200, body = Vec<Failure>, description = "A page of failures: one for each failed attempt",
            headers(("opc-next-page" = String, description = "Send it as `page` for what follows; absent on the last page"))),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn list_oci_errors(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    page(&state, (&tenant, &id), &paging, &uri, "errors", |status, event| {
        Failure::of(event).filter(|_| status != Status::Succeeded)
    })
    .await
}

/// What has happened to a work request, for OCI's clients
#[utoipa::path(
    get, path = "/20160918/workRequests/{id}/logs", tag = "oci", operation_id = "listOciWorkRequestLogs",
    params(("id" = String, Path, description = "The work request's id"), Paging),
    responses(
        (status = 200, body = Vec<LogEntry>, description = "A page of its history",
            headers(("opc-next-page" = String, description = "Send it as `page` for what follows; absent on the last page"))),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn list_oci_logs(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    page(&state, (&tenant, &id), &paging, &uri, "logs", |_, event| Some(LogEntry::from(event))).await
}

async fn page<T: Serialize>(
    state: &ApiState,
    (tenant, id): (&Tenant, &str),
    paging: &Paging,
    uri: &Uri,
    what: &str,
    pick: impl Fn(Status, HistoryEvent) -> Option<T>,
) -> Result<Response, Problem> {
    let request = find(state, tenant, id).await?;
    let Ascending(ascending) = paging.sort_order;
    let list = List::of(&("oci", what, request.id, ascending));
    let begin = if ascending { 0 } else { i32::MAX };
    let from = list.place(paging.page.as_deref(), number)?.unwrap_or(begin);
    let pick = |event| pick(request.status, event);
    let found = entries(state, request.id, from, ascending, paging.limit, pick).await?;
    let page = Page::cut(found, paging.limit, &list, |(seq, _)| seq.to_be_bytes().to_vec());
    Ok(answer(page.map(|(_, entry)| entry), uri))
}
