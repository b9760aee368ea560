//! A key as people see it: never its secret.

use jiff::Timestamp;
use reveille_shared::access::Names;
use reveille_shared::store::{ApiKey, KeyStanding};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::time::Instant;

/// A key.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Key)]
pub(crate) struct View {
    /// The public part of its text, which names it.
    prefix: String,
    /// Its name for people.
    name: String,
    /// `viewer`, `operator` or `admin`.
    role: &'static str,
    /// The namespaces that it is for; absent if for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespaces: Option<Vec<String>>,
    /// The jobs that it is limited to; absent if to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<Vec<String>>,
    /// `good`, `expired` or `revoked`.
    state: &'static str,
    /// When it was made.
    time_created: Instant,
    /// By whom.
    created_by: String,
    /// From when on it is good for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Instant>,
    /// Since when it is good for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_revoked: Option<Instant>,
    /// When it was used last, to a few minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Instant>,
    /// Until when the secret before the last rotation is good too.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_until: Option<Instant>,
}

/// A key with its text, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NewKey)]
pub(crate) struct Revealed {
    /// The text of the key: keep it as you keep a password, it can't be shown again.
    pub(crate) key: String,
    #[serde(flatten)]
    pub(crate) view: View,
}

/// The names, unless they are all.
pub(super) fn listed(names: &Names) -> Option<Vec<String>> {
    names.listed().map(|names| names.iter().cloned().collect())
}

impl View {
    /// The key as it is at an instant.
    pub(crate) fn new(key: ApiKey, now: Timestamp) -> Self {
        let state = match key.standing(now) {
            KeyStanding::Good => "good",
            KeyStanding::Expired => "expired",
            KeyStanding::Revoked => "revoked",
        };
        Self {
            namespaces: listed(&key.grant.namespaces),
            jobs: listed(&key.grant.jobs),
            prefix: key.prefix,
            name: key.name,
            role: key.grant.role.as_str(),
            state,
            time_created: key.created_at.into(),
            created_by: key.created_by,
            expires_at: key.expires_at.map(Instant),
            time_revoked: key.revoked_at.map(Instant),
            last_used_at: key.last_used_at.map(Instant),
            previous_until: key.previous_until.filter(|until| *until > now).map(Instant),
        }
    }
}
