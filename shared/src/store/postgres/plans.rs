//! Batches of schedules, fires and definitions: arrays in, one statement per table.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::PgTx;
use crate::store::database::Plans;
use crate::store::fires::{CursorMove, FireOutcome};
use crate::store::reads::prelude::*;
use crate::work_request::Origin;

fn names(keys: &[ScheduleKey]) -> (Vec<&str>, Vec<&str>) {
    keys.iter().map(|key| (key.namespace.as_str(), key.name.as_str())).unzip()
}

#[async_trait]
impl Plans for PgTx {
    async fn hold(&mut self, generation: Generation) -> Result<bool> {
        // The lock makes whoever deposes this leader wait for the transaction, and lets the leader's own writes follow
        // one another: definitions that are applied while fires are recorded must not put a cursor back.
        let last: i64 = sqlx::query_scalar("SELECT generation FROM leader FOR NO KEY UPDATE")
            .fetch_one(&mut *self.tx)
            .await
            .map_err(step("check leadership"))?;
        Ok(last == generation.0)
    }

    async fn move_cursors(&mut self, moves: &[CursorMove]) -> Result<HashSet<ScheduleKey>> {
        let moved: Vec<(String, String)> = sqlx::query_as(
            "UPDATE schedules s SET cursor = u.to_cursor, next_due_at = u.next_due_at
             FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[])
                  AS u (namespace, name, version, from_cursor, to_cursor, next_due_at)
             WHERE s.namespace = u.namespace AND s.name = u.name AND s.version = u.version AND s.cursor = u.from_cursor
             RETURNING s.namespace, s.name",
        )
        .bind(moves.iter().map(|m| m.key.namespace.as_str()).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.key.name.as_str()).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.version).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| At(m.from)).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| At(m.to)).collect::<Vec<_>>())
        .bind(moves.iter().map(|m| m.next_due_at.map(At)).collect::<Vec<_>>())
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("move cursors"))?;
        Ok(moved.into_iter().map(|(namespace, name)| ScheduleKey { namespace, name }).collect())
    }

    async fn running(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, WorkRequestId>> {
        let (namespaces, names) = names(keys);
        let rows: Vec<(String, String, Uuid)> = sqlx::query_as(
            "SELECT u.namespace, u.name, d.id
             FROM unnest($1::text[], $2::text[]) AS u (namespace, name)
             CROSS JOIN LATERAL (SELECT id FROM deliveries
                                 WHERE namespace = u.namespace AND schedule = u.name LIMIT 1) d",
        )
        .bind(namespaces)
        .bind(names)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("look for unended runs"))?;
        Ok(rows.into_iter().map(|(namespace, name, id)| (ScheduleKey { namespace, name }, WorkRequestId(id))).collect())
    }

    async fn decided(&mut self, dues: &[(&ScheduleKey, Timestamp)]) -> Result<HashSet<(ScheduleKey, Timestamp)>> {
        let rows: Vec<(String, String, At)> = sqlx::query_as(
            "SELECT u.namespace, u.name, u.due_at
             FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS u (namespace, name, due_at)
             CROSS JOIN LATERAL (SELECT last_due_at FROM fires f
                                 WHERE f.namespace = u.namespace AND f.schedule = u.name AND f.origin = $4
                                   AND f.due_at <= u.due_at
                                 ORDER BY f.due_at DESC LIMIT 1) f
             WHERE f.last_due_at >= u.due_at",
        )
        .bind(dues.iter().map(|(key, _)| key.namespace.as_str()).collect::<Vec<_>>())
        .bind(dues.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>())
        .bind(dues.iter().map(|(_, due_at)| At(*due_at)).collect::<Vec<_>>())
        .bind(Origin::Schedule.as_str())
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("look for earlier decisions"))?;
        Ok(rows.into_iter().map(|(namespace, name, at)| (ScheduleKey { namespace, name }, at.0)).collect())
    }

    async fn insert_fires(&mut self, fires: &[Fire]) -> Result<Vec<usize>> {
        if fires.is_empty() {
            return Ok(Vec::new());
        }
        let skip = |fire: &Fire| match &fire.outcome {
            FireOutcome::Triggered(_) => (None, None),
            FireOutcome::Skipped(reason, detail) => (Some(reason.as_str()), Some(detail.clone())),
        };
        let (reasons, details): (Vec<_>, Vec<_>) = fires.iter().map(skip).unzip();
        let work_requests = |fire: &Fire| match &fire.outcome {
            FireOutcome::Triggered(ids) => Json(ids.iter().map(|id| id.0).collect::<Vec<_>>()),
            FireOutcome::Skipped(..) => Json(Vec::new()),
        };
        let inserted: Vec<(String, String, String, At)> = sqlx::query_as(
            "INSERT INTO fires (namespace, schedule, origin, due_at, last_due_at, count, reason, detail, work_requests,
                                version, decided_at)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[],
                                  $6::bigint[], $7::text[], $8::text[], $9::jsonb[], $10::bigint[], $11::timestamptz[])
             ON CONFLICT DO NOTHING
             RETURNING namespace, schedule, origin, due_at",
        )
        .bind(fires.iter().map(|fire| fire.key.namespace.as_str()).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| fire.key.name.as_str()).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| fire.origin.as_str()).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| At(fire.due_at)).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| At(fire.last_due_at)).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| fire.count).collect::<Vec<_>>())
        .bind(reasons)
        .bind(details)
        .bind(fires.iter().map(work_requests).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| fire.version).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| At(fire.decided_at)).collect::<Vec<_>>())
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("record fires"))?;
        if inserted.len() == fires.len() {
            return Ok((0..fires.len()).collect());
        }
        let at: HashMap<_, _> = fires
            .iter()
            .enumerate()
            .map(|(at, fire)| ((&*fire.key.namespace, &*fire.key.name, fire.origin.as_str(), fire.due_at), at))
            .collect();
        Ok(inserted
            .iter()
            .filter_map(|(ns, name, origin, due)| at.get(&(&**ns, &**name, &**origin, due.0)).copied())
            .collect())
    }

    async fn last_job_versions(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, i64>> {
        let (namespaces, names) = names(keys);
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT u.namespace, u.name, v.version FROM unnest($1::text[], $2::text[]) AS u (namespace, name)
             CROSS JOIN LATERAL (SELECT max(version) AS version FROM job_versions
                                 WHERE namespace = u.namespace AND name = u.name) v
             WHERE v.version IS NOT NULL",
        )
        .bind(namespaces)
        .bind(names)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("read the last versions of jobs"))?;
        Ok(rows.into_iter().map(|(namespace, name, version)| (ScheduleKey { namespace, name }, version)).collect())
    }

    async fn last_schedule_versions(&mut self, keys: &[ScheduleKey]) -> Result<HashMap<ScheduleKey, i64>> {
        let (namespaces, names) = names(keys);
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT u.namespace, u.name, f.version FROM unnest($1::text[], $2::text[]) AS u (namespace, name)
             CROSS JOIN LATERAL (SELECT max(version) AS version FROM fires
                                 WHERE namespace = u.namespace AND schedule = u.name) f
             WHERE f.version IS NOT NULL",
        )
        .bind(namespaces)
        .bind(names)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("read the last versions of schedules"))?;
        Ok(rows.into_iter().map(|(namespace, name, version)| (ScheduleKey { namespace, name }, version)).collect())
    }

    async fn put_jobs(&mut self, jobs: &[Versioned<&Job>]) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "WITH u AS (
                 SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::jsonb[])
                               AS u (namespace, name, version, spec)
             ), kept AS (
                 INSERT INTO job_versions (namespace, name, version, spec, created_at)
                 SELECT namespace, name, version, spec, $5 FROM u
             )
             INSERT INTO jobs (namespace, name, version) SELECT namespace, name, version FROM u
             ON CONFLICT (namespace, name) DO UPDATE SET version = excluded.version",
        )
        .bind(jobs.iter().map(|job| job.item.namespace.as_str()).collect::<Vec<_>>())
        .bind(jobs.iter().map(|job| job.item.name.as_str()).collect::<Vec<_>>())
        .bind(jobs.iter().map(|job| job.version).collect::<Vec<_>>())
        .bind(jobs.iter().map(|job| Json(job.item)).collect::<Vec<_>>())
        .bind(At(self.now))
        .execute(&mut *self.tx)
        .await
        .map_err(step("put jobs in force"))?;
        Ok(())
    }

    async fn remove_jobs(&mut self, keys: &[ScheduleKey]) -> Result<()> {
        let (namespaces, names) = names(keys);
        sqlx::query(
            "DELETE FROM jobs j USING unnest($1::text[], $2::text[]) AS u (namespace, name)
             WHERE j.namespace = u.namespace AND j.name = u.name",
        )
        .bind(namespaces)
        .bind(names)
        .execute(&mut *self.tx)
        .await
        .map_err(step("put jobs out of force"))?;
        Ok(())
    }

    async fn put_schedules(&mut self, rows: &[ScheduleRow]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO schedules (namespace, name, version, spec, cursor, next_due_at)
             SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::jsonb[], $5::timestamptz[],
                                  $6::timestamptz[])
             ON CONFLICT (namespace, name) DO UPDATE
             SET version = excluded.version, spec = excluded.spec, cursor = excluded.cursor,
                 next_due_at = excluded.next_due_at",
        )
        .bind(rows.iter().map(|row| row.schedule.namespace.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.schedule.name.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| Json(&row.schedule)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| At(row.cursor)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.next_due_at.map(At)).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await
        .map_err(step("put schedules in force"))?;
        Ok(())
    }

    async fn remove_schedules(&mut self, keys: &[ScheduleKey]) -> Result<()> {
        let (namespaces, names) = names(keys);
        sqlx::query(
            "DELETE FROM schedules s USING unnest($1::text[], $2::text[]) AS u (namespace, name)
             WHERE s.namespace = u.namespace AND s.name = u.name",
        )
        .bind(namespaces)
        .bind(names)
        .execute(&mut *self.tx)
        .await
        .map_err(step("put schedules out of force"))?;
        Ok(())
    }
}
