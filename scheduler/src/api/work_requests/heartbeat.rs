//! `POST /v1/workRequests/{id}:heartbeat`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reveille_shared::store::Heartbeat;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::find;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::Problem;
use crate::api::extract::BeforeVerb;
use crate::api::time::Instant;

/// A worker's sign of life.
#[derive(Debug, ToSchema)]
#[schema(as = HeartbeatRequest)]
pub(crate) struct Sign {
    /// The token of the claim.
    #[schema(value_type = Uuid)]
    token: Option<Uuid>,
}

impl FromBody for Sign {
    fn read(body: &mut BodyFields) -> Self {
        Self { token: body.token() }
    }
}

/// How a lease stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Lease)]
pub(crate) struct LeaseView {
    /// When it ends unless the worker gives another sign of life.
    pub(crate) lease_until: Instant,
    /// Someone has asked for the run to stop: stop it, and report it as canceled.
    pub(crate) canceling: bool,
}

/// Keeps the lease of a worker in another language
///
/// Events do so too. Give a sign of life at least three times within the lease, and every 20 s if you want to hear of
/// cancels: one that is not answered within a minute ends the lease.
#[utoipa::path(
    post, path = "/v1/workRequests/{id}:heartbeat", tag = "workers", operation_id = "heartbeat",
    params(("id" = String, Path, description = "The work request's id")),
    request_body(content = Sign, content_type = "application/json"),
    responses(
        (status = 200, body = LeaseView, description = "How the lease stands"),
        (status = 404, description = "There is none of this id in the namespace: stop"),
        (status = 409, description = "`LeaseLost`: the run has ended, or is another's to run: stop at once"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong"),
    )
)]
pub(crate) async fn heartbeat(
    State(state): State<ApiState>,
    tenant: Tenant,
    BeforeVerb(id): BeforeVerb,
    Body(Sign { token }): Body<Sign>,
) -> Result<Json<LeaseView>, Problem> {
    let request = find(&state, &tenant, &id).await?;
    match state.store.heartbeat(request.id, token.unwrap_or_default()).await? {
        Ok(Heartbeat { until, canceling }) => Ok(Json(LeaseView { lease_until: until.into(), canceling })),
        Err(_) => {
            let message = "no lease of the work request has this token, or has it any more: stop";
            Err(Problem::new(StatusCode::CONFLICT, "LeaseLost", message))
        }
    }
}
