//! `POST /v1/keys/{prefix}:revoke`

use axum::Json;
use axum::extract::State;

use super::view::View;
use super::{find_to_change, has_changed, unknown};
use crate::api::ApiState;
use crate::api::access::Caller;
use crate::api::body::Body;
use crate::api::error::Problem;
use crate::api::extract::BeforeVerb;
use crate::api::note::Note;

/// Makes a key good for nothing
///
/// At once in this process, and within two seconds in others. It stays in the list. Repeated, it changes nothing.
#[utoipa::path(
    post, path = "/v1/keys/{prefix}:revoke", tag = "keys", operation_id = "revokeKey",
    params(("prefix" = String, Path, description = "The key's prefix")),
    request_body(content = Option<Note>, content_type = "application/json"),
    responses(
        (status = 200, body = View, description = "The key, revoked"),
        (status = 404, description = "There is none of this prefix for namespaces of the caller's"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong"),
    )
)]
pub(crate) async fn revoke_key(
    State(state): State<ApiState>,
    caller: Caller,
    BeforeVerb(prefix): BeforeVerb,
    Body(note): Body<Note>,
) -> Result<Json<View>, Problem> {
    find_to_change(&state, &caller, &prefix).await?;
    let by = caller.actor(note.by.as_deref());
    let revoked = state.store.revoke_key(&prefix, (&by, note.reason.as_deref())).await?;
    has_changed(&state, &prefix);
    let key = revoked.ok_or_else(|| unknown(&prefix))?;
    Ok(Json(View::new(key, state.clock.now())))
}
