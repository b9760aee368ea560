//! Schedules: when jobs run by themselves.

pub(crate) mod fires;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod next;
pub(crate) mod view;

use reveille_shared::store::{ScheduleKey, ScheduleRow};

use super::ApiState;
use super::error::Problem;
use super::extract::is_name;

/// The schedule in force that a path names.
pub(crate) async fn find(state: &ApiState, namespace: &str, name: &str) -> Result<ScheduleRow, Problem> {
    let key = ScheduleKey { namespace: namespace.to_owned(), name: name.to_owned() };
    let known = if is_name(name) { state.store.schedule(&key).await? } else { None };
    known.ok_or_else(|| Problem::not_found("schedule", name))
}
