//! What several callers ask for at the same time is accepted in one commit: while two batches are with the database the next one
//! gathers. Who comes alone waits for nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{Acceptance, NewWorkRequest, insert};
use crate::crash::{self, Commit};
use crate::store::dispatch::Outgoing;
use crate::store::idempotency::{self, Earlier, IdempotencyKey};
use crate::store::{Kind, Result, Store, StoreError};
use crate::telemetry::chain;

/// Batches that are with the database at the same time.
const UNDER_WAY: usize = 2;
/// Requests of a batch that failed that are tried alone at the same time.
const ALONE: usize = 4;
/// How long a batch may take: longer than it may wait for a connection, and for a statement.
const LIMIT: Duration = Duration::from_secs(40);

/// A request, and the caller's name for it.
pub(super) type Asked = (NewWorkRequest, Option<IdempotencyKey>);
/// What became of it, and its trigger if that counts as sent.
pub(super) type Accepted = (Acceptance, Option<Outgoing>);
/// … and who waits for that.
type Waiting = (Asked, Caller);
type Caller = oneshot::Sender<Result<Accepted>>;

/// Callers whose requests are not with the database yet.
#[derive(Debug)]
pub(in crate::store) struct Callers {
    waiting: Mutex<Vec<Waiting>>,
    turns: Arc<Semaphore>,
    /// Batches under way.
    batches: TaskTracker,
}

impl Default for Callers {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turns: Arc::new(Semaphore::new(UNDER_WAY)), batches: TaskTracker::new() }
    }
}

impl Callers {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes those that have waited longest, but none who has gone.
    fn take(&self, most: usize) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        waiting.retain(|(_, caller)| !caller.is_closed());
        let most = most.min(waiting.len());
        waiting.drain(..most).collect()
    }
}

impl NewWorkRequest {
    /// Accepting it waits for no other run, so that it holds up nobody who is accepted with it, unless its key is in use at this
    /// moment.
    fn is_apart(&self) -> bool {
        self.unique.is_none() && self.concurrency.is_none() && self.rate.is_none() && self.refused.is_none()
    }
}

impl Store {
    /// Accepts a request, with those of others if these are waiting.
    pub(super) async fn accept_together(
        &self,
        request: NewWorkRequest,
        key: Option<IdempotencyKey>,
    ) -> Result<Accepted> {
        if !request.is_apart() {
            return self.accept_alone(request, key).await;
        }
        let is_alone = self.callers.waiting().is_empty();
        if is_alone && let Ok(_turn) = self.callers.turns.try_acquire() {
            return self.accept_alone(request, key).await;
        }
        let (caller, mut answer) = oneshot::channel();
        self.callers.waiting().push(((request, key), caller));
        loop {
            let turn = tokio::select! {
                biased;
                answer = &mut answer => return answer.unwrap_or_else(|_| Err(broken_off())),
                turn = Arc::clone(&self.callers.turns).acquire_owned() => turn.expect("nobody closes it"),
            };
            // Whose turn it is takes along all who wait, until nobody does: then this request is on its way too.
            let batch = self.callers.take(self.kind().births());
            if batch.is_empty() {
                drop(turn);
                return answer.await.unwrap_or_else(|_| Err(broken_off()));
            }
            // A task of its own: who hangs up must not take others with it.
            self.callers.batches.spawn(self.clone().accept_for(batch, turn));
        }
    }

    async fn accept_for(self, batch: Vec<Waiting>, _turn: OwnedSemaphorePermit) {
        let (asked, callers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let work = async {
            let together = if asked.len() > 1 { Some(self.accept_batch(&asked).await) } else { None };
            match together {
                Some(Ok(answers)) => {
                    self.answer(callers.into_iter().zip(answers)).await;
                }
                // Who does not answer is not asked once more for each of them.
                Some(Err(StoreError::Query { step, source })) if is_away(&source) => {
                    let same = || StoreError::Query { step, source: sqlx::Error::Protocol(source.to_string()) };
                    self.answer(callers.into_iter().map(|caller| (caller, Err(same())))).await;
                }
                // What one of them can't have, or waits for, must not keep the others from it.
                _ => {
                    stream::iter(asked.into_iter().zip(callers))
                        .for_each_concurrent(ALONE, async |((request, key), caller)| {
                            let answer = self.accept_alone(request, key).await;
                            self.answer([(caller, answer)].into_iter()).await;
                        })
                        .await;
                }
            }
        };
        // A server that has gone without a word must not keep the turn; those who wait see that nobody answers any more.
        let _late = timeout(LIMIT, work).await.is_err();
    }

    /// Tells callers what became of their requests. The trigger of one who has hung up has nobody who publishes it.
    async fn answer(&self, answers: impl Iterator<Item = (Caller, Result<Accepted>)>) {
        let unheard = |(caller, answer): (Caller, _)| match caller.send(answer) {
            Err(Ok((_, Some(out)))) => Some((out.trigger, Duration::ZERO, None)),
            _ => None,
        };
        let unheard: Vec<_> = answers.filter_map(unheard).collect();
        if !unheard.is_empty()
            && let Err(error) = self.unsend(&unheard).await
        {
            tracing::debug!(error = chain(&error), "could not take triggers back; they are found as lost later");
        }
    }

    async fn accept_batch(&self, asked: &[Asked]) -> Result<Vec<Result<Accepted>>> {
        if self.kind() == Kind::Postgres && asked.iter().all(|(request, key)| key.is_none() && request.is_plain()) {
            let new: Vec<_> = asked.iter().map(|(request, _)| request.clone()).collect();
            if let Some(now) = crash::around(Commit::AcceptTogether, self.db.accept(&new)).await? {
                return Ok(self.accepted(asked, asked.iter().map(|_| None), &new, now));
            }
        }
        let mut tx = self.begin().await?;
        let named = |(request, key): &Asked| Some((key.clone()?, request.id.to_string()));
        let mut taken = idempotency::take_all(&mut *tx, asked.iter().filter_map(named).collect()).await?.into_iter();
        let earlier: Vec<_> = asked.iter().map(|(_, key)| key.as_ref().and_then(|_| taken.next()?)).collect();
        let new: Vec<_> =
            asked.iter().zip(&earlier).filter(|(_, earlier)| earlier.is_none()).map(|(new, _)| new.0.clone()).collect();
        insert(&mut *tx, &new).await?;
        let now = tx.now();
        crash::around(Commit::Accept, tx.commit()).await?;
        Ok(self.accepted(asked, earlier.into_iter(), &new, now))
    }

    /// What became of each: of those that were not asked for earlier, `new` was born.
    fn accepted(
        &self,
        asked: &[Asked],
        earlier: impl Iterator<Item = Option<Earlier>>,
        new: &[NewWorkRequest],
        now: Timestamp,
    ) -> Vec<Result<Accepted>> {
        let mut sent = self.after_births(new, now).into_iter();
        let answer = |((request, _), earlier): (&Asked, Option<Earlier>)| match earlier {
            Some(earlier) => Ok((Acceptance::of(earlier)?, None)),
            None => Ok((Acceptance::New(request.id), if request.sent { sent.next() } else { None })),
        };
        asked.iter().zip(earlier).map(answer).collect()
    }
}

/// The database can't be reached, or is shutting down.
fn is_away(source: &sqlx::Error) -> bool {
    use sqlx::Error::{Database, Io, PoolClosed, PoolTimedOut, Tls, WorkerCrashed};
    match source {
        Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        error => matches!(error, Io(_) | PoolClosed | PoolTimedOut | Tls(_) | WorkerCrashed),
    }
}

/// Whoever had it in hand has panicked, or had no answer in time.
fn broken_off() -> StoreError {
    StoreError::Query { step: "accept a work request", source: sqlx::Error::Protocol("it was broken off".into()) }
}
