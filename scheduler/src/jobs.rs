//! The jobs in force, as passes remember them between two sets of definitions, and earlier versions of jobs.

use std::collections::HashMap;
use std::sync::Arc;

use reveille_shared::definition::Job;
use reveille_shared::store::{Store, StoreError, Versioned};

/// Versions of jobs that are kept in memory.
const VERSIONS: usize = 10_000;
/// Jobs of one namespace that are read at once.
const PAGE: i64 = 1_000;

/// The jobs in force, by namespace and name; a namespace is read when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    version: Option<i64>,
    known: HashMap<String, HashMap<String, Arc<Versioned<Job>>>>,
}

impl Jobs {
    /// Forgets everything if it is not of this version of the definitions in force.
    pub(crate) fn of_version(&mut self, version: Option<i64>) {
        if self.version != version {
            *self = Self { version, known: HashMap::new() };
        }
    }

    /// Reads a namespace unless it is known.
    pub(crate) async fn load(&mut self, store: &Store, namespace: &str) -> Result<(), StoreError> {
        if self.known.contains_key(namespace) {
            return Ok(());
        }
        let mut jobs = HashMap::new();
        let mut last = String::new();
        loop {
            let page = store.jobs(namespace, &last, PAGE).await?;
            let Some(job) = page.last() else { break };
            last.clone_from(&job.item.name);
            jobs.extend(page.into_iter().map(|job| (job.item.name.clone(), Arc::new(job))));
        }
        self.known.insert(namespace.to_owned(), jobs);
        Ok(())
    }

    /// A job of a namespace that was read.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Versioned<Job>>> {
        self.known.get(namespace)?.get(name).cloned()
    }
}

/// Namespace, name, version.
type VersionKey = (String, String, i64);

/// Versions of jobs, whether in force or not. They never change, so that what was read once is good for ever.
#[derive(Debug, Default)]
pub(crate) struct Versions(HashMap<VersionKey, Option<Arc<Versioned<Job>>>>);

impl Versions {
    /// A version of a job, if there is one.
    pub(crate) async fn get(
        &mut self,
        store: &Store,
        namespace: &str,
        name: &str,
        version: i64,
    ) -> Result<Option<Arc<Versioned<Job>>>, StoreError> {
        let key = (namespace.to_owned(), name.to_owned(), version);
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        let job = store.job_version(namespace, name, version).await?.map(|item| Arc::new(Versioned { item, version }));
        if self.0.len() >= VERSIONS {
            self.0.clear();
        }
        self.0.insert(key, job.clone());
        Ok(job)
    }
}
