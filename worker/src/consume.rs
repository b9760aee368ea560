//! Delivery → slot → claim → run, and the delivery's own end: acked once the claim is durable, whatever it says; given
//! back when there is no slot for it in time or the store can't be asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use reveille_shared::broker::{Delivery, Subscription};
use reveille_shared::crash::{self, Act};
use reveille_shared::store::Store;
use tokio::sync::Semaphore;
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

/// Takes deliveries until it is told to stop.
pub(crate) struct Consumer {
    pub(crate) subscription: Box<dyn Subscription>,
    pub(crate) store: Store,
    pub(crate) incarnation: Arc<Incarnation>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) flow: Flow,
    /// Deliveries without a slot, and since when.
    pub(crate) waiting: VecDeque<(Delivery, Instant)>,
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
            self.seat();
            self.send_claims(&soft);
            // Seen before steering, which may take a while: a slot that comes free meanwhile must wake this loop.
            let full = self.slots.available_permits() == 0;
            self.steer().await;
            let wake = self.wake();
            tokio::select! {
                biased;
                () = &mut stopped => break Ok(()),
                Some(verdict) = self.claims.join_next() => match verdict {
                    Ok(verdict) => self.settle(verdict, &soft).await,
                    Err(error) => break Err(error.into()),
                },
                delivery = self.subscription.next() => match delivery {
                    Some(delivery) => self.take(delivery),
                    None if soft.is_cancelled() => break Ok(()),
                    None => break Err(ConsumeError::Ended),
                },
                slot = Arc::clone(&self.slots).acquire_owned(), if full => drop(slot),
                () = wake => {}
            }
        };
        self.subscription.demand(0).await;
        let unclaimed = self.unseat();
        self.subscription.give_back(unclaimed).await;
        while let Some(verdict) = self.claims.join_next().await {
            self.settle(verdict?, &soft).await;
        }
        ended
    }

    /// Takes a delivery, and with it all others that are here already.
    fn take(&mut self, first: Delivery) {
        crash::at(Act::DeliveryTaken);
        let now = Instant::now();
        self.waiting.push_back((first, now));
        while self.waiting.len() < claim::BATCH
            && let Some(Some(delivery)) = self.subscription.next().now_or_never()
        {
            self.waiting.push_back((delivery, now));
        }
    }

    /// Gives free slots to those that have waited longest.
    fn seat(&mut self) {
        let now = Instant::now();
        let first = self.ready.len();
        while !self.waiting.is_empty()
            && let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned()
            && let Some((delivery, since)) = self.waiting.pop_front()
        {
            self.flow.served(now.duration_since(since));
            if self.ready.is_empty() {
                self.ready_since = now;
            }
            let handle = Arc::new(Handle::new(delivery.trigger.id));
            self.ready.push(Candidate { delivery, slot, handle });
        }
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
            let worker = self.incarnation.get();
            self.claims.spawn(claim::claim(self.store.clone(), worker, batch, soft.clone()));
        }
    }

    /// Does what the flow says.
    async fn steer(&mut self) {
        let free = u16::try_from(self.slots.available_permits()).unwrap_or(u16::MAX);
        let oldest = self.waiting.front().map(|(_, since)| *since);
        match self.flow.step(Instant::now(), free, oldest) {
            Some(Action::Demand(demand)) => self.subscription.demand(demand).await,
            Some(Action::Shut) => self.shut().await,
            None => {}
        }
    }

    async fn shut(&mut self) {
        self.subscription.demand(0).await;
        let waiting: Vec<_> = self.waiting.drain(..).map(|(delivery, _)| delivery).collect();
        if !waiting.is_empty() {
            tracing::debug!(count = waiting.len(), "all slots are taken; giving triggers back");
            self.subscription.give_back(waiting).await;
            crash::at(Act::GaveBack);
        }
    }

    /// Resolves when there is something to do that no event tells.
    fn wake(&self) -> impl Future<Output = ()> + use<> {
        let hold = self.waiting.front().map(|(_, since)| *since + HOLD);
        let linger = (!self.ready.is_empty() && self.claims.len() < CLAIMS).then(|| self.ready_since + LINGER);
        let at = hold.into_iter().chain(linger).min();
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
                let mut deliveries = Vec::with_capacity(batch.len());
                let mut refused = Vec::new();
                for (Candidate { delivery, slot, handle }, answer) in batch {
                    match answer {
                        Ok(claimed) => self.executor.start(claimed, handle, slot),
                        Err(refusal) => {
                            tracing::debug!(work_request = %handle.id, n = delivery.trigger.n, %refusal, "nothing to run");
                            refused.push(handle.token);
                        }
                    }
                    deliveries.push(delivery);
                }
                if !refused.is_empty() {
                    metrics::counter!("reveille_claims_refused_total").increment(refused.len() as u64);
                    self.runs.remove(refused.into_iter());
                }
                self.subscription.ack(deliveries).await;
                crash::at(Act::ClaimAcked);
            }
            Verdict::Undecided(batch) => {
                self.runs.remove(batch.iter().map(|candidate| candidate.handle.token));
                let mut deliveries: Vec<_> = batch.into_iter().map(|candidate| candidate.delivery).collect();
                deliveries.extend(self.unseat());
                self.subscription.demand(0).await;
                self.subscription.give_back(deliveries).await;
                // Another worker may reach the store: take nothing until this one does.
                while !soft.is_cancelled() && self.store.now().await.is_err() {
                    tokio::select! {
                        () = sleep(PAUSE) => {}
                        () = soft.cancelled() => {}
                    }
                }
                self.flow.shut(Instant::now());
            }
        }
    }

    /// Takes back everything that is not in the store's hands.
    fn unseat(&mut self) -> Vec<Delivery> {
        self.runs.remove(self.ready.iter().map(|candidate| candidate.handle.token));
        let ready = self.ready.drain(..).map(|candidate| candidate.delivery);
        ready.chain(self.waiting.drain(..).map(|(delivery, _)| delivery)).collect()
    }
}
