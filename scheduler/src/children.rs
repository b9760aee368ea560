//! Part of the follow-ups: runs with children → these are born, canceled, and end the run.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reveille_shared::clock::Clock;
use reveille_shared::fan_out::{Stop, Verdict};
use reveille_shared::state::Status;
use reveille_shared::store::{Born, FanOut, ListFilter, OpenFanOut, Store, StoreError};
use reveille_shared::work_request::WorkRequestId;
use tokio::time::Instant;

use crate::handover::{self, Handover};
use crate::jobs::Versions;
use crate::plan;

/// Runs with children that are looked at in one round.
const PAGE: i64 = 200;
/// Chunks of which children are made in one round; then the ends of others are looked at.
const CHUNKS: usize = 20;
/// Children that are canceled in one transaction: few, as on SQLite nobody else writes meanwhile.
const CANCELED: i64 = 100;
/// How often to look whether all ends were counted.
const RECOUNT: Duration = Duration::from_secs(10);

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChildrenReport {
    /// Children that were born.
    pub born: usize,
    /// Runs that have ended with their children.
    pub ended: usize,
    /// Runs whose children had to be counted anew.
    pub recounted: usize,
    /// There is more to do at once.
    pub more: bool,
}

/// Looks after runs with children. Needs no leadership: whoever deletes a chunk of inputs has the right to make its
/// children, and what is to be done about a run is judged again with its row locked.
///
/// - Reads: runs with children that have not ended, the next chunk of inputs of each, workers for their slots.
/// - Writes: the children of a chunk; that a run has no more of them; its end; cancels of its children.
/// - Repeating is safe: a chunk is deleted once, and a run ends once.
/// - A crash here leaves nothing behind: what is not committed is found again.
pub(crate) struct Children {
    store: Store,
    clock: Arc<dyn Clock>,
    handover: Option<Handover>,
    /// The last of the page before: of very many, each gets its turn.
    after: Option<WorkRequestId>,
    recount_at: Instant,
}

impl Children {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, handover: Option<Handover>) -> Self {
        Self { store, clock, handover, after: None, recount_at: Instant::now() }
    }

    /// One round.
    pub(crate) async fn look_after(&mut self, versions: &mut Versions) -> Result<ChildrenReport, StoreError> {
        let open = self.store.open_fan_outs(self.after.take(), PAGE).await?;
        self.after = open.last().filter(|_| is_page(open.len(), PAGE)).map(|last| last.fan_out.parent);
        let mut report = ChildrenReport { more: self.after.is_some(), ..ChildrenReport::default() };
        let recounts = Instant::now() >= self.recount_at;
        let mut growing = Vec::new();
        for run in open {
            let is_canceled_early = run.status.is_terminal();
            if is_canceled_early || run.verdict() != Verdict::GoOn {
                match self.store.settle(run.fan_out.parent).await? {
                    Verdict::End(_) => report.ended += 1,
                    Verdict::Stop(why) => {
                        self.cancel_children(&run.fan_out, why).await?;
                        report.more = true;
                    }
                    Verdict::GoOn => {}
                }
                continue;
            }
            if recounts && self.store.recount(run.fan_out.parent).await? {
                report.recounted += 1;
                metrics::counter!("reveille_children_recounted_total").increment(1);
                tracing::warn!(work_request = %run.fan_out.parent, "ends of children had not been counted");
            }
            if let Some(why) = run.fan_out.stopped {
                // Whoever stopped it may have died before it had canceled all.
                self.cancel_children(&run.fan_out, why).await?;
            } else if run.is_to_grow() {
                growing.push(run);
            }
        }
        if recounts && self.after.is_none() {
            self.recount_at = Instant::now() + RECOUNT;
        }
        if !growing.is_empty() {
            self.grow(growing, versions, &mut report).await?;
        }
        Ok(report)
    }

    /// Makes children, a chunk of each run in turn, as long as there is room for them.
    async fn grow(
        &self,
        growing: Vec<OpenFanOut>,
        versions: &mut Versions,
        report: &mut ChildrenReport,
    ) -> Result<(), StoreError> {
        let slots = self.slots().await?;
        let mut turns: Vec<_> = growing.into_iter().map(|run| (run.fan_out, -1)).collect();
        let mut chunks = 0;
        while !turns.is_empty() && chunks < CHUNKS {
            let mut next = Vec::with_capacity(turns.len());
            for (mut fan_out, last) in turns {
                let FanOut { namespace, job, job_version, .. } = &fan_out;
                let Some(job) = versions.get(&self.store, namespace, job, *job_version).await? else {
                    tracing::error!(work_request = %fan_out.parent, job, "the version of the job that its children run is gone");
                    continue;
                };
                let room = plan::window(slots.get(&job.item.queue).copied().unwrap_or(0));
                if fan_out.counts.under_way() >= room || chunks >= CHUNKS {
                    report.more |= chunks >= CHUNKS;
                    continue;
                }
                let Some(chunk) = self.store.next_chunk(fan_out.batch, last).await? else { continue };
                let number = chunk.number;
                let births = plan::children(&fan_out, &job, chunk, self.clock.now());
                let place = self.handover.as_ref().and_then(Handover::place);
                let Born { count, sent } = self.store.bear(births, &handover::admits(place.as_ref())).await?;
                handover::hand_over(place, sent);
                chunks += 1;
                report.born += count;
                fan_out.counts.born += u32::try_from(count).unwrap_or(0);
                // If someone else has made these, it goes on behind them.
                next.push((fan_out, number));
            }
            turns = next;
        }
        report.more |= !turns.is_empty();
        Ok(())
    }

    /// The slots of all workers that live, by the queue that they serve.
    async fn slots(&self) -> Result<HashMap<String, u32>, StoreError> {
        let mut slots: HashMap<String, u32> = HashMap::new();
        for worker in self.store.workers().await?.into_iter().filter(|worker| worker.ended_at.is_none()) {
            for queue in worker.worker.queues {
                let sum = slots.entry(queue).or_default();
                *sum = sum.saturating_add(worker.worker.slots);
            }
        }
        Ok(slots)
    }

    /// Cancels those children of a run that have not ended and were not asked to.
    async fn cancel_children(&self, fan_out: &FanOut, why: Stop) -> Result<(), StoreError> {
        let by = match why {
            Stop::Failed => format!("parent {}, as too many of its children have failed", fan_out.parent),
            Stop::Canceled => format!("the cancel of parent {}", fan_out.parent),
        };
        let mut filter = ListFilter {
            namespace: fan_out.namespace.clone(),
            parent: Some(fan_out.parent),
            status: vec![Status::Accepted, Status::InProgress],
            ..ListFilter::default()
        };
        loop {
            let these = self.store.unended(&filter, CANCELED).await?;
            let Some(last) = these.last() else { return Ok(()) };
            filter.after = Some(*last);
            self.store.cancel_all(&fan_out.namespace, &these, &by).await?;
        }
    }
}

fn is_page(len: usize, limit: i64) -> bool {
    i64::try_from(len).is_ok_and(|len| len >= limit)
}
