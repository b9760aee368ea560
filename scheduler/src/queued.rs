//! How much work of each namespace waits for its start, and how much may. It is counted now and then, never for a request: so a
//! namespace may go beyond its limit by what callers ask for between two counts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use reveille_shared::periodic::Pass;
use reveille_shared::store::{Store, StoreError};
use tokio::time::Instant;

/// How often it is counted at least.
pub(crate) const PERIOD: Duration = Duration::from_secs(30);
/// How often at most.
const SOONEST: Duration = Duration::from_secs(1);
/// Counting takes one part in so many of the time.
const SHARE: u32 = 50;

/// What waits, as far as this process knows.
#[derive(Debug)]
pub struct Queued {
    most: Option<i64>,
    counts: Mutex<HashMap<String, i64>>,
}

/// A namespace has as much queued as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) queued: i64,
    pub(crate) most: i64,
}

impl Queued {
    /// So many runs of a namespace may wait; zero: any number.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { most: (most > 0).then_some(i64::from(most)), counts: Mutex::default() }
    }

    /// Counts some more runs of a namespace, if they may wait.
    ///
    /// # Errors
    /// [`Full`]; nothing was counted.
    pub(crate) fn admit(&self, namespace: &str, more: u32) -> Result<(), Full> {
        let Some(most) = self.most else { return Ok(()) };
        let more = i64::from(more);
        let mut counts = self.counts();
        let queued = counts.get(namespace).copied().unwrap_or(0);
        if queued.saturating_add(more) > most {
            return Err(Full { queued, most });
        }
        counts.insert(namespace.to_owned(), queued + more);
        Ok(())
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what waits.
///
/// - Reads: all deliveries that have not ended, one by one: how often follows how long that takes.
/// - Writes: this process's memory, nothing else.
/// - Repeating is safe; a crash leaves nothing behind.
pub(crate) struct Count {
    pub(crate) queued: Arc<Queued>,
    pub(crate) store: Store,
}

#[async_trait]
impl Pass for Count {
    const NAME: &'static str = "queued";
    type Report = String;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(String, Option<Duration>), StoreError> {
        let Some(most) = self.queued.most else { return Ok(("no limit".to_owned(), None)) };
        let begun = Instant::now();
        let counts: HashMap<String, i64> = self.store.queued().await?.into_iter().collect();
        let took = begun.elapsed();
        let full = counts.values().filter(|count| **count >= most).count();
        let report =
            format!("{} runs wait for their start; {full} namespaces have all they may", counts.values().sum::<i64>());
        *self.queued.counts() = counts;
        Ok((report, Some((took * SHARE).max(SOONEST))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_what_it_may_and_no_more() {
        let queued = Queued::new(10);
        queued.admit("a", 9).unwrap();
        assert_eq!(queued.admit("a", 2), Err(Full { queued: 9, most: 10 }));
        queued.admit("a", 1).unwrap();
        assert_eq!(queued.admit("a", 1), Err(Full { queued: 10, most: 10 }));
        queued.admit("b", 10).unwrap();
        Queued::new(0).admit("a", u32::MAX).unwrap();
    }
}
