//! `POST /v1/workRequests:cancel`

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use reveille_shared::state::Status;
use reveille_shared::store::ListFilter;
use reveille_shared::work_request::WorkRequestId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::Problem;
use crate::api::extract::Name;
use crate::api::note::{self, Note};
use crate::api::time::Instant;

/// Canceled in one transaction; the locks of one are short.
const BATCH: i64 = 500;
/// The most that one request cancels.
const MOST: usize = 100_000;
/// Members that say which runs.
const WHICH: [&str; 6] = ["job", "schedule", "parent", "status", "acceptedAfter", "acceptedBefore"];

/// Which of the work requests that have not ended: those that all of its members let through.
#[derive(Debug, ToSchema)]
#[schema(as = CancelRequest, rename_all = "camelCase")]
pub(crate) struct Cancel {
    /// Only of this job.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    job: Option<Name>,
    /// Only called for by this schedule.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    schedule: Option<Name>,
    /// Only children of this work request.
    #[schema(value_type = Option<uuid::Uuid>)]
    parent: Option<WorkRequestId>,
    /// Only in one of these states: `ACCEPTED`, `IN_PROGRESS`, `CANCELING`.
    #[schema(value_type = Option<Vec<UnendedName>>, min_items = 1)]
    status: Vec<Status>,
    /// Only accepted at this instant or later.
    #[schema(value_type = Option<Instant>)]
    accepted_after: Option<Timestamp>,
    /// Only accepted before this instant.
    #[schema(value_type = Option<Instant>)]
    accepted_before: Option<Timestamp>,
    /// All of the namespace: needed where no member above says which, so that nobody cancels everything by leaving something out.
    #[schema(value_type = Option<bool>)]
    all: bool,
    /// Only say how many there are.
    #[schema(value_type = Option<bool>)]
    dry_run: bool,
    /// Who asks, for the histories; default is `api`. The name and prefix of the key stand beside it.
    #[schema(max_length = 200)]
    by: Option<String>,
    /// Why, in your words: one line.
    #[schema(max_length = 500)]
    reason: Option<String>,
}

impl FromBody for Cancel {
    fn read(body: &mut BodyFields) -> Self {
        let says_which = WHICH.iter().any(|member| body.has(member));
        let read = Self {
            job: body.parsed("job"),
            schedule: body.parsed("schedule"),
            parent: body.parsed("parent"),
            status: statuses(body),
            accepted_after: body.maybe_instant("acceptedAfter"),
            accepted_before: body.maybe_instant("acceptedBefore"),
            all: body.flag("all"),
            dry_run: body.flag("dryRun"),
            by: body.line("by", 200),
            reason: note::reason(body),
        };
        if says_which && read.all {
            body.fault("all", "does not go together with members that say which ones");
        }
        if !says_which && !read.all && !read.dry_run {
            let which = WHICH.join(", ");
            body.fault("all", format!("must be true, or say which ones with {which}: nothing was canceled"));
        }
        read
    }
}

/// A status of a work request that has not ended.
#[derive(ToSchema)]
#[schema(as = UnendedStatus, rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(dead_code, reason = "declares the words to the OpenAPI document")]
pub(crate) enum UnendedName {
    Accepted,
    InProgress,
    Canceling,
}

fn statuses(body: &mut BodyFields) -> Vec<Status> {
    const EXPECTED: &str = "must be a list of ACCEPTED, IN_PROGRESS and CANCELING";
    let items = match body.take("status") {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(items)) if !items.is_empty() => items,
        Some(_) => {
            body.fault("status", EXPECTED);
            return Vec::new();
        }
    };
    let parse = |item: &Value| item.as_str()?.parse().ok().filter(|status: &Status| !status.is_terminal());
    let parsed: Option<Vec<_>> = items.iter().map(parse).collect();
    if parsed.is_none() {
        body.fault("status", EXPECTED);
    }
    parsed.unwrap_or_default()
}

/// What became of them.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CancelAnswer)]
pub(crate) struct Answer {
    /// How many there were.
    matched: usize,
    /// How many are CANCELED now.
    canceled: usize,
    /// How many run, and their workers have been asked to stop them.
    canceling: usize,
    /// Nothing was canceled: it was only asked how many there are.
    dry_run: bool,
    /// There are more than one request cancels: ask again.
    more: bool,
}

/// Cancels many work requests at once
///
/// As many transactions as it takes: what waits is CANCELED at once, and what runs is asked to stop. Up to 100,000 with one
/// request. Those accepted meanwhile may be missed.
#[utoipa::path(
    post, path = "/v1/workRequests:cancel", tag = "workRequests", operation_id = "cancelWorkRequests",
    request_body(content = Cancel, content_type = "application/json"),
    responses(
        (status = 200, body = Answer, description = "How many"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong, or none says which ones"),
    )
)]
pub(crate) async fn cancel_work_requests(
    State(state): State<ApiState>,
    tenant: Tenant,
    caller: Caller,
    Body(body): Body<Cancel>,
) -> Result<Json<Answer>, Problem> {
    let mut filter = ListFilter {
        namespace: tenant.namespace.clone(),
        jobs: tenant.jobs,
        job: body.job.map(|Name(job)| job),
        schedule: body.schedule.map(|Name(schedule)| schedule),
        parent: body.parent,
        status: body.status,
        accepted_after: body.accepted_after,
        accepted_before: body.accepted_before,
        ..ListFilter::default()
    };
    let by = caller.asker(Note { by: body.by, reason: body.reason });
    let mut answer = Answer { dry_run: body.dry_run, ..Answer::default() };
    loop {
        let these = state.store.unended(&filter, BATCH).await?;
        let Some(last) = these.last().copied() else { break };
        if answer.matched + these.len() > MOST {
            answer.more = true;
            break;
        }
        answer.matched += these.len();
        if !body.dry_run {
            let done = state.store.cancel_all(&tenant.namespace, &these, by.clone()).await?;
            answer.canceled += done.canceled;
            answer.canceling += done.canceling;
        }
        filter.after = Some(last);
    }
    Ok(Json(answer))
}
