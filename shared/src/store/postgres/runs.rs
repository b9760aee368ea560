//! Batches of runs: arrays in, one statement per table.

use std::collections::HashSet;

use async_trait::async_trait;

use super::{PgTx, due, keep};
use crate::state::Hold;
use crate::store::accept::NewWorkRequest;
use crate::store::database::{Runs, Which};
use crate::store::reads::LOCKED;
use crate::store::reads::prelude::*;
use crate::store::reports::Progress;
use crate::store::rows::{LockedRow, priority_column, stream_column};
use crate::store::transition::Locked;

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
                query.push("WHERE d.phase = 'due' AND d.id = ANY(").push_bind(ids);
                query.push(") FOR UPDATE OF d SKIP LOCKED");
            }
            Which::OfSchedules([]) => return Ok(Vec::new()),
            Which::OfSchedules(keys) => {
                let ids = self.lock_runs_of(keys).await?;
                query.push("WHERE d.id = ANY(").push_bind(ids).push(") ORDER BY d.id");
            }
            Which::Due { shares } => {
                return due::lock(&mut *self.tx, shares, self.now).await;
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

    async fn save(&mut self, rows: &[&Locked]) -> Result<()> {
        keep::save(&mut *self.tx, rows, self.now).await
    }

    async fn insert_requests(&mut self, requests: &[NewWorkRequest]) -> Result<()> {
        if !requests.is_empty() {
            keep::insert(&mut *self.tx, requests, Some(self.now)).await?;
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
