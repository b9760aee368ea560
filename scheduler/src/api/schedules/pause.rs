//! `POST /v1/schedules/{schedule}:pause`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reveille_shared::store::{PauseVerdict, ScheduleRow};

use super::view::View;
use super::{key, unknown};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::extract::BeforeVerb;
use crate::api::note::Note;
use crate::api::time::Instant;

/// Pauses a schedule
///
/// From the answer on no due time triggers; what is due meanwhile is recorded as skipped when it is resumed. Runs that
/// go on are left alone, and triggering by hand is still possible.
#[utoipa::path(
    post, path = "/v1/schedules/{schedule}:pause", tag = "schedules", operation_id = "pauseSchedule",
    params(("schedule" = String, Path, description = "The schedule's name")),
    request_body(content = Option<Note>, content_type = "application/json"),
    responses(
        (status = 200, body = View, description = "The schedule, paused"),
        (status = 404, description = "No such schedule is in force"),
        (status = 409, description = "`AlreadyPaused`: it is paused already; `detail` says by whom, since when and why"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong"),
    )
)]
pub(crate) async fn pause_schedule(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    caller: Caller,
    BeforeVerb(name): BeforeVerb,
    Body(note): Body<Note>,
) -> Result<Json<View>, Problem> {
    match state.store.pause(&key(&namespace, &name)?, &caller.actor(note.by.as_deref()), note.reason.as_deref()).await?
    {
        PauseVerdict::Done(row) => Ok(Json(View::from(*row))),
        PauseVerdict::Already(row) => Err(already(&name, &row)),
        PauseVerdict::Unknown => Err(unknown(&name)),
    }
}

fn already(name: &str, row: &ScheduleRow) -> Problem {
    let mut message = format!("schedule {name} is paused already");
    if let Some(pause) = &row.pause {
        message += &format!(": by {} at {}", pause.by, Instant(pause.at));
        message.extend(pause.reason.iter().map(|reason| format!(", because of: {reason}")));
    }
    Problem::new(StatusCode::CONFLICT, "AlreadyPaused", message)
}
