//! Delivery → slot → claim → run, and the delivery's own end: acked once the claim is durable, whatever it says; given
//! back when there is no slot for it in time or the store can't be asked.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use reveille_shared::broker::{Delivery, Subscription};
use reveille_shared::crash::{self, Act};
use reveille_shared::definition::Priority;
use reveille_shared::store::Store;
use reveille_shared::telemetry::chain;
use reveille_shared::trigger::Trigger;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::claim::{self, Candidate, Verdict};
use crate::execute::Executor;
use crate::flow::{Action, Flow, HOLD};
use crate::heartbeat::Incarnation;
use crate::runs::{Handle, Runs};

/// How many batches of claims are in the store's hands at once: while one commits the next one is made.
const CLAIMS: usize = 2;
/// How long a batch waits for company while another is in the store's hands.
const LINGER: Duration = Duration::from_millis(2);
/// How long to wait before a store that failed is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// How much longer a slot must be free before the next lower priority is asked for something to run: a higher one may have
/// it on the way, and what comes and finds no slot has to be given back.
const STAGGER: Duration = Duration::from_millis(10);

/// The way of one priority.
pub(crate) struct Lane {
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) flow: Flow,
    /// What waits for a slot.
    pub(crate) waiting: VecDeque<Waiting>,
    /// Messages that are not settled.
    unsettled: usize,
}

/// A trigger without a slot.
pub(crate) struct Waiting {
    trigger: Trigger,
    parcel: u64,
    since: Instant,
}

/// A message that is not settled. It is acknowledged when all of its triggers are decided, and given back as a whole: what
/// is claimed of it by then is refused to whoever has it next.
pub(crate) struct Parcel {
    lane: usize,
    delivery: Delivery,
    undecided: usize,
}

impl Lane {
    /// Shut, as subscriptions start.
    pub(crate) fn new(subscription: Box<dyn Subscription>, slots: u16, now: Instant) -> Self {
        Self { subscription, flow: Flow::new(slots, now), waiting: VecDeque::new(), unsettled: 0 }
    }

    /// The broker has given all that it was asked for, and may have more.
    fn is_used_up(&self) -> bool {
        self.flow.is_used_up(self.unsettled)
    }

    async fn shut(&mut self, parcels: &mut HashMap<u64, Parcel>) {
        self.subscription.demand(0).await;
        let unsettled = self.waiting.drain(..).filter_map(|waiting| parcels.remove(&waiting.parcel));
        let deliveries: Vec<_> = unsettled.map(|parcel| parcel.delivery).collect();
        if !deliveries.is_empty() {
            self.unsettled -= deliveries.len();
            tracing::debug!(count = deliveries.len(), "all slots are taken; giving triggers back");
            self.subscription.give_back(deliveries).await;
            crash::at(Act::GaveBack);
        }
    }
}

/// Takes deliveries until it is told to stop.
pub(crate) struct Consumer {
    /// The first goes first.
    pub(crate) lanes: [Lane; Priority::ALL.len()],
    /// Messages that are not settled.
    pub(crate) parcels: HashMap<u64, Parcel>,
    /// Numbers them.
    pub(crate) next_parcel: u64,
    /// Nothing is to be taken while this holds.
    pub(crate) is_cut_off: watch::Receiver<bool>,
    pub(crate) store: Store,
    pub(crate) incarnation: Arc<Incarnation>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) slots: Arc<Semaphore>,
    /// The most triggers that wait for a slot.
    pub(crate) most_waiting: usize,
    /// Since when a slot is free and nothing waits for one.
    pub(crate) free_since: Option<Instant>,
    /// Deliveries with a slot, not yet in the store's hands, and since when.
    pub(crate) ready: Vec<Candidate>,
    pub(crate) ready_since: Instant,
    pub(crate) claims: JoinSet<Verdict>,
}

/// The broker has ended, and nobody had asked for that.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumeError {
    #[error("the broker hands out no more triggers")]
    Ended,
    #[error("a batch of claims ended in the middle")]
    Claim(#[from] tokio::task::JoinError),
}

impl Consumer {
    /// Consumes until `soft`; then gives back what has no lease. Runs that were started go on.
    pub(crate) async fn run(mut self, soft: CancellationToken) -> Result<(), ConsumeError> {
        let stopped = soft.clone().cancelled_owned();
        tokio::pin!(stopped);
        let ended = loop {
            let is_cut_off = *self.is_cut_off.borrow_and_update();
            if is_cut_off {
                self.give_all_back().await;
                self.free_since = None;
            } else {
                self.seat();
                self.send_claims(&soft);
            }
            // As `seat` has seen it: a slot that comes free from there on, while we steer, must wake this loop.
            let full = !is_cut_off && self.free_since.is_none();
            let steered = if is_cut_off { Instant::now() } else { self.steer().await };
            let wake = self.wake(steered);
            let waiting: usize = self.lanes.iter().map(|lane| lane.waiting.len()).sum();
            let most = self.most_waiting;
            tokio::select! {
                biased;
                () = &mut stopped => break Ok(()),
                Some(verdict) = self.claims.join_next() => match verdict {
                    Ok(verdict) => self.settle(verdict, &soft).await,
                    Err(error) => break Err(error.into()),
                },
                // What could not be seated soon stays with the broker.
                (lane, delivery) = next(&mut self.lanes), if waiting < most => match delivery {
                    Some(delivery) => self.take(lane, delivery).await,
                    None if soft.is_cancelled() => break Ok(()),
                    None => break Err(ConsumeError::Ended),
                },
                slot = Arc::clone(&self.slots).acquire_owned(), if full => drop(slot),
                () = wake => {}
                Ok(()) = self.is_cut_off.changed() => {}
            }
        };
        self.give_all_back().await;
        while let Some(verdict) = self.claims.join_next().await {
            self.settle(verdict?, &soft).await;
        }
        ended
    }

    /// Takes a delivery, and with it all others that are here already.
    async fn take(&mut self, lane: usize, first: Delivery) {
        crash::at(Act::DeliveryTaken);
        let now = Instant::now();
        let mut next = Some(first);
        while let Some(delivery) = next {
            if delivery.triggers.iter().any(Trigger::is_marker) {
                self.mark(lane, delivery).await;
            } else {
                let parcel = self.next_parcel;
                self.next_parcel += 1;
                let items = delivery.triggers.iter().cloned().map(|trigger| Waiting { trigger, parcel, since: now });
                self.lanes[lane].waiting.extend(items);
                self.lanes[lane].unsettled += 1;
                self.parcels.insert(parcel, Parcel { lane, undecided: delivery.triggers.len(), delivery });
            }
            let Lane { subscription, waiting, .. } = &mut self.lanes[lane];
            next = if waiting.len() < claim::BATCH { subscription.next().now_or_never().flatten() } else { None };
        }
    }

    /// Notes that a marker has come. It needs no slot, and one that can't be noted is like one that was lost.
    async fn mark(&mut self, lane: usize, marker: Delivery) {
        let (store, triggers) = (self.store.clone(), marker.triggers.clone());
        self.executor.tracker.spawn(async move {
            for trigger in triggers.iter().filter(|trigger| trigger.is_marker()) {
                if let Err(error) = store.marker_back(trigger).await {
                    tracing::debug!(error = chain(&error), "can't note a marker");
                }
            }
        });
        self.lanes[lane].subscription.ack(vec![marker]).await;
    }

    /// Gives free slots to those of the highest priority that have waited longest.
    fn seat(&mut self) {
        let now = Instant::now();
        let first = self.ready.len();
        for Lane { flow, waiting, .. } in &mut self.lanes {
            while !waiting.is_empty()
                && let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned()
                && let Some(Waiting { trigger, parcel, since }) = waiting.pop_front()
            {
                flow.served(now.duration_since(since));
                if self.ready.is_empty() {
                    self.ready_since = now;
                }
                let handle = Arc::new(Handle::new(trigger.id));
                self.ready.push(Candidate { parcel, trigger, slot, handle });
            }
        }
        let is_free = self.slots.available_permits() > 0;
        self.free_since = is_free.then(|| self.free_since.unwrap_or(now));
        // Known before they are claimed: the beat must not take a fresh lease for an orphan.
        self.runs.insert(self.ready[first..].iter().map(|candidate| &candidate.handle));
    }

    /// Puts batches into the store's hands: the first at once, the second when it is full or has waited.
    fn send_claims(&mut self, soft: &CancellationToken) {
        while !self.ready.is_empty()
            && self.claims.len() < CLAIMS
            && (self.claims.is_empty() || self.ready.len() >= claim::BATCH || self.ready_since.elapsed() >= LINGER)
        {
            let batch: Vec<_> = self.ready.drain(..self.ready.len().min(claim::BATCH)).collect();
            let incarnation = Arc::clone(&self.incarnation);
            self.claims.spawn(claim::claim(self.store.clone(), incarnation, batch, soft.clone()));
        }
    }

    /// Does what the flows say. Answers by which instant: the broker may take a while.
    async fn steer(&mut self) -> Instant {
        let now = Instant::now();
        let permits = u16::try_from(self.slots.available_permits()).unwrap_or(u16::MAX);
        let mut after = Duration::ZERO;
        let mut waiting: usize = self.lanes.iter().map(|lane| lane.waiting.len()).sum();
        let mut is_higher_used_up = false;
        for lane in &mut self.lanes {
            waiting -= lane.waiting.len();
            let is_settled = self.free_since.is_some_and(|since| now.duration_since(since) >= after);
            // What a higher lane has asked for is being claimed: the next one of it comes when that is done.
            let is_settled = is_settled && !is_higher_used_up;
            is_higher_used_up |= lane.is_used_up();
            let free = match permits {
                // What waits in a lower lane gives up its turn.
                0 => u16::from(lane.waiting.is_empty() && waiting > 0),
                _ if is_settled => permits,
                _ => 0,
            };
            let oldest = lane.waiting.front().map(|waiting| waiting.since);
            match lane.flow.step(now, free, oldest) {
                Some(Action::Demand(demand)) => lane.subscription.demand(demand).await,
                Some(Action::Shut) => lane.shut(&mut self.parcels).await,
                None => {}
            }
            after += STAGGER;
        }
        now
    }

    /// Resolves when there is something to do that no event tells, and that was not yet to be done when the flows were steered.
    fn wake(&self, steered: Instant) -> impl Future<Output = ()> + use<> {
        let oldest = |lane: &Lane| lane.waiting.front().map(|waiting| waiting.since + HOLD);
        let hold = self.lanes.iter().filter_map(oldest).min();
        let linger = (!self.ready.is_empty() && self.claims.len() < CLAIMS).then(|| self.ready_since + LINGER);
        let turns = self.free_since.into_iter().flat_map(|since| (1..3).map(move |lane| since + STAGGER * lane));
        let at = hold.into_iter().chain(linger).chain(turns.filter(|at| *at > steered)).min();
        async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Starts what was granted and settles the deliveries.
    async fn settle(&mut self, verdict: Verdict, soft: &CancellationToken) {
        match verdict {
            Verdict::Decided(batch) => {
                let mut deliveries: [Vec<Delivery>; Priority::ALL.len()] = Default::default();
                let mut refused = Vec::new();
                for (Candidate { parcel, trigger, slot, handle }, answer) in batch {
                    match answer {
                        Ok(claimed) => self.executor.start(claimed, handle, slot),
                        Err(refusal) => {
                            tracing::debug!(work_request = %handle.id, n = trigger.n, %refusal, "nothing to run");
                            refused.push(handle.token);
                        }
                    }
                    // One that was given back meanwhile is not ours to settle.
                    if let Entry::Occupied(mut parcel) = self.parcels.entry(parcel) {
                        parcel.get_mut().undecided -= 1;
                        if parcel.get().undecided == 0 {
                            let Parcel { lane, delivery, .. } = parcel.remove();
                            deliveries[lane].push(delivery);
                        }
                    }
                }
                if !refused.is_empty() {
                    metrics::counter!("reveille_claims_refused_total").increment(refused.len() as u64);
                    self.runs.remove(refused.into_iter());
                }
                for (lane, deliveries) in self.lanes.iter_mut().zip(deliveries) {
                    if !deliveries.is_empty() {
                        let was_used_up = lane.is_used_up();
                        lane.unsettled -= deliveries.len();
                        lane.subscription.ack(deliveries).await;
                        crash::at(Act::ClaimAcked);
                        if was_used_up {
                            // Lower ones wait for their turn anew.
                            self.free_since = self.free_since.map(|_| Instant::now());
                        }
                    }
                }
            }
            Verdict::Undecided(batch) => {
                self.runs.remove(batch.iter().map(|candidate| candidate.handle.token));
                self.ready.extend(batch);
                self.give_all_back().await;
                // Another worker may reach the store: take nothing until this one does.
                while !soft.is_cancelled() && self.store.now().await.is_err() {
                    tokio::select! {
                        () = sleep(PAUSE) => {}
                        () = soft.cancelled() => {}
                    }
                }
            }
        }
    }

    /// Gives back everything that is not in the store's hands, and takes no more.
    async fn give_all_back(&mut self) {
        self.runs.remove(self.ready.iter().map(|candidate| candidate.handle.token));
        for Candidate { parcel, trigger, .. } in self.ready.drain(..).rev() {
            if let Some(Parcel { lane, .. }) = self.parcels.get(&parcel) {
                self.lanes[*lane].waiting.push_front(Waiting { trigger, parcel, since: self.ready_since });
            }
        }
        for lane in &mut self.lanes {
            lane.shut(&mut self.parcels).await;
            lane.flow.shut(Instant::now());
        }
    }
}

/// The next delivery of the highest priority that has one, and in which lane. Cancel safe.
async fn next(lanes: &mut [Lane; Priority::ALL.len()]) -> (usize, Option<Delivery>) {
    let [high, normal, low] = lanes;
    tokio::select! {
        biased;
        delivery = high.subscription.next() => (0, delivery),
        delivery = normal.subscription.next() => (1, delivery),
        delivery = low.subscription.next() => (2, delivery),
    }
}
