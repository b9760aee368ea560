//! `DELETE /v1/webhooks/{id}`

use axum::extract::State;
use axum::http::StatusCode;

use super::{key, unknown};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::error::Problem;
use crate::api::extract::Segment;
use crate::api::note::{NoteParameters, Noted};

/// Deletes a webhook with all its deliveries: nothing more is sent, also no retries
#[utoipa::path(
    delete, path = "/v1/webhooks/{id}", tag = "webhooks", operation_id = "deleteWebhook",
    params(("id" = String, Path, description = "The webhook's id"), NoteParameters),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn delete_webhook(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    caller: Caller,
    Segment(id): Segment,
    Noted(note): Noted,
) -> Result<StatusCode, Problem> {
    let by = caller.actor(note.by.as_deref());
    let deleted = state.store.delete_webhook(&namespace, key(&id)?, (&by, note.reason.as_deref())).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&id)) }
}
