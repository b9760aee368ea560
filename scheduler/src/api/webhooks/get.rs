//! `GET /v1/webhooks/{id}`

use axum::Json;
use axum::extract::State;

use super::find;
use super::view::View;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::Segment;

/// A webhook, without its secret
#[utoipa::path(
    get, path = "/v1/webhooks/{id}", tag = "webhooks", operation_id = "getWebhook",
    params(("id" = String, Path, description = "The webhook's id")),
    responses(
        (status = 200, body = View, description = "The webhook"),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn get_webhook(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    Segment(id): Segment,
) -> Result<Json<View>, Problem> {
    let webhook = find(&state, &namespace, &id).await?;
    Ok(Json(View::new(webhook, state.store.now().await?)))
}
