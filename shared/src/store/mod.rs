//! The durable truth, on PostgreSQL or SQLite.
//!
//! [`Store`] is what the rest of Reveille calls; each of its files has one aggregate:
//!
//! - [`accept`](self): a work request is born; [`idempotency`](self): asked for again, it is the same one.
//! - [`definitions`](self): jobs and schedules in force, versioned.
//! - [`schedules`](self): how far each is decided; pause and resume.
//! - [`fires`](self), [`record`](self): the fire ledger and how it is written (I1, I8).
//! - [`backfills`](self): fires of a past range.
//! - [`follow`](self): what follows the end of a run.
//! - [`fan_outs`](self), [`staging`](self): runs with children, and the inputs of these.
//! - [`changes`](self): who changed what; [`keys`](self), [`key_ring`](self): who may call.
//! - [`dispatch`](self): which triggers go out now, [`backlog`](self): where many short runs wait; [`markers`](self): which of
//!   them are lost.
//! - [`limits`](self), [`unique`](self): which runs have to wait, and which are the same; [`waits`](self): for how long.
//! - [`leases`](self): claim, lose; [`reports`](self): how attempts end, and what they say until then (I3).
//! - [`external`](self), [`events_in`](self): leases of workers in other languages, and what they tell.
//! - [`requests`](self): reading and cancelling.
//! - [`outbox`](self): what happens, on its way to whoever wants to know; [`webhooks`](self), [`webhook_deliveries`](self): to
//!   those who have it posted; [`feed`](self): in one order, for who listens.
//! - [`workers`](self), [`leader`](self): who is alive, who leads.
//!
//! Whatever happens to a run is decided by [`crate::state::apply`] on a locked row ([`transition`](self)),
//! so that no rule stands in SQL. Beneath is one seam, [`database`](self), implemented twice; one
//! conformance suite (`tests/conformance/store/`) runs against both.

mod accept;
mod backfills;
mod backlog;
mod changes;
mod database;
mod definitions;
mod dispatch;
mod events_in;
mod external;
mod fair;
mod fan_outs;
mod feed;
mod fires;
mod follow;
mod idempotency;
mod key_ring;
mod keys;
mod leader;
mod leases;
mod limits;
mod markers;
mod outbox;
mod postgres;
mod reads;
mod record;
mod reports;
mod requests;
mod rows;
mod schedules;
mod sqlite;
mod staging;
mod texts;
mod transition;
mod unique;
mod waits;
mod webhook_deliveries;
mod webhooks;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Notify;

pub use self::accept::{Acceptance, Admits, NewWorkRequest};
pub use self::backfills::{Backfill, BackfillStatus, BackfillStep, BackfillVerdict, NewBackfill};
pub use self::backlog::{Seeing, Seen};
pub use self::changes::{Action, DefinitionKind, NamedChange, RecordedChange};
use self::database::{Database, Tx};
pub use self::definitions::{Applied, ChangeSet, InForce, Versioned};
pub use self::dispatch::{Outgoing, Taken};
pub use self::events_in::{EventVerdict, Incoming, RefusedRecord, Via};
pub use self::external::{ExternalClaim, ExternalLease, Heartbeat, external_worker};
pub use self::fair::{DueLane, Lane, Position};
pub use self::fan_outs::{Births, Born, FanOut, InputChunk, NewFanOut, OpenFanOut, STAGED, UnfinishedChild};
pub use self::feed::{Feed, FeedEntry, FeedPart};
pub use self::fires::{
    ByHand, CLOCK_TOLERANCE, Decision, Fire, FireOutcome, FirePlan, FirePlans, FireVerdict, OverlapRule, Planned,
    SkipReason,
};
pub use self::follow::{EndedRun, FollowUp, Followed};
pub use self::idempotency::{Earlier, IdempotencyKey};
pub use self::key_ring::{KeyRing, KeyUses, NoKey};
pub use self::keys::{ApiKey, By, EVERYWHERE, KeyStanding, NewKey};
pub use self::leader::Generation;
pub use self::leases::{Claim, Claimed, HeldLease, Loss};
pub use self::limits::Limit;
pub use self::markers::Marker;
pub use self::outbox::Untold;
pub use self::reports::{LateReport, Outcome, Progress, Report};
pub use self::requests::{Canceled, Cancellation, ListFilter, Order, QueueDepth, SortBy, Standing};
pub use self::schedules::{Pause, PauseVerdict, ScheduleKey, ScheduleRow, after_end, before_start, just_before};
pub use self::staging::Staging;
pub use self::transition::Known;
pub use self::unique::UniqueKey;
pub use self::waits::{MOST_AHEAD, UsualAttempt, Wait};
pub use self::webhook_deliveries::{
    ClaimedDelivery, DeliveryAttempt, DeliveryState, Matched, Next, Redelivery, Room, Tried, UnknownDeliveryState,
    WebhookCounts, WebhookDelivery,
};
pub use self::webhooks::{NewWebhook, Sealed, Webhook, WebhookFilter};
pub use self::workers::{NewWorker, Worker};
use crate::clock::Clock;
use crate::crash::{self, Act};
use crate::work_request::WorkRequestId;

/// The schema that this build writes: the number of its last migration.
pub const SCHEMA: i64 = 14;

/// The durable truth. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Arc<dyn Database>,
    nudges: Arc<Nudges>,
    callers: Arc<accept::Callers>,
}

/// What other parts, and (on PostgreSQL, as a hint) other processes, may want to look at now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// A trigger has become due: for dispatchers.
    Due,
    /// A run that something waits for has ended, or a backfill has begun: for those who follow up.
    Ended,
    /// A schedule may be due earlier than was known: for planners.
    Schedules,
}

impl Hint {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Due, Self::Ended, Self::Schedules];
}

/// Whom each hint wakes in this process.
#[derive(Debug, Default)]
struct Nudges([Arc<Notify>; Hint::ALL.len()]);

/// Which database a store is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Shared by any number of processes.
    Postgres,
    /// Of one process, under its data folder.
    Sqlite,
}

impl Kind {
    /// How many runs may be made in one transaction, or twice as many ends followed up: on SQLite nobody else writes meanwhile,
    /// for about 10 ms.
    #[must_use]
    pub const fn births(self) -> usize {
        match self {
            Self::Postgres => 100,
            Self::Sqlite => 50,
        }
    }
}

/// Why the store could not do what it was asked to. Texts never hold the password of the URL.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a URL of a database that Reveille knows.
    #[error("invalid database URL: {0}")]
    InvalidUrl(String),
    /// The server could not be reached or refused the credentials.
    #[error("can't connect to the database at {place}")]
    Connect {
        /// Host, port and database name, without credentials.
        place: String,
        /// The reason.
        #[source]
        source: sqlx::Error,
    },
    /// Another process has the data folder.
    #[error("the data folder {0} is in use by another process: stop that one, or name another folder")]
    Locked(PathBuf),
    /// The data folder can't be used.
    #[error("can't use the data folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A newer build has changed the schema in a way that this one can't serve.
    #[error(
        "the database has schema {found}, which serves builds with schema {oldest} and newer; this build has {SCHEMA}: install a newer one"
    )]
    TooNew {
        /// The database's schema.
        found: i64,
        /// The oldest build's schema that it still serves.
        oldest: i64,
    },
    /// A migration failed; the schema is as it was.
    #[error("can't bring the database's schema up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed; its transaction was rolled back, unless the connection broke in the commit.
    #[error("the database failed to {step}")]
    Query {
        /// What was attempted.
        step: &'static str,
        /// The reason.
        #[source]
        source: sqlx::Error,
    },
    /// The database holds something that no version of Reveille writes.
    #[error("the database holds a malformed {what}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Other definitions have come into force meanwhile; nothing was written.
    #[error("the definitions in force have changed since the plan was made")]
    Moved,
    /// The caller's clock is ahead of the database's by so much; nothing was written.
    #[error("this machine's clock is {:.1} s ahead of the database's", .0.as_secs_f64())]
    ClockAhead(jiff::SignedDuration),
    /// The caller's clock and the database's are so far apart that an id made by the one is none for a run accepted by the
    /// other; nothing was written.
    #[error("this machine's clock and the database's are {:.0} s apart: set the wrong one", .0.as_secs_f64())]
    ClocksApart(jiff::SignedDuration),
    /// The caller no longer leads; nothing was written.
    #[error("another scheduler leads now")]
    Deposed,
    /// The worker was taken for dead: it must register under a new name before it claims again. Nothing was claimed.
    #[error("this worker was taken for dead")]
    Retired,
    /// A definition that the due-time arithmetic refuses.
    #[error("schedule {schedule} can't be planned")]
    Timing {
        /// Namespace and name.
        schedule: String,
        /// The reason.
        #[source]
        source: crate::due::InvalidTiming,
    },
}

impl StoreError {
    /// Somebody answers, but can't prove to be the database, or speaks no TLS.
    #[must_use]
    pub fn is_about_tls(&self) -> bool {
        match self {
            Self::Connect { source: sqlx::Error::Tls(_), .. } => true,
            Self::Connect { source: sqlx::Error::Io(error), .. } => error.kind() == std::io::ErrorKind::InvalidData,
            _ => false,
        }
    }
}

/// Turns a failed statement into an error that names the step.
/// What a commit was attempting.
pub(crate) const COMMIT: &str = "commit";

impl StoreError {
    /// Whether what failed may have been done all the same: the answer to its commit was lost.
    #[must_use]
    pub fn may_have_committed(&self) -> bool {
        matches!(self, Self::Query { step: COMMIT, .. })
    }
}

pub(crate) fn step(step: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Query { step, source }
}

/// What a store answers with.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.kind()).finish()
    }
}

impl Store {
    /// Opens the database that `url` names (`postgres://…` or `sqlite://FOLDER`), creates what is missing and
    /// brings its schema up to date; several processes may do so at once. `process` names the caller to the
    /// database's administrators. `clock` is the database's clock on SQLite; PostgreSQL has its own.
    ///
    /// # Errors
    /// Every [`StoreError`] up to and including [`StoreError::Migrate`].
    pub async fn connect(url: &str, process: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let db: Arc<dyn Database> = match url.split_once("://") {
            Some(("postgres" | "postgresql", _)) => Arc::new(postgres::Postgres::connect(url, process).await?),
            Some(("sqlite", folder)) => Arc::new(sqlite::Sqlite::open(Path::new(folder), clock).await?),
            _ => {
                return Err(StoreError::InvalidUrl(
                    "expected postgres://USER:PASSWORD@HOST/DATABASE or sqlite://FOLDER".into(),
                ));
            }
        };
        crash::at(Act::StoreOpened);
        Ok(Self { db, nudges: Arc::default(), callers: Arc::default() })
    }

    /// Ends all connections in good order: a folder of SQLite is then one file, which can be copied. Nothing can be asked after that.
    pub async fn close(&self) {
        self.db.close().await;
    }

    /// Which database it is on.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.db.kind()
    }

    /// The database's clock.
    ///
    /// # Errors
    /// [`StoreError::Query`] when the database can't be reached.
    pub async fn now(&self) -> Result<Timestamp> {
        self.db.now().await
    }

    /// Rings when this process, or (on PostgreSQL, as a hint) another one, gives this hint. One listener for each hint.
    #[must_use]
    pub fn nudge(&self, hint: Hint) -> Arc<Notify> {
        Arc::clone(&self.nudges.0[hint as usize])
    }

    /// Passes on the hints of other processes, until the database fails. Where there are no other processes it never
    /// returns.
    ///
    /// # Errors
    /// [`StoreError::Query`]: listen again after a pause.
    pub async fn listen(&self) -> Result<()> {
        loop {
            let hint = self.db.hinted().await?;
            self.nudge(hint).notify_one();
        }
    }

    async fn begin(&self) -> Result<Box<dyn Tx>> {
        self.db.begin().await
    }

    /// To be called after a commit that someone may be waiting for.
    fn hint(&self, hint: Hint) {
        self.nudge(hint).notify_one();
        self.db.hint(hint);
    }
}

/// Fresh ids in the order of the list.
pub(crate) fn ids(ids: impl Iterator<Item = WorkRequestId>) -> Vec<uuid::Uuid> {
    let mut ids: Vec<_> = ids.map(|id| id.0).collect();
    // One order for all, so that two batches over the same rows can't deadlock.
    ids.sort_unstable();
    ids.dedup();
    ids
}
