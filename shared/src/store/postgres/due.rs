//! What is due, found in its lanes: by one index, of each lane what lies side by side in it.

use crate::store::backlog::Seen;
use crate::store::fair::{Position, Share};
use crate::store::reads::locked_columns;
use crate::store::reads::prelude::*;
use crate::store::rows::{LockedRow, SeenRow, priority_column};
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

fn bind_shares<'q, T>(query: AnswerOf<'q, T>, shares: &'q [Share], now: Timestamp) -> AnswerOf<'q, T> {
    query
        .bind(shares.iter().map(|share| priority_column(share.lane.route.priority)).collect::<Vec<_>>())
        .bind(shares.iter().map(|share| share.lane.route.queue.as_str()).collect::<Vec<_>>())
        .bind(shares.iter().map(|share| share.lane.namespace.as_str()).collect::<Vec<_>>())
        .bind(shares.iter().map(|share| At(share.after.0)).collect::<Vec<_>>())
        .bind(shares.iter().map(|share| share.after.1.0).collect::<Vec<_>>())
        .bind(shares.iter().map(|share| share.most).collect::<Vec<_>>())
        .bind(At(now))
}

/// Locks of each lane the first runs that are due at `now` and that nobody else has locked, up to its share.
pub(super) async fn lock(database: impl sqlx::PgExecutor<'_>, shares: &[Share], now: Timestamp) -> Result<Vec<Locked>> {
    let query = sqlx::query_as(due_in_lanes!(locked_columns!(), "FOR UPDATE SKIP LOCKED"));
    let rows: Vec<LockedRow> =
        bind_shares(query, shares, now).fetch_all(database).await.map_err(step("lock what is due"))?;
    all(rows)
}

/// The same, locked or not, and locks none.
pub(super) async fn see(database: impl sqlx::PgExecutor<'_>, shares: &[Share], now: Timestamp) -> Result<Vec<Seen>> {
    let query = sqlx::query_as(due_in_lanes!(
        "SELECT d.id, d.namespace, d.queue, d.priority, d.phase_at, d.sends, d.expires_at,
                d.concurrency_key IS NOT NULL OR d.rate_key IS NOT NULL AS is_limited,
                w.job, w.schedule, w.due_at, w.origin ",
        ""
    ));
    let rows: Vec<SeenRow> =
        bind_shares(query, shares, now).fetch_all(database).await.map_err(step("look for due runs"))?;
    rows.into_iter().map(|row| row.seen(now)).collect()
}

/// What is due in lanes up to a position in each: of which of them, and which run.
pub(super) async fn until(
    database: impl sqlx::PgExecutor<'_>,
    lines: &[(&Lane, Position)],
) -> Result<Vec<(usize, WorkRequestId)>> {
    let query = sqlx::query_as(due_until!("l.number, d.id"));
    let due: Vec<(i64, Uuid)> =
        bind_lines(query, lines).fetch_all(database).await.map_err(step("look what is due still"))?;
    Ok(due.into_iter().map(|(line, id)| (usize::try_from(line - 1).unwrap_or(0), WorkRequestId(id))).collect())
}

/// How many these are.
pub(super) async fn count_until(database: impl sqlx::PgExecutor<'_>, lines: &[(&Lane, Position)]) -> Result<i64> {
    let query = sqlx::query_as(due_until!("count(*)"));
    let (count,) = bind_lines(query, lines).fetch_one(database).await.map_err(step("count what is due still"))?;
    Ok(count)
}
