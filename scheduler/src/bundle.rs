//! Several triggers in one message: under backlog, for jobs whose runs are short, the broker's part is most of the cost.
//!
//! Runs of a bundle go to one worker, one after the other if it has few free slots; so no bundle takes longer than a
//! moment, and what takes long goes alone.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use reveille_shared::broker::Route;
use reveille_shared::store::{Outgoing, Store, StoreError};
use reveille_shared::telemetry::chain;
use reveille_shared::trigger::UNMARKED;
use reveille_shared::work_request::WorkRequestId;
use tokio::time::Instant;

/// So many triggers of one job that are due at once are a backlog.
const BACKLOG: usize = 32;
/// The most triggers in a bundle.
const MOST: u32 = 32;
/// The longest that the runs of a bundle usually take together.
const MOMENT: Duration = Duration::from_millis(250);
/// What a run takes besides: on a worker with few slots one claim's commit comes after the other.
const CLAIM: Duration = Duration::from_millis(5);
/// How long it is believed how long a job's runs take.
const FRESH: Duration = Duration::from_secs(2);
/// How long at first that nobody knows; then twice as long each time.
const UNKNOWN: Duration = Duration::from_millis(200);
/// … and at most.
const UNKNOWN_MOST: Duration = Duration::from_secs(10);
/// The most jobs about which that is known.
const JOBS: usize = 10_000;

/// Namespace and name.
type JobKey = (String, String);

/// How many triggers of which job go into one message.
#[derive(Debug, Default)]
pub(crate) struct Bundles {
    sizes: HashMap<JobKey, Size>,
}

/// What is believed of a job.
#[derive(Debug, Clone, Copy)]
struct Size {
    size: usize,
    /// Its workers are Reveille's own, and measure how long its runs take.
    is_told: bool,
    until: Instant,
    /// How long it is believed.
    fresh: Duration,
}

impl Bundles {
    /// Puts a batch's triggers into messages, as indices of the batch. If the store can't tell how long runs take, each goes
    /// alone.
    pub(crate) async fn pack(&mut self, store: &Store, batch: &[Outgoing]) -> Vec<Vec<usize>> {
        self.together(store, batch).await.unwrap_or_else(|error| {
            tracing::debug!(error = chain(&error), "can't tell how long runs take; triggers go one by one");
            singles(batch)
        })
    }

    async fn together(&mut self, store: &Store, batch: &[Outgoing]) -> Result<Vec<Vec<usize>>, StoreError> {
        let groups = groups(batch);
        let mut parcels = Vec::with_capacity(batch.len());
        for group in groups {
            let first = &batch[group[0]];
            let is_backlog = group.len() >= BACKLOG || first.trigger.v == UNMARKED;
            let size = if is_backlog { self.size(store, first).await?.size } else { 1 };
            parcels.extend(group.chunks(size).map(<[usize]>::to_vec));
        }
        Ok(parcels)
    }

    /// Of these, the runs of jobs of which there was a backlog, of which several go into one message, and that only workers of Reveille
    /// run.
    ///
    /// # Errors
    /// [`StoreError::Query`].
    pub(crate) async fn short(
        &mut self,
        store: &Store,
        waiting: impl Iterator<Item = &Outgoing>,
    ) -> Result<HashSet<WorkRequestId>, StoreError> {
        let waiting: Vec<_> = waiting.collect();
        let mut short = HashSet::with_capacity(waiting.len());
        for group in groups(&waiting) {
            let first = waiting[group[0]];
            // There may be room for a few of them only.
            if group.len() >= BACKLOG || self.sizes.contains_key(&key_of(first)) {
                let Size { size, is_told, .. } = self.size(store, first).await?;
                if size > 1 && is_told {
                    short.extend(group.iter().map(|index| waiting[*index].trigger.id));
                }
            }
        }
        Ok(short)
    }

    async fn size(&mut self, store: &Store, out: &Outgoing) -> Result<Size, StoreError> {
        let key = key_of(out);
        let before = self.sizes.get(&key).copied();
        if let Some(before) = before
            && Instant::now() < before.until
        {
            return Ok(before);
        }
        let (size, is_told, fresh) = match store.usual_attempt(&key.0, &key.1).await? {
            Some(usual) => (size_for(usual.duration), usual.is_told, FRESH),
            None => (1, false, before.map_or(UNKNOWN, |before| (before.fresh * 2).min(UNKNOWN_MOST))),
        };
        if self.sizes.len() >= JOBS {
            self.sizes.clear();
        }
        let size = Size { size, is_told, until: Instant::now() + fresh, fresh };
        self.sizes.insert(key, size);
        Ok(size)
    }
}

fn key_of(out: &Outgoing) -> JobKey {
    (out.trigger.namespace.clone(), out.trigger.job.clone())
}

/// Each trigger in a message of its own.
pub(crate) fn singles(batch: &[Outgoing]) -> Vec<Vec<usize>> {
    (0..batch.len()).map(|index| vec![index]).collect()
}

/// As many runs as usually end within a moment.
fn size_for(usual: Duration) -> usize {
    let runs = MOMENT.as_micros() / usual.saturating_add(CLAIM).as_micros();
    usize::try_from(runs.clamp(1, u128::from(MOST))).unwrap_or(1)
}

/// What may go together, in the order of the first of each.
fn groups<T: Borrow<Outgoing>>(batch: &[T]) -> Vec<Vec<usize>> {
    let mut places: HashMap<(&Route, &str, &str, u32), usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (index, out) in batch.iter().map(Borrow::borrow).enumerate() {
        let key = (&out.route, out.trigger.namespace.as_str(), out.trigger.job.as_str(), out.trigger.v);
        let place = *places.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(index);
    }
    groups
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use reveille_shared::definition::Priority;
    use reveille_shared::trigger::{ONWARD, Trigger, VERSION};
    use reveille_shared::work_request::WorkRequestId;

    use super::*;

    fn out(queue: &str, job: &str) -> Outgoing {
        let id = WorkRequestId::new(Timestamp::UNIX_EPOCH);
        let trigger = Trigger { v: VERSION, id, n: 1, namespace: "default".into(), job: job.into() };
        let route = Route { queue: queue.into(), priority: Priority::Normal };
        Outgoing { route, trigger, due_at: Timestamp::UNIX_EPOCH, fire: None }
    }

    #[test]
    fn only_triggers_of_one_job_and_version_on_one_route_go_together() {
        let mut onward = out("a", "x");
        onward.trigger.v = ONWARD;
        let batch = [out("a", "x"), out("a", "y"), out("a", "x"), out("b", "x"), out("a", "y"), onward];
        assert_eq!(groups(&batch), [vec![0, 2], vec![1, 4], vec![3], vec![5]]);
    }

    #[test]
    fn the_shorter_the_runs_the_larger_the_bundle() {
        let sizes = [0, 1, 15, 50, 125, 126, 10_000].map(|ms| size_for(Duration::from_millis(ms)));
        assert_eq!(sizes, [32, 32, 12, 4, 1, 1, 1]);
    }
}
