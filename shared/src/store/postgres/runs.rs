//! Batches of runs: arrays in, one statement per table.

use std::collections::HashSet;

use async_trait::async_trait;
use sqlx::postgres::types::PgInterval;

use super::PgTx;
use crate::state::{Hold, Status};
use crate::store::accept::{MOST_APART, NewWorkRequest};
use crate::store::backlog::Seen;
use crate::store::database::{Replaced, Runs, Which};
use crate::store::fair::{Position, Share};
use crate::store::reads::prelude::*;
use crate::store::reads::{LOCKED, locked_columns};
use crate::store::reports::Progress;
use crate::store::rows::{LockedRow, SeenRow, phase_columns, priority_column, seq, stream_column};
use crate::store::texts::clean;
use crate::store::transition::Locked;

/// Columns of the first due runs of lanes behind a position of each, read or locked.
macro_rules! due_in_lanes {
    ($columns:expr, $lock:literal) => {
        concat!(
            $columns,
            "FROM unnest($1::smallint[], $2::text[], $3::text[], $4::timestamptz[], $5::uuid[], $6::bigint[])
                  AS l (priority, queue, namespace, after_at, after_id, most)
             CROSS JOIN LATERAL
                  (SELECT * FROM deliveries x
                   WHERE x.phase = 'due' AND x.priority = l.priority AND x.queue = l.queue
                         AND x.namespace = l.namespace AND x.phase_at <= $7
                         AND (x.phase_at, x.id) > (l.after_at, l.after_id)
                   ORDER BY x.phase_at, x.id LIMIT l.most ",
            $lock,
            ") AS d
             CROSS JOIN LATERAL (SELECT * FROM work_requests x WHERE x.id = d.id OFFSET 0) AS w
             ORDER BY d.phase_at, d.id",
        )
    };
}

/// What is due in lanes up to a position in each.
macro_rules! due_until {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM unnest($1::smallint[], $2::text[], $3::text[], $4::timestamptz[], $5::uuid[])
                   WITH ORDINALITY AS l (priority, queue, namespace, at, last, number)
              CROSS JOIN LATERAL
                   (SELECT x.id FROM deliveries x
                    WHERE x.phase = 'due' AND x.priority = l.priority AND x.queue = l.queue
                          AND x.namespace = l.namespace AND (x.phase_at, x.id) <= (l.at, l.last) OFFSET 0) AS d"
        )
    };
}

type AnswerOf<'q, T> = sqlx::query::QueryAs<'q, sqlx::Postgres, T, sqlx::postgres::PgArguments>;

fn bind_lines<'q, T>(query: AnswerOf<'q, T>, lines: &[(&'q Lane, Position)]) -> AnswerOf<'q, T> {
    query
        .bind(lines.iter().map(|(lane, _)| priority_column(lane.route.priority)).collect::<Vec<_>>())
        .bind(lines.iter().map(|(lane, _)| lane.route.queue.as_str()).collect::<Vec<_>>())
        .bind(lines.iter().map(|(lane, _)| lane.namespace.as_str()).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, (at, _))| At(*at)).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, (_, id))| id.0).collect::<Vec<_>>())
}

#[async_trait]
impl Runs for PgTx {
    async fn lock(&mut self, which: Which<'_>) -> Result<Vec<Locked>> {
        let mut query = sqlx::QueryBuilder::<sqlx::Postgres>::new(LOCKED);
        match which {
            Which::Ids(ids) => {
                self.lock_runs(ids).await?;
                query.push("WHERE d.id = ANY(").push_bind(ids).push(")");
            }
            Which::Free(ids) => {
                query.push("WHERE d.id = ANY(").push_bind(ids).push(") FOR UPDATE OF d SKIP LOCKED");
            }
            Which::OfSchedules([]) => return Ok(Vec::new()),
            Which::OfSchedules(keys) => {
                let ids = self.lock_runs_of(keys).await?;
                query.push("WHERE d.id = ANY(").push_bind(ids).push(") ORDER BY d.id");
            }
            Which::Due { shares } => {
                let due = due_in_lanes!(locked_columns!(), "FOR UPDATE SKIP LOCKED");
                return all(self.due_in_lanes::<LockedRow>(due, shares).await?);
            }
            Which::Parked { limit } => {
                query.push("WHERE d.phase = 'parked' AND d.phase_at <= ").push_bind(At(self.now));
                query.push(" ORDER BY d.phase_at LIMIT ").push_bind(limit).push(" FOR UPDATE OF d SKIP LOCKED");
            }
            Which::Held { key, hold, limit } => {
                let column = if hold == Hold::Rate { "d.rate_key" } else { "d.concurrency_key" };
                query.push("WHERE d.phase = 'held' AND d.hold = '").push(hold.as_str()).push("' AND ");
                query.push(column).push(" = ").push_bind(key).push(" ORDER BY d.priority, d.id LIMIT ");
                query.push_bind(limit).push(" FOR UPDATE OF d SKIP LOCKED");
            }
            Which::Expired { limit } => {
                query.push("WHERE d.expires_at IS NOT NULL AND d.attempt = 0 AND d.expires_at <= ");
                query.push_bind(At(self.now)).push(" ORDER BY d.expires_at LIMIT ").push_bind(limit);
                query.push(" FOR UPDATE OF d SKIP LOCKED");
            }
            Which::Sent { route, from, until, patience, limit } => {
                query.push("WHERE d.phase = 'sent' AND d.queue = ").push_bind(&route.queue);
                query.push(" AND d.priority = ").push_bind(priority_column(route.priority));
                query.push(" AND d.phase_at > ").push_bind(At(from)).push(" AND d.phase_at <= ").push_bind(At(until));
                query.push(" AND d.phase_at <= ").push_bind(At(self.now)).push(" - make_interval(secs => ");
                query.push_bind(patience.as_secs_f64()).push(" * (1 << least(d.resends, 10)))");
                query.push(" ORDER BY d.phase_at LIMIT ").push_bind(limit).push(" FOR UPDATE OF d SKIP LOCKED");
            }
        }
        let rows: Vec<LockedRow> =
            query.build_query_as().fetch_all(&mut *self.tx).await.map_err(step("lock work requests"))?;
        all(rows)
    }

    async fn see(&mut self, shares: &[Share]) -> Result<Vec<Seen>> {
        let rows: Vec<SeenRow> = self
            .due_in_lanes(
                due_in_lanes!(
                    "SELECT d.id, d.namespace, d.queue, d.priority, d.phase_at, d.sends, d.expires_at,
                            d.concurrency_key IS NOT NULL OR d.rate_key IS NOT NULL AS is_limited,
                            w.job, w.schedule, w.due_at, w.origin ",
                    ""
                ),
                shares,
            )
            .await?;
        rows.into_iter().map(|row| row.seen(self.now)).collect()
    }

    async fn due_until(&mut self, lines: &[(&Lane, Position)]) -> Result<Vec<(usize, WorkRequestId)>> {
        let due: Vec<(i64, Uuid)> = bind_lines(sqlx::query_as(due_until!("l.number, d.id")), lines)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(step("look what is due still"))?;
        Ok(due.into_iter().map(|(line, id)| (usize::try_from(line - 1).unwrap_or(0), WorkRequestId(id))).collect())
    }

    async fn count_due_until(&mut self, lines: &[(&Lane, Position)]) -> Result<i64> {
        let (count,) = bind_lines(sqlx::query_as(due_until!("count(*)")), lines)
            .fetch_one(&mut *self.tx)
            .await
            .map_err(step("count what is due still"))?;
        Ok(count)
    }

    async fn save(&mut self, rows: &[&Locked]) -> Result<()> {
        save(&mut *self.tx, rows, Some(self.now), None).await?;
        Ok(())
    }

    async fn insert_requests(&mut self, requests: &[NewWorkRequest]) -> Result<()> {
        if !requests.is_empty() {
            insert(&mut *self.tx, requests, Some(self.now)).await?;
        }
        Ok(())
    }

    async fn holding(&mut self, keys: &[ScheduleKey]) -> Result<Vec<ScheduleKey>> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT DISTINCT namespace, schedule FROM deliveries
             WHERE phase = 'held' AND coalesce(hold, 'overlap') = 'overlap' AND (namespace, schedule) IN (SELECT * FROM unnest($1::text[], $2::text[]))",
        )
        .bind(keys.iter().map(|key| key.namespace.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>())
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("look for held fires"))?;
        Ok(rows.into_iter().map(|(namespace, name)| ScheduleKey { namespace, name }).collect())
    }

    async fn take_out(&mut self, numbers: &[i64]) -> Result<()> {
        sqlx::query("DELETE FROM outbox WHERE number = ANY($1)")
            .bind(numbers)
            .execute(&mut *self.tx)
            .await
            .map_err(step("take out what was told"))?;
        Ok(())
    }

    async fn take_follow_ups(&mut self, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
        let taken: Vec<Uuid> =
            sqlx::query_scalar("DELETE FROM follow_ups WHERE work_request_id = ANY($1) RETURNING work_request_id")
                .bind(ids)
                .fetch_all(&mut *self.tx)
                .await
                .map_err(step("take what has ended"))?;
        Ok(taken.into_iter().collect())
    }

    async fn ended_under(&mut self, pairs: &[(Uuid, Uuid)]) -> Result<HashSet<(Uuid, Uuid)>> {
        let (ids, tokens): (Vec<Uuid>, Vec<Uuid>) = pairs.iter().copied().unzip();
        let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
            "SELECT u.id, u.token FROM unnest($1::uuid[], $2::uuid[]) AS u (id, token)
             WHERE EXISTS (SELECT 1 FROM events e
                           WHERE e.work_request_id = u.id AND e.what ->> 'token' = u.token::text)",
        )
        .bind(ids)
        .bind(tokens)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("look for earlier reports"))?;
        Ok(rows.into_iter().collect())
    }

    async fn save_progress(&mut self, progress: &[Progress]) -> Result<()> {
        sqlx::query(
            "UPDATE work_requests w SET percent = greatest(w.percent, u.percent), message = coalesce(u.message, w.message)
             FROM unnest($1::uuid[], $2::uuid[], $3::double precision[], $4::text[]) AS u (id, token, percent, message)
             JOIN deliveries d ON d.id = u.id AND d.token = u.token
             WHERE w.id = u.id",
        )
        .bind(progress.iter().map(|p| p.id.0).collect::<Vec<_>>())
        .bind(progress.iter().map(|p| p.token).collect::<Vec<_>>())
        .bind(progress.iter().map(|p| f64::from(p.percent)).collect::<Vec<_>>())
        .bind(progress.iter().map(|p| p.message.as_deref()).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await
        .map_err(step("save progress"))?;
        Ok(())
    }

    async fn append_logs(&mut self, lines: &[(WorkRequestId, LogLine)]) -> Result<()> {
        sqlx::query(
            "INSERT INTO logs (work_request_id, attempt, seq, at, stream, text)
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::timestamptz[], $5::text[], $6::text[])
             ON CONFLICT DO NOTHING",
        )
        .bind(lines.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, line)| number(line.attempt)).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, line)| line.seq).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, line)| At(line.at)).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, line)| stream_column(line.stream)).collect::<Vec<_>>())
        // PostgreSQL's text can't hold NUL.
        .bind(lines.iter().map(|(_, line)| line.text.replace('\0', "\u{fffd}")).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await
        .map_err(step("append logs"))?;
        Ok(())
    }
}

/// An array of a column, beside others: of values that are all missing none is sent, as `unnest` fills up with NULL. To receive and
/// to unfold one costs about as much as the value's place in an index.
fn some<T>(column: impl Iterator<Item = Option<T>>) -> Vec<Option<T>> {
    let column: Vec<_> = column.collect();
    if column.iter().all(Option::is_none) { Vec::new() } else { column }
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
    let at: Option<At> = sqlx::query_scalar(
        "WITH clock AS MATERIALIZED (
             SELECT c.now FROM (SELECT coalesce($14, clock_timestamp()) AS now) AS c
             WHERE $14 IS NOT NULL
                   OR NOT EXISTS (SELECT 1 FROM unnest($28::timestamptz[]) AS u (made_at)
                                  WHERE u.made_at NOT BETWEEN c.now - $29 AND c.now + $29)
         ), known AS (
             INSERT INTO work_requests (id, namespace, job, job_version, queue, schedule, due_at, origin, status,
                                        input, resource, accepted_at, chained_from, parent, retry_of)
             SELECT u.id, u.namespace, u.job, u.job_version, u.queue, u.schedule, u.due_at, u.origin, 'ACCEPTED',
                    u.input, u.resource, clock.now, u.chained_from, u.parent, u.retry_of
             FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                         $7::timestamptz[], $8::text[], $9::jsonb[], $10::jsonb[], $11::uuid[], $12::uuid[],
                         $13::uuid[])
                  AS u (id, namespace, job, job_version, queue, schedule, due_at, origin, input, resource,
                        chained_from, parent, retry_of), clock
         ), delivered AS (
             INSERT INTO deliveries (id, namespace, queue, schedule, origin, phase, phase_at, timeout_ms, seq, follow,
                                     sends, hold, priority, concurrency_key, rate_key, expires_at)
             SELECT u.id, u.namespace, u.queue, u.schedule, coalesce(u.origin, 'manual'), u.phase,
                    coalesce(u.phase_at, clock.now),
                    u.timeout_ms, u.seq, u.follow, u.sends, CASE WHEN u.phase = 'held' THEN 'overlap' END, u.priority,
                    u.concurrency_key, u.rate_key, u.expires_at
             FROM unnest($1::uuid[], $2::text[], $5::text[], $6::text[], $8::text[], $15::text[],
                         $16::timestamptz[], $17::bigint[], $18::integer[], $19::boolean[], $20::integer[],
                         $21::smallint[], $22::text[], $23::text[], $24::timestamptz[])
                  AS u (id, namespace, queue, schedule, origin, phase, phase_at, timeout_ms, seq, follow, sends,
                        priority, concurrency_key, rate_key, expires_at), clock
         ), told AS (
             INSERT INTO events (work_request_id, seq, at, what)
             SELECT u.id, u.seq, clock.now, u.what
             FROM unnest($25::uuid[], $26::integer[], $27::jsonb[]) AS u (id, seq, what), clock
         )
         SELECT now FROM clock",
    )
    .bind(requests.iter().map(|r| r.id.0).collect::<Vec<_>>())
    .bind(requests.iter().map(|r| r.namespace.as_str()).collect::<Vec<_>>())
    .bind(requests.iter().map(|r| r.job.as_str()).collect::<Vec<_>>())
    .bind(requests.iter().map(|r| r.job_version).collect::<Vec<_>>())
    .bind(requests.iter().map(|r| r.queue.as_str()).collect::<Vec<_>>())
    .bind(some(requests.iter().map(|r| r.fire.as_ref().map(|f| f.schedule.as_str()))))
    .bind(some(requests.iter().map(|r| r.fire.as_ref().map(|f| At(f.due_at)))))
    .bind(some(requests.iter().map(|r| r.fire.as_ref().map(|f| f.origin.to_string()))))
    .bind(requests.iter().map(|r| Json(clean(&r.input))).collect::<Vec<_>>())
    .bind(some(requests.iter().map(|r| r.resource.as_ref().map(|json| Json(clean(json))))))
    .bind(some(requests.iter().map(|r| r.chained_from.map(|id| id.0))))
    .bind(some(requests.iter().map(|r| r.parent.map(|id| id.0))))
    .bind(some(requests.iter().map(|r| r.retry_of.map(|id| id.0))))
    .bind(at.map(At))
    .bind(requests.iter().map(|r| r.phase().0).collect::<Vec<_>>())
    .bind(some(requests.iter().map(|r| at.map(|at| At(r.due_at(at))))))
    .bind(requests.iter().map(|r| millis(r.timeout.get())).collect::<Vec<_>>())
    .bind(histories.iter().map(|(_, history)| seq(history.len())).collect::<Vec<_>>())
    .bind(requests.iter().map(|r| r.follow).collect::<Vec<_>>())
    .bind(requests.iter().map(|r| r.phase().1).collect::<Vec<_>>())
    .bind(requests.iter().map(|r| priority_column(r.priority)).collect::<Vec<_>>())
    .bind(some(requests.iter().map(|r| r.concurrency.as_ref().map(|limit| limit.key.as_str()))))
    .bind(some(requests.iter().map(|r| r.rate.as_ref().map(|limit| limit.key.as_str()))))
    .bind(some(requests.iter().map(|r| at.and_then(|at| r.expires_at(at)).map(At))))
    .bind(entries().map(|(id, ..)| id).collect::<Vec<_>>())
    .bind(entries().map(|(_, seq, _)| seq).collect::<Vec<_>>())
    .bind(entries().map(|(.., what)| Json(what)).collect::<Vec<_>>())
    .bind(requests.iter().map(|r| At(r.id.made_at())).collect::<Vec<_>>())
    .bind(PgInterval { months: 0, days: 0, microseconds: i64::try_from(MOST_APART.as_micros()).unwrap_or(i64::MAX) })
    .fetch_optional(database)
    .await
    .map_err(step("insert work requests"))?;
    Ok(at.map(|At(at)| at))
}

/// Keeps the new state and events, as of `at` or of now, of runs that are locked, or whose rows are as they were read and locked by
/// nobody; answers which. With a `worker` that was taken for dead, of none that goes on. One statement, as each one more is a way to
/// the server and back before a run can start.
pub(super) async fn save(
    database: impl sqlx::PgExecutor<'_>,
    rows: &[&Locked],
    at: Option<Timestamp>,
    worker: Option<Uuid>,
) -> Result<Replaced> {
    let (done, live): (Vec<&Locked>, Vec<&Locked>) = rows.iter().partition(|row| row.is_done());
    let public: Vec<&&Locked> = rows.iter().filter(|row| row.is_public()).collect();
    let phases: Vec<_> = live.iter().map(|row| phase_columns(&row.run)).collect();
    let operations: Vec<_> = live.iter().map(|row| row.operation()).collect();
    let events = || rows.iter().flat_map(|row| row.events.iter().map(|(seq, what)| (row.id.0, *seq, what)));
    // Its token fences a lease also where the database was put back to an earlier state, and gives the same versions again.
    let looked = || rows.iter().filter_map(|row| Some((row.id.0, row.version?, row.token_before())));
    // Where all are locked, all are kept. Asked for as one of two, it is looked up in a table of hashes whatever is thought of its size.
    let all_are_locked = rows.iter().all(|row| row.version.is_none());
    let kept: Vec<(Uuid, Option<i64>)> = sqlx::query_as(
        "WITH clock AS MATERIALIZED (
             SELECT coalesce($27, clock_timestamp()) AS now
         ), worker AS MATERIALIZED (
             SELECT ended_at FROM workers WHERE incarnation = $31 FOR SHARE
         ), free AS MATERIALIZED (
             SELECT d.id FROM unnest($32::uuid[], $33::bigint[], $36::uuid[]) AS u (id, version, token)
                  JOIN deliveries d ON d.id = u.id
             WHERE d.id = ANY($32) AND u.version = d.xmin::text::bigint AND d.token IS NOT DISTINCT FROM u.token
             FOR UPDATE OF d SKIP LOCKED
         ), ended AS (
             DELETE FROM deliveries d USING unnest($1::uuid[], $2::bigint[]) AS u (id, version)
             WHERE d.id = u.id AND d.id = ANY($1) AND (u.version IS NULL OR d.id IN (SELECT id FROM free))
             RETURNING d.id, NULL::bigint AS version
         ), moved AS (
             UPDATE deliveries d
             SET phase = u.phase, phase_at = u.phase_at, token = u.token, worker = u.worker, sends = u.sends,
                 resends = u.resends, attempt = u.attempt, failures = u.failures, seq = u.seq, follow = u.follow,
                 hold = u.hold, doubt = u.doubt, attempt_until = u.attempt_until,
                 operation_token = u.operation_token, operation = u.operation
             FROM unnest($3::uuid[], $4::bigint[], $5::text[], $6::timestamptz[], $7::uuid[], $8::uuid[], $9::integer[],
                         $10::integer[], $11::integer[], $12::integer[], $13::integer[], $14::boolean[], $15::text[],
                         $16::boolean[], $17::timestamptz[], $18::uuid[], $19::jsonb[])
                  AS u (id, version, phase, phase_at, token, worker, sends, resends, attempt, failures, seq, follow,
                        hold, doubt, attempt_until, operation_token, operation)
             WHERE d.id = u.id AND d.id = ANY($3) AND (u.version IS NULL OR d.id IN (SELECT id FROM free))
                   AND NOT EXISTS (SELECT 1 FROM worker WHERE ended_at IS NOT NULL)
             RETURNING d.id, d.xmin::text::bigint AS version
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
                 finished_at = CASE WHEN u.ended THEN (SELECT now FROM clock) END
             FROM unnest($20::uuid[], $21::text[], $22::integer[], $23::text[], $24::text[], $25::jsonb[],
                         $26::boolean[], $34::bigint[])
                  AS u (id, status, attempt, error_code, error_message, output, ended, took_ms)
             WHERE w.id = u.id AND w.id = ANY($20) AND ($35 OR u.id IN (SELECT id FROM kept))
         ), told AS (
             INSERT INTO events (work_request_id, seq, at, what)
             SELECT u.id, u.seq, (SELECT now FROM clock), u.what
             FROM unnest($28::uuid[], $29::integer[], $30::jsonb[]) AS u (id, seq, what)
             WHERE $35 OR u.id IN (SELECT id FROM kept)
         )
         SELECT * FROM kept",
    )
    .bind(done.iter().map(|row| row.id.0).collect::<Vec<_>>())
    .bind(some(done.iter().map(|row| row.version)))
    .bind(live.iter().map(|row| row.id.0).collect::<Vec<_>>())
    .bind(some(live.iter().map(|row| row.version)))
    .bind(phases.iter().map(|parts| parts.phase).collect::<Vec<_>>())
    .bind(phases.iter().map(|parts| parts.at).collect::<Vec<_>>())
    .bind(some(phases.iter().map(|parts| parts.token)))
    .bind(some(phases.iter().map(|parts| parts.worker)))
    .bind(live.iter().map(|row| number(row.run.sends)).collect::<Vec<_>>())
    .bind(live.iter().map(|row| row.resends).collect::<Vec<_>>())
    .bind(live.iter().map(|row| number(row.run.attempt)).collect::<Vec<_>>())
    .bind(live.iter().map(|row| number(row.run.failures)).collect::<Vec<_>>())
    .bind(live.iter().map(|row| row.seq).collect::<Vec<_>>())
    .bind(live.iter().map(|row| row.follow).collect::<Vec<_>>())
    .bind(some(phases.iter().map(|parts| parts.hold)))
    .bind(live.iter().map(|row| row.run.doubt).collect::<Vec<_>>())
    .bind(some(phases.iter().map(|parts| parts.attempt_until)))
    .bind(some(operations.iter().map(|operation| operation.map(|(token, _)| token))))
    .bind(some(operations.iter().map(|operation| operation.and_then(|(_, notes)| notes).map(Json))))
    .bind(public.iter().map(|row| row.id.0).collect::<Vec<_>>())
    .bind(public.iter().map(|row| row.run.status.as_str()).collect::<Vec<_>>())
    .bind(public.iter().map(|row| number(row.run.attempt)).collect::<Vec<_>>())
    .bind(some(public.iter().map(|row| row.error.as_ref().map(|e| e.code.as_str()))))
    .bind(some(public.iter().map(|row| row.error.as_ref().map(|e| e.message.as_str()))))
    .bind(some(public.iter().map(|row| row.output.as_ref().map(Json))))
    .bind(public.iter().map(|row| Status::is_terminal(row.run.status)).collect::<Vec<_>>())
    .bind(at.map(At))
    .bind(events().map(|(id, ..)| id).collect::<Vec<_>>())
    .bind(events().map(|(_, seq, _)| seq).collect::<Vec<_>>())
    .bind(events().map(|(.., what)| Json(what)).collect::<Vec<_>>())
    .bind(worker)
    .bind(looked().map(|(id, ..)| id).collect::<Vec<_>>())
    .bind(looked().map(|(_, version, _)| version).collect::<Vec<_>>())
    .bind(some(public.iter().map(|row| row.took.map(millis))))
    .bind(all_are_locked)
    .bind(looked().map(|(.., token)| token).collect::<Vec<_>>())
    .fetch_all(database)
    .await
    .map_err(step("move work requests"))?;
    Ok(kept.into_iter().collect())
}

// Locking is a statement of its own: one that has waited for a lock reads the locked row anew, but what it joins
// as it was before the wait, and the next statement sees both as they are. Who waits for rows locks them in one order, so
// that two batches over the same ones can't deadlock.
impl PgTx {
    async fn lock_runs(&mut self, ids: &[Uuid]) -> Result<()> {
        sqlx::query("SELECT 1 FROM deliveries WHERE id = ANY($1) ORDER BY id FOR UPDATE")
            .bind(ids)
            .execute(&mut *self.tx)
            .await
            .map_err(step("lock work requests"))?;
        Ok(())
    }

    async fn due_in_lanes<T>(&mut self, query: &'static str, shares: &[Share]) -> Result<Vec<T>>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
    {
        sqlx::query_as(query)
            .bind(shares.iter().map(|share| priority_column(share.lane.route.priority)).collect::<Vec<_>>())
            .bind(shares.iter().map(|share| share.lane.route.queue.as_str()).collect::<Vec<_>>())
            .bind(shares.iter().map(|share| share.lane.namespace.as_str()).collect::<Vec<_>>())
            .bind(shares.iter().map(|share| At(share.after.0)).collect::<Vec<_>>())
            .bind(shares.iter().map(|share| share.after.1.0).collect::<Vec<_>>())
            .bind(shares.iter().map(|share| share.most).collect::<Vec<_>>())
            .bind(At(self.now))
            .fetch_all(&mut *self.tx)
            .await
            .map_err(step("look for due runs"))
    }

    /// Locks the unended runs of these schedules, and answers them.
    async fn lock_runs_of(&mut self, keys: &[ScheduleKey]) -> Result<Vec<Uuid>> {
        sqlx::query_scalar(
            "SELECT id FROM deliveries
             WHERE (namespace, schedule) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY id FOR UPDATE",
        )
        .bind(keys.iter().map(|key| key.namespace.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>())
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("lock work requests"))
    }
}
