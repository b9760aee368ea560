//! Batches of runs: one prepared statement per row, all in one transaction.

use std::collections::HashSet;

use async_trait::async_trait;

use super::SqliteTx;
use crate::state::Hold;
use crate::store::accept::NewWorkRequest;
use crate::store::database::{Runs, Which};
use crate::store::fair::Share;
use crate::store::reads::LOCKED;
use crate::store::reads::prelude::*;
use crate::store::reports::Progress;
use crate::store::rows::{LockedRow, phase_columns, priority_column, seq, stream_column};
use crate::store::texts::clean;
use crate::store::transition::Locked;
use crate::work_request::{Happening, Origin};

#[async_trait]
impl Runs for SqliteTx {
    async fn lock(&mut self, which: Which<'_>) -> Result<Vec<Locked>> {
        // The transaction is the only writer, so that reading is locking.
        let mut rows: Vec<LockedRow> = Vec::new();
        match which {
            Which::Ids(ids) | Which::Free(ids) => {
                for id in ids {
                    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(LOCKED);
                    query.push("WHERE d.id = ").push_bind(id);
                    if matches!(which, Which::Free(_)) {
                        query.push(" AND d.phase = 'due'");
                    }
                    let row = query.build_query_as().fetch_optional(&mut *self.tx).await;
                    rows.extend(row.map_err(step("lock work requests"))?);
                }
            }
            Which::OfSchedules(keys) => {
                for key in keys {
                    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(LOCKED);
                    query.push("WHERE d.namespace = ").push_bind(&key.namespace);
                    query.push(" AND d.schedule = ").push_bind(&key.name).push(" ORDER BY d.id");
                    let of_one: Vec<LockedRow> =
                        query.build_query_as().fetch_all(&mut *self.tx).await.map_err(step("lock work requests"))?;
                    rows.extend(of_one);
                }
            }
            Which::Due { shares } => {
                for Share { lane, taken, most, .. } in shares {
                    let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(LOCKED);
                    query.push("WHERE d.phase = 'due' AND d.priority = ");
                    query.push_bind(priority_column(lane.route.priority));
                    query.push(" AND d.queue = ").push_bind(&lane.route.queue);
                    query.push(" AND d.namespace = ").push_bind(&lane.namespace);
                    query
                        .push(" AND d.phase_at <= ")
                        .push_bind(At(self.now))
                        .push(" ORDER BY d.phase_at, d.rowid LIMIT ");
                    query.push_bind(most).push(" OFFSET ").push_bind(taken);
                    let due: Vec<LockedRow> =
                        query.build_query_as().fetch_all(&mut *self.tx).await.map_err(step("lock work requests"))?;
                    rows.extend(due);
                }
            }
            Which::Parked { limit } => {
                let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(LOCKED);
                query.push("WHERE d.phase = 'parked' AND d.phase_at <= ").push_bind(At(self.now));
                query.push(" ORDER BY d.phase_at LIMIT ").push_bind(limit);
                let parked = query.build_query_as().fetch_all(&mut *self.tx).await;
                rows = parked.map_err(step("lock work requests"))?;
            }
            Which::Held { key, hold, limit } => {
                let column = if hold == Hold::Rate { "d.rate_key" } else { "d.concurrency_key" };
                let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(LOCKED);
                query.push("WHERE d.phase = 'held' AND d.hold = '").push(hold.as_str()).push("' AND ");
                query.push(column).push(" = ").push_bind(key);
                query.push(" ORDER BY d.priority, d.id LIMIT ").push_bind(limit);
                let held = query.build_query_as().fetch_all(&mut *self.tx).await;
                rows = held.map_err(step("lock work requests"))?;
            }
            Which::Expired { limit } => {
                let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(LOCKED);
                query.push("WHERE d.expires_at IS NOT NULL AND d.attempt = 0 AND d.expires_at <= ");
                query.push_bind(At(self.now)).push(" ORDER BY d.expires_at LIMIT ").push_bind(limit);
                let expired = query.build_query_as().fetch_all(&mut *self.tx).await;
                rows = expired.map_err(step("lock work requests"))?;
            }
            Which::Sent { route, from, until, patience, limit } => {
                let micros = i64::try_from(patience.as_micros()).unwrap_or(i64::MAX);
                let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new(LOCKED);
                query.push("WHERE d.phase = 'sent' AND d.queue = ").push_bind(&route.queue);
                query.push(" AND d.priority = ").push_bind(priority_column(route.priority));
                query.push(" AND d.phase_at > ").push_bind(At(from)).push(" AND d.phase_at <= ").push_bind(At(until));
                query.push(" AND d.phase_at <= ").push_bind(At(self.now)).push(" - ");
                query.push_bind(micros).push(" * (1 << min(d.resends, 10))");
                query.push(" ORDER BY d.phase_at LIMIT ").push_bind(limit);
                let sent = query.build_query_as().fetch_all(&mut *self.tx).await;
                rows = sent.map_err(step("lock work requests"))?;
            }
        }
        all(rows)
    }

    async fn save(&mut self, rows: &[&Locked]) -> Result<()> {
        for row in rows {
            self.save_delivery(row).await?;
            if row.is_public() {
                self.save_public(row).await?;
            }
            for (seq, what) in &row.events {
                self.insert_event(row.id, *seq, what).await?;
            }
        }
        Ok(())
    }

    async fn insert_requests(&mut self, requests: &[NewWorkRequest]) -> Result<()> {
        for request in requests {
            let fire = request.fire.as_ref();
            sqlx::query(
                "INSERT INTO work_requests (id, namespace, job, job_version, queue, schedule, due_at, origin, status,
                                            input, resource, accepted_at, chained_from, parent, retry_of)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'ACCEPTED', $9, $10, $11, $12, $13, $14)",
            )
            .bind(request.id.0)
            .bind(&request.namespace)
            .bind(&request.job)
            .bind(request.job_version)
            .bind(&request.queue)
            .bind(fire.map(|fire| fire.schedule.as_str()))
            .bind(fire.map(|fire| At(fire.due_at)))
            .bind(fire.map(|fire| fire.origin.to_string()))
            .bind(Json(clean(&request.input)))
            .bind(request.resource.as_ref().map(|json| Json(clean(json))))
            .bind(At(self.now))
            .bind(request.chained_from.map(|id| id.0))
            .bind(request.parent.map(|id| id.0))
            .bind(request.retry_of.map(|id| id.0))
            .execute(&mut *self.tx)
            .await
            .map_err(step("insert work requests"))?;
            let history = request.history();
            sqlx::query(
                "INSERT INTO deliveries (id, namespace, queue, schedule, phase_at, timeout_ms, origin, phase, seq, follow,
                                         sends, hold, priority, concurrency_key, rate_key, expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, CASE WHEN $8 = 'held' THEN 'overlap' END, $12,
                         $13, $14, $15)",
            )
            .bind(request.id.0)
            .bind(&request.namespace)
            .bind(&request.queue)
            .bind(fire.map(|fire| fire.schedule.as_str()))
            .bind(At(request.due_at(self.now)))
            .bind(millis(request.timeout.get()))
            .bind(fire.map_or(Origin::Manual, |fire| fire.origin.clone()).to_string())
            .bind(request.phase().0)
            .bind(seq(history.len()))
            .bind(request.follow)
            .bind(request.phase().1)
            .bind(priority_column(request.priority))
            .bind(request.concurrency.as_ref().map(|limit| limit.key.as_str()))
            .bind(request.rate.as_ref().map(|limit| limit.key.as_str()))
            .bind(request.expires_at(self.now).map(At))
            .execute(&mut *self.tx)
            .await
            .map_err(step("insert deliveries"))?;
            for (what, n) in history.iter().zip(1..) {
                self.insert_event(request.id, n, what).await?;
            }
        }
        Ok(())
    }

    async fn holding(&mut self, keys: &[ScheduleKey]) -> Result<Vec<ScheduleKey>> {
        let mut holding = Vec::new();
        for key in keys {
            let any: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM deliveries WHERE phase = 'held' AND coalesce(hold, 'overlap') = 'overlap'
                                AND namespace = $1 AND schedule = $2)",
            )
            .bind(&key.namespace)
            .bind(&key.name)
            .fetch_one(&mut *self.tx)
            .await
            .map_err(step("look for held fires"))?;
            holding.extend(any.then(|| key.clone()));
        }
        Ok(holding)
    }

    async fn take_out(&mut self, numbers: &[i64]) -> Result<()> {
        for number in numbers {
            sqlx::query("DELETE FROM outbox WHERE number = $1")
                .bind(number)
                .execute(&mut *self.tx)
                .await
                .map_err(step("take out what was told"))?;
        }
        Ok(())
    }

    async fn take_follow_ups(&mut self, ids: &[Uuid]) -> Result<HashSet<Uuid>> {
        let mut taken = HashSet::new();
        for id in ids {
            let done = sqlx::query("DELETE FROM follow_ups WHERE work_request_id = $1")
                .bind(id)
                .execute(&mut *self.tx)
                .await
                .map_err(step("take what has ended"))?;
            if done.rows_affected() == 1 {
                taken.insert(*id);
            }
        }
        Ok(taken)
    }

    async fn ended_under(&mut self, pairs: &[(Uuid, Uuid)]) -> Result<HashSet<(Uuid, Uuid)>> {
        let mut ended = HashSet::new();
        for (id, token) in pairs {
            let known: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM events WHERE work_request_id = $1 AND what ->> 'token' = $2)",
            )
            .bind(id)
            .bind(token.to_string())
            .fetch_one(&mut *self.tx)
            .await
            .map_err(step("look for earlier reports"))?;
            if known {
                ended.insert((*id, *token));
            }
        }
        Ok(ended)
    }

    async fn save_progress(&mut self, progress: &[Progress]) -> Result<()> {
        for progress in progress {
            sqlx::query(
                "UPDATE work_requests SET percent = max(percent, $3), message = coalesce($4, message)
                 WHERE id = $1 AND EXISTS (SELECT 1 FROM deliveries WHERE id = $1 AND token = $2)",
            )
            .bind(progress.id.0)
            .bind(progress.token)
            .bind(f64::from(progress.percent))
            .bind(progress.message.as_deref())
            .execute(&mut *self.tx)
            .await
            .map_err(step("save progress"))?;
        }
        Ok(())
    }

    async fn append_logs(&mut self, lines: &[(WorkRequestId, LogLine)]) -> Result<()> {
        for (id, line) in lines {
            sqlx::query(
                "INSERT INTO logs (work_request_id, attempt, seq, at, stream, text) VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT DO NOTHING",
            )
            .bind(id.0)
            .bind(number(line.attempt))
            .bind(line.seq)
            .bind(At(line.at))
            .bind(stream_column(line.stream))
            .bind(line.text.replace('\0', "\u{fffd}"))
            .execute(&mut *self.tx)
            .await
            .map_err(step("append logs"))?;
        }
        Ok(())
    }
}

impl SqliteTx {
    async fn save_delivery(&mut self, row: &Locked) -> Result<()> {
        if row.is_done() {
            sqlx::query("DELETE FROM deliveries WHERE id = $1")
                .bind(row.id.0)
                .execute(&mut *self.tx)
                .await
                .map_err(step("end deliveries"))?;
            return Ok(());
        }
        let parts = phase_columns(&row.run);
        let operation = row.operation();
        sqlx::query(
            "UPDATE deliveries
             SET phase = $2, phase_at = $3, token = $4, worker = $5, sends = $6, resends = $7, attempt = $8,
                 failures = $9, seq = $10, follow = $11, hold = $12, doubt = $13, attempt_until = $14,
                 operation_token = $15, operation = $16
             WHERE id = $1",
        )
        .bind(row.id.0)
        .bind(parts.phase)
        .bind(parts.at)
        .bind(parts.token)
        .bind(parts.worker)
        .bind(number(row.run.sends))
        .bind(row.resends)
        .bind(number(row.run.attempt))
        .bind(number(row.run.failures))
        .bind(row.seq)
        .bind(row.follow)
        .bind(parts.hold)
        .bind(row.run.doubt)
        .bind(parts.attempt_until)
        .bind(operation.map(|(token, _)| token))
        .bind(operation.and_then(|(_, notes)| notes).map(Json))
        .execute(&mut *self.tx)
        .await
        .map_err(step("move deliveries"))?;
        Ok(())
    }

    async fn save_public(&mut self, row: &Locked) -> Result<()> {
        sqlx::query(
            "UPDATE work_requests
             SET status = $2, attempt = $3,
                 error_code = CASE WHEN $2 <> 'SUCCEEDED' THEN coalesce($4, error_code) END,
                 error_message = CASE WHEN $2 <> 'SUCCEEDED' THEN coalesce($5, error_message) END,
                 output = coalesce($6, output), took_ms = coalesce($9, took_ms),
                 percent = CASE WHEN $2 = 'SUCCEEDED' THEN 100 ELSE percent END,
                 started_at = coalesce(started_at, CASE WHEN $3 > 0 OR $2 = 'IN_PROGRESS' THEN $7 END),
                 finished_at = CASE WHEN $8 THEN $7 END
             WHERE id = $1",
        )
        .bind(row.id.0)
        .bind(row.run.status.as_str())
        .bind(number(row.run.attempt))
        .bind(row.error.as_ref().map(|error| error.code.as_str()))
        .bind(row.error.as_ref().map(|error| error.message.as_str()))
        .bind(row.output.as_ref().map(Json))
        .bind(At(self.now))
        .bind(row.run.status.is_terminal())
        .bind(row.took.map(millis))
        .execute(&mut *self.tx)
        .await
        .map_err(step("update work requests"))?;
        Ok(())
    }

    async fn insert_event(&mut self, id: WorkRequestId, seq: i32, what: &Happening) -> Result<()> {
        sqlx::query("INSERT INTO events (work_request_id, seq, at, what) VALUES ($1, $2, $3, $4)")
            .bind(id.0)
            .bind(seq)
            .bind(At(self.now))
            .bind(Json(what))
            .execute(&mut *self.tx)
            .await
            .map_err(step("append to histories"))?;
        Ok(())
    }
}
