//! `DELETE /v1/schedules/{schedule}/backfills/{id}`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::view::View;
use super::{find, unknown};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::error::Problem;
use crate::api::extract::TwoSegments;
use crate::api::note::{NoteParameters, Noted};

/// Stops a backfill and cancels its runs
///
/// Repeating it is harmless. One that is done stays done.
#[utoipa::path(
    delete, path = "/v1/schedules/{schedule}/backfills/{id}", tag = "schedules", operation_id = "cancelBackfill",
    params(
        ("schedule" = String, Path, description = "The schedule's name"),
        ("id" = String, Path, description = "The backfill's id"),
        NoteParameters,
    ),
    responses(
        (status = 202, body = View, description = "How it stands now: no further fire is made, and its runs are asked to stop"),
        (status = 404, description = "There is none of this id"),
    )
)]
pub(crate) async fn cancel_backfill(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    caller: Caller,
    TwoSegments(schedule, id): TwoSegments,
    Noted(note): Noted,
) -> Result<(StatusCode, Json<View>), Problem> {
    let key = find(&state, &namespace, &schedule, &id).await?.asked.key;
    let canceled = state.store.cancel_backfill(&key, &id, caller.asker(note)).await?.ok_or_else(|| unknown(&id))?;
    Ok((StatusCode::ACCEPTED, Json(canceled.into())))
}
