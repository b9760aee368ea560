//! Operations that calls begin and that go on by themselves. Whoever begins one again under the same key finds the one that
//! there is, and from then on what that does is done for the newer attempt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::ledger::{Entry, TICK, What};

/// All of them, and the callee's part of the ledger. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Book(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    entries: Vec<Entry>,
    operations: HashMap<Uuid, Operation>,
}

#[derive(Debug)]
struct Operation {
    /// For which it goes on.
    attempt: u32,
    status: &'static str,
}

const RUNNING: &str = "Running";

impl Book {
    /// What has been written down.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.open().entries.clone()
    }

    pub(super) fn note(&self, id: Uuid, attempt: u32, what: What) {
        self.open().entries.push(Entry::now(id, attempt, what, 0));
    }

    /// Begins the operation of a run, or finds it. Answers whether it was begun.
    pub(super) fn begin(&self, id: Uuid, attempt: u32) -> bool {
        let mut pages = self.open();
        pages.entries.push(Entry::now(id, attempt, What::Start, 0));
        let known = pages.operations.get_mut(&id);
        let is_new = known.is_none();
        match known {
            Some(operation) => operation.attempt = operation.attempt.max(attempt),
            None => drop(pages.operations.insert(id, Operation { attempt, status: RUNNING })),
        }
        is_new
    }

    /// Works on an operation until it has ended or is told to.
    pub(super) async fn work(&self, id: Uuid, work: Duration) {
        let end = Instant::now() + work;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            sleep(left.min(TICK)).await;
            if !self.step(id, left.is_zero()) {
                return;
            }
        }
    }

    /// Whether there is more to do.
    fn step(&self, id: Uuid, is_last: bool) -> bool {
        let mut pages = self.open();
        let Some(operation) = pages.operations.get_mut(&id).filter(|operation| operation.status == RUNNING) else {
            return false;
        };
        let attempt = operation.attempt;
        if is_last {
            operation.status = "Succeeded";
        }
        pages.entries.push(Entry::now(id, attempt, if is_last { What::Done } else { What::Tick }, 0));
        !is_last
    }

    /// Where an operation stands.
    pub(super) fn status(&self, id: Uuid) -> Option<&'static str> {
        self.open().operations.get(&id).map(|operation| operation.status)
    }

    /// Tells an operation to end. Answers whether it went on.
    pub(super) fn cancel(&self, id: Uuid) -> Option<bool> {
        let mut pages = self.open();
        let operation = pages.operations.get_mut(&id)?;
        if operation.status != RUNNING {
            return Some(false);
        }
        operation.status = "Canceled";
        let attempt = operation.attempt;
        pages.entries.push(Entry::now(id, attempt, What::Failed, 0));
        Some(true)
    }

    fn open(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(book: &Book) -> Vec<(u32, What)> {
        book.entries().into_iter().map(|entry| (entry.attempt, entry.what)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_is_begun_once_and_goes_on_for_the_newer_attempt() {
        let (book, id) = (Book::default(), Uuid::from_u128(5));
        assert!(book.begin(id, 1));
        let work = async {
            book.work(id, TICK * 3).await;
        };
        let again = async {
            sleep(TICK * 3 / 2).await;
            assert!(!book.begin(id, 2) && !book.begin(id, 1));
        };
        tokio::join!(work, again);
        assert_eq!(book.status(id), Some("Succeeded"));
        let (first, second): (Vec<_>, Vec<_>) = told(&book).into_iter().partition(|(attempt, _)| *attempt == 1);
        assert_eq!(first, [(1, What::Start), (1, What::Tick), (1, What::Start)]);
        assert!(second.starts_with(&[(2, What::Start), (2, What::Tick)]) && second.ends_with(&[(2, What::Done)]));
        assert_eq!(book.cancel(id), Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_told_to_end_does_nothing_more() {
        let (book, id) = (Book::default(), Uuid::from_u128(5));
        assert!(book.begin(id, 1));
        assert_eq!((book.cancel(id), book.cancel(id), book.cancel(Uuid::nil())), (Some(true), Some(false), None));
        book.work(id, TICK * 3).await;
        assert_eq!(told(&book), [(1, What::Start), (1, What::Failed)]);
        assert_eq!((book.status(id), book.status(Uuid::nil())), (Some("Canceled"), None));
    }
}
