//! Batches of schedules, fires and definitions: arrays in, one statement per table.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::PgTx;
use crate::store::changes::Change;
use crate::store::database::Plans;
use crate::store::fires::CursorMove;
use crate::store::reads::prelude::*;
use crate::work_request::Origin;

fn names(keys: &[ScheduleKey]) -> (Vec<&str>, Vec<&str>) {
    keys.iter().map(|key| (key.namespace.as_str(), key.name.as_str())).unzip()
}

#[async_trait]
impl Plans for PgTx {
    async fn leading(&mut self) -> Result<Generation> {
        // The lock makes whoever deposes this leader wait for the transaction, and lets the leader's own writes follow
        // one another: definitions that are applied while fires are recorded must not put a cursor back.
        sqlx::query_scalar("SELECT generation FROM leader FOR NO KEY UPDATE")
            .fetch_one(&mut *self.tx)
            .await
            .map(Generation)
            .map_err(step("check leadership"))
    }

    async fn lock_schedules(&mut self, keys: &[ScheduleKey]) -> Result<Vec<ScheduleRow>> {
        let (namespaces, names) = names(keys);
        let rows: Vec<ScheduleDbRow> = sqlx::query_as(
            "SELECT s.spec, s.version, s.cursor, s.next_due_at, s.fired, s.failures, s.paused_at, s.paused_by,
                    s.pause_reason
             FROM schedules s
             JOIN unnest($1::text[], $2::text[]) AS u (namespace, name) ON u.namespace = s.namespace AND u.name = s.name
             ORDER BY s.namespace, s.name FOR NO KEY UPDATE OF s",
        )
        .bind(namespaces)
        .bind(names)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("lock schedules"))?;
        all(rows)
    }

    async fn jobs_in_force(&mut self, keys: &[ScheduleKey]) -> Result<Vec<Versioned<Job>>> {
        let (namespaces, names) = names(keys);
        let rows: Vec<VersionedJobRow> = sqlx::query_as(
            "SELECT v.version, v.spec FROM unnest($1::text[], $2::text[]) AS u (namespace, name)
             JOIN jobs j USING (namespace, name) JOIN job_versions v USING (namespace, name, version)",
        )
        .bind(namespaces)
        .bind(names)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("read jobs"))?;
        all(rows)
    }

    async fn move_cursors(&mut self, moves: &[CursorMove]) -> Result<HashSet<ScheduleKey>> {
        // Locked before, in the order of their names: an UPDATE locks in the order of its plan.
        let keys: Vec<_> = moves.iter().map(|m| m.key.clone()).collect();
        let (namespaces, names) = names(&keys);
        sqlx::query(
            "SELECT 1 FROM schedules s
             JOIN unnest($1::text[], $2::text[]) AS u (namespace, name) ON u.namespace = s.namespace AND u.name = s.name
             ORDER BY s.namespace, s.name FOR NO KEY UPDATE OF s",
        )
        .bind(namespaces)
        .bind(names)
        .execute(&mut *self.tx)
        .await
        .map_err(step("lock schedules"))?;
        let moved: Vec<(String, String)> = sqlx::query_as(
            "UPDATE schedules s SET cursor = u.to_cursor, next_due_at = u.next_due_at
             FROM unnest($1::text[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[])
                  AS u (namespace, name, version, from_cursor, to_cursor, next_due_at)
             WHERE s.namespace = u.namespace AND s.name = u.name AND s.version = u.version AND s.cursor = u.from_cursor
                   AND s.paused_at IS NULL
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

    async fn count_fired(&mut self, counts: &[(ScheduleKey, u64, bool)]) -> Result<()> {
        if counts.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "UPDATE schedules s
             SET fired = u.fired, next_due_at = CASE WHEN u.exhausted THEN NULL ELSE s.next_due_at END
             FROM unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[]) AS u (namespace, name, fired, exhausted)
             WHERE s.namespace = u.namespace AND s.name = u.name",
        )
        .bind(counts.iter().map(|(key, ..)| key.namespace.as_str()).collect::<Vec<_>>())
        .bind(counts.iter().map(|(key, ..)| key.name.as_str()).collect::<Vec<_>>())
        .bind(counts.iter().map(|(_, fired, _)| i64::try_from(*fired).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .bind(counts.iter().map(|(.., exhausted)| *exhausted).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await
        .map_err(step("count fires"))?;
        Ok(())
    }

    async fn running(&mut self, keys: &[(ScheduleKey, bool)]) -> Result<HashMap<ScheduleKey, WorkRequestId>> {
        let rows: Vec<(String, String, Uuid)> = sqlx::query_as(
            "SELECT u.namespace, u.name, d.id
             FROM unnest($1::text[], $2::text[], $3::boolean[]) AS u (namespace, name, manual)
             CROSS JOIN LATERAL (SELECT id FROM deliveries
                                 WHERE namespace = u.namespace AND schedule = u.name
                                   AND (origin = 'schedule' OR u.manual AND origin = 'manual') LIMIT 1) d",
        )
        .bind(keys.iter().map(|(key, _)| key.namespace.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, manual)| *manual).collect::<Vec<_>>())
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
        .bind(Origin::Schedule.to_string())
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("look for earlier decisions"))?;
        Ok(rows.into_iter().map(|(namespace, name, at)| (ScheduleKey { namespace, name }, at.0)).collect())
    }

    async fn extend_fires(&mut self, skips: &[Fire]) -> Result<HashSet<(ScheduleKey, Timestamp)>> {
        let rows: Vec<(String, String, At)> = sqlx::query_as(
            "UPDATE fires f SET last_due_at = u.last_due_at, count = f.count + u.count
             FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bigint[],
                         $7::text[], $8::text[], $9::bigint[])
                  AS u (namespace, schedule, origin, due_at, last_due_at, count, reason, detail, version)
             WHERE f.namespace = u.namespace AND f.schedule = u.schedule AND f.origin = u.origin
               AND f.due_at = (SELECT max(p.due_at) FROM fires p
                               WHERE p.namespace = u.namespace AND p.schedule = u.schedule AND p.origin = u.origin
                                 AND p.due_at < u.due_at)
               AND f.reason = u.reason AND f.detail = u.detail AND f.version = u.version
             RETURNING u.namespace, u.schedule, u.due_at",
        )
        .bind(skips.iter().map(|fire| fire.key.namespace.as_str()).collect::<Vec<_>>())
        .bind(skips.iter().map(|fire| fire.key.name.as_str()).collect::<Vec<_>>())
        .bind(skips.iter().map(|fire| fire.origin.to_string()).collect::<Vec<_>>())
        .bind(skips.iter().map(|fire| At(fire.due_at)).collect::<Vec<_>>())
        .bind(skips.iter().map(|fire| At(fire.last_due_at)).collect::<Vec<_>>())
        .bind(skips.iter().map(|fire| fire.count).collect::<Vec<_>>())
        .bind(skips.iter().map(|fire| fire.outcome.columns().0).collect::<Vec<_>>())
        .bind(skips.iter().map(|fire| fire.outcome.columns().1).collect::<Vec<_>>())
        .bind(skips.iter().map(|fire| fire.version).collect::<Vec<_>>())
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("lengthen stretches of skips"))?;
        Ok(rows.into_iter().map(|(namespace, name, at)| (ScheduleKey { namespace, name }, at.0)).collect())
    }

    async fn insert_fires(&mut self, fires: &[Fire]) -> Result<usize> {
        if fires.is_empty() {
            return Ok(0);
        }
        let inserted = sqlx::query(
            "INSERT INTO fires (namespace, schedule, origin, due_at, last_due_at, count, reason, detail, work_requests,
                                version, decided_at)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[],
                                  $6::bigint[], $7::text[], $8::text[], $9::jsonb[], $10::bigint[], $11::timestamptz[])
             ON CONFLICT DO NOTHING",
        )
        .bind(fires.iter().map(|fire| fire.key.namespace.as_str()).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| fire.key.name.as_str()).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| fire.origin.to_string()).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| At(fire.due_at)).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| At(fire.last_due_at)).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| fire.count).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| fire.outcome.columns().0).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| fire.outcome.columns().1).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| Json(fire.outcome.columns().2)).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| fire.version).collect::<Vec<_>>())
        .bind(fires.iter().map(|fire| At(fire.decided_at)).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await
        .map_err(step("record fires"))?;
        Ok(usize::try_from(inserted.rows_affected()).unwrap_or(usize::MAX))
    }

    async fn insert_changes(&mut self, changes: &[Change<'_>]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO changes (namespace, kind, name, version, action, actor, reason, spec, at)
             SELECT u.*, $9
             FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::jsonb[])
                  AS u",
        )
        .bind(changes.iter().map(|change| change.key.namespace.as_str()).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| change.kind.as_str()).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| change.key.name.as_str()).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| change.version).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| change.action.as_str()).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| change.actor).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| change.reason).collect::<Vec<_>>())
        .bind(changes.iter().map(|change| change.spec.map(Json)).collect::<Vec<_>>())
        .bind(At(self.now))
        .execute(&mut *self.tx)
        .await
        .map_err(step("record changes"))?;
        Ok(())
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
             CROSS JOIN LATERAL (SELECT max(version) AS version FROM changes
                                 WHERE namespace = u.namespace AND kind = 'schedule' AND name = u.name) f
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
        let pause = |row: &ScheduleRow| row.pause.clone();
        sqlx::query(
            "INSERT INTO schedules (namespace, name, version, spec, cursor, next_due_at, fired, failures, paused_at,
                                    paused_by, pause_reason)
             SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::jsonb[], $5::timestamptz[],
                                  $6::timestamptz[], $7::bigint[], $8::integer[], $9::timestamptz[], $10::text[],
                                  $11::text[])
             ON CONFLICT (namespace, name) DO UPDATE
             SET version = excluded.version, spec = excluded.spec, cursor = excluded.cursor,
                 next_due_at = excluded.next_due_at, fired = excluded.fired, failures = excluded.failures,
                 paused_at = excluded.paused_at, paused_by = excluded.paused_by, pause_reason = excluded.pause_reason",
        )
        .bind(rows.iter().map(|row| row.schedule.namespace.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.schedule.name.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| Json(&row.schedule)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| At(row.cursor)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.next_due_at.map(At)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| i64::try_from(row.fired).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| number(row.failures)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| pause(row).map(|pause| At(pause.at))).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| pause(row).map(|pause| pause.by)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| pause(row).and_then(|pause| pause.reason)).collect::<Vec<_>>())
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
