//! `POST /v1/workRequests/{id}:claim`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reveille_shared::definition::Handler;
use reveille_shared::state::Refusal;
use reveille_shared::store::{Claim, ExternalClaim, ExternalLease};
use reveille_shared::trigger::{self, Trigger};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::find;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::{Fault, Problem};
use crate::api::extract::BeforeVerb;
use crate::api::time::Instant;

/// A worker's request for a lease.
#[derive(Debug, ToSchema)]
#[schema(as = ClaimRequest)]
pub(crate) struct Wanted {
    /// `n` of the trigger.
    #[schema(value_type = i64, minimum = 0, maximum = 4_294_967_295u32)]
    n: u32,
    /// The worker's name, for people: the same after a restart.
    #[schema(max_length = 100)]
    worker: String,
    /// Chosen by the worker, fresh for each trigger: what it does under the lease, it does under this token. A secret.
    #[schema(value_type = Uuid)]
    token: Option<Uuid>,
}

impl FromBody for Wanted {
    fn read(body: &mut BodyFields) -> Self {
        let (n, worker, token) = (body.number("n", 0, u32::MAX), body.line("worker", 100), body.token());
        let missing = [("n", n.is_none()), ("worker", worker.is_none())];
        for (name, _) in missing.into_iter().filter(|(_, missing)| *missing) {
            body.missing(name);
        }
        Self { n: n.unwrap_or_default(), worker: worker.unwrap_or_default(), token }
    }
}

/// What a worker has to do, and until when.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ClaimedRun)]
pub(crate) struct Claimed {
    /// The work request: the same for all attempts, so it serves as an idempotency key.
    id: String,
    /// The tenant.
    namespace: String,
    /// The job.
    job: String,
    /// Counts from 1.
    attempt: u32,
    /// What the run was given.
    input: Value,
    /// The schedule that called for it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// The due time; for a run that no schedule called for, when it was accepted.
    scheduled_for: Instant,
    /// When it was accepted.
    time_accepted: Instant,
    /// How long the attempt may take, like `10m`.
    timeout: String,
    /// When the attempt is taken for lost, whatever its worker says.
    deadline: Instant,
    /// When the lease ends unless the worker gives a sign of life.
    lease_until: Instant,
    /// How long the worker may be silent from each sign of life on, in seconds.
    lease_seconds: u64,
    /// Someone has asked for the run to stop.
    canceling: bool,
    /// An attempt before this one was lost, and whether it took effect is not known.
    doubt: bool,
}

/// Gives a worker in another language a lease, if it is the first to ask
///
/// For jobs with `external`. Repeated with the same token, it gives the same lease. Acknowledge the trigger's delivery once
/// this is answered: with 200 run it; with 404, 409 or 410 forget it, but reject it with `NotExternal`; with 5xx or without
/// an answer ask again with the same token.
#[utoipa::path(
    post, path = "/v1/workRequests/{id}:claim", tag = "workers", operation_id = "claimWorkRequest",
    params(("id" = String, Path, description = "`id` of the trigger")),
    request_body(content = Wanted, content_type = "application/json"),
    responses(
        (status = 200, body = Claimed, description = "The lease, and what to run"),
        (status = 404, description = "There is none of this id in the namespace: acknowledge the delivery and forget it"),
        (status = 409, description = "`Taken`: another worker has it, or a newer trigger is out: acknowledge the delivery and forget it. `NotExternal`: workers of Reveille run this job: reject the delivery"),
        (status = 410, description = "`Ended`, or `Marker`: there is nothing to run: acknowledge the delivery and forget it"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong, or the token was used before"),
    )
)]
pub(crate) async fn claim_work_request(
    State(state): State<ApiState>,
    tenant: Result<Tenant, Problem>,
    BeforeVerb(id): BeforeVerb,
    Body(Wanted { n, worker, token }): Body<Wanted>,
) -> Result<Json<Claimed>, Problem> {
    // A marker is of no namespace: its message names none, and so does the worker.
    if n == 0 {
        return Err(marker(&state, &id).await?);
    }
    let tenant = tenant?;
    let token = token.unwrap_or_default();
    let request = find(&state, &tenant, &id).await?;
    let job = state.store.job_version(&tenant.namespace, &request.job, request.job_version).await?;
    let terms = job.and_then(|job| match job.handler {
        Handler::External(work) => Some((work.lease, job.retry, job.timeout)),
        _ => None,
    });
    let Some((lease, retry, timeout)) = terms else {
        let message =
            format!("job {} is not external: Reveille's own workers run it; reject the delivery", request.job);
        return Err(Problem::new(StatusCode::CONFLICT, "NotExternal", message));
    };
    let claim = Claim { id: request.id, n, token };
    let wanted = ExternalClaim { claim, worker, queue: request.queue, lease, retry };
    let ExternalLease { claimed, deadline, until } = match state.store.claim_external(&wanted).await? {
        Ok(lease) => lease,
        Err(Refusal::Ended) => return Err(gone("Ended", format!("work request {id} has ended: forget it"))),
        Err(Refusal::StaleToken) => return Err(used()),
        Err(_) => {
            let message = "another worker has it, or a newer trigger is out: acknowledge this one and forget it";
            return Err(Problem::new(StatusCode::CONFLICT, "Taken", message));
        }
    };
    let (schedule, scheduled_for) = match claimed.fire {
        Some(fire) => (Some(fire.schedule), fire.due_at),
        None => (None, claimed.accepted_at),
    };
    Ok(Json(Claimed {
        id: claimed.id.to_string(),
        namespace: claimed.namespace,
        job: claimed.job,
        attempt: claimed.attempt,
        input: claimed.input,
        schedule,
        scheduled_for: scheduled_for.into(),
        time_accepted: claimed.accepted_at.into(),
        timeout: timeout.to_string(),
        deadline: deadline.into(),
        lease_until: until.into(),
        lease_seconds: lease.get().as_secs(),
        canceling: claimed.canceling,
        doubt: claimed.doubt,
    }))
}

/// A message that only shows that those before it have come through, which it has.
async fn marker(state: &ApiState, id: &str) -> Result<Problem, Problem> {
    if let Ok(id) = id.parse() {
        let marker = Trigger { v: trigger::VERSION, id, n: 0, namespace: String::new(), job: String::new() };
        state.store.marker_back(&marker).await?;
    }
    Ok(gone("Marker", "a marker, thank you: it names no work request; acknowledge it and forget it".to_owned()))
}

fn gone(code: &str, message: String) -> Problem {
    Problem::new(StatusCode::GONE, code, message)
}

fn used() -> Problem {
    let message = "was used for an earlier lease: choose a fresh one for each trigger".to_owned();
    Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, vec![Fault { field: "token".to_owned(), message }])
}
