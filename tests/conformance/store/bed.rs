//! A store of a test's own, and short words for what every case does.

use std::sync::Arc;
use std::time::Duration;

use harness::services::Database;
use harness::wait::eventually;
use jiff::Timestamp;
use reveille_shared::clock::TestClock;
use reveille_shared::state::{Refusal, Status};
use reveille_shared::store::{
    Acceptance, Claim, Claimed, Generation, NewWorkRequest, Outcome, Outgoing, Report, Store,
};
use reveille_shared::trigger::Trigger;
use reveille_shared::work_request::{Happening, RunError, WorkRequest, WorkRequestId};
use serde_json::json;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// The tenant of most cases.
pub(crate) const NAMESPACE: &str = "default";

/// Makes a test for SQLite and one for PostgreSQL of each case.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case($crate::bed::Bed::sqlite().await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                super::$case($crate::bed::Bed::postgres().await).await;
            })+
        }
    };
}
pub(crate) use on_both;

/// An empty database and a store on it.
pub(crate) struct Bed {
    pub(crate) store: Store,
    pub(crate) url: String,
    /// SQLite's clock; PostgreSQL has its own.
    pub(crate) clock: Option<Arc<TestClock>>,
    keep: Keep,
}

/// What removes the database when it goes.
pub(crate) enum Keep {
    Folder { _folder: TempDir },
    Server { _database: Box<Database> },
}

impl Bed {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().display());
        let clock = Arc::new(TestClock::at("2026-03-01T00:00:00Z".parse().unwrap()));
        let store = Store::connect(&url, "test", clock.clone()).await.unwrap();
        Self { store, url, clock: Some(clock), keep: Keep::Folder { _folder: folder } }
    }

    pub(crate) async fn postgres() -> Self {
        let database = Database::fresh().await.unwrap();
        let url = database.url().to_owned();
        let store = connect(&url).await;
        Self { store, url, clock: None, keep: Keep::Server { _database: Box::new(database) } }
    }

    /// Closes the store: the URL, and what keeps the database.
    pub(crate) fn close(self) -> (String, Keep) {
        let Self { store, url, keep, .. } = self;
        drop(store);
        (url, keep)
    }

    /// Another process's store; on SQLite, which has one process only, another task's.
    pub(crate) async fn second(&self) -> Store {
        if self.clock.is_some() { self.store.clone() } else { connect(&self.url).await }
    }

    /// Lets time pass by the database's clock.
    pub(crate) async fn pass(&self, time: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(time),
            None => {
                let until = self.now().await.saturating_add(jiff::SignedDuration::try_from(time).unwrap()).unwrap();
                eventually("the database's clock", time + Duration::from_secs(30), async || {
                    let now = self.now().await;
                    if now > until { Ok(()) } else { Err(now.to_string()) }
                })
                .await
                .unwrap();
            }
        }
    }

    /// Lets as much time pass for triggers, leases, deliveries and leadership as no test could wait for on PostgreSQL.
    pub(crate) async fn age(&self, seconds: u64) {
        match &self.clock {
            Some(clock) => clock.advance(Duration::from_secs(seconds)),
            None => {
                self.tamper(&format!(
                    "UPDATE deliveries SET phase_at = phase_at - interval '{seconds} s',
                                           attempt_until = attempt_until - interval '{seconds} s';
                     UPDATE webhook_deliveries SET due_at = due_at - interval '{seconds} s';
                     UPDATE leader SET expires_at = expires_at - interval '{seconds} s'"
                ))
                .await;
            }
        }
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.clock.is_some()
    }

    /// Does to the database what no store does.
    pub(crate) async fn tamper(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.url.strip_prefix("sqlite://") {
            Some(folder) => {
                let mut connection = SqliteConnection::connect(&format!("{folder}/reveille.db")).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            None => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    }

    /// Reads what no store tells.
    pub(crate) async fn rows<T>(&self, sql: &str) -> Vec<T>
    where
        T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.url.strip_prefix("sqlite://") {
            Some(folder) => {
                let mut connection = SqliteConnection::connect(&format!("{folder}/reveille.db")).await.unwrap();
                sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap()
            }
            None => {
                let mut connection = PgConnection::connect(&self.url).await.unwrap();
                sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap()
            }
        }
    }

    pub(crate) async fn now(&self) -> Timestamp {
        self.store.now().await.unwrap()
    }

    /// A work request to be, of job `copy` and queue `main`.
    pub(crate) async fn new_request(&self) -> NewWorkRequest {
        let job = super::definitions::job("copy", "");
        let id = WorkRequestId::new(self.now().await);
        NewWorkRequest { input: json!({ "from": "here" }), ..NewWorkRequest::new(id, &job, 1, "test") }
    }

    pub(crate) async fn accept(&self, request: NewWorkRequest) -> WorkRequestId {
        let id = request.id;
        assert_eq!(self.store.accept(request, None).await.unwrap(), Acceptance::New(id));
        id
    }

    /// An accepted work request.
    pub(crate) async fn accepted(&self) -> WorkRequestId {
        self.accept(self.new_request().await).await
    }

    /// All triggers that are due.
    pub(crate) async fn take(&self) -> Vec<Outgoing> {
        self.store.take_due(1000).await.unwrap()
    }

    /// A work request whose trigger is out.
    pub(crate) async fn sent(&self) -> Trigger {
        let id = self.accepted().await;
        self.take().await.into_iter().find(|out| out.trigger.id == id).unwrap().trigger
    }

    /// A claim under a fresh token.
    pub(crate) async fn claim(&self, trigger: &Trigger) -> Result<Claimed, Refusal> {
        self.store.claim(worker(), &[claim(trigger)]).await.unwrap().remove(0)
    }

    /// A work request that runs.
    pub(crate) async fn running(&self) -> Claimed {
        self.claim(&self.sent().await).await.unwrap()
    }

    pub(crate) async fn report(&self, run: &Claimed, outcome: Outcome) -> Result<(), Refusal> {
        let report = Report { known: run.known.clone(), ..Report::new(run.id, run.token, outcome) };
        self.store.report(vec![report]).await.unwrap().remove(0)
    }

    pub(crate) async fn get(&self, id: WorkRequestId) -> WorkRequest {
        self.store.work_request(NAMESPACE, id).await.unwrap().unwrap()
    }

    pub(crate) async fn status(&self, id: WorkRequestId) -> Status {
        self.get(id).await.status
    }

    /// The history's entries, after a look at their numbers: from 1 without gaps.
    pub(crate) async fn history(&self, id: WorkRequestId) -> Vec<Happening> {
        let events = self.store.events(id, 0, 1000).await.unwrap();
        for (expected, event) in (1..).zip(&events) {
            assert_eq!(event.seq, expected, "{events:?}");
        }
        events.into_iter().map(|event| event.what).collect()
    }

    /// The history's entries by their names.
    pub(crate) async fn told(&self, id: WorkRequestId) -> Vec<String> {
        let name = |what: &Happening| serde_json::to_value(what).unwrap()["type"].as_str().unwrap().to_owned();
        self.history(id).await.iter().map(name).collect()
    }

    pub(crate) async fn lead(&self) -> Generation {
        self.store.lead(Uuid::from_u128(1), Duration::from_secs(3600)).await.unwrap().unwrap()
    }
}

/// A store on PostgreSQL.
pub(crate) async fn connect(url: &str) -> Store {
    Store::connect(url, "test", Arc::new(reveille_shared::clock::SystemClock)).await.unwrap()
}

pub(crate) fn worker() -> Uuid {
    Uuid::from_u128(0x77)
}

pub(crate) fn claim(trigger: &Trigger) -> Claim {
    Claim { id: trigger.id, n: trigger.n, token: Uuid::new_v4() }
}

pub(crate) fn error(message: &str) -> RunError {
    RunError::new("Test", message)
}

pub(crate) fn failed(retry: Option<Duration>) -> Outcome {
    Outcome::Failed { error: error("it was to be"), retry }
}

pub(crate) fn succeeded() -> Outcome {
    Outcome::Succeeded { output: json!({ "copied": 3 }) }
}
