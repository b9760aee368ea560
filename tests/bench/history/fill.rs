//! A history as 30 days of runs would leave it: work requests of many jobs and schedules with all of their columns,
//! each with its three events, in the order of time.

#![allow(clippy::print_stdout, reason = "figures for people")]

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// Runs written in one transaction.
const CHUNK: u32 = 50_000;
/// What a run takes on the disk, in bytes: rows, indexes and what the write-ahead log holds back, rounded up.
const BYTES_PER_RUN: u64 = 1_250;
/// What must stay free for everything else.
const SPARE: u64 = 2 << 30;

/// A fifth of the runs are of the job that is measured, six in ten were called for by schedules, two in a hundred FAILED
/// and one was CANCELED. Ids are UUIDv7 of the time of acceptance.
const WRITE: &str = "
WITH facts AS (
    SELECT n, md5(n::text) AS noise,
           date_trunc('milliseconds', $3::timestamptz - interval '31 days' + n * (interval '30 days' / $4::bigint)) AS at,
           CASE n % 100 WHEN 0 THEN 'CANCELED' WHEN 1 THEN 'FAILED' WHEN 2 THEN 'FAILED' ELSE 'SUCCEEDED' END AS status,
           CASE WHEN n / 7 % 10 < 6 THEN 'schedule-' || n % 211 END AS schedule
    FROM generate_series($1::bigint, $2::bigint) AS n
), runs AS (
    INSERT INTO work_requests (id, namespace, job, job_version, queue, schedule, due_at, origin, status, attempt, input,
                               percent, error_code, error_message, output, accepted_at, started_at, finished_at)
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
               || '7' || substr(noise, 1, 3) || 'a' || substr(noise, 4, 15))::uuid,
           'default', CASE WHEN n / 11 % 5 = 0 THEN 'noop' ELSE 'job-' || n % 47 END, 1, 'default',
           schedule, CASE WHEN schedule IS NOT NULL THEN at END, CASE WHEN schedule IS NOT NULL THEN 'schedule' END,
           status, 1, jsonb_build_object('part', n % 1000), CASE WHEN status = 'SUCCEEDED' THEN 100 ELSE 0 END,
           CASE WHEN status = 'FAILED' THEN 'ExitCode' END,
           CASE WHEN status = 'FAILED' THEN 'the command ended with exit status 1' END,
           CASE WHEN status = 'SUCCEEDED' THEN 'null'::jsonb END,
           at, at + interval '4 milliseconds', at + interval '2 seconds'
    FROM facts
    RETURNING id, schedule, status, error_code, error_message, accepted_at, started_at, finished_at
)
INSERT INTO events (work_request_id, seq, at, what)
SELECT id, seq, at, what
FROM runs CROSS JOIN LATERAL (VALUES
    (1, accepted_at, jsonb_build_object('type', 'accepted', 'by', CASE WHEN schedule IS NULL THEN 'api' ELSE 'schedule' END)),
    (2, started_at, jsonb_build_object('type', 'started', 'attempt', 1, 'worker', $5::uuid)),
    (3, finished_at, jsonb_build_object('type', lower(status), 'attempt', 1, 'token', md5(id::text)::uuid)
        || CASE WHEN status = 'FAILED' THEN jsonb_build_object('error',
               jsonb_build_object('code', error_code, 'message', error_message)) ELSE '{}' END)
) AS history (seq, at, what)";

/// How the tables' indexes are dropped and made again, in the order in which they were made.
const INDEXES: &str = "
SELECT CASE WHEN c.oid IS NULL THEN format('DROP INDEX %I', i.relname)
            ELSE format('ALTER TABLE %I DROP CONSTRAINT %I', t.relname, c.conname) END,
       CASE WHEN c.oid IS NULL THEN pg_get_indexdef(i.oid)
            ELSE format('ALTER TABLE %I ADD CONSTRAINT %I %s', t.relname, c.conname, pg_get_constraintdef(c.oid)) END
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_class t ON t.oid = x.indrelid
LEFT JOIN pg_constraint c ON c.conindid = i.oid
WHERE t.oid IN ('work_requests'::regclass, 'events'::regclass)
ORDER BY i.oid";

/// Refuses a history for which there is no room.
pub(crate) fn ensure_room(rows: u32) -> Result<()> {
    let (needed, free) = (u64::from(rows) * BYTES_PER_RUN + SPARE, free()?);
    let gib = |bytes: u64| bytes / (1 << 30);
    ensure!(
        free >= needed,
        "{rows} runs want {} GiB free in {}, which has {}: make room, set TMPDIR, or give a smaller --rows",
        gib(needed),
        std::env::temp_dir().display(),
        gib(free),
    );
    Ok(())
}

/// Writes `rows` ended runs. The indexes are made anew behind them: there are younger runs already, and what is put before
/// those one by one would leave pages half empty that are full where history has grown.
pub(crate) async fn fill(database: &str, rows: u32) -> Result<()> {
    let mut connection = PgConnection::connect(database).await?;
    let now: String = sqlx::query_scalar("SELECT now()::text").fetch_one(&mut connection).await?;
    let worker = uuid::Uuid::new_v4();
    // Nothing is lost that matters if the server dies here, and history is nothing to be told outside: no triggers.
    let set =
        "SET synchronous_commit = off; SET maintenance_work_mem = '512MB'; SET session_replication_role = replica";
    sqlx::raw_sql(set).execute(&mut connection).await?;
    let indexes: Vec<(String, String)> = sqlx::query_as(INDEXES).fetch_all(&mut connection).await?;
    for (drop, _) in &indexes {
        sqlx::raw_sql(AssertSqlSafe(drop.as_str())).execute(&mut connection).await?;
    }
    let (begun, mut written) = (Instant::now(), 0);
    while written < rows {
        ensure!(free()? >= SPARE, "{} runs were written, and the disk is nearly full", written);
        let next = rows.min(written + CHUNK);
        sqlx::query(WRITE)
            .bind(i64::from(written) + 1)
            .bind(i64::from(next))
            .bind(&now)
            .bind(i64::from(rows))
            .bind(worker)
            .execute(&mut connection)
            .await
            .context("writing history")?;
        if (next / CHUNK).is_multiple_of(20) || next == rows {
            println!("{next} of {rows} runs of history written, {} s", begun.elapsed().as_secs());
        }
        written = next;
    }
    // As a trigger would have.
    let unsuccessful = "INSERT INTO unsuccessful SELECT id, namespace, job, schedule, parent, status, accepted_at
                        FROM work_requests WHERE status IN ('FAILED', 'CANCELED') ON CONFLICT DO NOTHING";
    sqlx::raw_sql(unsuccessful).execute(&mut connection).await?;
    for (_, make) in indexes {
        ensure!(free()? >= SPARE, "the runs were written, and the disk is too full for indexes");
        sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut connection).await.context("making an index")?;
    }
    println!("indexes made, {} s", begun.elapsed().as_secs());
    Ok(())
}

/// Where the server's data are, which is where temporary files are.
fn free() -> Result<u64> {
    let folder = std::env::temp_dir();
    let disk = rustix::fs::statvfs(&folder).with_context(|| format!("asking for the room in {}", folder.display()))?;
    Ok(disk.f_bavail * disk.f_frsize)
}

#[cfg(test)]
mod tests {
    use harness::services::Database;
    use reveille_shared::clock::{Clock as _, SystemClock};
    use reveille_shared::state::Status;
    use reveille_shared::store::{ListFilter, Store};

    use super::*;

    async fn indexes(url: &str) -> Vec<(String, String)> {
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::query_as(INDEXES).fetch_all(&mut connection).await.unwrap()
    }

    /// The store reads what was written past it as runs of its own.
    #[tokio::test]
    async fn the_store_understands_the_history() {
        let database = Database::fresh().await.unwrap();
        let store = Store::connect(database.url(), "test", std::sync::Arc::new(SystemClock)).await.unwrap();
        let indexes = indexes(database.url()).await;
        assert!(indexes.len() >= 6, "{indexes:?}");
        fill(database.url(), 200).await.unwrap();
        assert_eq!(self::indexes(database.url()).await, indexes);
        let filter = ListFilter { namespace: "default".to_owned(), ..ListFilter::default() };
        let runs = store.work_requests(&filter, 1000).await.unwrap();
        let count = |status| runs.iter().filter(|run| run.status == status).count();
        assert_eq!([Status::Succeeded, Status::Failed, Status::Canceled].map(count), [194, 4, 2]);
        let rare = ListFilter { status: vec![Status::Failed, Status::Canceled], ..filter.clone() };
        assert_eq!(store.work_requests(&rare, 1000).await.unwrap().len(), 6);
        assert!(runs.is_sorted_by(|newer, older| newer.accepted_at > older.accepted_at));
        for run in &runs {
            assert_eq!(run.id.0.get_version_num(), 7);
            assert_eq!(run.accepted_at.as_millisecond(), i64::try_from(run.id.0.as_u128() >> 80).unwrap());
            assert!(run.accepted_at < SystemClock.now());
            let events = store.events(run.id, 0, 100).await.unwrap();
            assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3]);
        }
        let scheduled = runs.iter().filter(|run| run.fire.is_some()).count();
        assert!((100..150).contains(&scheduled), "{scheduled}");
    }
}
