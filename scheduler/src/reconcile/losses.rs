//! Leases that are lost → what their jobs' policies make of that.

use std::collections::HashMap;

use reveille_shared::definition::Job;
use reveille_shared::retry;
use reveille_shared::store::{HeldLease, Loss, Store, StoreError, Worker};
use reveille_shared::work_request::RunError;

/// The most leases ended in one transaction.
pub(super) const BATCH: usize = 200;

pub(super) async fn lose_leases_of(store: &Store, worker: &Worker) -> Result<usize, StoreError> {
    let leases = store.leases_of(worker.worker.incarnation).await?;
    let name = &worker.worker.name;
    let message = format!("worker {name} died or lost touch; whether the attempt took effect is not known");
    lose(store, leases, false, |_| RunError::new("Lost", message.clone())).await
}

/// Why the lease of a worker in another language is lost.
pub(super) fn silence(lease: &HeldLease, workers: &[Worker]) -> RunError {
    let name =
        workers.iter().find(|known| Some(known.worker.incarnation) == lease.worker).map(|known| &known.worker.name);
    let name = name.map_or("unknown", String::as_str);
    let seconds = lease.silence.unwrap_or_default().as_secs();
    let message = format!(
        "the external worker {name} gave no sign of life for {seconds} s; whether the attempt took effect is not known"
    );
    RunError::new("Lost", message)
}

/// Ends leases as their jobs' policies say.
pub(super) async fn lose(
    store: &Store,
    leases: Vec<HeldLease>,
    if_overdue: bool,
    error: impl Fn(&HeldLease) -> RunError,
) -> Result<usize, StoreError> {
    let losses = losses(store, leases, if_overdue, error).await?;
    let mut ended = 0;
    for batch in losses.chunks(BATCH) {
        ended += store.lose(batch.to_vec()).await?;
    }
    Ok(ended)
}

/// What the loss of each attempt means by its job's policies.
pub(super) async fn losses(
    store: &Store,
    leases: Vec<HeldLease>,
    if_overdue: bool,
    error: impl Fn(&HeldLease) -> RunError,
) -> Result<Vec<Loss>, StoreError> {
    let mut jobs: HashMap<(String, String, i64), Option<Job>> = HashMap::new();
    let mut losses = Vec::with_capacity(leases.len());
    for lease in leases {
        let error = error(&lease);
        let key = (lease.namespace, lease.job, lease.job_version);
        if !jobs.contains_key(&key) {
            let job = store.job_version(&key.0, &key.1, key.2).await?;
            jobs.insert(key.clone(), job);
        }
        let job = jobs[&key].as_ref();
        let retry = job.and_then(|job| retry::after_loss(job.on_lost, &job.retry, lease.failures + 1, fastrand::f64()));
        // Nobody can ask for an external job; its next worker is told of the doubt, if there is to be one.
        let tells = |job: &Job| job.handler.is_external() && retry.is_some();
        let verify = job.is_some_and(|job| job.verify.is_some() || tells(job));
        losses.push(Loss { id: lease.id, token: lease.token, error, retry, verify, if_overdue });
    }
    Ok(losses)
}
