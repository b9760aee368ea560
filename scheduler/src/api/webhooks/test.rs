//! `POST /v1/webhooks/{id}:test`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::view::AttemptView;
use super::{find, keys};
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::BeforeVerb;
use crate::api::time::Instant;
use crate::webhooks::poster::Post;

/// What came of a ping.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookTest)]
pub(crate) struct Outcome {
    /// Whether it was taken.
    delivered: bool,
    /// What was posted has this `webhook-id`.
    event_id: String,
    /// The attempt.
    #[serde(flatten)]
    attempt: AttemptView,
}

/// Posts a ping now, and answers what came of it
///
/// It is signed as deliveries are, comes once, is not in the log of deliveries, and goes out also if the webhook is disabled.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}:test", tag = "webhooks", operation_id = "testWebhook",
    params(("id" = String, Path, description = "The webhook's id")),
    responses(
        (status = 200, body = Outcome, description = "What came of it, also if that was nothing good"),
        (status = 404, description = "There is none of this id in the namespace"),
        (status = 409, description = "`SecretKeyMissing`: the scheduler has no key to keep secrets by; `SecretUnreadable`: it \
            does not have the one by which this one's was kept"),
    )
)]
pub(crate) async fn test_webhook(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    BeforeVerb(id): BeforeVerb,
) -> Result<Json<Outcome>, Problem> {
    let webhook = find(&state, &namespace, &id).await?;
    let (keys, now) = (keys(&state)?, state.store.now().await?);
    let secrets = keys.signing(webhook.id, &webhook.secret, webhook.old_secret.as_ref(), now).map_err(|error| {
        let message = format!("the webhook's secret can't be decrypted: {error}");
        Problem::new(StatusCode::CONFLICT, "SecretUnreadable", message)
    })?;
    let event_id = Uuid::new_v4().to_string();
    let body = json!({
        "specversion": "1.0",
        "id": event_id,
        "source": format!("/namespaces/{namespace}/webhooks/{}", webhook.id),
        "type": "io.reveille.webhook.ping",
        "time": Instant(now).to_string(),
        "datacontenttype": "application/json",
        "data": { "webhookId": webhook.id.to_string(), "namespace": namespace },
    });
    let post = Post { id: event_id.clone(), body: body.to_string(), secrets };
    let answer = state.webhooks.poster.post(&webhook.url, post).await;
    Ok(Json(Outcome { delivered: answer.is_taken(), event_id, attempt: answer.attempt.into() }))
}
