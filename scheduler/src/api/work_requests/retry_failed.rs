//! `POST /v1/workRequests/{id}:retryFailed`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use reveille_shared::state::Status;
use reveille_shared::store::{FanOut, NewWorkRequest, Staging};
use reveille_shared::work_request::WorkRequestId;

use super::view::View;
use super::{find, started};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::extract::{Base, BeforeVerb};
use crate::api::idempotency::{self, Fields, Key, KeyHeaders};
use crate::api::jobs;
use crate::api::note::Note;
use crate::plan;

/// Children that are read at once.
const PAGE: i64 = 500;

/// Runs again those children of a run that did not succeed
///
/// They are children of a new work request, of the same job with the same policy: those that FAILED, those that were
/// CANCELED, and those that were not made any more as the run was stopped.
#[utoipa::path(
    post, path = "/v1/workRequests/{id}:retryFailed", tag = "workRequests", operation_id = "retryFailedChildren",
    params(("id" = String, Path, description = "The work request's id"), KeyHeaders),
    request_body(content = Option<Note>, content_type = "application/json"),
    responses(
        (status = 202, body = View, description = "Accepted: the new work request, with `retryOf`",
            headers(
                ("Location" = String, description = "URL of the result"),
                ("Operation-Location" = String, description = "URL of the work request"),
                ("Azure-AsyncOperation" = String, description = "The same"),
                ("opc-work-request-id" = String, description = "The work request's id"),
                ("Retry-After" = i32, description = "Seconds until the first useful poll"),
            )),
        (status = 404, description = "There is none of this id in the namespace, or its job is not in force"),
        (status = 409, description = "It has no children, has not ended, or all of them have succeeded"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong, or the key was used for another request"),
    )
)]
pub(crate) async fn retry_failed(
    State(state): State<ApiState>,
    tenant: Tenant,
    caller: Caller,
    BeforeVerb(id): BeforeVerb,
    key: Key,
    base: Base,
    Body(note): Body<Note>,
) -> Result<Response, Problem> {
    let old = find(&state, &tenant, &id).await?;
    let key = key.of(&tenant.namespace, format!("POST /v1/workRequests/{}:retryFailed", old.id), Fields::default);
    if let Some(id) = idempotency::earlier(&state, key.as_ref()).await? {
        return started(&state, &tenant, &id, &base).await;
    }
    let conflict =
        |message: &str| Problem::new(StatusCode::CONFLICT, "Conflict", format!("work request {id} {message}"));
    let Some(fan_out) = state.store.fan_out(old.id).await? else { return Err(conflict("has no children")) };
    if !old.status.is_terminal() || fan_out.ended_at.is_none() && old.status != Status::Canceled {
        return Err(conflict("has not ended"));
    }
    let job = jobs::find(&state, &tenant, &old.job).await?;
    let child = jobs::find(&state, &tenant, &fan_out.job).await?;
    let now = state.clock.now();
    // Of a run whose children run another job, the chains are its own.
    let own_chains = fan_out.job != old.job && job.item.is_chained();
    let request = NewWorkRequest {
        input: old.input,
        resource: old.resource,
        retry_of: Some(old.id),
        follow: own_chains,
        ..plan::parent(&job, caller.asker(note), now)
    };
    let staging = staged(&state, &fan_out, request.id).await?;
    if staging.given().0 == 0 {
        return Err(conflict("has no children left that did not succeed, or their inputs are not kept any more"));
    }
    state.queued.admit(&tenant.namespace, staging.given().0)?;
    let accepted =
        jobs::fan_out::accept(&state, request, staging, (fan_out.job, child.version, fan_out.policy), key.as_ref())
            .await?;
    started(&state, &tenant, &accepted.to_string(), &base).await
}

/// The inputs of those that did not succeed.
async fn staged(state: &ApiState, old: &FanOut, new: WorkRequestId) -> Result<Staging, Problem> {
    let mut staging = Staging::new(state.store.clone(), new.0);
    let mut after = None;
    loop {
        let children = state.store.unfinished_children(old.parent, after, PAGE).await?;
        let Some(last) = children.last() else { break };
        after = Some(last.id);
        for child in children {
            let bytes = child.input.to_string().len();
            staging.put(child.input, bytes).await?;
        }
    }
    let mut after = -1;
    while let Some(chunk) = state.store.next_chunk(old.batch, after).await? {
        after = chunk.number;
        for input in chunk.inputs {
            let bytes = input.to_string().len();
            staging.put(input, bytes).await?;
        }
    }
    Ok(staging)
}
