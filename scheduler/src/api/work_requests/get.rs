//! `GET /v1/workRequests/{id}`

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::IF_NONE_MATCH;
use axum::response::Response;
use reveille_shared::duration::HumanDuration;
use reveille_shared::state::Status;
use reveille_shared::work_request::WorkRequestId;
use utoipa::IntoParams;

use super::view::View;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{FromQuery, Query, QueryFields, Segment};
use crate::api::known::Known;
use crate::api::polling::{Seen, Tagged};

/// How long to wait.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Patience {
    /// Answer only when its status has changed, or after so long: like `30s`, which is the most that is waited. What has
    /// ended is answered at once, and so is what differs from `If-None-Match`.
    #[param(value_type = Option<String>, pattern = "^(?=.)([0-9]{1,4}d)?([0-9]{1,4}h)?([0-9]{1,4}m)?([0-9]{1,4}s)?([0-9]{1,4}ms)?$")]
    wait: Option<HumanDuration>,
}

impl FromQuery for Patience {
    fn read(query: &mut QueryFields) -> Self {
        Self { wait: query.one("wait") }
    }
}

/// A work request
///
/// `Retry-After` follows what is known of the job's usual duration and of this run's progress. Whoever sends the `ETag` of
/// an answer as `If-None-Match` gets no body that it has already.
#[utoipa::path(
    get, path = "/v1/workRequests/{id}", tag = "workRequests", operation_id = "getWorkRequest",
    params(
        ("id" = String, Path, description = "The work request's id"),
        Patience,
        ("If-None-Match" = Option<String>, Header, description = "`ETag` of what the caller has"),
    ),
    responses(
        (status = 200, body = View, description = "The work request",
            headers(
                ("Retry-After" = i32, description = "Until it has ended: seconds until the next poll"),
                ("ETag" = String, description = "Tells this answer from others"),
            )),
        (status = 304, description = "The caller has it", headers(("ETag" = String, description = "The same"))),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn get_work_request(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
    Query(patience): Query<Patience>,
    asked: HeaderMap,
) -> Result<Response, Problem> {
    let mut found = Found::read(&state, &tenant, &id).await?;
    let has_it = !asked.contains_key(IF_NONE_MATCH) || !found.document.is_news(&asked);
    if let Some(wait) = patience.wait.filter(|_| has_it && !found.status.is_terminal()) {
        state.polling.change(&state.store, found.id, Seen::Status(found.status), wait.get()).await?;
        found = Found::read(&state, &tenant, &id).await?;
    }
    Ok(found.document.answer(&asked, found.headers))
}

struct Found {
    id: WorkRequestId,
    status: Status,
    headers: HeaderMap,
    document: Tagged,
}

impl Found {
    async fn read(state: &ApiState, tenant: &Tenant, id: &str) -> Result<Self, Problem> {
        let known = Known::load(state, tenant, id).await?;
        let (id, status) = (known.request.id, known.request.status);
        let headers = known.retry_after().into_iter().collect();
        Ok(Self { id, status, headers, document: Tagged::new(&View::from(known)) })
    }
}
