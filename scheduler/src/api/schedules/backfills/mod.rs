//! Backfills: fires of a past range, made at someone's wish.

pub(crate) mod cancel;
pub(crate) mod create;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod view;

use reveille_shared::store::Backfill;

use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::extract::is_name;
use crate::api::schedules::key;

/// There is no backfill of this id.
pub(crate) fn unknown(id: &str) -> Problem {
    Problem::not_found("backfill", id)
}

/// The backfill that a path names.
pub(crate) async fn find(state: &ApiState, namespace: &str, schedule: &str, id: &str) -> Result<Backfill, Problem> {
    let key = key(namespace, schedule)?;
    let known = if is_name(id) { state.store.backfill(&key, id).await? } else { None };
    known.ok_or_else(|| unknown(id))
}
