//! `DELETE /v1/webhooks/{id}`

use axum::extract::State;
use axum::http::StatusCode;

use super::{key, unknown};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::error::Problem;
use crate::api::extract::Segment;

/// Deletes a webhook with all its deliveries: nothing more is sent, also no retries
#[utoipa::path(
    delete, path = "/v1/webhooks/{id}", tag = "webhooks", operation_id = "deleteWebhook",
    params(("id" = String, Path, description = "The webhook's id")),
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
) -> Result<StatusCode, Problem> {
    let deleted = state.store.delete_webhook(&namespace, key(&id)?, (&caller.actor(None), None)).await?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&id)) }
}
