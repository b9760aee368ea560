//! `POST /v1/schedules/{schedule}:trigger`

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use jiff::{SignedDuration, Timestamp};
use reveille_shared::store::{ByHand, Fire, FireOutcome, ScheduleRow, StoreError, Versioned};
use serde::Serialize;
use utoipa::ToSchema;

use super::fire_view::FireView;
use super::{find, key};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::dialects::azure;
use crate::api::error::Problem;
use crate::api::extract::{Base, BeforeVerb};
use crate::api::idempotency::{self, Fields, Key, KeyHeaders};
use crate::api::known::Known;
use crate::api::note::{self, Note};
use crate::api::work_requests::view::View;
use crate::plan;

/// Instants of asking that are tried, should others ask at the same one.
const MOST_TRIES: i64 = 10;

/// Who asks, and why.
#[derive(Debug, ToSchema)]
#[schema(as = TriggerScheduleRequest)]
pub(crate) struct Trigger {
    /// Who asks; default is `api`. The name and prefix of the key stand beside it.
    #[schema(min_length = 1, max_length = 100, examples("alice"))]
    by: Option<String>,
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500, examples("the file of May came late"))]
    reason: Option<String>,
}

impl FromBody for Trigger {
    fn read(body: &mut BodyFields) -> Self {
        Self { by: note::by(body), reason: note::reason(body) }
    }
}

/// A fire by hand, and its runs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Triggered {
    /// The entry in the ledger; its due time is the instant of asking.
    fire: FireView,
    /// The runs, in the order of the schedule's list.
    work_requests: Vec<View>,
}

/// Runs a schedule's jobs now
///
/// Beside its due times: those stay as they are. Exclusions, pauses and runs of earlier fires do not hold it up.
#[utoipa::path(
    post, path = "/v1/schedules/{schedule}:trigger", tag = "schedules", operation_id = "triggerSchedule",
    params(("schedule" = String, Path, description = "The schedule's name"), KeyHeaders),
    request_body(content = Option<Trigger>, content_type = "application/json"),
    responses(
        (status = 202, body = Triggered, description = "Accepted: each run will reach an end"),
        (status = 404, description = "No such schedule is in force"),
        (status = 409, description = "`JobMissing`: a job that it calls is not in force"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong, or the key was used for another request"),
    )
)]
pub(crate) async fn trigger_schedule(
    State(state): State<ApiState>,
    tenant: Tenant,
    caller: Caller,
    BeforeVerb(name): BeforeVerb,
    idempotency: Key,
    base: Base,
    Body(body): Body<Trigger>,
) -> Result<Response, Problem> {
    let operation = format!("POST /v1/schedules/{name}:trigger");
    let schedule = key(&tenant.namespace, &name)?;
    let fields = || {
        let text = |text: &Option<String>| text.clone().map(Into::into);
        Fields::default().with("by", text(&body.by)).with("reason", text(&body.reason))
    };
    let idempotency = idempotency.of(&tenant.namespace, operation, fields);
    if let Some(at) = idempotency::earlier(&state, idempotency.as_ref()).await? {
        let malformed = |error| StoreError::Malformed { what: "idempotency key", source: Box::new(error) };
        let at = at.parse::<Timestamp>().map_err(malformed)?;
        return answer(&state, &tenant, state.store.fired_by_hand(&schedule, at).await?, &base).await;
    }
    let by = caller.asker(Note { by: body.by.clone(), reason: body.reason.clone() });
    let row = find(&state, &tenant.namespace, &name).await?;
    let jobs = jobs(&state, &row).await?;
    state.queued.admit(&tenant.namespace, u32::try_from(jobs.len()).unwrap_or(u32::MAX))?;
    let now = state.store.now().await?;
    // As callers see it, so that they can ask for an explanation of this very instant.
    let now = Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now);
    for later in 0..MOST_TRIES {
        let at = now.saturating_add(SignedDuration::from_millis(later)).unwrap_or(now);
        let (fire, requests) = plan::fire_by_hand(&row, &jobs, &by, at);
        match state.store.fire_by_hand(fire.clone(), requests, idempotency.as_ref()).await? {
            ByHand::Collides => {}
            ByHand::Fired(ids) => {
                return answer(&state, &tenant, Fire { outcome: FireOutcome::Triggered(ids), ..fire }, &base).await;
            }
            ByHand::Repeated(fire) => return answer(&state, &tenant, *fire, &base).await,
            ByHand::KeyReused(fields) => return Err(idempotency::reused(fields)),
        }
    }
    Err(Problem::unavailable("too many ask for this schedule at the same instant; try again", 1))
}

/// The answer about a fire that is recorded. If it calls for one run, its headers say how to follow that.
async fn answer(state: &ApiState, tenant: &Tenant, fire: Fire, base: &Base) -> Result<Response, Problem> {
    let ids = match &fire.outcome {
        FireOutcome::Triggered(ids) => ids.as_slice(),
        FireOutcome::Skipped(..) => &[],
    };
    let mut runs = Vec::with_capacity(ids.len());
    for id in ids {
        runs.push(Known::load(state, tenant, &id.to_string()).await?);
    }
    let headers = match &runs[..] {
        [run] => azure::headers(base, run),
        _ => HeaderMap::new(),
    };
    let triggered = Triggered { fire: FireView::from(fire), work_requests: runs.into_iter().map(View::from).collect() };
    Ok((StatusCode::ACCEPTED, headers, Json(triggered)).into_response())
}

async fn jobs(
    state: &ApiState,
    row: &ScheduleRow,
) -> Result<Vec<Arc<Versioned<reveille_shared::definition::Job>>>, Problem> {
    let mut jobs = Vec::with_capacity(row.schedule.trigger.len());
    for name in &row.schedule.trigger {
        match state.store.job(&row.schedule.namespace, name).await? {
            Some(job) => jobs.push(Arc::new(job)),
            None => {
                let message = format!("job {name}, which schedule {} calls, is not in force", row.schedule.name);
                return Err(Problem::new(StatusCode::CONFLICT, "JobMissing", message));
            }
        }
    }
    Ok(jobs)
}
