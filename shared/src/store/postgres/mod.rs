//! PostgreSQL: connections, migrations, hints between processes.

mod due;
mod events;
mod keep;
mod limits;
mod plans;
mod runs;
mod webhooks;

use std::collections::HashSet;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Transaction};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinSet;

use super::accept::NewWorkRequest;
use super::backlog::Seen;
use super::database::{Database, Replaced, Tx};
use super::fair::{Position, Share};
use super::reads::prelude::*;
use super::reads::{
    impl_fan_outs, impl_feed, impl_keys, impl_plain, impl_plain_events, impl_read_answers, impl_read_fan_outs,
    impl_read_feed, impl_read_keys, impl_read_plans, impl_read_runs, impl_read_webhooks, impl_webhooks, locked_columns,
};
use super::rows::{Claimable, ClaimableRow, LookedRow};
use super::transition::{Locked, Looked};
use super::{COMMIT, Hint, Kind, SCHEMA, StoreError};

/// The channel on which processes give each other a hint.
const fn channel(hint: Hint) -> &'static str {
    match hint {
        Hint::Due => "reveille_due",
        Hint::Ended => "reveille_ended",
        Hint::Schedules => "reveille_schedules",
    }
}

/// Connections per process: enough for several group commits under way at once, few enough for many processes.
const CONNECTIONS: u32 = 12;
/// … and those for what is to be quick.
const QUICK: u32 = 12;

pub(crate) struct Postgres {
    read: PgPool,
    /// For the statements on the way from a trigger to its run's end. To plan one of them anew, for the few rows that it is about,
    /// takes longer than to execute it; so each is planned once, for all numbers of rows and whatever is in the tables by then.
    /// That plan must be good for tables of any size. So they name the rows that they want as `id = ANY(…)`, for which there is no
    /// way here but the index, or by their places, and what is joined is hashed or merged.
    quick: PgPool,
    /// Rings the tasks that pass hints on to other processes.
    hints: [Arc<Notify>; Hint::ALL.len()],
    listener: Mutex<Option<PgListener>>,
    /// Ends with the store.
    _tasks: JoinSet<()>,
}

/// One open transaction.
pub(crate) struct PgTx {
    tx: Transaction<'static, sqlx::Postgres>,
    now: Timestamp,
}

impl_read_plans!(Postgres, sqlx::Postgres, beside_in_postgres);
impl_read_runs!(
    Postgres,
    sqlx::Postgres,
    // Nothing of what is within is known to whoever plans what is around it.
    "deliveries u CROSS JOIN LATERAL (SELECT * FROM work_requests x WHERE x.id = u.id OFFSET 0) AS w",
    "number NOT IN (SELECT value::bigint FROM json_array_elements_text($2::json))",
    beside_in_postgres
);
impl_read_answers!(Postgres, sqlx::Postgres);
impl_read_keys!(Postgres);
impl_read_fan_outs!(Postgres, sqlx::Postgres);
impl_read_webhooks!(Postgres, sqlx::Postgres);
impl_read_feed!(Postgres, beside_in_postgres);
impl_plain!(PgTx, sqlx::Postgres, " FOR SHARE");
impl_fan_outs!(PgTx, " FOR UPDATE");
impl_keys!(PgTx, " FOR UPDATE");
impl_plain_events!(PgTx);
impl_webhooks!(PgTx, sqlx::Postgres, " FOR UPDATE", beside_in_postgres);
impl_feed!(PgTx, beside_in_postgres);

impl Postgres {
    pub(crate) async fn connect(url: &str, process: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| StoreError::InvalidUrl(without_credentials(&error.to_string(), url)))?
            .application_name(process)
            // A process that is stopped or cut off in mid-transaction must not hold its locks (I9).
            .options([
                ("lock_timeout", "5s"),
                ("idle_in_transaction_session_timeout", "5s"),
                ("statement_timeout", "30s"),
                ("tcp_user_timeout", "10s"),
                // What is looked for is recent, and in memory: a look into an index costs little more than the next row does. To
                // compile statements that take milliseconds takes longer than they do.
                ("random_page_cost", "1.1"),
                ("jit", "off"),
            ])
            .log_statements(tracing::log::LevelFilter::Trace)
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1));
        check_authorities(&options)?;
        warn_unverified(&options);
        let place = format!(
            "{}:{}/{}",
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or_else(|| options.get_username())
        );
        let failed = |source| StoreError::Connect { place: place.clone(), source };
        // Migrating waits for whoever migrates at the moment (sqlx takes an advisory lock), longer than any other
        // statement may.
        let patient = options.clone().options([("lock_timeout", "10min"), ("statement_timeout", "10min")]);
        let once = PgPoolOptions::new().max_connections(1).connect_with(patient).await.map_err(failed)?;
        migrate(&once).await?;
        once.close().await;
        let settings =
            [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("enable_nestloop", "off")];
        let quick = options.clone().options(settings);
        let pool = |most, options| {
            let pool = PgPoolOptions::new().max_connections(most).min_connections(1);
            pool.acquire_timeout(Duration::from_secs(5)).test_before_acquire(false).connect_with(options)
        };
        let (read, quick) = tokio::try_join!(pool(CONNECTIONS, options), pool(QUICK, quick)).map_err(failed)?;
        let hints: [Arc<Notify>; Hint::ALL.len()] = Default::default();
        let mut tasks = JoinSet::new();
        for hint in Hint::ALL {
            tasks.spawn(pass_on(hint, read.clone(), Arc::clone(&hints[hint as usize])));
        }
        Ok(Self { read, quick, hints, listener: Mutex::new(None), _tasks: tasks })
    }
}

async fn migrate(pool: &PgPool) -> Result<()> {
    let known: Option<String> = sqlx::query_scalar("SELECT to_regclass('schema_info')::text")
        .fetch_one(pool)
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
    let mut migrator = sqlx::migrate!("migrations/postgres");
    migrator.set_ignore_missing(true).run(pool).await.map_err(StoreError::Migrate)
}

/// Passes a hint on to other processes: after the commit, apart from it (a NOTIFY inside would
/// serialise all commits), and many as one.
async fn pass_on(hint: Hint, pool: PgPool, given: Arc<Notify>) {
    loop {
        given.notified().await;
        if let Err(error) = sqlx::query("SELECT pg_notify($1, '')").bind(channel(hint)).execute(&pool).await {
            // Only a hint: everyone looks each second anyway.
            tracing::debug!(error = crate::telemetry::chain(&error), ?hint, "could not pass a hint on");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A file of `sslrootcert` that can't be read is named here: the driver says only that there is no such file.
fn check_authorities(options: &PgConnectOptions) -> Result<()> {
    let url = options.to_url_lossy();
    let named = url.query_pairs().find(|(name, _)| name == "sslrootcert");
    // The driver tells files from certificates in the URL itself by this word.
    let file = named.as_ref().and_then(|(_, named)| named.strip_prefix("file: "));
    match file.map(|file| (std::fs::File::open(file), file)) {
        Some((Err(error), file)) => Err(StoreError::InvalidUrl(format!("can't read sslrootcert={file}: {error}"))),
        _ => Ok(()),
    }
}

/// Tells of a connection over a network on which somebody may be listening, or be the database.
fn warn_unverified(options: &PgConnectOptions) {
    let host = options.get_host();
    let is_local = options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let mode = options.get_ssl_mode();
    if !is_local && !matches!(mode, PgSslMode::VerifyFull) {
        tracing::warn!(
            host,
            sslmode = ?mode,
            "nothing proves that this is the database: say sslmode=verify-full in its URL, with sslrootcert=FILE for an \
             authority of your own"
        );
    }
}

/// sqlx's parse errors may quote the URL; the password must not get out.
fn without_credentials(message: &str, url: &str) -> String {
    if message.contains(url) { "it can't be parsed".into() } else { message.into() }
}

#[async_trait]
impl Database for Postgres {
    fn kind(&self) -> Kind {
        Kind::Postgres
    }

    async fn close(&self) {
        self.read.close().await;
        self.quick.close().await;
    }

    async fn now(&self) -> Result<Timestamp> {
        let At(now) = sqlx::query_scalar("SELECT clock_timestamp()")
            .fetch_one(&self.read)
            .await
            .map_err(step("tell the time"))?;
        Ok(now)
    }

    async fn begin(&self) -> Result<Box<dyn Tx>> {
        let mut tx = self.read.begin().await.map_err(step("begin a transaction"))?;
        let At(now) = sqlx::query_scalar("SELECT clock_timestamp()")
            .fetch_one(&mut *tx)
            .await
            .map_err(step("begin a transaction"))?;
        Ok(Box::new(PgTx { tx, now }))
    }

    async fn look(&self, ids: &[Uuid], inputs: bool) -> Result<Option<Vec<Looked>>> {
        let rows: Vec<LookedRow> = sqlx::query_as(concat!(
            locked_columns!(),
            ", CASE WHEN ",
            keep::is_untouched!(),
            " THEN d.xmin::text::bigint END AS version, d.ctid::text AS place,
             clock_timestamp() AS at, w.accepted_at, CASE WHEN $2 THEN w.input END AS input
             FROM deliveries d JOIN work_requests w USING (id) WHERE d.id = ANY($1) AND w.id = ANY($1)",
        ))
        .bind(ids)
        .bind(inputs)
        .fetch_all(&self.quick)
        .await
        .map_err(step("look at work requests"))?;
        all(rows).map(Some)
    }

    async fn replace(&self, runs: &[&Locked], at: Option<Timestamp>, worker: Option<Uuid>) -> Result<Replaced> {
        keep::replace(&self.quick, runs, at, worker).await
    }

    async fn accept(&self, requests: &[NewWorkRequest]) -> Result<Option<Timestamp>> {
        keep::insert(&self.quick, requests, None).await
    }

    async fn see(&self, shares: &[Share], now: Timestamp) -> Result<Vec<Seen>> {
        due::see(&self.read, shares, now).await
    }

    async fn due_until(&self, lines: &[(&Lane, Position)]) -> Result<Vec<(usize, WorkRequestId)>> {
        due::until(&self.read, lines).await
    }

    async fn count_due_until(&self, lines: &[(&Lane, Position)]) -> Result<i64> {
        due::count_until(&self.read, lines).await
    }

    async fn claimable(&self, ids: &[Uuid]) -> Result<Vec<Claimable>> {
        let rows: Vec<ClaimableRow> =
            sqlx::query_as("SELECT id, input, accepted_at FROM work_requests WHERE id = ANY($1)")
                .bind(ids)
                .fetch_all(&self.read)
                .await
                .map_err(step("read what was claimed"))?;
        Ok(rows.into_iter().map(Claimable::from).collect())
    }

    async fn work_requests_of(&self, ids: &[Uuid]) -> Result<Vec<WorkRequest>> {
        let rows: Vec<WorkRequestRow> = sqlx::QueryBuilder::<sqlx::Postgres>::new(WORK_REQUEST)
            .push(" WHERE w.id = ANY(")
            .push_bind(ids)
            .push(")")
            .build_query_as()
            .fetch_all(&self.read)
            .await
            .map_err(step("read work requests"))?;
        all(rows)
    }

    async fn writers(&self) -> Result<HashSet<String>> {
        // Who inserts takes this lock before anything else of the statement happens, and gives it back after its commit is
        // visible.
        let writers: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT virtualtransaction FROM pg_locks
             WHERE locktype = 'relation' AND relation = 'events'::regclass AND mode = 'RowExclusiveLock' AND granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
        .fetch_all(&self.read)
        .await
        .map_err(step("look who writes"))?;
        Ok(writers.into_iter().collect())
    }

    fn hint(&self, hint: Hint) {
        self.hints[hint as usize].notify_one();
    }

    async fn hinted(&self) -> Result<Hint> {
        let mut slot = self.listener.lock().await;
        let mut listener = match slot.take() {
            Some(listener) => listener,
            None => {
                let mut listener = PgListener::connect_with(&self.read).await.map_err(step("listen for hints"))?;
                listener.listen_all(Hint::ALL.map(channel)).await.map_err(step("listen for hints"))?;
                listener
            }
        };
        loop {
            let heard = listener.recv().await.map_err(step("listen for hints"))?;
            if let Some(hint) = Hint::ALL.into_iter().find(|hint| channel(*hint) == heard.channel()) {
                *slot = Some(listener);
                return Ok(hint);
            }
        }
    }
}

#[async_trait]
impl Tx for PgTx {
    fn now(&self) -> Timestamp {
        self.now
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.tx.commit().await.map_err(step(COMMIT))
    }
}
