//! `POST /v1/schedules/{schedule}:backfill`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use reveille_shared::due::{DueTimes, Stretch};
use reveille_shared::store::{Backfill, BackfillVerdict, NewBackfill, just_before};
use reveille_shared::work_request::WorkRequestId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::view::View;
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::{Fault, Problem};
use crate::api::extract::{BeforeVerb, Name};
use crate::api::idempotency::{self, Fields, Key, KeyHeaders};
use crate::api::note;
use crate::api::schedules::{due_times, find, key};
use crate::api::time::Instant;

/// Due times of one backfill at most.
const MOST_DUE_TIMES: i64 = 100_000;

/// Which due times are made up for, and how.
#[derive(Debug, ToSchema)]
#[schema(as = BackfillRequest, rename_all = "camelCase")]
pub(crate) struct Ask {
    /// Due times from this instant on …
    #[schema(value_type = Instant)]
    from: Timestamp,
    /// … up to and including this one, which is not in the future. At most 100,000 due times.
    #[schema(value_type = Instant)]
    to: Timestamp,
    /// The most fires whose runs have not ended at one time; default is 1.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 1)]
    max_parallel: u32,
    /// Names the backfill: asked for twice under one id, it is made once. Without it, a fresh one is made.
    #[schema(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$", examples("invoices-of-may"))]
    id: Option<String>,
    /// Only say what would be done.
    #[schema(value_type = Option<bool>, default = false)]
    dry_run: bool,
    /// Who asks; default is `api`. The name and prefix of the key stand beside it.
    #[schema(min_length = 1, max_length = 100, examples("alice"))]
    by: Option<String>,
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500, examples("the database was away from 02:00 to 05:00"))]
    reason: Option<String>,
}

impl FromBody for Ask {
    fn read(body: &mut BodyFields) -> Self {
        let (from, to) = (body.instant("from"), body.instant("to"));
        if let (Some(from), Some(to)) = (from, to)
            && from > to
        {
            body.fault("to", format!("is before from: {} comes after {}", Instant(from), Instant(to)));
        }
        Self {
            from: from.unwrap_or_default(),
            to: to.unwrap_or_default(),
            max_parallel: body.number("maxParallel", 1, 1000).unwrap_or(1),
            id: body.parsed::<Name>("id").map(|Name(id)| id),
            dry_run: body.flag("dryRun"),
            by: note::by(body),
            reason: note::reason(body),
        }
    }
}

/// What a backfill would do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BackfillDryRun)]
struct DryRun {
    /// Always true: nothing was done.
    dry_run: bool,
    /// Due times in the range.
    total: i64,
    /// Those of them on days that `except` or `only` leaves out: they are recorded as skipped.
    excluded: usize,
    /// The first due time.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<Instant>,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<Instant>,
}

/// Makes up for due times of a past range
///
/// Each of them is decided once more for this backfill, whatever was decided at its time: it triggers, or is skipped on an
/// excluded day. The schedule itself goes on as ever.
#[utoipa::path(
    post, path = "/v1/schedules/{schedule}:backfill", tag = "schedules", operation_id = "backfillSchedule",
    params(("schedule" = String, Path, description = "The schedule's name"), KeyHeaders),
    request_body(content = Ask, content_type = "application/json"),
    responses(
        (status = 200, body = DryRun, description = "What would be done, as `dryRun` asked"),
        (status = 202, body = View, description = "Accepted, now or before under the same id: all of it will be done"),
        (status = 404, description = "No such schedule is in force"),
        (status = 409, description = "`BackfillDiffers`: the id stands for another range or another maxParallel"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong: the range is reversed, ends in the future, holds no \
            due time or more than 100,000; or the key was used for another request"),
    )
)]
pub(crate) async fn backfill(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    BeforeVerb(name): BeforeVerb,
    caller: Caller,
    idempotency: Key,
    Body(ask): Body<Ask>,
) -> Result<Response, Problem> {
    let key = key(&namespace, &name)?;
    let operation = format!("POST /v1/schedules/{name}:backfill");
    // To ask what would be done needs no name: nothing is.
    let idempotency = idempotency.of(&namespace, operation, || fields(&ask)).filter(|_| !ask.dry_run);
    if let Some(id) = idempotency::earlier(&state, idempotency.as_ref()).await? {
        let known = state.store.backfill(&key, &id).await?.ok_or_else(|| Problem::not_found("backfill", &id))?;
        return answer(&ask, known);
    }
    // What was asked for before is answered before all checks: the schedule may have changed since.
    if let (Some(id), false) = (&ask.id, ask.dry_run)
        && let Some(known) = state.store.backfill(&key, id).await?
    {
        return answer(&ask, known);
    }
    let row = find(&state, &namespace, &name).await?;
    let due = due_times(&row.schedule)?;
    let now = state.store.now().await?;
    let stretch = stretch(&due, &ask, now)?;
    if ask.dry_run {
        let dues = due.between(just_before(stretch.first), stretch.last);
        let excluded = dues.filter(|due_at| due.exclusion(&row.schedule, *due_at).is_some()).count();
        let (first, last) = (Some(stretch.first.into()), Some(stretch.last.into()));
        return Ok(Json(DryRun { dry_run: true, total: stretch.count, excluded, first, last }).into_response());
    }
    let new = NewBackfill {
        key,
        id: ask.id.clone().unwrap_or_else(|| WorkRequestId::new(now).to_string()),
        schedule: row.schedule,
        version: row.version,
        from: ask.from,
        to: ask.to,
        total: stretch.count,
        max_parallel: ask.max_parallel,
        by: caller.actor(ask.by.as_deref()),
        reason: ask.reason.clone(),
    };
    match state.store.create_backfill(new, idempotency.as_ref()).await? {
        BackfillVerdict::New(made) | BackfillVerdict::Repeated(made) | BackfillVerdict::Other(made) => {
            answer(&ask, *made)
        }
        BackfillVerdict::KeyReused(fields) => Err(idempotency::reused(fields)),
    }
}

/// Tells this request from another one.
fn fields(ask: &Ask) -> Fields {
    Fields::default()
        .with("from", Some(ask.from.to_string().into()))
        .with("to", Some(ask.to.to_string().into()))
        .with("maxParallel", Some(ask.max_parallel.into()))
        .with("id", ask.id.clone().map(Value::from))
        .with("by", ask.by.clone().map(Into::into))
        .with("reason", ask.reason.clone().map(Value::from))
}

/// The due times that are asked for.
fn stretch(due: &DueTimes, ask: &Ask, now: Timestamp) -> Result<Stretch, Problem> {
    let wrong = |field: &str, message: String| {
        let fault = Fault { field: field.to_owned(), message };
        Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, vec![fault]))
    };
    let (from, to) = (Instant(ask.from), Instant(ask.to));
    if ask.to > now {
        return wrong("to", format!("{to} is in the future: it is {} now", Instant(now)));
    }
    match due.stretch(just_before(ask.from), ask.to) {
        Some(Stretch { count, .. }) if count > MOST_DUE_TIMES => wrong(
            "from",
            format!(
                "from {from} to {to} are {count} due times, and the most is {MOST_DUE_TIMES}: choose a shorter range"
            ),
        ),
        Some(stretch) => Ok(stretch),
        None => {
            let next = due.next_after(ask.from).map(|next| format!("; the next is {}", Instant(next)));
            wrong("from", format!("there is no due time from {from} to {to}{}", next.unwrap_or_default()))
        }
    }
}

/// The answer about a backfill that is there, if it is the one that was asked for.
fn answer(ask: &Ask, made: Backfill) -> Result<Response, Problem> {
    let asked = &made.asked;
    // As the databases keep them.
    let micros = |at: Timestamp| at.as_microsecond();
    if (micros(asked.from), micros(asked.to), asked.max_parallel)
        == (micros(ask.from), micros(ask.to), ask.max_parallel)
    {
        return Ok((StatusCode::ACCEPTED, Json(View::from(made))).into_response());
    }
    let message = format!(
        "backfill {} of this schedule is from {} to {} with maxParallel {}: use another id for another range",
        asked.id,
        Instant(asked.from),
        Instant(asked.to),
        asked.max_parallel
    );
    Err(Problem::new(StatusCode::CONFLICT, "BackfillDiffers", message))
}
