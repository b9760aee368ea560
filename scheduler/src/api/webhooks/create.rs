//! `POST /v1/webhooks`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse as _, Response};
use reveille_shared::state::Status;
use reveille_shared::store::{NewWebhook, Webhook, WebhookFilter};
use reveille_shared::work_request::WorkRequestId;
use utoipa::ToSchema;

use super::view::{View, WithSecret};
use super::{BY_REQUEST, fields, judge, keys};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::Problem;
use crate::api::extract::Base;
use crate::api::note;
use crate::api::work_requests::view::StatusName;
use crate::webhooks::secrets::SigningSecret;

/// Webhooks of a namespace at most.
const MOST: i64 = 100;

/// Who wants to be told, and what.
#[derive(Debug, ToSchema)]
#[schema(as = CreateWebhookRequest, rename_all = "camelCase")]
pub(crate) struct Ask {
    /// Where to post to: http or https. A private address only where the scheduler's configuration allows it.
    #[schema(value_type = String, max_length = 2048, pattern = "^https?://", examples("https://portal.example.com/hooks/reveille"))]
    url: String,
    /// What it is for: one line.
    #[schema(min_length = 1, max_length = 200, examples("the customers' portal"))]
    description: Option<String>,
    /// Only runs of these jobs.
    #[schema(value_type = Option<Vec<String>>, max_items = 100)]
    jobs: Vec<String>,
    /// Only runs that these schedules have called for.
    #[schema(value_type = Option<Vec<String>>, max_items = 100)]
    schedules: Vec<String>,
    /// What leads to one of these is told; default is how runs end: SUCCEEDED, FAILED, CANCELED.
    #[schema(value_type = Option<Vec<StatusName>>, min_items = 1, max_items = 6)]
    statuses: Vec<Status>,
    /// Whether anything is sent; default is true.
    #[schema(value_type = Option<bool>, default = true)]
    enabled: bool,
    /// Who asks; the name of the key stands behind it.
    #[schema(min_length = 1, max_length = 100)]
    by: Option<String>,
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500)]
    reason: Option<String>,
}

impl FromBody for Ask {
    fn read(body: &mut BodyFields) -> Self {
        let url = fields::url(body);
        if url.is_none() {
            body.missing("url");
        }
        Self {
            url: url.unwrap_or_default(),
            description: fields::description(body).flatten(),
            jobs: fields::names(body, "jobs").unwrap_or_default(),
            schedules: fields::names(body, "schedules").unwrap_or_default(),
            statuses: fields::statuses(body).unwrap_or_else(|| fields::ENDS.to_vec()),
            enabled: fields::enabled(body).unwrap_or(true),
            by: note::by(body),
            reason: note::reason(body),
        }
    }
}

/// Has it posted what happens to runs from now on
///
/// Deliveries are CloudEvents, signed as the Standard Webhooks specification says by the secret of the answer, which is shown
/// this once. Of each run they come in order, at least once, and are repeated for three days.
#[utoipa::path(
    post, path = "/v1/webhooks", tag = "webhooks", operation_id = "createWebhook",
    request_body(content = Ask, content_type = "application/json"),
    responses(
        (status = 201, body = WithSecret, description = "The webhook, with its secret",
            headers(("Location" = String, description = "Where it is"))),
        (status = 409, description = "`TooManyWebhooks`: the namespace has 100; `SecretKeyMissing`: the scheduler has no key \
            to keep secrets by"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong, or the URL is not allowed"),
    )
)]
pub(crate) async fn create_webhook(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    caller: Caller,
    Base(base): Base,
    Body(ask): Body<Ask>,
) -> Result<Response, Problem> {
    judge(&ask.url, state.webhooks.poster.allowed())?;
    let (keys, now) = (keys(&state)?, state.store.now().await?);
    let (id, secret) = (WorkRequestId::new(now).0, SigningSecret::generate());
    let filter = WebhookFilter { jobs: ask.jobs, schedules: ask.schedules, statuses: ask.statuses };
    let mut webhook = Webhook::new(id, &namespace, &ask.url, filter, keys.seal(id, &secret));
    webhook.description = ask.description;
    if !ask.enabled {
        webhook.disable(now, BY_REQUEST);
    }
    let by = caller.actor(ask.by.as_deref());
    match state.store.create_webhook(webhook, MOST, (&by, ask.reason.as_deref())).await? {
        NewWebhook::Made(made) => {
            let location = [(LOCATION, format!("{base}/v1/webhooks/{id}"))];
            let body = WithSecret { webhook: View::new(*made, now), secret: secret.shown() };
            Ok((StatusCode::CREATED, location, Json(body)).into_response())
        }
        NewWebhook::TooMany => {
            let message = format!("the namespace has {MOST} webhooks already, which is the most: delete one first");
            Err(Problem::new(StatusCode::CONFLICT, "TooManyWebhooks", message))
        }
    }
}
