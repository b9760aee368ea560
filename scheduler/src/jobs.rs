//! The jobs in force, as passes remember them between two sets of definitions.

use std::collections::HashMap;
use std::sync::Arc;

use reveille_shared::definition::Job;
use reveille_shared::store::{Store, StoreError, Versioned};

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
