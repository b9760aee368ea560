//! Batches of schedules, fires and definitions: one prepared statement per row, all in one transaction.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::SqliteTx;
use crate::store::database::Plans;
use crate::store::fires::{CursorMove, FireOutcome};
use crate::store::reads::prelude::*;
use crate::work_request::Origin;

#[async_trait]
impl Plans for SqliteTx {
    async fn hold(&mut self, generation: Generation) -> Result<bool> {
        let last: i64 = sqlx::query_scalar("SELECT generation FROM leader")
            .fetch_one(&mut *self.tx)
            .await
            .map_err(step("check leadership"))?;
        Ok(last == generation.0)
    }

    async fn move_cursors(&mut self, moves: &[CursorMove]) -> Result<HashSet<ScheduleKey>> {
        let mut moved = HashSet::with_capacity(moves.len());
        for step_to in moves {
            let done = sqlx::query(
                "UPDATE schedules SET cursor = $5, next_due_at = $6
                 WHERE namespace = $1 AND name = $2 AND version = $3 AND cursor = $4",
            )
            .bind(&step_to.key.namespace)
            .bind(&step_to.key.name)
            .bind(step_to.version)
            .bind(At(step_to.from))
            .bind(At(step_to.to))
            .bind(step_to.next_due_at.map(At))
            .execute(&mut *self.tx)
            .await
            .map_err(step("move cursors"))?;
            if done.rows_affected() == 1 {
                moved.insert(step_to.key.clone());
            }
        }
        Ok(moved)
    }

    async fn running(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, WorkRequestId>> {
        let mut running = HashMap::new();
        for key in keys {
            let id: Option<Uuid> =
                sqlx::query_scalar("SELECT id FROM deliveries WHERE namespace = $1 AND schedule = $2 LIMIT 1")
                    .bind(&key.namespace)
                    .bind(&key.name)
                    .fetch_optional(&mut *self.tx)
                    .await
                    .map_err(step("look for unended runs"))?;
            running.extend(id.map(|id| (key.clone(), WorkRequestId(id))));
        }
        Ok(running)
    }

    async fn decided(&mut self, dues: &[(&ScheduleKey, Timestamp)]) -> Result<HashSet<(ScheduleKey, Timestamp)>> {
        let mut decided = HashSet::new();
        for (key, due_at) in dues {
            let last: Option<At> = sqlx::query_scalar(
                "SELECT last_due_at FROM fires
                 WHERE namespace = $1 AND schedule = $2 AND origin = $3 AND due_at <= $4 ORDER BY due_at DESC LIMIT 1",
            )
            .bind(&key.namespace)
            .bind(&key.name)
            .bind(Origin::Schedule.as_str())
            .bind(At(*due_at))
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(step("look for earlier decisions"))?;
            if last.is_some_and(|last| last.0 >= *due_at) {
                decided.insert(((*key).clone(), *due_at));
            }
        }
        Ok(decided)
    }

    async fn insert_fires(&mut self, fires: &[Fire]) -> Result<Vec<usize>> {
        let mut inserted = Vec::with_capacity(fires.len());
        for (at, fire) in fires.iter().enumerate() {
            let (reason, detail, ids) = match &fire.outcome {
                FireOutcome::Triggered(ids) => (None, None, ids.iter().map(|id| id.0).collect()),
                FireOutcome::Skipped(reason, detail) => (Some(reason.as_str()), Some(detail), Vec::new()),
            };
            let done = sqlx::query(
                "INSERT INTO fires (namespace, schedule, origin, due_at, last_due_at, count, reason, detail,
                                    work_requests, version, decided_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
            )
            .bind(&fire.key.namespace)
            .bind(&fire.key.name)
            .bind(fire.origin.as_str())
            .bind(At(fire.due_at))
            .bind(At(fire.last_due_at))
            .bind(fire.count)
            .bind(reason)
            .bind(detail)
            .bind(Json(ids))
            .bind(fire.version)
            .bind(At(fire.decided_at))
            .execute(&mut *self.tx)
            .await
            .map_err(step("record fires"))?;
            if done.rows_affected() == 1 {
                inserted.push(at);
            }
        }
        Ok(inserted)
    }

    async fn last_job_versions(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, i64>> {
        let mut versions = HashMap::new();
        for key in keys {
            let last: Option<i64> =
                sqlx::query_scalar("SELECT max(version) FROM job_versions WHERE namespace = $1 AND name = $2")
                    .bind(&key.namespace)
                    .bind(&key.name)
                    .fetch_one(&mut *self.tx)
                    .await
                    .map_err(step("read the last versions of jobs"))?;
            versions.extend(last.map(|last| (key.clone(), last)));
        }
        Ok(versions)
    }

    async fn last_schedule_versions(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, i64>> {
        let mut versions = HashMap::new();
        for key in keys {
            let last: Option<i64> =
                sqlx::query_scalar("SELECT max(version) FROM fires WHERE namespace = $1 AND schedule = $2")
                    .bind(&key.namespace)
                    .bind(&key.name)
                    .fetch_one(&mut *self.tx)
                    .await
                    .map_err(step("read the last versions of schedules"))?;
            versions.extend(last.map(|last| (key.clone(), last)));
        }
        Ok(versions)
    }

    async fn put_jobs(&mut self, jobs: &[Versioned<&Job>]) -> Result<()> {
        for Versioned { version, item } in jobs {
            sqlx::query(
                "INSERT INTO job_versions (namespace, name, version, spec, created_at) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(&item.namespace)
            .bind(&item.name)
            .bind(version)
            .bind(Json(item))
            .bind(At(self.now))
            .execute(&mut *self.tx)
            .await
            .map_err(step("put jobs in force"))?;
            sqlx::query(
                "INSERT INTO jobs (namespace, name, version) VALUES ($1, $2, $3)
                 ON CONFLICT (namespace, name) DO UPDATE SET version = excluded.version",
            )
            .bind(&item.namespace)
            .bind(&item.name)
            .bind(version)
            .execute(&mut *self.tx)
            .await
            .map_err(step("put jobs in force"))?;
        }
        Ok(())
    }

    async fn remove_jobs(&mut self, keys: &[ScheduleKey]) -> Result<()> {
        for key in keys {
            sqlx::query("DELETE FROM jobs WHERE namespace = $1 AND name = $2")
                .bind(&key.namespace)
                .bind(&key.name)
                .execute(&mut *self.tx)
                .await
                .map_err(step("put jobs out of force"))?;
        }
        Ok(())
    }

    async fn put_schedules(&mut self, rows: &[ScheduleRow]) -> Result<()> {
        for row in rows {
            sqlx::query(
                "INSERT INTO schedules (namespace, name, version, spec, cursor, next_due_at)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (namespace, name) DO UPDATE
                 SET version = excluded.version, spec = excluded.spec, cursor = excluded.cursor,
                     next_due_at = excluded.next_due_at",
            )
            .bind(&row.schedule.namespace)
            .bind(&row.schedule.name)
            .bind(row.version)
            .bind(Json(&row.schedule))
            .bind(At(row.cursor))
            .bind(row.next_due_at.map(At))
            .execute(&mut *self.tx)
            .await
            .map_err(step("put schedules in force"))?;
        }
        Ok(())
    }

    async fn remove_schedules(&mut self, keys: &[ScheduleKey]) -> Result<()> {
        for key in keys {
            sqlx::query("DELETE FROM schedules WHERE namespace = $1 AND name = $2")
                .bind(&key.namespace)
                .bind(&key.name)
                .execute(&mut *self.tx)
                .await
                .map_err(step("put schedules out of force"))?;
        }
        Ok(())
    }
}
