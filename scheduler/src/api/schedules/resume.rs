//! `POST /v1/schedules/{schedule}:resume`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reveille_shared::store::PauseVerdict;

use super::view::View;
use super::{key, unknown};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::extract::BeforeVerb;
use crate::api::note::Note;

/// Resumes a schedule
///
/// It is due again from now on. What was due while it was paused is recorded as skipped, as one stretch, and is not made
/// up for: a backfill does that.
#[utoipa::path(
    post, path = "/v1/schedules/{schedule}:resume", tag = "schedules", operation_id = "resumeSchedule",
    params(("schedule" = String, Path, description = "The schedule's name")),
    request_body(content = Option<Note>, content_type = "application/json"),
    responses(
        (status = 200, body = View, description = "The schedule, due again"),
        (status = 404, description = "No such schedule is in force"),
        (status = 409, description = "`NotPaused`: it is not paused"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong"),
    )
)]
pub(crate) async fn resume_schedule(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    caller: Caller,
    BeforeVerb(name): BeforeVerb,
    Body(note): Body<Note>,
) -> Result<Json<View>, Problem> {
    match state
        .store
        .resume(&key(&namespace, &name)?, &caller.actor(note.by.as_deref()), note.reason.as_deref())
        .await?
    {
        PauseVerdict::Done(row) => Ok(Json(View::from(*row))),
        PauseVerdict::Already(_) => {
            Err(Problem::new(StatusCode::CONFLICT, "NotPaused", format!("schedule {name} is not paused")))
        }
        PauseVerdict::Unknown => Err(unknown(&name)),
    }
}
