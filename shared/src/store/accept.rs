//! A work request is born.

mod together;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use self::together::Accepted;
pub(super) use self::together::Callers;
use super::database::Tx;
use super::dispatch::Outgoing;
use super::idempotency::{self, Earlier, IdempotencyKey};
use super::limits::{self, Limit};
use super::rows::malformed;
use super::texts::{asker_without_nul, error_without_nul};
use super::transition::Batch;
use super::unique::{self, UniqueKey};
use super::{Hint, Kind, Result, Store, StoreError};
use crate::broker::Route;
use crate::crash::{self, Commit};
use crate::definition::{Job, Priority};
use crate::duration::HumanDuration;
use crate::state::Input;
use crate::work_request::{Asker, FireRef, Happening, RunError, WorkRequestId};

/// A work request to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWorkRequest {
    /// Its name from here on.
    pub id: WorkRequestId,
    /// The tenant.
    pub namespace: String,
    /// The job to run.
    pub job: String,
    /// The job's version in force.
    pub job_version: i64,
    /// The job's queue.
    pub queue: String,
    /// The job's time-out of an attempt.
    pub timeout: HumanDuration,
    /// The fire that calls for it.
    pub fire: Option<FireRef>,
    /// What the run is given.
    pub input: Value,
    /// What it is to create or change.
    pub resource: Option<Value>,
    /// How long to wait before the trigger goes out.
    pub delay: HumanDuration,
    /// Who asked and why, for the history.
    pub by: Asker,
    /// The run whose end calls for it, if one does.
    pub chained_from: Option<WorkRequestId>,
    /// The run whose child it is, if it is one.
    pub parent: Option<WorkRequestId>,
    /// The run of which it does again what did not succeed.
    pub retry_of: Option<WorkRequestId>,
    /// Nothing of its own is to be delivered: it ends with its children. [`Store::accept_fan_out`] says so.
    pub has_children: bool,
    /// For what it waits before its trigger may go out, in words, if for anything.
    pub held: Option<String>,
    /// Its first trigger counts as sent from the start: whoever accepts it publishes it after the commit.
    pub sent: bool,
    /// Why it can't be run at all, if so: it is recorded, and FAILED.
    pub refused: Option<RunError>,
    /// Something waits for its end.
    pub follow: bool,
    /// Which runs go first when many wait.
    pub priority: Priority,
    /// How many runs with its key may be under way at one time.
    pub concurrency: Option<Limit>,
    /// How many runs with its key may start within a time.
    pub rate: Option<Limit>,
    /// Which runs are the same.
    pub unique: Option<UniqueKey>,
    /// How long after its delay it may wait for its start.
    pub expires: Option<HumanDuration>,
}

impl NewWorkRequest {
    /// A run of a job at once, with no input, that nothing else has to do with.
    #[must_use]
    pub fn new(id: WorkRequestId, job: &Job, job_version: i64, by: impl Into<Asker>) -> Self {
        Self {
            id,
            namespace: job.namespace.clone(),
            job: job.name.clone(),
            job_version,
            queue: job.queue.clone(),
            timeout: job.timeout,
            fire: None,
            input: Value::Null,
            resource: None,
            delay: HumanDuration::ZERO,
            by: by.into(),
            chained_from: None,
            parent: None,
            retry_of: None,
            has_children: false,
            held: None,
            sent: false,
            refused: None,
            follow: false,
            priority: job.priority,
            concurrency: None,
            rate: None,
            unique: None,
            expires: job.expires,
        }
    }

    /// Where its trigger goes.
    #[must_use]
    pub fn route(&self) -> Route {
        Route { queue: self.queue.clone(), priority: self.priority }
    }

    /// Nothing holds it back, and no limit has to be counted.
    #[must_use]
    pub fn goes_out_at_once(&self) -> bool {
        self.held.is_none()
            && self.refused.is_none()
            && self.delay == HumanDuration::ZERO
            && self.concurrency.is_none()
            && self.rate.is_none()
    }

    /// Nothing else has to be known to accept it, not even what time it is.
    fn is_plain(&self) -> bool {
        self.goes_out_at_once() && self.unique.is_none() && self.expires.is_none()
    }

    /// When its trigger may go out at the earliest.
    pub(crate) fn due_at(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(self.delay.signed()).unwrap_or(Timestamp::MAX)
    }

    /// When it is too late to start it.
    pub(crate) fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        Some(self.due_at(now).saturating_add(self.expires?.signed()).unwrap_or(Timestamp::MAX))
    }

    /// The delivery's phase and how many triggers were sent, as they are kept.
    pub(crate) const fn phase(&self) -> (&'static str, i32) {
        match (&self.held, self.sent) {
            _ if self.has_children => ("children", 0),
            (Some(_), _) => ("held", 0),
            (None, true) => ("sent", 1),
            (None, false) => ("due", 0),
        }
    }

    /// The first entries of its history.
    pub(crate) fn history(&self) -> Vec<Happening> {
        let mut history = vec![Happening::Accepted { by: asker_without_nul(self.by.clone()) }];
        history.extend(self.held.clone().map(|reason| Happening::Held { reason }));
        history
    }
}

/// How far the time in a run's id may be from when it is accepted. Lists by time rely on it: ids are made by many clocks.
pub(crate) const MOST_APART: SignedDuration = SignedDuration::from_mins(5);

/// Gives birth to work requests, and ends those that can't be run.
pub(crate) async fn insert(tx: &mut dyn Tx, requests: &[NewWorkRequest]) -> Result<()> {
    let apart = requests.iter().map(|request| request.id.made_at().duration_since(tx.now()).abs()).max();
    if let Some(apart) = apart.filter(|apart| *apart > MOST_APART) {
        return Err(StoreError::ClocksApart(apart));
    }
    tx.insert_requests(requests).await?;
    limits::make_known(tx, requests.iter().flat_map(|r| r.concurrency.iter().chain(&r.rate)).collect()).await?;
    let refused: Vec<_> = requests.iter().filter_map(|r| Some((r.id, r.refused.clone()?))).collect();
    if refused.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::lock_ids(tx, refused.iter().map(|(id, _)| *id)).await?;
    for (id, error) in refused {
        // Just born and not sent: nothing else can have happened to it.
        let _refused = batch.apply(id, &Input::Refuse { error: error_without_nul(error) }).is_err();
    }
    batch.save(tx).await
}

/// Whether there is room for one more trigger on a route; if so, it is taken.
pub type Admits<'a> = dyn Fn(&Route) -> bool + Send + Sync + 'a;

/// Lets those that go out at once on routes that admit them count as sent from their birth.
pub(crate) fn send_at_birth(requests: &mut [NewWorkRequest], admits: &Admits<'_>) {
    for request in requests.iter_mut().filter(|request| request.goes_out_at_once()) {
        request.sent = admits(&request.route());
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// A work request was born.
    New(WorkRequestId),
    /// The same request was accepted before, as this work request.
    Repeated(WorkRequestId),
    /// One that is the same was accepted before and stands for it.
    Same(WorkRequestId),
    /// The key was used for a request that differs in these fields.
    KeyReused(Vec<String>),
}

impl Acceptance {
    /// What becomes of a request whose key was taken before.
    pub(super) fn of(earlier: Earlier) -> Result<Self> {
        match earlier {
            Earlier::Same(answer) => answer.parse().map(Self::Repeated).map_err(malformed("idempotency key")),
            Earlier::Other(fields) => Ok(Self::KeyReused(fields)),
        }
    }
}

impl Store {
    /// Accepts a work request: from the commit on it will reach an end (I2).
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: nothing was accepted, or the answer was lost; repeat it under the same key.
    pub async fn accept(&self, request: NewWorkRequest, key: Option<&IdempotencyKey>) -> Result<Acceptance> {
        Ok(self.accept_together(request, key.cloned()).await?.0)
    }

    /// The same, and marks its trigger as sent if it goes out at once: it is answered, to be published after this returns,
    /// which saves the dispatcher finding and marking it.
    ///
    /// # Errors
    /// The same. What is lost with the process between the commit and the broker's confirm is sent again, see
    /// [`Store::resend_between`] and [`Store::resend_lost`].
    pub async fn accept_and_send(
        &self,
        request: NewWorkRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<(Acceptance, Option<Outgoing>)> {
        let sent = request.goes_out_at_once();
        self.accept_together(NewWorkRequest { sent, ..request }, key.cloned()).await
    }

    async fn accept_alone(&self, request: NewWorkRequest, key: Option<IdempotencyKey>) -> Result<Accepted> {
        let id = request.id;
        if key.is_none() && request.sent && request.is_plain() && self.kind() == Kind::Postgres {
            let accepted = crash::around(Commit::AcceptPlain, self.db.accept(std::slice::from_ref(&request))).await?;
            if let Some(now) = accepted {
                return Ok((Acceptance::New(id), Some(Outgoing::at_birth(&request, now))));
            }
        }
        let mut tx = self.begin().await?;
        let mut requests = vec![request];
        let same = unique::join(&mut *tx, &mut requests).await?.remove(&id);
        if let Some(key) = key
            && let Some(earlier) = idempotency::take(&mut *tx, &key, &same.unwrap_or(id).to_string()).await?
        {
            return Ok((Acceptance::of(earlier)?, None));
        }
        insert(&mut *tx, &requests).await?;
        let now = tx.now();
        crash::around(Commit::Accept, tx.commit()).await?;
        if let Some(same) = same {
            return Ok((Acceptance::Same(same), None));
        }
        Ok((Acceptance::New(id), self.after_births(&requests, now).pop()))
    }

    /// After the commit of births: the triggers that count as sent, to be published. The others are for dispatchers to find.
    pub(super) fn after_births(&self, requests: &[NewWorkRequest], now: Timestamp) -> Vec<Outgoing> {
        let sent: Vec<_> = requests.iter().filter(|r| r.sent).map(|r| Outgoing::at_birth(r, now)).collect();
        if sent.len() < requests.len() {
            self.hint(Hint::Due);
        }
        sent
    }

    /// Accepts several work requests, all or none, whatever others are the same.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: none was accepted, or the answer was lost.
    pub async fn accept_all(&self, requests: &[NewWorkRequest]) -> Result<()> {
        let mut tx = self.begin().await?;
        insert(&mut *tx, requests).await?;
        crash::around(Commit::Accept, tx.commit()).await?;
        self.hint(Hint::Due);
        Ok(())
    }
}
