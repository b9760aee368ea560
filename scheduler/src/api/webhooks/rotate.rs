//! `POST /v1/webhooks/{id}:rotateSecret`

use axum::Json;
use axum::extract::State;
use jiff::SignedDuration;
use reveille_shared::duration::HumanDuration;
use reveille_shared::store::{Action, Webhook};
use utoipa::ToSchema;

use super::view::{View, WithSecret};
use super::{find, key, keys, unknown};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::Problem;
use crate::api::extract::BeforeVerb;
use crate::api::note;
use crate::webhooks::secrets::SigningSecret;

/// How long the old secret signs too, unless something else is asked for, and at most.
const KEEP: SignedDuration = SignedDuration::from_hours(24);
const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How the secrets change over.
#[derive(Debug, ToSchema)]
#[schema(as = RotateSecretRequest, rename_all = "camelCase")]
pub(crate) struct Ask {
    /// How long the secret before this one signs too: up to `30d`, and `0s` if it has become known to others. Default is `24h`.
    #[schema(value_type = Option<String>, examples("24h"), pattern = "^(?=.)([0-9]{1,4}d)?([0-9]{1,4}h)?([0-9]{1,4}m)?([0-9]{1,4}s)?([0-9]{1,4}ms)?$")]
    keep_old_for: SignedDuration,
    /// Who asks; the name of the key stands behind it.
    #[schema(min_length = 1, max_length = 100)]
    by: Option<String>,
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500)]
    reason: Option<String>,
}

impl FromBody for Ask {
    fn read(body: &mut BodyFields) -> Self {
        let given = body.parsed::<HumanDuration>("keepOldFor").map(HumanDuration::signed);
        if given.is_some_and(|given| given > LONGEST) {
            body.fault("keepOldFor", "must be at most 30d");
        }
        Self { keep_old_for: given.unwrap_or(KEEP), by: note::by(body), reason: note::reason(body) }
    }
}

/// Gives a webhook another secret
///
/// For a while both sign each delivery, so that receivers can change over without missing any.
#[utoipa::path(
    post, path = "/v1/webhooks/{id}:rotateSecret", tag = "webhooks", operation_id = "rotateWebhookSecret",
    params(("id" = String, Path, description = "The webhook's id")),
    request_body(content = Option<Ask>, content_type = "application/json"),
    responses(
        (status = 200, body = WithSecret, description = "The webhook, with its new secret"),
        (status = 404, description = "There is none of this id in the namespace"),
        (status = 409, description = "`SecretKeyMissing`: the scheduler has no key to keep secrets by"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong"),
    )
)]
pub(crate) async fn rotate_secret(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    caller: Caller,
    BeforeVerb(id): BeforeVerb,
    Body(ask): Body<Ask>,
) -> Result<Json<WithSecret>, Problem> {
    // Whether it is there comes first.
    find(&state, &namespace, &id).await?;
    let (key, keys, secret) = (key(&id)?, keys(&state)?, SigningSecret::generate());
    let sealed = keys.seal(key, &secret);
    let rotate = |webhook: &mut Webhook, now| webhook.rotate(sealed, now, ask.keep_old_for);
    let by = caller.actor(ask.by.as_deref());
    let done = Some((Action::Rotated, (by.as_str(), ask.reason.as_deref())));
    let webhook = state.store.change_webhook(&namespace, key, rotate, done).await?.ok_or_else(|| unknown(&id))?;
    let now = state.store.now().await?;
    Ok(Json(WithSecret { webhook: View::new(webhook, now), secret: secret.shown() }))
}
