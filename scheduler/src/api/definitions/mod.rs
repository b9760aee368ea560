//! Definitions as a whole: what files would change, and changing it.

pub(crate) mod apply;
pub(crate) mod files;
pub(crate) mod plan;
pub(crate) mod view;

use reveille_shared::definition::{Fault, read_part};

use self::files::{FaultView, Texts, faulty};
use super::ApiState;
use super::access::Caller;
use super::error::Problem;
use crate::definition_plan::{Current, Merged, merge};

/// What is in force now.
pub(crate) async fn current(state: &ApiState) -> Result<Current, Problem> {
    let (in_force, jobs, schedules) = state.store.all_in_force().await?;
    Ok(Current { in_force, jobs, schedules })
}

/// Reads files, which must be of the caller's namespaces, and puts them over what is in force. To be called where computing
/// for seconds does no harm.
pub(crate) fn read_and_merge(
    current: &Current,
    caller: &Caller,
    files: &Texts,
    prune: bool,
) -> Result<Merged, Problem> {
    let read = read_part(files).map_err(|faults| {
        let views = faults.iter().map(|fault: &Fault| FaultView::from(fault)).collect();
        faulty(faults.len(), views)
    })?;
    let of_jobs = read.jobs.iter().map(|job| &job.namespace);
    for namespace in of_jobs.chain(read.schedules.iter().map(|schedule| &schedule.namespace)) {
        caller.in_namespace(namespace)?;
    }
    merge(current, &read, prune).map_err(|unsound| faulty(unsound.len(), unsound.iter().map(FaultView::from).collect()))
}

/// Computes where that holds up nobody.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
