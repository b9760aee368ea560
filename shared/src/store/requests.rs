//! Reading work requests, and cancelling them.

use jiff::Timestamp;
use serde_json::Value;

use super::texts::asker_without_nul;
use super::transition::{Batch, Hints};
use super::{Result, Store};
use crate::access::Names;
use crate::crash::{self, Commit};
use crate::state::{Input, Refusal, Status};
use crate::work_request::{Asker, HistoryEvent, LogLine, WorkRequest, WorkRequestId};

/// By what work requests are ordered; among equal ones, by acceptance. Only acceptance has an index: all else sorts whatever
/// the filter lets through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortBy {
    /// When they were accepted.
    #[default]
    Accepted,
    /// The text of the status.
    Status,
    /// The job's name.
    Job,
    /// When they started; those that have not come last.
    Started,
    /// When they ended; those that have not come last.
    Finished,
}

impl SortBy {
    /// What is compared, of the rows of the table `name`.
    pub(crate) fn columns(self, name: &str) -> Vec<String> {
        let time = |column| {
            [format!("{name}.{column} IS NULL"), format!("coalesce({name}.{column}, {name}.accepted_at)")].to_vec()
        };
        let mut columns = match self {
            Self::Accepted => Vec::new(),
            Self::Status => vec![format!("{name}.status")],
            Self::Job => vec![format!("{name}.job")],
            Self::Started => time("started_at"),
            Self::Finished => time("finished_at"),
        };
        columns.push(format!("{name}.id"));
        columns
    }
}

/// The order of a list; the newest come first unless it says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Order {
    /// What is compared.
    pub by: SortBy,
    /// The lowest first.
    pub ascending: bool,
}

/// Which work requests to list.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListFilter {
    /// The tenant.
    pub namespace: String,
    /// Only of this job.
    pub job: Option<String>,
    /// Only of one of these jobs.
    pub jobs: Names,
    /// Only called for by fires of this schedule.
    pub schedule: Option<String>,
    /// Only this one.
    pub id: Option<WorkRequestId>,
    /// Only of a resource with this `name`; it has no index.
    pub resource: Option<String>,
    /// Only children of this run.
    pub parent: Option<WorkRequestId>,
    /// Only in one of these states; empty means all.
    pub status: Vec<Status>,
    /// Only accepted at this instant or later.
    pub accepted_after: Option<Timestamp>,
    /// Only accepted before this instant.
    pub accepted_before: Option<Timestamp>,
    /// Only behind this one: the last of the previous page.
    pub after: Option<WorkRequestId>,
    /// In which order.
    pub order: Order,
}

/// Where a list reads what its filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// All of them.
    All,
    /// Those that have not ended.
    Unended,
    /// Those that have FAILED or were CANCELED.
    Unsuccessful,
}

impl Place {
    /// The rows of work requests `w`. Of the unended ones each database has words of its own, which say that the few are looked
    /// up among the many: statistics know nothing of what has not ended when they were made.
    pub(crate) const fn rows(self, unended: &'static str) -> &'static str {
        match self {
            Self::All => "work_requests w",
            Self::Unended => unended,
            Self::Unsuccessful => "unsuccessful u JOIN work_requests w ON w.id = u.id",
        }
    }

    /// Before the names of all other columns.
    pub(crate) const fn columns(self) -> &'static str {
        match self {
            Self::All | Self::Unended => "w.",
            Self::Unsuccessful => "u.",
        }
    }

    /// Before the names of the tenant's and the schedule's columns, which unended runs have beside their triggers.
    pub(crate) const fn kept(self) -> &'static str {
        match self {
            Self::All => "w.",
            Self::Unended | Self::Unsuccessful => "u.",
        }
    }

    /// The column of ids.
    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::All => "w.id",
            Self::Unended | Self::Unsuccessful => "u.id",
        }
    }
}

impl ListFilter {
    /// Where to look: what is rare would take long to find among all that has ended well.
    pub(crate) fn place(&self) -> Place {
        let are_all = |are: fn(&Status) -> bool| !self.status.is_empty() && self.status.iter().all(are);
        if are_all(|status| !status.is_terminal()) {
            Place::Unended
        } else if are_all(|status| matches!(status, Status::Failed | Status::Canceled)) {
            Place::Unsuccessful
        } else {
            Place::All
        }
    }
}

/// What became of a request to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancellation {
    /// It is CANCELED.
    Canceled,
    /// It runs: the worker has been asked to stop it.
    Canceling,
    /// It had ended before.
    Ended,
    /// There is none of this name.
    Unknown,
}

/// What became of a request to cancel many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Canceled {
    /// Now CANCELED.
    pub canceled: usize,
    /// Running: their workers have been asked to stop them, now or before.
    pub canceling: usize,
}

/// How many unended runs of a queue are in a phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDepth {
    /// The work queue.
    pub queue: String,
    /// `due`, `held`, `sent`, `leased`, `parked` or `children`.
    pub phase: String,
    /// How many.
    pub count: i64,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its status.
    pub status: Status,
    /// The number of the last entry of its history, until it has ended.
    pub last: Option<i32>,
}

impl Store {
    /// A work request of a namespace.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn work_request(&self, namespace: &str, id: WorkRequestId) -> Result<Option<WorkRequest>> {
        self.db.work_request(namespace, id).await
    }

    /// These work requests, of any namespace, those that there are, in any order.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn work_requests_of(&self, ids: &[WorkRequestId]) -> Result<Vec<WorkRequest>> {
        self.db.work_requests_of(&super::ids(ids.iter().copied())).await
    }

    /// Up to `limit` work requests, in the filter's order.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn work_requests(&self, filter: &ListFilter, limit: i64) -> Result<Vec<WorkRequest>> {
        self.db.work_requests(filter, limit).await
    }

    /// Up to `limit` work requests that have not ended, the first accepted first; `after` is the last of the page before.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn unended(&self, filter: &ListFilter, limit: i64) -> Result<Vec<WorkRequestId>> {
        self.db.unended(filter, limit).await
    }

    /// What a run that SUCCEEDED has answered.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn output(&self, id: WorkRequestId) -> Result<Option<Value>> {
        Ok(self.outputs(&[id]).await?.pop().map(|(_, output)| output))
    }

    /// What each of these runs has answered, of those that SUCCEEDED and have answered anything. A few hundred at most.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn outputs(&self, ids: &[WorkRequestId]) -> Result<Vec<(WorkRequestId, Value)>> {
        if ids.is_empty() { Ok(Vec::new()) } else { self.db.outputs(ids).await }
    }

    /// Where each of these runs stands, of those that there are. A few hundred at most.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn standings(&self, ids: &[WorkRequestId]) -> Result<Vec<(WorkRequestId, Standing)>> {
        if ids.is_empty() { Ok(Vec::new()) } else { self.db.standings(ids).await }
    }

    /// Up to `limit` entries of a history behind number `after`, in order.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn events(&self, id: WorkRequestId, after: i32, limit: i64) -> Result<Vec<HistoryEvent>> {
        self.db.events(id, after, limit).await
    }

    /// Up to `limit` entries of a history before number `before`, the last one first.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn events_before(&self, id: WorkRequestId, before: i32, limit: i64) -> Result<Vec<HistoryEvent>> {
        self.db.events_before(id, before, limit).await
    }

    /// Up to `limit` log lines behind (attempt, number) `after`, in order.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn logs(&self, id: WorkRequestId, after: (i32, i32), limit: i64) -> Result<Vec<LogLine>> {
        self.db.logs(id, after, limit).await
    }

    /// How many unended runs each queue has in each phase.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn depths(&self) -> Result<Vec<QueueDepth>> {
        self.db.depths().await
    }

    /// Cancels what waits at once, and asks what runs to stop.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn cancel(&self, namespace: &str, id: WorkRequestId, by: Asker) -> Result<Cancellation> {
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock_ids(&mut *tx, std::iter::once(id)).await?;
        if batch.get(id).is_some_and(|row| row.namespace != namespace) {
            return Ok(Cancellation::Unknown);
        }
        let mut hints = Hints::default();
        let answer = match batch.apply(id, &Input::Cancel { by: asker_without_nul(by) }) {
            Ok(row) if row.is_done() => {
                hints.after(row);
                Cancellation::Canceled
            }
            Ok(_) | Err(Refusal::Repeated) => Cancellation::Canceling,
            Err(_) => {
                drop(tx);
                let known = self.work_request(namespace, id).await?;
                return Ok(known.map_or(Cancellation::Unknown, |_| Cancellation::Ended));
            }
        };
        batch.save(&mut *tx).await?;
        crash::around(Commit::Cancel, tx.commit()).await?;
        hints.give(self);
        Ok(answer)
    }

    /// Cancels these, like [`Store::cancel`], in one transaction; what has ended or belongs to another namespace is passed
    /// over.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn cancel_all(&self, namespace: &str, these: &[WorkRequestId], by: impl Into<Asker>) -> Result<Canceled> {
        let by = asker_without_nul(by.into());
        let mut tx = self.begin().await?;
        let mut batch = Batch::lock_ids(&mut *tx, these.iter().copied()).await?;
        let mut hints = Hints::default();
        let mut answer = Canceled::default();
        for id in batch.names() {
            if batch.get(id).is_none_or(|row| row.namespace != namespace) {
                continue;
            }
            match batch.apply(id, &Input::Cancel { by: by.clone() }) {
                Ok(row) if row.is_done() => {
                    hints.after(row);
                    answer.canceled += 1;
                }
                Ok(_) | Err(Refusal::Repeated) => answer.canceling += 1,
                Err(_) => {}
            }
        }
        batch.save(&mut *tx).await?;
        crash::around(Commit::CancelAll, tx.commit()).await?;
        hints.give(self);
        Ok(answer)
    }
}
