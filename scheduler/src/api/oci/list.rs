//! `GET /20160918/workRequests`

use std::cmp::Reverse;
use std::str::FromStr;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use reveille_shared::state::Status;
use reveille_shared::store::{ListFilter, Order, SortBy};
use utoipa::IntoParams;

use super::{Ascending, answer};
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::dialects::oci::View;
use crate::api::error::Problem;
use crate::api::extract::{FromQuery, Query, QueryFields};
use crate::api::known::Known;
use crate::api::page::{List, Page};

/// Which work requests, in which order.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(crate) struct Filter {
    /// Only of this namespace; there are none of others than the caller's.
    compartment_id: Option<String>,
    /// Only this one.
    work_request_id: Option<String>,
    /// Only of the resource with this `name`.
    #[param(value_type = Option<String>, max_length = 1000)]
    resource_id: Option<String>,
    /// Only in this state: one of the six, or `WAITING`, in which none is.
    #[param(value_type = Option<String>, pattern = "^(ACCEPTED|IN_PROGRESS|WAITING|CANCELING|SUCCEEDED|FAILED|CANCELED)$")]
    status: Option<OciStatus>,
    /// How many at most.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 50)]
    limit: u16,
    /// `opc-next-page` of the page before.
    page: Option<String>,
    /// By acceptance unless it says otherwise. All else sorts the whole history: filter it.
    #[param(value_type = Option<String>, pattern = "^(timeAccepted|ID|OPERATION_TYPE|STATUS|TIME_ACCEPTED|TIME_STARTED|TIME_FINISHED)$")]
    sort_by: OciSortBy,
    /// `ASC`, or `DESC`, which is the default.
    #[param(value_type = Option<String>, pattern = "^(ASC|DESC)$")]
    sort_order: Ascending,
}

/// A state, or the one that we have not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OciStatus(Option<Status>);

impl FromStr for OciStatus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "WAITING" => Ok(Self(None)),
            _ => text.parse().map(|status| Self(Some(status))).map_err(|_| "not a status of work requests"),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct OciSortBy(SortBy);

impl FromStr for OciSortBy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            // Ids are in the order of acceptance.
            "timeAccepted" | "TIME_ACCEPTED" | "ID" => Ok(Self(SortBy::Accepted)),
            "OPERATION_TYPE" => Ok(Self(SortBy::Job)),
            "STATUS" => Ok(Self(SortBy::Status)),
            "TIME_STARTED" => Ok(Self(SortBy::Started)),
            "TIME_FINISHED" => Ok(Self(SortBy::Finished)),
            _ => Err("not a field that lists are sorted by"),
        }
    }
}

impl FromQuery for Filter {
    fn read(query: &mut QueryFields) -> Self {
        let (limit, page) = query.paging();
        let resource_id = query.one::<String>("resourceId");
        if resource_id.as_ref().is_some_and(|name| name.contains('\0') || name.chars().count() > 1000) {
            query.fault("resourceId", "must have at most 1000 characters, and no U+0000");
        }
        Self {
            compartment_id: query.one("compartmentId"),
            work_request_id: query.one("workRequestId"),
            resource_id,
            status: query.one("status"),
            limit,
            page,
            sort_by: query.one("sortBy").unwrap_or(OciSortBy(SortBy::Accepted)),
            sort_order: query.one("sortOrder").unwrap_or(Ascending(false)),
        }
    }
}

impl Filter {
    /// What the store is asked; none if nothing can be what is asked for.
    fn of(&self, namespace: String) -> Option<ListFilter> {
        let is_ours = self.compartment_id.as_ref().is_none_or(|asked| *asked == namespace);
        let status = match self.status {
            None => Vec::new(),
            Some(OciStatus(status)) => vec![status?],
        };
        let id = match &self.work_request_id {
            None => None,
            Some(text) => Some(text.parse().ok()?),
        };
        let order = Order { by: self.sort_by.0, ascending: self.sort_order.0 };
        let resource = self.resource_id.clone();
        is_ours.then(|| ListFilter { namespace, status, id, resource, order, ..ListFilter::default() })
    }
}

/// Work requests, for OCI's clients
#[utoipa::path(
    get, path = "/20160918/workRequests", tag = "oci", operation_id = "listOciWorkRequests",
    params(Filter),
    responses((status = 200, body = Vec<View>, description = "A page of work requests, the newest first unless it says otherwise",
        headers(("opc-next-page" = String, description = "Send it as `page` for what follows; absent on the last page"))))
)]
pub(crate) async fn list_oci_work_requests(
    State(state): State<ApiState>,
    tenant: Tenant,
    Query(query): Query<Filter>,
    uri: Uri,
) -> Result<Response, Problem> {
    let mut page = match query.of(tenant.namespace.clone()) {
        Some(filter) => Known::list(&state, &tenant, filter, query.limit, ("page", query.page.as_deref())).await?,
        None => {
            // No token is of a list without pages.
            List::of(&"nothing").place(query.page.as_deref(), |_| None::<()>)?;
            Page { items: Vec::new(), next_page: None }
        }
    };
    // Ids are made before the store looks at its clock: among those of one moment their order may be another one.
    match (query.sort_by, query.sort_order) {
        (OciSortBy(SortBy::Accepted), Ascending(true)) => page.items.sort_by_key(|known| known.request.accepted_at),
        (OciSortBy(SortBy::Accepted), _) => page.items.sort_by_key(|known| Reverse(known.request.accepted_at)),
        _ => {}
    }
    Ok(answer(page.map(|known| View::summary(&known)), &uri))
}
