//! Due triggers → the broker. The only publisher.
//!
//! Rows are marked as sent and committed first (but for a backlog, see `backlog.rs`), and published after; what the broker does not
//! take charge of is due again. A crash in between leaves rows marked as sent that nobody claims: they are found and
//! sent again (see `Store::resend_lost`), and a trigger that arrives twice finds nothing to claim.

use std::collections::HashMap;
use std::iter::repeat;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use reveille_shared::broker::{Broker, Health, PublishError, Route};
use reveille_shared::clock::Clock;
use reveille_shared::crash::{self, Act};
use reveille_shared::store::{Hint, Outgoing, Store, StoreError, Taken};
use reveille_shared::telemetry::chain;
use reveille_shared::trigger::Trigger;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backlog::Backlog;
use crate::bundle::{Bundles, singles};
use crate::handover::{Handed, Intake};
use crate::lost;
use crate::status::Status;
pub use crate::unpublished::Others;
use crate::unpublished::Unpublished;

/// The most triggers in one batch.
const BATCH: usize = 1_000;
/// The same, for the store.
const ROWS: i64 = 1_000;
/// Batches that wait for the broker's confirms while the next one is taken.
const IN_FLIGHT: usize = 2;
/// The longest sleep: hints of other processes may be lost.
const IDLE: Duration = Duration::from_secs(1);
/// How often to look for room for what is held back.
const ROOM: Duration = Duration::from_millis(25);
/// How often to look whether another dispatcher still has the backlog.
const ELSEWHERE: Duration = Duration::from_millis(250);
/// How often to look for lost triggers and for changed queues.
const LOOK_AROUND: Duration = Duration::from_secs(2);
/// Batches of this process's planner, callers and follow-ups that are published before what is due in the store gets its turn.
const HANDED_IN_A_ROW: u32 = 8;
/// The first delay before a trigger goes out again, doubled with each failure in a row.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest such delay.
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Publishes what is due, for as long as its process lives.
pub struct Dispatcher {
    /// Where due triggers are.
    pub store: Store,
    /// Where they go.
    pub broker: Arc<dyn Broker>,
    /// Measures how late they are.
    pub clock: Arc<dyn Clock>,
    /// Changes when definitions are put in force in this process.
    pub definitions: watch::Receiver<u64>,
    /// Triggers that the planner, callers and follow-ups of this process have marked as sent.
    pub handed: Intake,
    /// What may be lost of what others have sent.
    pub others: Others,
    /// Who is told.
    pub status: Arc<Status>,
}

/// What batches in flight tell the loop.
#[derive(Debug, Default)]
struct Feedback {
    /// Batches in a row that the broker did not take whole.
    failing: AtomicU32,
    /// A queue is missing.
    undeclared: AtomicBool,
    /// Triggers that the broker did not take are marked as sent still.
    stranded: AtomicBool,
}

impl Dispatcher {
    /// Publishes until `stop`, then waits for what is in flight.
    pub async fn run(mut self, stop: CancellationToken) {
        let nudge = self.store.nudge(Hint::Due);
        let feedback = Arc::new(Feedback { undeclared: AtomicBool::new(true), ..Feedback::default() });
        let mut in_flight = JoinSet::new();
        let mut look_around = Instant::now();
        let mut version = None;
        let mut failing = false;
        let mut declare_at = Instant::now();
        let mut refused = None;
        let mut unpublished = Unpublished::new(self.others.clone());
        let mut bundles = Bundles::default();
        let mut backlog = Backlog::new();
        let mut waiting = None;
        let mut in_a_row = 0;
        let windows = Arc::clone(&self.handed.windows);
        while !stop.is_cancelled() {
            if let Health::Down(_) = self.broker.health() {
                self.status.tell("dispatcher", false, "the broker is down: what is due waits");
                feedback.undeclared.store(true, Ordering::Relaxed);
                let handed = match waiting.take() {
                    Some(handed) => Some(handed),
                    None => tokio::select! {
                        () = pause(Duration::from_millis(250), &stop) => None,
                        Some(handed) = self.handed.next() => Some(handed),
                    },
                };
                if let Some(handed) = handed
                    && !self.give_back(handed).await
                {
                    unpublished.lost();
                }
                continue;
            }
            while let Some(ended) = in_flight.try_join_next() {
                resume_panic(ended);
            }
            if feedback.stranded.swap(false, Ordering::Relaxed) {
                unpublished.lost();
            }
            // Queues that may be missing are declared first, in the step below.
            let undeclared = self.definitions.has_changed().unwrap_or(false)
                || declare_at <= Instant::now() && feedback.undeclared.load(Ordering::Relaxed);
            if !undeclared
                && in_a_row < HANDED_IN_A_ROW
                && let Some(handed) = waiting.take().or_else(|| self.handed.try_next())
            {
                in_a_row += 1;
                match handed {
                    Handed::Sent(batch) => {
                        let parcels = bundles.pack(&self.store, &batch).await;
                        in_flight.spawn(self.publish(batch, parcels, &feedback));
                        self.wait_for_room(&mut in_flight, &mut backlog).await;
                    }
                    Handed::Unknown => unpublished.lost(),
                }
                continue;
            }
            in_a_row = 0;
            let (mut held_back, mut is_elsewhere) = (false, false);
            let step = async {
                backlog.keep(&self.store).await;
                if self.definitions.has_changed().unwrap_or(false) {
                    self.definitions.mark_unchanged();
                    feedback.undeclared.store(true, Ordering::Relaxed);
                }
                if declare_at <= Instant::now() && feedback.undeclared.swap(false, Ordering::Relaxed) {
                    let declared = self.declare().await;
                    if let Err(error) = &declared {
                        // What goes to the other queues need not wait.
                        feedback.undeclared.store(true, Ordering::Relaxed);
                        declare_at = Instant::now() + LOOK_AROUND;
                        if refused.is_none() {
                            tracing::error!(error = chain(error), "not all work queues are there; trying again");
                        }
                    }
                    refused = declared.err().map(|error| chain(&error));
                }
                let batch = unpublished.next(&self.store, ROWS).await?;
                if !batch.is_empty() {
                    return Ok((batch, true));
                }
                if look_around.elapsed() >= LOOK_AROUND {
                    look_around = Instant::now();
                    let now_in_force = self.store.in_force().await?.map(|in_force| in_force.version);
                    if std::mem::replace(&mut version, now_in_force) != now_in_force {
                        feedback.undeclared.store(true, Ordering::Relaxed);
                    }
                    let lost = self.find_lost(&mut backlog).await?;
                    if !lost.is_empty() {
                        return Ok((lost, true));
                    }
                }
                for route in windows.to_count(Instant::now()) {
                    let unmarked = backlog.unclaimed_on(&self.store, &route).await?;
                    let unclaimed = self.store.unclaimed_on(&route).await? + unmarked;
                    windows.counted(&route, unclaimed, Instant::now());
                }
                let taken = self.take(&mut backlog, &mut bundles).await?;
                windows.sent(taken.outgoing.iter().map(|out| &out.route));
                held_back = taken.held_back;
                windows.took(held_back);
                is_elsewhere = !taken.elsewhere.is_empty();
                windows.is_elsewhere(&taken.elsewhere);
                Ok::<_, DispatchError>((taken.outgoing, false))
            };
            match step.await {
                Ok((batch, _)) if batch.is_empty() => {
                    failing = false;
                    match &refused {
                        None => self.status.tell("dispatcher", true, "publishes what is due at once"),
                        Some(error) => self.status.tell("dispatcher", false, error.clone()),
                    }
                    if waiting.is_some() {
                        continue;
                    }
                    let rest = match () {
                        // What is due may be out already.
                        () if held_back || backlog.is_held() => ROOM,
                        () if is_elsewhere => ELSEWHERE,
                        () => self.rest().await.unwrap_or(IDLE),
                    };
                    tokio::select! {
                        () = tokio::time::sleep(rest) => {}
                        // Where many wait for room, a new one is no reason to look.
                        () = nudge.notified(), if !held_back && !is_elsewhere => {}
                        () = stop.cancelled() => {}
                        Some(handed) = self.handed.next(), if waiting.is_none() => waiting = Some(handed),
                        () = unpublished.begun() => {}
                        Ok(()) = self.definitions.changed() => feedback.undeclared.store(true, Ordering::Relaxed),
                        Some(ended) = in_flight.join_next() => resume_panic(ended),
                    }
                }
                Ok((batch, again)) => {
                    failing = false;
                    let parcels = match again {
                        // What went wrong once does so alone.
                        true => singles(&batch),
                        false => bundles.pack(&self.store, &batch).await,
                    };
                    if held_back {
                        backlog.begin(&self.store, &mut bundles, &batch).await;
                    }
                    in_flight.spawn(self.publish(batch, parcels, &feedback));
                    self.wait_for_room(&mut in_flight, &mut backlog).await;
                }
                Err(error) => {
                    if error.may_have_committed() {
                        unpublished.lost();
                    }
                    let error = chain(&error);
                    metrics::counter!("reveille_pass_errors_total", "pass" => "dispatcher").increment(1);
                    self.status.tell("dispatcher", false, error.clone());
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(error, "dispatching failed; trying again");
                    }
                    pause(Duration::from_millis(500), &stop).await;
                }
            }
        }
        self.handed.close();
        let mut last = waiting;
        while let Some(handed) = match last.take() {
            Some(handed) => Some(handed),
            None => self.handed.next().await,
        } {
            if let Handed::Sent(batch) = handed {
                let parcels = singles(&batch);
                in_flight.spawn(self.publish(batch, parcels, &feedback));
            }
        }
        while let Some(ended) = in_flight.join_next().await {
            resume_panic(ended);
        }
        backlog.leave(&self.store).await;
    }

    /// Waits until fewer batches than allowed are in flight: taking one more would only let it wait here instead of in the store.
    async fn wait_for_room(&self, in_flight: &mut JoinSet<()>, backlog: &mut Backlog) {
        while in_flight.len() >= IN_FLIGHT {
            tokio::select! {
                Some(ended) = in_flight.join_next() => resume_panic(ended),
                () = tokio::time::sleep(ELSEWHERE), if backlog.is_held() => backlog.keep(&self.store).await,
            }
        }
    }

    /// What goes out next, as far as there is room.
    async fn take(&self, backlog: &mut Backlog, bundles: &mut Bundles) -> Result<Taken, StoreError> {
        let room = |route: &Route| self.handed.windows.room(route);
        if let Some(taken) = backlog.next(&self.store, bundles, ROWS, &room).await? {
            return Ok(taken);
        }
        self.store.take_due_within(ROWS, &room, backlog.dispatcher).await
    }

    /// Makes triggers due again that were handed over while nobody can publish them; false if that is not known to have
    /// worked.
    async fn give_back(&self, handed: Handed) -> bool {
        let Handed::Sent(batch) = handed else { return false };
        let returned: Vec<_> = batch.into_iter().map(|out| (out.trigger, Duration::ZERO, None)).collect();
        match self.store.unsend(&returned).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error = chain(&error), "could not take triggers back; they are sent again later");
                false
            }
        }
    }

    /// How long until something is due.
    async fn rest(&self) -> Result<Duration, StoreError> {
        let Some(next) = self.store.next_due().await? else { return Ok(IDLE) };
        let wait = next.duration_since(self.store.now().await?);
        Ok(Duration::try_from(wait).unwrap_or(Duration::ZERO).min(IDLE))
    }

    async fn declare(&self) -> Result<(), DispatchError> {
        let queues = self.store.queues().await?;
        self.broker.declare(&queues).await.map_err(DispatchError::Broker)
    }

    /// What was sent and has not come through.
    async fn find_lost(&self, backlog: &mut Backlog) -> Result<Vec<Outgoing>, StoreError> {
        let lost = lost::look(&self.store, &self.broker, backlog, BATCH).await?;
        if !lost.is_empty() {
            metrics::counter!("reveille_reconciled_total", "what" => "trigger").increment(lost.len() as u64);
            tracing::warn!(count = lost.len(), "triggers were lost and are sent again");
        }
        Ok(lost)
    }

    /// Publishes a batch in these messages and gives back what was not confirmed.
    fn publish(
        &self,
        batch: Vec<Outgoing>,
        parcels: Vec<Vec<usize>>,
        feedback: &Arc<Feedback>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (store, broker, clock) = (self.store.clone(), Arc::clone(&self.broker), Arc::clone(&self.clock));
        let feedback = Arc::clone(feedback);
        async move {
            let bundle = |parcel: &Vec<usize>| {
                let triggers = parcel.iter().map(|index| batch[*index].trigger.clone()).collect();
                (batch[parcel[0]].route.clone(), triggers)
            };
            let bundles: Vec<(Route, Vec<Trigger>)> = parcels.iter().map(bundle).collect();
            crash::at(Act::PublishBegun);
            let verdicts = broker.publish_bundles(&bundles).await;
            crash::at(Act::Published);
            let now = clock.now();
            let mut failures: HashMap<&'static str, u64> = HashMap::new();
            let mut returned = Vec::new();
            let retry = backoff(feedback.failing.load(Ordering::Relaxed));
            let verdicts =
                parcels.iter().zip(&verdicts).flat_map(|(parcel, verdict)| parcel.iter().zip(repeat(verdict)));
            for (out, verdict) in verdicts.map(|(index, verdict)| (&batch[*index], verdict)) {
                match verdict {
                    Ok(()) => observe(out, now),
                    Err(error) => {
                        *failures.entry(word(error)).or_default() += 1;
                        returned.push(unsend(out, error, retry));
                    }
                }
            }
            let confirmed = batch.len() - returned.len();
            metrics::counter!("reveille_dispatched_total").increment(confirmed as u64);
            if returned.is_empty() {
                feedback.failing.store(0, Ordering::Relaxed);
                return;
            }
            feedback.failing.fetch_add(1, Ordering::Relaxed);
            feedback.undeclared.fetch_or(failures.contains_key("returned"), Ordering::Relaxed);
            tracing::warn!(?failures, retry = ?retry, "the broker did not take all triggers; they go out again");
            for (reason, count) in failures {
                metrics::counter!("reveille_dispatch_failures_total", "reason" => reason).increment(count);
            }
            if let Err(error) = store.unsend(&returned).await {
                tracing::warn!(error = chain(&error), "could not take triggers back; they are sent again later");
                feedback.stranded.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// What a batch's failure means for one of its triggers.
fn unsend(out: &Outgoing, error: &PublishError, retry: Duration) -> (Trigger, Duration, Option<String>) {
    let reason = match error {
        PublishError::Returned => Some(format!("no queue {} on the broker", out.route.queue)),
        // May have arrived after all, and says nothing about this run.
        PublishError::Nacked | PublishError::Unconfirmed(_) => None,
    };
    (out.trigger.clone(), retry, reason)
}

fn word(error: &PublishError) -> &'static str {
    match error {
        PublishError::Nacked => "nacked",
        PublishError::Returned => "returned",
        PublishError::Unconfirmed(_) => "unconfirmed",
    }
}

fn backoff(failing: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failing.min(10)).min(LAST_RETRY)
}

/// How late a trigger was confirmed, by our clock.
fn observe(out: &Outgoing, now: Timestamp) {
    let since = |due: Timestamp| now.duration_since(due).as_secs_f64().max(0.0);
    metrics::histogram!("reveille_dispatch_seconds").record(since(out.due_at));
    if let Some(fire) = &out.fire
        && out.trigger.n == 1
    {
        metrics::histogram!("reveille_fire_lateness_seconds").record(since(fire.due_at));
    }
}

async fn pause(wait: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        () = stop.cancelled() => {}
    }
}

fn resume_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

#[derive(Debug, thiserror::Error)]
enum DispatchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("can't declare the work queues")]
    Broker(#[source] reveille_shared::broker::BrokerError),
}

impl DispatchError {
    /// Triggers may be marked as sent that nobody has published.
    fn may_have_committed(&self) -> bool {
        matches!(self, Self::Store(error) if error.may_have_committed())
    }
}

/// Passes on the hints of other processes. Where there are none it just waits.
pub async fn listen(store: Store, stop: CancellationToken) {
    loop {
        let heard = tokio::select! {
            heard = store.listen() => heard,
            () = stop.cancelled() => return,
        };
        if let Err(error) = heard {
            tracing::debug!(error = chain(&error), "not listening; everyone looks each second");
        }
        pause(IDLE, &stop).await;
    }
}
