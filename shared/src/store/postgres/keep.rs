//! Keeping runs: each batch in one statement, as each one more is a way to the server and back. Columns go as arrays.

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::postgres::types::PgInterval;
use sqlx::query::QueryAs;

use crate::store::accept::{MOST_APART, NewWorkRequest};
use crate::store::database::Replaced;
use crate::store::reads::prelude::*;
use crate::store::rows::{phase_columns, priority_column, row_version, seq};
use crate::store::texts::clean;
use crate::store::transition::Locked;

/// A column of which no value is missing; of values that are all alike the first goes alone. To receive a value and to unfold it
/// costs about as much as its place in an index, so in SQL such a column is `coalesce(u.x, $1[1])`.
fn alike<T: PartialEq>(column: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut column: Vec<_> = column.into_iter().collect();
    if column.windows(2).all(|pair| pair[0] == pair[1]) {
        column.truncate(1);
    }
    column
}

/// A column of which values may be missing; where all are, nothing goes, as `unnest` fills up with NULL.
fn some<T>(column: impl Iterator<Item = Option<T>>) -> Vec<Option<T>> {
    let mut column: Vec<_> = column.collect();
    if column.iter().all(Option::is_none) {
        column.clear();
    }
    column
}

/// In SQL, a value of a column that is both [`alike`] and [`some`].
macro_rules! alike_or_null {
    ($column:literal, $array:literal) => {
        concat!("CASE WHEN cardinality(", $array, ") = 1 THEN (", $array, ")[1] ELSE u.", $column, " END")
    };
}

/// Inserts work requests and all that belongs to them as of `at`; with none, as of now, if they have no delay and never expire,
/// and none of their ids was made too long ago. Answers as of when, if it did.
pub(super) async fn insert(
    database: impl sqlx::PgExecutor<'_>,
    requests: &[NewWorkRequest],
    at: Option<Timestamp>,
) -> Result<Option<Timestamp>> {
    let histories: Vec<_> = requests.iter().map(|r| (r.id.0, r.history())).collect();
    let entries =
        || histories.iter().flat_map(|(id, history)| history.iter().zip(1..).map(|(what, seq)| (*id, seq, what)));
    let made = || requests.iter().map(|r| r.id.made_at());
    let at: Option<At> = sqlx::query_scalar(concat!(
        "WITH clock AS MATERIALIZED (
             SELECT c.now FROM (SELECT coalesce($14, clock_timestamp()) AS now) AS c
             WHERE $14 IS NOT NULL OR ($28 >= c.now - $30 AND $29 <= c.now + $30)
         ), known AS (
             INSERT INTO work_requests (id, namespace, job, job_version, queue, schedule, due_at, origin, status,
                                        input, resource, accepted_at, chained_from, parent, retry_of)
             SELECT u.id, coalesce(u.namespace, ($2::text[])[1]), coalesce(u.job, ($3::text[])[1]),
                    coalesce(u.job_version, ($4::bigint[])[1]), coalesce(u.queue, ($5::text[])[1]), ",
        alike_or_null!("schedule", "$6::text[]"),
        ", u.due_at, ",
        alike_or_null!("origin", "$8::text[]"),
        ", 'ACCEPTED',
                    coalesce(u.input, ($9::jsonb[])[1]), u.resource, clock.now, u.chained_from, ",
        alike_or_null!("parent", "$12::uuid[]"),
        ", u.retry_of
             FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                         $7::timestamptz[], $8::text[], $9::jsonb[], $10::jsonb[], $11::uuid[], $12::uuid[],
                         $13::uuid[])
                  AS u (id, namespace, job, job_version, queue, schedule, due_at, origin, input, resource,
                        chained_from, parent, retry_of), clock
         ), delivered AS (
             INSERT INTO deliveries (id, namespace, queue, schedule, origin, phase, phase_at, timeout_ms, seq, follow,
                                     sends, hold, priority, concurrency_key, rate_key, expires_at)
             SELECT u.id, coalesce(u.namespace, ($2::text[])[1]), coalesce(u.queue, ($5::text[])[1]), ",
        alike_or_null!("schedule", "$6::text[]"),
        ", coalesce(",
        alike_or_null!("origin", "$8::text[]"),
        ", 'manual'),
                    coalesce(u.phase, ($15::text[])[1]), coalesce(u.phase_at, clock.now),
                    coalesce(u.timeout_ms, ($17::bigint[])[1]), coalesce(u.seq, ($18::integer[])[1]),
                    coalesce(u.follow, ($19::boolean[])[1]), coalesce(u.sends, ($20::integer[])[1]),
                    CASE WHEN coalesce(u.phase, ($15::text[])[1]) = 'held' THEN 'overlap' END,
                    coalesce(u.priority, ($21::smallint[])[1]), u.concurrency_key, u.rate_key, u.expires_at
             FROM unnest($1::uuid[], $2::text[], $5::text[], $6::text[], $8::text[], $15::text[],
                         $16::timestamptz[], $17::bigint[], $18::integer[], $19::boolean[], $20::integer[],
                         $21::smallint[], $22::text[], $23::text[], $24::timestamptz[])
                  AS u (id, namespace, queue, schedule, origin, phase, phase_at, timeout_ms, seq, follow, sends,
                        priority, concurrency_key, rate_key, expires_at), clock
         ), told AS (
             INSERT INTO events (work_request_id, seq, at, what)
             SELECT u.id, coalesce(u.seq, ($26::integer[])[1]), clock.now, coalesce(u.what, ($27::jsonb[])[1])
             FROM unnest($25::uuid[], $26::integer[], $27::jsonb[]) AS u (id, seq, what), clock
         )
         SELECT now FROM clock",
    ))
    .bind(requests.iter().map(|r| r.id.0).collect::<Vec<_>>())
    .bind(alike(requests.iter().map(|r| r.namespace.as_str())))
    .bind(alike(requests.iter().map(|r| r.job.as_str())))
    .bind(alike(requests.iter().map(|r| r.job_version)))
    .bind(alike(requests.iter().map(|r| r.queue.as_str())))
    .bind(alike(some(requests.iter().map(|r| r.fire.as_ref().map(|f| f.schedule.as_str())))))
    .bind(some(requests.iter().map(|r| r.fire.as_ref().map(|f| At(f.due_at)))))
    .bind(alike(some(requests.iter().map(|r| r.fire.as_ref().map(|f| f.origin.to_string())))))
    .bind(alike(requests.iter().map(|r| Json(clean(&r.input)))))
    .bind(some(requests.iter().map(|r| r.resource.as_ref().map(|json| Json(clean(json))))))
    .bind(some(requests.iter().map(|r| r.chained_from.map(|id| id.0))))
    .bind(alike(some(requests.iter().map(|r| r.parent.map(|id| id.0)))))
    .bind(some(requests.iter().map(|r| r.retry_of.map(|id| id.0))))
    .bind(at.map(At))
    .bind(alike(requests.iter().map(|r| r.phase().0)))
    .bind(some(requests.iter().map(|r| at.map(|at| At(r.due_at(at))))))
    .bind(alike(requests.iter().map(|r| millis(r.timeout.get()))))
    .bind(alike(histories.iter().map(|(_, history)| seq(history.len()))))
    .bind(alike(requests.iter().map(|r| r.follow)))
    .bind(alike(requests.iter().map(|r| r.phase().1)))
    .bind(alike(requests.iter().map(|r| priority_column(r.priority))))
    .bind(some(requests.iter().map(|r| r.concurrency.as_ref().map(|limit| limit.key.as_str()))))
    .bind(some(requests.iter().map(|r| r.rate.as_ref().map(|limit| limit.key.as_str()))))
    .bind(some(requests.iter().map(|r| at.and_then(|at| r.expires_at(at)).map(At))))
    .bind(entries().map(|(id, ..)| id).collect::<Vec<_>>())
    .bind(alike(entries().map(|(_, seq, _)| seq)))
    .bind(alike(entries().map(|(.., what)| Json(what))))
    .bind(made().min().map(At))
    .bind(made().max().map(At))
    .bind(PgInterval { months: 0, days: 0, microseconds: i64::try_from(MOST_APART.as_micros()).unwrap_or(i64::MAX) })
    .fetch_optional(database)
    .await
    .map_err(step("insert work requests"))?;
    Ok(at.map(|At(at)| at))
}

/// Keeps the new states and events of runs: what goes before, which rows of `deliveries` are meant, which entries, and the answer.
macro_rules! keep {
    ($before:literal, $ended:expr, $moved:expr, $entries:literal, $answer:literal) => {
        concat!(
            "WITH clock AS MATERIALIZED (
                 SELECT coalesce($1, clock_timestamp()) AS now
             ), ", $before, "ended AS (
                 DELETE FROM deliveries d
                 USING unnest($2::uuid[], $3::text[], $4::integer[], $5::text[], $6::text[], $7::jsonb[], $8::bigint[],
                              $9::integer[], $10::uuid[])
                       AS u (id, status, attempt, error_code, error_message, output, took_ms, version, token_before)
                 WHERE d.id = u.id AND ", $ended, "
                 RETURNING d.id, NULL::bigint AS version, NULL::text AS place, true AS has_ended,
                           coalesce(u.status, ($3::text[])[1]) AS status, coalesce(u.attempt, ($4::integer[])[1]) AS attempt,
                           u.error_code, u.error_message, ", alike_or_null!("output", "$7::jsonb[]"), " AS output, u.took_ms
             ), moved AS (
                 UPDATE deliveries d
                 SET attempt = coalesce(u.attempt, ($14::integer[])[1]), phase = coalesce(u.phase, ($22::text[])[1]),
                     phase_at = coalesce(u.phase_at, ($23::timestamptz[])[1]), token = u.token, worker = ",
            alike_or_null!("worker", "$25::uuid[]"), ",
                     sends = coalesce(u.sends, ($26::integer[])[1]), resends = coalesce(u.resends, ($27::integer[])[1]),
                     failures = coalesce(u.failures, ($28::integer[])[1]), seq = coalesce(u.seq, ($29::integer[])[1]),
                     follow = coalesce(u.follow, ($30::boolean[])[1]), hold = u.hold,
                     doubt = coalesce(u.doubt, ($32::boolean[])[1]), attempt_until = ",
            alike_or_null!("attempt_until", "$33::timestamptz[]"), ",
                     operation_token = u.operation_token, operation = u.operation
                 FROM unnest($12::uuid[], $13::text[], $14::integer[], $15::text[], $16::text[], $17::jsonb[], $18::bigint[],
                             $19::integer[], $20::uuid[], $22::text[], $23::timestamptz[], $24::uuid[], $25::uuid[], $26::integer[], $27::integer[],
                             $28::integer[], $29::integer[], $30::boolean[], $31::text[], $32::boolean[],
                             $33::timestamptz[], $34::uuid[], $35::jsonb[])
                      AS u (id, status, attempt, error_code, error_message, output, took_ms, version, token_before,
                            phase, phase_at, token, worker, sends, resends, failures, seq, follow, hold, doubt, attempt_until, operation_token, operation)
                 WHERE d.id = u.id AND ", $moved, "
                 RETURNING d.id, d.xmin::text::bigint, d.ctid::text, false,
                           coalesce(u.status, ($13::text[])[1]), d.attempt,
                           u.error_code, u.error_message, ", alike_or_null!("output", "$17::jsonb[]"), ", u.took_ms
             ), kept AS (
                 SELECT * FROM ended UNION ALL SELECT * FROM moved
             ), shown AS (
                 UPDATE work_requests w
                 SET status = u.status, attempt = u.attempt,
                     error_code = CASE WHEN u.status <> 'SUCCEEDED' THEN coalesce(u.error_code, w.error_code) END,
                     error_message = CASE WHEN u.status <> 'SUCCEEDED' THEN coalesce(u.error_message, w.error_message) END,
                     output = coalesce(u.output, w.output), took_ms = coalesce(u.took_ms, w.took_ms),
                     percent = CASE WHEN u.status = 'SUCCEEDED' THEN 100 ELSE w.percent END,
                     started_at = coalesce(w.started_at, CASE WHEN u.attempt > 0 OR u.status = 'IN_PROGRESS' THEN (SELECT now FROM clock) END),
                     finished_at = CASE WHEN u.has_ended THEN (SELECT now FROM clock) END
                 FROM kept u WHERE w.id = u.id AND w.id = ANY($36)
             ), told AS (
                 INSERT INTO events (work_request_id, seq, at, what)
                 SELECT u.id, coalesce(u.seq, ($38::integer[])[1]), (SELECT now FROM clock),
                        coalesce(u.what, ($39::jsonb[])[1])
                 FROM unnest($37::uuid[], $38::integer[], $39::jsonb[]) AS u (id, seq, what) ", $entries, "
             ) ", $answer
        )
    };
}

/// In SQL, whether nobody has locked or written the row of `d` since its version came to be: who does leaves his number on it (`xmax`),
/// also when he takes that back. If he had locked it before he wrote this version himself, that is its number, too.
macro_rules! is_untouched {
    () => {
        "(d.xmax = 0 OR d.xmax = d.xmin)"
    };
}
pub(super) use is_untouched;

/// In SQL, the row of `d` that is as it was looked at, in one of these places.
///
/// No index is asked: a row that has changed has moved. Its version tells it from another one that has come into its place, and, where
/// the database was put back to an earlier state and gives the same versions again, so does the token that fences its lease. To ask
/// whether it is untouched only spares a wait: should somebody lock it between this look and the write, the write waits for him, and
/// compares anew what he has left.
macro_rules! as_looked_at {
    ($places:literal) => {
        concat!(
            "d.ctid = ANY(",
            $places,
            "::text[]::tid[]) AND d.xmin = u.version AND ",
            is_untouched!(),
            " AND d.token IS NOT DISTINCT FROM u.token_before"
        )
    };
}

/// A run that was kept, and where its row is now if it goes on.
type Kept = (Uuid, Option<i64>, Option<String>);

/// Keeps the new states and events, as of `at`, of runs that are locked: their rows are there, so that all are kept.
pub(super) async fn save(database: impl sqlx::PgExecutor<'_>, rows: &[&Locked], at: Timestamp) -> Result<()> {
    let sql =
        keep!("", "d.id = ANY($2)", "d.id = ANY($12)", "", "SELECT NULL::uuid, NULL::bigint, NULL::text WHERE false");
    keep(sql, rows, Some(at)).fetch_all(database).await.map_err(step("move work requests"))?;
    Ok(())
}

/// The same, as of `at` or of now, of runs whose rows are as they were looked at and locked by nobody; answers which. With a
/// `worker` that was taken for dead, of none that goes on.
pub(super) async fn replace(
    database: impl sqlx::PgExecutor<'_>,
    rows: &[&Locked],
    at: Option<Timestamp>,
    worker: Option<Uuid>,
) -> Result<Replaced> {
    let sql = keep!(
        "worker AS MATERIALIZED (
             SELECT ended_at FROM workers WHERE incarnation = $40 FOR SHARE
         ), ",
        as_looked_at!("$11"),
        concat!(as_looked_at!("$21"), " AND NOT EXISTS (SELECT 1 FROM worker WHERE ended_at IS NOT NULL)"),
        "WHERE u.id IN (SELECT id FROM kept)",
        "SELECT id, version, place FROM kept"
    );
    let kept = keep(sql, rows, at).bind(worker).fetch_all(database).await.map_err(step("move work requests"))?;
    kept.into_iter().map(|(id, number, place)| Ok((id, number.zip(place).map(row_version).transpose()?))).collect()
}

/// One of the statements above, with all that they have in common. Version, token and place of a row that is locked are nothing.
fn keep<'q>(sql: &'static str, rows: &[&'q Locked], at: Option<Timestamp>) -> QueryAs<'q, Postgres, Kept, PgArguments> {
    let (ended, moved): (Vec<&Locked>, Vec<&Locked>) = rows.iter().partition(|row| row.is_done());
    let phases: Vec<_> = moved.iter().map(|row| phase_columns(&row.run)).collect();
    let operations: Vec<_> = moved.iter().map(|row| row.operation()).collect();
    let events = || rows.iter().flat_map(|row| row.events.iter().map(|(seq, what)| (row.id.0, *seq, what)));
    let mut query = sqlx::query_as(sql).bind(at.map(At));
    for rows in [&ended, &moved] {
        query = query
            .bind(rows.iter().map(|row| row.id.0).collect::<Vec<_>>())
            .bind(alike(rows.iter().map(|row| row.run.status.as_str())))
            .bind(alike(rows.iter().map(|row| number(row.run.attempt))))
            .bind(some(rows.iter().map(|row| row.error.as_ref().map(|e| e.code.as_str()))))
            .bind(some(rows.iter().map(|row| row.error.as_ref().map(|e| e.message.as_str()))))
            .bind(alike(some(rows.iter().map(|row| row.output.as_ref().map(Json)))))
            .bind(some(rows.iter().map(|row| row.took.map(millis))))
            .bind(some(rows.iter().map(|row| row.version.as_ref().map(|version| version.number.cast_signed()))))
            .bind(some(rows.iter().map(|row| row.version.as_ref().and_then(|_| row.token_before()))))
            .bind(some(rows.iter().map(|row| row.version.as_ref().map(|version| version.place.as_str()))));
    }
    query
        .bind(alike(phases.iter().map(|parts| parts.phase)))
        .bind(alike(phases.iter().map(|parts| parts.at)))
        .bind(some(phases.iter().map(|parts| parts.token)))
        .bind(alike(some(phases.iter().map(|parts| parts.worker))))
        .bind(alike(moved.iter().map(|row| number(row.run.sends))))
        .bind(alike(moved.iter().map(|row| row.resends)))
        .bind(alike(moved.iter().map(|row| number(row.run.failures))))
        .bind(alike(moved.iter().map(|row| row.seq)))
        .bind(alike(moved.iter().map(|row| row.follow)))
        .bind(some(phases.iter().map(|parts| parts.hold)))
        .bind(alike(moved.iter().map(|row| row.run.doubt)))
        .bind(alike(some(phases.iter().map(|parts| parts.attempt_until))))
        .bind(some(operations.iter().map(|operation| operation.map(|(token, _)| token))))
        .bind(some(operations.iter().map(|operation| operation.and_then(|(_, notes)| notes).map(Json))))
        .bind(rows.iter().filter(|row| row.is_public()).map(|row| row.id.0).collect::<Vec<_>>())
        .bind(events().map(|(id, ..)| id).collect::<Vec<_>>())
        .bind(alike(events().map(|(_, seq, _)| seq)))
        .bind(alike(events().map(|(.., what)| Json(what))))
}
