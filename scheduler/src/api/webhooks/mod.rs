//! Webhooks: who has it posted what happens to runs.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod deliveries;
mod fields;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod redeliver;
pub(crate) mod rotate;
pub(crate) mod test;
pub(crate) mod update;
pub(crate) mod view;

use axum::http::StatusCode;
use reveille_shared::store::Webhook;
use uuid::Uuid;

use super::ApiState;
use super::error::{Fault, Problem};
use crate::webhooks::secrets::SecretKeys;
use crate::webhooks::targets::{self, Allowed};

/// Why one is disabled that its owner has disabled.
const BY_REQUEST: &str = "by request";

/// There is no webhook of this id in the namespace.
fn unknown(id: &str) -> Problem {
    Problem::not_found("webhook", id)
}

/// What a path names, if that can be a webhook at all.
fn key(id: &str) -> Result<Uuid, Problem> {
    id.parse().map_err(|_| unknown(id))
}

/// The webhook that a path names.
async fn find(state: &ApiState, namespace: &str, id: &str) -> Result<Webhook, Problem> {
    state.store.webhook(namespace, key(id)?).await?.ok_or_else(|| unknown(id))
}

/// Whether deliveries may go to a URL.
fn judge(url: &str, allowed: &Allowed) -> Result<(), Problem> {
    targets::target(url, allowed).map(drop).map_err(|error| {
        let fault = Fault { field: "url".to_owned(), message: error.to_string() };
        Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, vec![fault])
    })
}

/// What encrypts secrets here.
fn keys(state: &ApiState) -> Result<&SecretKeys, Problem> {
    state.webhooks.keys.as_ref().ok_or_else(|| {
        let message = "webhooks need a key to keep their secrets by, and this scheduler has none: make one with \
                       `openssl rand -base64 32`, and set REVEILLE_SECRET_KEY or REVEILLE_SECRET_KEY_FILE for all schedulers";
        Problem::new(StatusCode::CONFLICT, "SecretKeyMissing", message)
    })
}
