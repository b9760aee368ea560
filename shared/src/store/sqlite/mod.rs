//! SQLite: one process, one writer, a folder locked against a second process.

mod events;
mod limits;
mod plans;
mod runs;
mod webhooks;

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Transaction};

use super::accept::NewWorkRequest;
use super::database::{Database, Replaced, Tx};
use super::reads::prelude::*;
use super::reads::{
    impl_fan_outs, impl_feed, impl_keys, impl_plain, impl_plain_events, impl_read_answers, impl_read_fan_outs,
    impl_read_feed, impl_read_keys, impl_read_plans, impl_read_runs, impl_read_webhooks, impl_webhooks,
};
use super::rows::{Claimable, ClaimableRow};
use super::transition::{Locked, Looked};
use super::{COMMIT, Hint, Kind, SCHEMA, StoreError};
use crate::clock::Clock;

/// The file under the data folder.
const FILE: &str = "reveille.db";

/// Connections that read beside the one that writes.
const READERS: u32 = 4;

pub(crate) struct Sqlite {
    read: SqlitePool,
    write: SqlitePool,
    clock: Arc<dyn Clock>,
    /// Held as long as the store is, and by the operating system no longer than the process lives.
    _lock: File,
}

/// One open transaction; there is only one at a time.
pub(crate) struct SqliteTx {
    tx: Transaction<'static, sqlx::Sqlite>,
    now: Timestamp,
}

impl_read_plans!(Sqlite, sqlx::Sqlite, beside_in_sqlite);
impl_read_runs!(
    Sqlite,
    sqlx::Sqlite,
    // A cross join is taken in the order in which it is written.
    "deliveries u CROSS JOIN work_requests w ON w.id = u.id",
    "number NOT IN (SELECT value FROM json_each($2))",
    beside_in_sqlite
);
impl_read_answers!(Sqlite, sqlx::Sqlite);
impl_read_keys!(Sqlite);
impl_read_fan_outs!(Sqlite, sqlx::Sqlite);
impl_read_webhooks!(Sqlite, sqlx::Sqlite);
impl_read_feed!(Sqlite, beside_in_sqlite);
// The only writer needs no locks.
impl_plain!(SqliteTx, sqlx::Sqlite, "");
impl_fan_outs!(SqliteTx, "");
impl_keys!(SqliteTx, "");
impl_plain_events!(SqliteTx);
impl_webhooks!(SqliteTx, sqlx::Sqlite, "", beside_in_sqlite);
impl_feed!(SqliteTx, beside_in_sqlite);

impl Sqlite {
    pub(crate) async fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let lock = lock(folder)?;
        let file = folder.join(FILE);
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(200)
            .log_statements(tracing::log::LevelFilter::Trace)
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1));
        let failed = |source| StoreError::Connect { place: file.display().to_string(), source };
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(30))
            // When the disk is full SQLite itself rolls back, and sqlx, whose own rollback then fails, believes for
            // ever that the transaction is open. Only a new connection helps.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        migrate(&write).await?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.read_only(true))
            .await
            .map_err(failed)?;
        Ok(Self { read, write, clock, _lock: lock })
    }
}

/// Takes the folder for this process.
fn lock(folder: &Path) -> Result<File> {
    let failed = |source| StoreError::Folder { path: folder.to_owned(), source };
    // What is in it, inputs and logs of runs among it, is nobody else's business.
    if !folder.is_dir() {
        folder.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Locked(folder.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

async fn migrate(pool: &SqlitePool) -> Result<()> {
    let known: Option<i64> = sqlx::query_scalar("SELECT 1 FROM sqlite_master WHERE name = 'schema_info'")
        .fetch_optional(pool)
        .await
        .map_err(step("look for a schema"))?;
    if known.is_some() {
        let (found, oldest): (i64, i64) = sqlx::query_as("SELECT version, oldest_binary FROM schema_info")
            .fetch_one(pool)
            .await
            .map_err(step("read the schema's version"))?;
        if oldest > SCHEMA {
            return Err(StoreError::TooNew { found, oldest });
        }
    }
    // A newer build's migrations that still serve this one are no fault.
    let mut migrator = sqlx::migrate!("migrations/sqlite");
    migrator.set_ignore_missing(true).run(pool).await.map_err(StoreError::Migrate)
}

#[async_trait]
impl Database for Sqlite {
    fn kind(&self) -> Kind {
        Kind::Sqlite
    }

    async fn close(&self) {
        // The last one puts what is in the log beside it into the file itself, and may not be one that only reads.
        self.read.close().await;
        self.write.close().await;
    }

    async fn now(&self) -> Result<Timestamp> {
        Ok(self.clock.now())
    }

    async fn begin(&self) -> Result<Box<dyn Tx>> {
        let tx = self.write.begin_with("BEGIN IMMEDIATE").await.map_err(step("begin a transaction"))?;
        Ok(Box::new(SqliteTx { tx, now: self.clock.now() }))
    }

    // The only writer has no use for the three that follow: its locks cost nothing, and there is no server to go to.
    async fn look(&self, _: &[Uuid], _: bool) -> Result<Option<Vec<Looked>>> {
        Ok(None)
    }

    async fn replace(&self, _: &[&Locked], _: Option<Timestamp>, _: Option<Uuid>) -> Result<Replaced> {
        Ok(Replaced::new())
    }

    async fn accept(&self, _: &[NewWorkRequest]) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    async fn claimable(&self, ids: &[Uuid]) -> Result<Vec<Claimable>> {
        let mut claimable = Vec::with_capacity(ids.len());
        for id in ids {
            let row: Option<ClaimableRow> =
                sqlx::query_as("SELECT id, input, accepted_at FROM work_requests WHERE id = $1")
                    .bind(id)
                    .fetch_optional(&self.read)
                    .await
                    .map_err(step("read what was claimed"))?;
            claimable.extend(row.map(Claimable::from));
        }
        Ok(claimable)
    }

    async fn work_requests_of(&self, ids: &[Uuid]) -> Result<Vec<WorkRequest>> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let row: Option<WorkRequestRow> = sqlx::QueryBuilder::<sqlx::Sqlite>::new(WORK_REQUEST)
                .push(" WHERE w.id = ")
                .push_bind(id)
                .build_query_as()
                .fetch_optional(&self.read)
                .await
                .map_err(step("read work requests"))?;
            found.extend(row.map(WorkRequest::try_from).transpose()?);
        }
        Ok(found)
    }

    async fn writers(&self) -> Result<HashSet<String>> {
        Ok(HashSet::new())
    }

    fn hint(&self, _: Hint) {}

    async fn hinted(&self) -> Result<Hint> {
        std::future::pending().await
    }
}

#[async_trait]
impl Tx for SqliteTx {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.tx.commit().await.map_err(step(COMMIT))
    }
}
