//! What is left at the end: the store's word on every run, and the handlers' own.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Result, anyhow};
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::ledger::Entry;
use crate::legal::Event;

/// A run, told from both sides.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) id: Uuid,
    pub(crate) job: String,
    pub(crate) status: String,
    pub(crate) attempts: u32,
    pub(crate) error_code: Option<String>,
    /// The key under which a caller asked for it.
    pub(crate) key: Option<String>,
    /// Its handler was told to fail.
    pub(crate) doomed: bool,
    /// The run whose child it is.
    pub(crate) parent: Option<Uuid>,
    /// Its own children.
    pub(crate) children: Option<Counts>,
    pub(crate) schedule: Option<String>,
    /// On whose behalf a caller asked for it.
    pub(crate) tenant: Option<String>,
    /// The run whose end called for it.
    pub(crate) chained_from: Option<Uuid>,
    pub(crate) history: Vec<Event>,
    /// In the order of their time.
    pub(crate) ledger: Vec<Entry>,
    /// Which worker had which attempt.
    pub(crate) workers: BTreeMap<u32, String>,
}

/// The store's word on the children of one run.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Counts {
    pub(crate) total: i32,
    pub(crate) born: i32,
    pub(crate) succeeded: i32,
    pub(crate) failed: i32,
    pub(crate) canceled: i32,
    /// What failed ones mean.
    pub(crate) policy: String,
    /// Why no more were made, if so.
    pub(crate) stopped: Option<String>,
}

/// A decision on a due time or a stretch of them. Instants are Unix microseconds.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Fire {
    pub(crate) schedule: String,
    pub(crate) due_us: i64,
    pub(crate) triggered: bool,
    pub(crate) due_times: i64,
    pub(crate) work_requests: Json<Vec<Uuid>>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    job: String,
    status: String,
    attempt: i32,
    error_code: Option<String>,
    key: Option<String>,
    doomed: bool,
    parent: Option<Uuid>,
    schedule: Option<String>,
    tenant: Option<String>,
    chained_from: Option<Uuid>,
}

#[derive(sqlx::FromRow)]
struct CountsRow {
    parent: Uuid,
    #[sqlx(flatten)]
    counts: Counts,
}

/// Every run of the store, with what the handlers wrote down of it; and what they wrote of runs that the store does
/// not know.
pub(crate) async fn stories(database: &mut PgConnection, ledger: Vec<Entry>) -> Result<(Vec<Story>, Vec<Entry>)> {
    let names: HashMap<Uuid, String> =
        sqlx::query_as("SELECT incarnation, name FROM workers").fetch_all(&mut *database).await?.into_iter().collect();
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT id, job, status, attempt, error_code, coalesce(input->>'key', k.key) AS key,
                coalesce((input->>'doomed')::boolean, false) AS doomed, parent, schedule, input->>'tenant' AS tenant,
                chained_from
         FROM work_requests w LEFT JOIN idempotent_requests k ON k.answer = w.id::text ORDER BY id",
    )
    .fetch_all(&mut *database)
    .await?;
    let events: Vec<(Uuid, i32, i64, Json<serde_json::Value>)> = sqlx::query_as(
        "SELECT work_request_id, seq, (extract(epoch FROM at) * 1000000)::bigint, what FROM events
         ORDER BY work_request_id, seq",
    )
    .fetch_all(&mut *database)
    .await?;
    let mut histories: HashMap<Uuid, Vec<Event>> = HashMap::new();
    for (id, seq, at_us, Json(what)) in events {
        histories.entry(id).or_default().push(Event { seq, at_us, what });
    }
    let counts: Vec<CountsRow> =
        sqlx::query_as("SELECT parent, total, born, succeeded, failed, canceled, policy, stopped FROM fan_outs")
            .fetch_all(&mut *database)
            .await?;
    let mut counts: HashMap<Uuid, Counts> = counts.into_iter().map(|row| (row.parent, row.counts)).collect();
    let mut ledgers: HashMap<Uuid, Vec<Entry>> = HashMap::new();
    for entry in ledger {
        ledgers.entry(entry.id).or_default().push(entry);
    }
    let told = rows.into_iter().map(|row| {
        let Row { id, job, status, attempt, error_code, key, doomed, parent, schedule, tenant, chained_from } = row;
        let children = counts.remove(&id);
        let history = histories.remove(&id).unwrap_or_default();
        let mut ledger = ledgers.remove(&id).unwrap_or_default();
        ledger.sort_by_key(|entry| entry.at_us);
        let started = history.iter().filter(|event| event.kind() == "started");
        let workers = started.filter_map(|event| {
            let worker = event.what["worker"].as_str()?.parse().ok()?;
            Some((event.attempt()?, names.get(&worker)?.clone()))
        });
        let (workers, attempts) = (workers.collect(), u32::try_from(attempt).unwrap_or(u32::MAX));
        Story {
            id,
            job,
            status,
            attempts,
            error_code,
            key,
            doomed,
            parent,
            children,
            schedule,
            tenant,
            chained_from,
            history,
            ledger,
            workers,
        }
    });
    let stories = told.collect();
    Ok((stories, ledgers.into_values().flatten().collect()))
}

/// Every decision on the schedules' due times.
pub(crate) async fn fires(database: &mut PgConnection) -> Result<Vec<Fire>> {
    let rows = sqlx::query_as(
        "SELECT schedule, (extract(epoch FROM due_at) * 1000000)::bigint AS due_us, outcome = 'triggered' AS triggered,
                due_times, work_requests
         FROM fire_history ORDER BY schedule, due_at",
    );
    Ok(rows.fetch_all(database).await?)
}

/// What the handlers wrote into the file.
pub(crate) fn ledger(path: &Path) -> Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path)?;
    text.lines().map(|line| line.parse().map_err(|fault: String| anyhow!(fault))).collect()
}
