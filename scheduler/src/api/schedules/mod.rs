//! Schedules: when jobs run by themselves.

pub(crate) mod backfills;
pub(crate) mod explain;
pub(crate) mod fire_view;
pub(crate) mod fires;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod next;
pub(crate) mod pause;
pub(crate) mod resume;
pub(crate) mod trigger;
pub(crate) mod view;

use reveille_shared::definition::Schedule;
use reveille_shared::due::DueTimes;
use reveille_shared::store::{ScheduleKey, ScheduleRow, StoreError};

use super::ApiState;
use super::error::Problem;
use super::extract::is_name;

/// What a path names, if that can be a schedule at all.
pub(crate) fn key(namespace: &str, name: &str) -> Result<ScheduleKey, Problem> {
    if !is_name(name) {
        return Err(unknown(name));
    }
    Ok(ScheduleKey { namespace: namespace.to_owned(), name: name.to_owned() })
}

/// There is no schedule of this name.
pub(crate) fn unknown(name: &str) -> Problem {
    Problem::not_found("schedule", name)
}

/// The schedule in force that a path names.
pub(crate) async fn find(state: &ApiState, namespace: &str, name: &str) -> Result<ScheduleRow, Problem> {
    state.store.schedule(&key(namespace, name)?).await?.ok_or_else(|| unknown(name))
}

/// The due times of a schedule in force.
pub(crate) fn due_times(schedule: &Schedule) -> Result<DueTimes, Problem> {
    DueTimes::of(schedule).map_err(|source| StoreError::Timing { schedule: schedule.name.clone(), source }.into())
}
