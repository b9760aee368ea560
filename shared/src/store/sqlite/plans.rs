//! Batches of schedules, fires and definitions: one prepared statement per row, all in one transaction.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::SqliteTx;
use crate::store::changes::Change;
use crate::store::database::Plans;
use crate::store::fires::CursorMove;
use crate::store::reads::prelude::*;
use crate::work_request::Origin;

#[async_trait]
impl Plans for SqliteTx {
    async fn leading(&mut self) -> Result<Generation> {
        sqlx::query_scalar("SELECT generation FROM leader")
            .fetch_one(&mut *self.tx)
            .await
            .map(Generation)
            .map_err(step("check leadership"))
    }

    async fn lock_schedules(&mut self, keys: &[ScheduleKey]) -> Result<Vec<ScheduleRow>> {
        let mut rows: Vec<ScheduleDbRow> = Vec::new();
        for key in keys {
            let row = sqlx::query_as(
                "SELECT spec, version, cursor, next_due_at, fired, failures, paused_at, paused_by, pause_reason
                 FROM schedules WHERE namespace = $1 AND name = $2",
            )
            .bind(&key.namespace)
            .bind(&key.name)
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(step("lock schedules"))?;
            rows.extend(row);
        }
        all(rows)
    }

    async fn jobs_in_force(&mut self, keys: &[ScheduleKey]) -> Result<Vec<Versioned<Job>>> {
        let mut rows: Vec<VersionedJobRow> = Vec::new();
        for key in keys {
            let row = sqlx::query_as(
                "SELECT v.version, v.spec FROM jobs j JOIN job_versions v USING (namespace, name, version)
                 WHERE namespace = $1 AND name = $2",
            )
            .bind(&key.namespace)
            .bind(&key.name)
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(step("read jobs"))?;
            rows.extend(row);
        }
        all(rows)
    }

    async fn move_cursors(&mut self, moves: &[CursorMove]) -> Result<HashSet<ScheduleKey>> {
        let mut moved = HashSet::with_capacity(moves.len());
        for step_to in moves {
            let done = sqlx::query(
                "UPDATE schedules SET cursor = $5, next_due_at = $6
                 WHERE namespace = $1 AND name = $2 AND version = $3 AND cursor = $4 AND paused_at IS NULL",
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

    async fn count_fired(&mut self, counts: &[(ScheduleKey, u64, bool)]) -> Result<()> {
        for (key, fired, exhausted) in counts {
            sqlx::query(
                "UPDATE schedules SET fired = $3, next_due_at = CASE WHEN $4 THEN NULL ELSE next_due_at END
                 WHERE namespace = $1 AND name = $2",
            )
            .bind(&key.namespace)
            .bind(&key.name)
            .bind(i64::try_from(*fired).unwrap_or(i64::MAX))
            .bind(exhausted)
            .execute(&mut *self.tx)
            .await
            .map_err(step("count fires"))?;
        }
        Ok(())
    }

    async fn running(&mut self, keys: &[(ScheduleKey, bool)]) -> Result<HashMap<ScheduleKey, WorkRequestId>> {
        let mut running = HashMap::new();
        for (key, manual) in keys {
            let id: Option<Uuid> = sqlx::query_scalar(
                "SELECT id FROM deliveries WHERE namespace = $1 AND schedule = $2
                 AND (origin = 'schedule' OR $3 AND origin = 'manual') LIMIT 1",
            )
            .bind(&key.namespace)
            .bind(&key.name)
            .bind(manual)
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
            .bind(Origin::Schedule.to_string())
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

    async fn extend_fires(&mut self, skips: &[Fire]) -> Result<HashSet<(ScheduleKey, Timestamp)>> {
        let mut extended = HashSet::new();
        for skip in skips {
            let (reason, detail, _) = skip.outcome.columns();
            let done = sqlx::query(
                "UPDATE fires SET last_due_at = $5, count = count + $6
                 WHERE namespace = $1 AND schedule = $2 AND origin = $3
                   AND due_at = (SELECT max(due_at) FROM fires
                                 WHERE namespace = $1 AND schedule = $2 AND origin = $3 AND due_at < $4)
                   AND reason = $7 AND detail = $8 AND version = $9",
            )
            .bind(&skip.key.namespace)
            .bind(&skip.key.name)
            .bind(skip.origin.to_string())
            .bind(At(skip.due_at))
            .bind(At(skip.last_due_at))
            .bind(skip.count)
            .bind(reason)
            .bind(detail)
            .bind(skip.version)
            .execute(&mut *self.tx)
            .await
            .map_err(step("lengthen stretches of skips"))?;
            if done.rows_affected() == 1 {
                extended.insert((skip.key.clone(), skip.due_at));
            }
        }
        Ok(extended)
    }

    async fn insert_fires(&mut self, fires: &[Fire]) -> Result<usize> {
        let mut inserted = 0;
        for fire in fires {
            let (reason, detail, ids) = fire.outcome.columns();
            let done = sqlx::query(
                "INSERT INTO fires (namespace, schedule, origin, due_at, last_due_at, count, reason, detail,
                                    work_requests, version, decided_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
            )
            .bind(&fire.key.namespace)
            .bind(&fire.key.name)
            .bind(fire.origin.to_string())
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
            inserted += usize::from(done.rows_affected() == 1);
        }
        Ok(inserted)
    }

    async fn insert_changes(&mut self, changes: &[Change<'_>]) -> Result<()> {
        for change in changes {
            sqlx::query(
                "INSERT INTO changes (namespace, kind, name, version, action, actor, reason, spec, at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            )
            .bind(&change.key.namespace)
            .bind(change.kind.as_str())
            .bind(&change.key.name)
            .bind(change.version)
            .bind(change.action.as_str())
            .bind(change.actor)
            .bind(change.reason)
            .bind(change.spec.map(Json))
            .bind(At(self.now))
            .execute(&mut *self.tx)
            .await
            .map_err(step("record changes"))?;
        }
        Ok(())
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
            let last: Option<i64> = sqlx::query_scalar(
                "SELECT max(version) FROM changes WHERE namespace = $1 AND kind = 'schedule' AND name = $2",
            )
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
                "INSERT INTO schedules (namespace, name, version, spec, cursor, next_due_at, fired, failures, paused_at,
                                        paused_by, pause_reason)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
                 ON CONFLICT (namespace, name) DO UPDATE
                 SET version = excluded.version, spec = excluded.spec, cursor = excluded.cursor,
                     next_due_at = excluded.next_due_at, fired = excluded.fired, failures = excluded.failures,
                     paused_at = excluded.paused_at, paused_by = excluded.paused_by,
                     pause_reason = excluded.pause_reason",
            )
            .bind(&row.schedule.namespace)
            .bind(&row.schedule.name)
            .bind(row.version)
            .bind(Json(&row.schedule))
            .bind(At(row.cursor))
            .bind(row.next_due_at.map(At))
            .bind(i64::try_from(row.fired).unwrap_or(i64::MAX))
            .bind(number(row.failures))
            .bind(row.pause.as_ref().map(|pause| At(pause.at)))
            .bind(row.pause.as_ref().map(|pause| pause.by.as_str()))
            .bind(row.pause.as_ref().and_then(|pause| pause.reason.as_deref()))
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
