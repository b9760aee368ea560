//! `POST /v1/webhooks/{id}/deliveries/{delivery}:redeliver`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reveille_shared::store::Redelivery;

use super::deliveries::unknown;
use super::find;
use super::view::DeliveryView;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::TwoSegments;

/// Posts a delivery once more, whatever came of it before
///
/// It has the same `webhook-id`: a receiver that has taken it before may pass over it. One that waits for its next attempt has
/// that now.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}/deliveries/{delivery}:redeliver", tag = "webhooks", operation_id = "redeliver",
    params(
        ("id" = String, Path, description = "The webhook's id"),
        ("delivery" = String, Path, description = "The delivery's id"),
    ),
    responses(
        (status = 202, body = DeliveryView, description = "It will be posted at once"),
        (status = 404, description = "There is none of this id"),
        (status = 409, description = "`WebhookDisabled`: enable the webhook first; `UnderWay`: it is being posted; `Waits`: an \
            earlier entry of its run goes first"),
    )
)]
pub(crate) async fn redeliver(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    TwoSegments(id, last): TwoSegments,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    let delivery = last.rsplit_once(':').map_or(last.as_str(), |(delivery, _)| delivery);
    let webhook = find(&state, &namespace, &id).await?;
    let key = delivery.parse().map_err(|_| unknown(delivery))?;
    let refused = |code: &str, message: &str| Err(Problem::new(StatusCode::CONFLICT, code, message));
    if webhook.disabled.is_some() {
        return refused("WebhookDisabled", "the webhook is disabled: enable it first");
    }
    match state.store.redeliver(webhook.id, key).await? {
        Redelivery::Queued(known) => Ok((StatusCode::ACCEPTED, Json((*known).into()))),
        Redelivery::UnderWay => refused("UnderWay", "it is being posted: see what comes of that"),
        Redelivery::Waits => refused("Waits", "an earlier entry of its run goes first"),
        Redelivery::Unknown => Err(unknown(delivery)),
    }
}
