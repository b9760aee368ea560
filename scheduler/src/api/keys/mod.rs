//! Keys: who may call, and what they may do.

pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod view;
pub(crate) mod whoami;

use reveille_shared::access::{Grant, KeyText};
use reveille_shared::store::ApiKey;

use super::ApiState;
use super::access::{Access, Caller, forbidden};
use super::error::Problem;

/// The key of this prefix, if the caller may know of it: one that is for namespaces of its own only.
async fn find(state: &ApiState, caller: &Caller, prefix: &str) -> Result<ApiKey, Problem> {
    let key = state.store.key(prefix).await?.filter(|key| is_visible(caller.grant(), key));
    key.ok_or_else(|| unknown(prefix))
}

/// The same, if the caller may change it.
async fn find_to_change(state: &ApiState, caller: &Caller, prefix: &str) -> Result<ApiKey, Problem> {
    let key = find(state, caller, prefix).await?;
    if caller.grant().covers(&key.grant) { Ok(key) } else { Err(forbidden("the key may do more than the caller's")) }
}

fn is_visible(grant: &Grant, key: &ApiKey) -> bool {
    grant.namespaces.cover(&key.grant.namespaces)
}

fn unknown(prefix: &str) -> Problem {
    Problem::not_found("key", prefix)
}

/// What this process remembers of a key is not true any more.
fn has_changed(state: &ApiState, prefix: &str) {
    if let Access::Keys(ring) = &state.access {
        ring.forget(prefix);
    }
}

/// A secret could not be made.
fn fresh(text: Result<KeyText, impl std::fmt::Display>) -> Result<KeyText, Problem> {
    text.map_err(|error| Problem::unavailable(format!("the system has no random numbers: {error}"), 5))
}
