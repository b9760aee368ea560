//! `POST /v1/keys/{prefix}:rotate`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::SignedDuration;
use reveille_shared::access::KeyText;
use reveille_shared::duration::HumanDuration;
use utoipa::ToSchema;

use super::view::{Revealed, View};
use super::{find_to_change, fresh, has_changed};
use crate::api::ApiState;
use crate::api::access::Caller;
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::Problem;
use crate::api::extract::BeforeVerb;
use crate::api::note;

/// How long the present secret is good unless the caller says otherwise, and at most.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);
const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How long two secrets are good.
#[derive(Debug, ToSchema)]
#[schema(as = RotateRequest)]
pub(crate) struct Ask {
    /// How long the present secret is good too, like `24h` (the default), up to `30d`; `0s` if it has leaked.
    #[schema(value_type = Option<String>, pattern = "^(?=.)([0-9]{1,4}d)?([0-9]{1,4}h)?([0-9]{1,4}m)?([0-9]{1,4}s)?([0-9]{1,4}ms)?$")]
    overlap: SignedDuration,
    /// Who asks; default is `api`.
    #[schema(min_length = 1, max_length = 100, examples("alice"))]
    by: Option<String>,
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500)]
    reason: Option<String>,
}

impl FromBody for Ask {
    fn read(body: &mut BodyFields) -> Self {
        let overlap = body.parsed::<HumanDuration>("overlap").map_or(OVERLAP, HumanDuration::signed);
        if overlap > LONGEST {
            body.fault("overlap", "must be at most 30d");
        }
        Self { overlap, by: note::by(body), reason: note::reason(body) }
    }
}

/// Gives a key another secret
///
/// Its prefix, and what it may do, stay. The secret before is good for a while too, so that its holders can be told.
#[utoipa::path(
    post, path = "/v1/keys/{prefix}:rotate", tag = "keys", operation_id = "rotateKey",
    params(("prefix" = String, Path, description = "The key's prefix")),
    request_body(content = Option<Ask>, content_type = "application/json"),
    responses(
        (status = 200, body = Revealed, description = "The key, with its new text this once"),
        (status = 404, description = "There is none of this prefix for namespaces of the caller's"),
        (status = 409, description = "It has expired or was revoked"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong"),
    )
)]
pub(crate) async fn rotate_key(
    State(state): State<ApiState>,
    caller: Caller,
    BeforeVerb(prefix): BeforeVerb,
    Body(ask): Body<Ask>,
) -> Result<Json<Revealed>, Problem> {
    find_to_change(&state, &caller, &prefix).await?;
    let text = fresh(KeyText::with_prefix(&prefix))?;
    let by = caller.actor(ask.by.as_deref());
    let rotated = state.store.rotate_key(&text, ask.overlap, (&by, ask.reason.as_deref())).await?;
    has_changed(&state, &prefix);
    let key = rotated.ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            "Conflict",
            format!("key {prefix} has expired or was revoked: make another one"),
        )
    })?;
    let view = View::new(key, state.clock.now());
    Ok(Json(Revealed { key: text.reveal(), view }))
}
