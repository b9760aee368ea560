//! What several callers ask for at the same time is accepted in one commit: while two batches are with the database the next one
//! gathers. Who comes alone waits for nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use super::{Acceptance, NewWorkRequest, insert};
use crate::crash::{self, Commit};
use crate::store::dispatch::Outgoing;
use crate::store::idempotency::{self, Earlier, IdempotencyKey};
use crate::store::{Kind, Result, Store, StoreError};

/// Batches that are with the database at the same time.
const UNDER_WAY: usize = 2;

/// A request, and the caller's name for it.
pub(super) type Asked = (NewWorkRequest, Option<IdempotencyKey>);
/// What became of it, and its trigger if that counts as sent.
pub(super) type Accepted = (Acceptance, Option<Outgoing>);
/// … and who waits for that.
type Waiting = (Asked, oneshot::Sender<Result<Accepted>>);

/// Callers whose requests are not with the database yet.
#[derive(Debug)]
pub(in crate::store) struct Callers {
    waiting: Mutex<Vec<Waiting>>,
    turns: Arc<Semaphore>,
    /// Batches under way, each of which somebody waits for.
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
    /// Accepting it waits for no other run, so that it holds up nobody who is accepted with it.
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
        let together = if asked.len() > 1 { Some(self.accept_batch(&asked).await) } else { None };
        let answers = match together {
            Some(Ok(answers)) => answers,
            // Who does not answer is not asked once more for each of them.
            Some(Err(StoreError::Query { step, source })) if source.as_database_error().is_none() => {
                let same = || StoreError::Query { step, source: sqlx::Error::Protocol(source.to_string()) };
                asked.iter().map(|_| Err(same())).collect()
            }
            // What one of them can't have must not keep the others from it.
            _ => join_all(asked.into_iter().map(|(request, key)| self.accept_alone(request, key))).await,
        };
        for (caller, answer) in callers.into_iter().zip(answers) {
            // Who has hung up asks again under the same key.
            let _gone = caller.send(answer).is_err();
        }
    }

    async fn accept_batch(&self, asked: &[Asked]) -> Result<Vec<Result<Accepted>>> {
        let is_plain = |(request, key): &Asked| key.is_none() && request.sent && request.is_plain();
        if self.kind() == Kind::Postgres && asked.iter().all(is_plain) {
            let requests: Vec<_> = asked.iter().map(|(request, _)| request.clone()).collect();
            if let Some(now) = crash::around(Commit::AcceptPlain, self.db.accept(&requests)).await? {
                let sent = |request: &NewWorkRequest| Some(Outgoing::at_birth(request, now));
                return Ok(requests.iter().map(|request| Ok((Acceptance::New(request.id), sent(request)))).collect());
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
        let mut sent = self.after_births(&new, now).into_iter();
        let answer = |((request, _), earlier): (&Asked, Option<Earlier>)| match earlier {
            Some(earlier) => Ok((Acceptance::of(earlier)?, None)),
            None => Ok((Acceptance::New(request.id), if request.sent { sent.next() } else { None })),
        };
        Ok(asked.iter().zip(earlier).map(answer).collect())
    }
}

/// The task that had it in hand has panicked.
fn broken_off() -> StoreError {
    StoreError::Query { step: "accept a work request", source: sqlx::Error::WorkerCrashed }
}
