//! Counts of the ends of children: many in one update of their parent's row.

use std::collections::{BTreeSet, HashMap};

use super::FanOut;
use crate::state::Status;
use crate::store::Result;
use crate::store::database::Tx;
use crate::store::follow::EndedRun;
use crate::store::transition::Batch;
use crate::work_request::WorkRequestId;

/// Counts of ends for one parent.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    succeeded: u32,
    failed: u32,
    canceled: u32,
    first_failed: Option<WorkRequestId>,
}

impl Tally {
    fn add(&mut self, status: Status, id: WorkRequestId, children: u32) {
        match status {
            Status::Succeeded => self.succeeded += children,
            Status::Failed if children > 0 => {
                self.failed += children;
                self.first_failed.get_or_insert(id);
            }
            Status::Canceled => self.canceled += children,
            Status::Failed | Status::Accepted | Status::InProgress | Status::Canceling => {}
        }
    }

    fn put_on(self, row: &mut FanOut) {
        row.counts.succeeded += self.succeeded;
        row.counts.failed += self.failed;
        row.counts.canceled += self.canceled;
        row.first_failed = row.first_failed.or(self.first_failed);
    }
}

/// Counts the ends of children for their parents. Answers how much of each of these is over, to be kept when all runs are
/// locked.
pub(crate) async fn count_ends(
    tx: &mut dyn Tx,
    ended: impl Iterator<Item = &EndedRun> + Clone,
) -> Result<Vec<(WorkRequestId, f64)>> {
    let mut tallies: HashMap<WorkRequestId, Tally> = HashMap::new();
    for run in ended.clone() {
        if let Some(parent) = run.parent {
            tallies.entry(parent).or_default().add(run.status, run.id, 1);
        }
    }
    let mut shared = Vec::new();
    if tx.any_shared().await? {
        for run in ended {
            shared.extend(tx.parents_sharing(run.id).await?.into_iter().map(|parent| (parent, run)));
        }
    }
    let parents: BTreeSet<_> = tallies.keys().copied().chain(shared.iter().map(|(parent, _)| *parent)).collect();
    let mut percents = Vec::with_capacity(parents.len());
    // In the order of their names, so that two transactions can't deadlock.
    for parent in parents {
        let Some(mut row) = tx.lock_fan_out(parent).await? else { continue };
        let mut tally = tallies.remove(&parent).unwrap_or_default();
        for (_, run) in shared.iter().filter(|(sharing, _)| *sharing == parent) {
            tally.add(run.status, run.id, tx.take_shared(run.id, parent).await?);
        }
        tally.put_on(&mut row);
        tx.save_fan_out(&row).await?;
        percents.push((parent, row.counts.percent()));
    }
    Ok(percents)
}

/// Lets children end as the runs do that stand for them.
pub(super) async fn share(tx: &mut dyn Tx, row: &mut FanOut, holders: &HashMap<WorkRequestId, u32>) -> Result<()> {
    if holders.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::lock_ids(tx, holders.keys().copied()).await?;
    let mut tally = Tally::default();
    for (holder, children) in holders {
        if batch.get(*holder).is_some() {
            batch.follow(*holder);
            tx.put_shared(*holder, row.parent, *children).await?;
        } else if let Some(status) = tx.status_of(*holder).await? {
            // It has ended, and stands for its time.
            tally.add(status, *holder, *children);
        }
    }
    batch.save(tx).await?;
    tally.put_on(row);
    Ok(())
}
