//! How long jobs usually take, remembered for a while: many ask, and it changes slowly.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reveille_shared::store::{Result, Store};
use tokio::time::Instant;

/// How long an answer is good for.
const GOOD_FOR: Duration = Duration::from_secs(30);
/// Jobs that are remembered; then it begins anew.
const MOST: usize = 10_000;

/// Namespace and name of a job.
type Job = (String, String);

#[derive(Debug, Default)]
pub(super) struct Usual(Mutex<HashMap<Job, (Instant, Option<Duration>)>>);

impl Usual {
    /// How long a run of a job usually takes; none if none has succeeded yet.
    pub(super) async fn duration(&self, store: &Store, namespace: &str, job: &str) -> Result<Option<Duration>> {
        let key = (namespace.to_owned(), job.to_owned());
        if let Some((at, known)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && at.elapsed() < GOOD_FOR
        {
            return Ok(*known);
        }
        let known = store.usual_duration(namespace, job).await?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(key, (Instant::now(), known));
        Ok(known)
    }
}
