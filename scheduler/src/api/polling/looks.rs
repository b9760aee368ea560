//! Looks at single runs: those that come while others are under way are one look together. So the more ask, the less each
//! costs, and however many do, they leave the database to those who work.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use reveille_shared::store::{Result, Store};
use reveille_shared::work_request::{WorkRequest, WorkRequestId};
use tokio::sync::{Semaphore, oneshot};

/// Looks that are under way at a time.
const AT_ONCE: usize = 2;

/// Who waits for a run, and how it is told.
type Waiter = (WorkRequestId, oneshot::Sender<Option<WorkRequest>>);

#[derive(Debug)]
pub(super) struct Looks {
    waiting: Mutex<Vec<Waiter>>,
    turns: Semaphore,
}

impl Default for Looks {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

impl Looks {
    /// A run, as it was found after this was called. Whoever gets a turn looks for all who wait by then.
    pub(super) async fn at(&self, store: &Store, id: WorkRequestId) -> Result<Option<WorkRequest>> {
        let (tell, mut told) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((id, tell));
        let told = tokio::select! {
            biased;
            told = &mut told => told,
            _turn = self.turns.acquire() => {
                let these = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
                look(store, these).await?;
                told.await
            }
        };
        match told {
            Ok(found) => Ok(found),
            // Who had the turn has gone, or has failed.
            Err(_) => Ok(store.work_requests_of(&[id]).await?.pop()),
        }
    }
}

async fn look(store: &Store, these: Vec<Waiter>) -> Result<()> {
    let ids: Vec<_> = these.iter().map(|(id, _)| *id).collect();
    let found: HashMap<_, _> = store.work_requests_of(&ids).await?.into_iter().map(|run| (run.id, run)).collect();
    for (id, tell) in these {
        // Who has gone needs no answer.
        let _ = tell.send(found.get(&id).cloned());
    }
    Ok(())
}
