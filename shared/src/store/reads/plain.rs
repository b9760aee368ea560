//! Single statements that write.

/// Implements [`super::super::database::Plain`] for a type with a transaction `tx` of database `$db` and an instant `now`;
/// `$for_share` is what keeps others from changing a row that was read.
macro_rules! impl_plain {
    ($tx:ty, $db:ty, $for_share:literal) => {
        #[async_trait::async_trait]
        impl $crate::store::database::Plain for $tx {
            async fn take_keys(&mut self, asked: &[&(IdempotencyKey, String)]) -> Result<HashSet<[String; 4]>> {
                let mut query = sqlx::QueryBuilder::<$db>::new(
                    "INSERT INTO idempotent_requests (namespace, caller, operation, key, fields, answer, taken_at) ",
                );
                query.push_values(asked, |mut row, (key, answer)| {
                    row.push_bind(&key.namespace).push_bind(&key.caller).push_bind(&key.operation).push_bind(&key.key);
                    row.push_bind(Json(&key.fields)).push_bind(answer).push_bind(At(self.now));
                });
                query.push(" ON CONFLICT DO NOTHING RETURNING namespace, caller, operation, key");
                // A text for each number of rows is none to keep.
                let taken: Vec<(String, String, String, String)> = query
                    .build_query_as()
                    .persistent(asked.len() == 1)
                    .fetch_all(&mut *self.tx)
                    .await
                    .map_err(step("take idempotency keys"))?;
                Ok(taken.into_iter().map(<[String; 4]>::from).collect())
            }

            async fn taken_for(&mut self, key: &IdempotencyKey) -> Result<TakenKey> {
                let (Json(fields), answer) = sqlx::query_as(TAKEN_KEY)
                    .bind(&key.namespace)
                    .bind(&key.caller)
                    .bind(&key.operation)
                    .bind(&key.key)
                    .fetch_one(&mut *self.tx)
                    .await
                    .map_err(step("read an idempotency key"))?;
                Ok((fields, answer))
            }

            async fn purge_keys(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
                let purged = sqlx::query(
                    "DELETE FROM idempotent_requests WHERE (namespace, caller, operation, key) IN
                     (SELECT namespace, caller, operation, key FROM idempotent_requests WHERE taken_at < $1 LIMIT $2)",
                )
                .bind(At(before))
                .bind(limit)
                .execute(&mut *self.tx)
                .await
                .map_err(step("forget idempotency keys"))?;
                Ok(purged.rows_affected())
            }

            async fn hold_backlog(&mut self, holder: Uuid, ttl: std::time::Duration) -> Result<bool> {
                let ttl = jiff::SignedDuration::try_from(ttl).unwrap_or(jiff::SignedDuration::MAX);
                let held = sqlx::query(
                    "UPDATE backlog SET holder = $1, held_until = $3
                     WHERE holder = $1 OR holder IS NULL OR held_until <= $2",
                )
                .bind(holder)
                .bind(At(self.now))
                .bind(At(self.now.saturating_add(ttl).unwrap_or(Timestamp::MAX)))
                .execute(&mut *self.tx)
                .await
                .map_err(step("hold the backlog"))?;
                Ok(held.rows_affected() == 1)
            }

            async fn leave_backlog(&mut self, holder: Uuid) -> Result<()> {
                sqlx::query("UPDATE backlog SET holder = NULL WHERE holder = $1")
                    .bind(holder)
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("leave the backlog"))?;
                Ok(())
            }

            async fn is_backlog_held(&mut self, besides: Uuid) -> Result<bool> {
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM backlog WHERE holder <> $1 AND held_until > $2)")
                    .bind(besides)
                    .bind(At(self.now))
                    .fetch_one(&mut *self.tx)
                    .await
                    .map_err(step("look who holds the backlog"))
            }

            async fn lead(&mut self, holder: Uuid, ttl: std::time::Duration) -> Result<Option<Generation>> {
                let ttl = jiff::SignedDuration::try_from(ttl).unwrap_or(jiff::SignedDuration::MAX);
                let generation: Option<i64> = sqlx::query_scalar(
                    "UPDATE leader
                     SET holder = $1, expires_at = $3,
                         before_ended_at = CASE WHEN holder = $1 THEN before_ended_at
                                                WHEN generation > 0 THEN expires_at END,
                         generation = generation + CASE WHEN holder = $1 AND expires_at > $2 THEN 0 ELSE 1 END
                     WHERE holder = $1 OR holder IS NULL OR expires_at <= $2
                     RETURNING generation",
                )
                .bind(holder)
                .bind(At(self.now))
                .bind(At(self.now.saturating_add(ttl).unwrap_or(Timestamp::MAX)))
                .fetch_optional(&mut *self.tx)
                .await
                .map_err(step("take leadership"))?;
                Ok(generation.map(Generation))
            }

            async fn resign(&mut self, holder: Uuid) -> Result<()> {
                sqlx::query("UPDATE leader SET holder = NULL WHERE holder = $1")
                    .bind(holder)
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("resign"))?;
                Ok(())
            }

            async fn all_jobs(&mut self) -> Result<Vec<Versioned<Job>>> {
                let rows: Vec<VersionedJobRow> = sqlx::query_as(
                    "SELECT v.version, v.spec FROM jobs j JOIN job_versions v USING (namespace, name, version)",
                )
                .fetch_all(&mut *self.tx)
                .await
                .map_err(step("read all jobs"))?;
                all(rows)
            }

            async fn all_schedules(&mut self) -> Result<Vec<ScheduleRow>> {
                let rows: Vec<ScheduleDbRow> = sqlx::query_as(
                    "SELECT spec, version, cursor, next_due_at, fired, failures, paused_at, paused_by, pause_reason
                     FROM schedules",
                )
                .fetch_all(&mut *self.tx)
                .await
                .map_err(step("read all schedules"))?;
                all(rows)
            }

            async fn insert_backfill(&mut self, new: &NewBackfill) -> Result<bool> {
                let made = sqlx::query(
                    "INSERT INTO backfills (namespace, schedule, id, version, spec, from_at, to_at, cursor, total,
                                            max_parallel, status, created_at, created_by, reason)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'running', $11, $12, $13) ON CONFLICT DO NOTHING",
                )
                .bind(&new.key.namespace)
                .bind(&new.key.name)
                .bind(&new.id)
                .bind(new.version)
                .bind(Json(&new.schedule))
                .bind(At(new.from))
                .bind(At(new.to))
                .bind(At(just_before(new.from)))
                .bind(new.total)
                .bind(number(new.max_parallel))
                .bind(At(self.now))
                .bind(&new.by)
                .bind(new.reason.as_deref())
                .execute(&mut *self.tx)
                .await
                .map_err(step("record a backfill"))?;
                Ok(made.rows_affected() == 1)
            }

            async fn move_backfill(&mut self, to: &BackfillStep, [triggered, skipped]: [i64; 2]) -> Result<bool> {
                let moved = sqlx::query(
                    "UPDATE backfills
                     SET cursor = $5, triggered = triggered + $6, skipped = skipped + $7,
                         status = CASE WHEN $8 THEN 'done' ELSE status END, ended_at = CASE WHEN $8 THEN $9 END
                     WHERE namespace = $1 AND schedule = $2 AND id = $3 AND cursor = $4 AND status = 'running'",
                )
                .bind(&to.key.namespace)
                .bind(&to.key.name)
                .bind(&to.id)
                .bind(At(to.from))
                .bind(At(to.to))
                .bind(triggered)
                .bind(skipped)
                .bind(to.done)
                .bind(At(self.now))
                .execute(&mut *self.tx)
                .await
                .map_err(step("move a backfill"))?;
                Ok(moved.rows_affected() == 1)
            }

            async fn end_backfill(&mut self, key: &ScheduleKey, id: &str, by: &str) -> Result<bool> {
                let ended = sqlx::query(
                    "UPDATE backfills SET status = 'canceled', ended_at = $4, ended_by = $5
                     WHERE namespace = $1 AND schedule = $2 AND id = $3 AND status = 'running'",
                )
                .bind(&key.namespace)
                .bind(&key.name)
                .bind(id)
                .bind(At(self.now))
                .bind(by)
                .execute(&mut *self.tx)
                .await
                .map_err(step("cancel a backfill"))?;
                Ok(ended.rows_affected() == 1)
            }

            async fn version_in_force(&mut self) -> Result<Option<i64>> {
                sqlx::query_scalar("SELECT version FROM definition_sets ORDER BY version DESC LIMIT 1")
                    .fetch_optional(&mut *self.tx)
                    .await
                    .map_err(step("read the definitions in force"))
            }

            async fn put_in_force(&mut self, digest: &str, revision: Option<u64>, by: &str) -> Result<i64> {
                sqlx::query_scalar(
                    "INSERT INTO definition_sets (digest, revision, applied_at, applied_by) VALUES ($1, $2, $3, $4)
                     RETURNING version",
                )
                .bind(digest)
                .bind(revision.map(|revision| i64::try_from(revision).unwrap_or(i64::MAX)))
                .bind(At(self.now))
                .bind(by)
                .fetch_one(&mut *self.tx)
                .await
                .map_err(step("record the definitions"))
            }

            async fn limits_to_wake(&mut self, limit: i64) -> Result<Vec<String>> {
                sqlx::query_scalar("SELECT key FROM limits WHERE wake_at <= $1 ORDER BY wake_at LIMIT $2")
                    .bind(At(self.now))
                    .bind(limit)
                    .fetch_all(&mut *self.tx)
                    .await
                    .map_err(step("look for limits to wake"))
            }

            async fn wake_stranded(&mut self) -> Result<u64> {
                let woken = sqlx::query(
                    "UPDATE limits SET wake_at = $1 WHERE wake_at IS NULL AND key IN
                     (SELECT concurrency_key FROM deliveries WHERE phase = 'held' AND hold = 'concurrency'
                      UNION SELECT rate_key FROM deliveries WHERE phase = 'held' AND hold = 'rate')",
                )
                .bind(At(self.now))
                .execute(&mut *self.tx)
                .await
                .map_err(step("wake limits"))?;
                Ok(woken.rows_affected())
            }

            async fn keep_late(&mut self, report: &Report) -> Result<()> {
                sqlx::query(
                    "INSERT INTO late_reports (work_request_id, token, at, outcome)
                     SELECT id, $2, $3, $4 FROM work_requests WHERE id = $1 ON CONFLICT DO NOTHING",
                )
                .bind(report.id.0)
                .bind(report.token)
                .bind(At(self.now))
                .bind(Json(clean(&serde_json::json!(report.outcome)).into_owned()))
                .execute(&mut *self.tx)
                .await
                .map_err(step("keep a late report"))?;
                Ok(())
            }

            async fn take_unique(
                &mut self,
                key: &str,
                id: WorkRequestId,
                ends_at: Option<Timestamp>,
            ) -> Result<Option<(WorkRequestId, Option<Timestamp>)>> {
                let taken = sqlx::query(
                    "INSERT INTO unique_keys (key, work_request_id, ends_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                )
                .bind(key)
                .bind(id.0)
                .bind(ends_at.map(At))
                .execute(&mut *self.tx)
                .await
                .map_err(step("take a unique key"))?;
                if taken.rows_affected() == 1 {
                    return Ok(None);
                }
                // An update that changes nothing locks the row in both databases.
                let (id, ends_at): (Uuid, Option<At>) = sqlx::query_as(
                    "UPDATE unique_keys SET ends_at = ends_at WHERE key = $1 RETURNING work_request_id, ends_at",
                )
                .bind(key)
                .fetch_one(&mut *self.tx)
                .await
                .map_err(step("read a unique key"))?;
                Ok(Some((WorkRequestId(id), ends_at.map(|at| at.0))))
            }

            async fn replace_unique(
                &mut self,
                key: &str,
                id: WorkRequestId,
                ends_at: Option<Timestamp>,
            ) -> Result<()> {
                sqlx::query("UPDATE unique_keys SET work_request_id = $2, ends_at = $3 WHERE key = $1")
                    .bind(key)
                    .bind(id.0)
                    .bind(ends_at.map(At))
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("take a unique key"))?;
                Ok(())
            }

            async fn purge_unique(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
                let purged = sqlx::query(
                    "DELETE FROM unique_keys WHERE key IN
                     (SELECT key FROM unique_keys u WHERE work_request_id < $1
                      AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.id = u.work_request_id) LIMIT $2)",
                )
                .bind(id_floor(before))
                .bind(limit)
                .execute(&mut *self.tx)
                .await
                .map_err(step("forget unique keys"))?;
                Ok(purged.rows_affected())
            }

            async fn status_of(&mut self, id: WorkRequestId) -> Result<Option<Status>> {
                let status: Option<String> = sqlx::query_scalar("SELECT status FROM work_requests WHERE id = $1")
                    .bind(id.0)
                    .fetch_optional(&mut *self.tx)
                    .await
                    .map_err(step("read a status"))?;
                status.map(|status| status_column(&status)).transpose()
            }

            async fn latest(&mut self, id: WorkRequestId, limit: i64) -> Result<Vec<HistoryEvent>> {
                let rows: Vec<EventRow> = sqlx::query_as(
                    "SELECT seq, at, what FROM events WHERE work_request_id = $1 ORDER BY seq DESC LIMIT $2",
                )
                .bind(id.0)
                .bind(limit)
                .fetch_all(&mut *self.tx)
                .await
                .map_err(step("read the end of a history"))?;
                all(rows)
            }

            async fn tell_transitions(&mut self, wanted: bool) -> Result<()> {
                sqlx::query("UPDATE schema_info SET transitions = $1")
                    .bind(wanted)
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("say whether transitions are told"))?;
                Ok(())
            }

            async fn put_marker(&mut self, id: Uuid, route: &Route) -> Result<()> {
                sqlx::query("INSERT INTO markers (id, queue, priority, sent_at) VALUES ($1, $2, $3, $4)")
                    .bind(id)
                    .bind(&route.queue)
                    .bind(priority_column(route.priority))
                    .bind(At(self.now))
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("note a marker"))?;
                Ok(())
            }

            async fn marker_back(&mut self, id: Uuid) -> Result<()> {
                sqlx::query("UPDATE markers SET back_at = $2 WHERE id = $1 AND back_at IS NULL")
                    .bind(id)
                    .bind(At(self.now))
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("note that a marker is back"))?;
                Ok(())
            }

            async fn purge_markers(&mut self, sent_before: Timestamp) -> Result<()> {
                sqlx::query("DELETE FROM markers WHERE sent_at < $1")
                    .bind(At(sent_before))
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("forget markers"))?;
                Ok(())
            }

            async fn put_worker(&mut self, worker: &NewWorker) -> Result<()> {
                sqlx::query(
                    "INSERT INTO workers (incarnation, name, queues, slots, version, started_at, beat_at, lease_ttl_ms)
                     VALUES ($1, $2, $3, $4, $5, $6, $6, $7) ON CONFLICT DO NOTHING",
                )
                .bind(worker.incarnation)
                .bind(&worker.name)
                .bind(Json(&worker.queues))
                .bind(i32::try_from(worker.slots).unwrap_or(i32::MAX))
                .bind(&worker.version)
                .bind(At(self.now))
                .bind(millis(worker.lease_ttl))
                .execute(&mut *self.tx)
                .await
                .map_err(step("register a worker"))?;
                Ok(())
            }

            async fn beat(&mut self, worker: Uuid) -> Result<bool> {
                let alive = sqlx::query(
                    "UPDATE workers SET beat = beat + 1, beat_at = $2 WHERE incarnation = $1 AND ended_at IS NULL",
                )
                .bind(worker)
                .bind(At(self.now))
                .execute(&mut *self.tx)
                .await
                .map_err(step("count a worker's beat"))?;
                Ok(alive.rows_affected() == 1)
            }

            async fn lives(&mut self, worker: Uuid) -> Result<bool> {
                let text = concat!("SELECT ended_at FROM workers WHERE incarnation = $1", $for_share);
                let ended: Option<Option<At>> = sqlx::query_scalar(text)
                    .bind(worker)
                    .fetch_optional(&mut *self.tx)
                    .await
                    .map_err(step("look at a worker"))?;
                Ok(ended.flatten().is_none())
            }

            async fn retire_silent(&mut self, worker: Uuid, beat: i64) -> Result<bool> {
                let retired = sqlx::query(
                    "UPDATE workers SET ended_at = $2 WHERE incarnation = $1 AND beat = $3 AND ended_at IS NULL",
                )
                .bind(worker)
                .bind(At(self.now))
                .bind(beat)
                .execute(&mut *self.tx)
                .await
                .map_err(step("retire a worker"))?;
                Ok(retired.rows_affected() == 1)
            }

            async fn retire_worker(&mut self, worker: Uuid) -> Result<()> {
                sqlx::query("UPDATE workers SET ended_at = $2 WHERE incarnation = $1 AND ended_at IS NULL")
                    .bind(worker)
                    .bind(At(self.now))
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("retire a worker"))?;
                Ok(())
            }

            async fn purge_workers(&mut self, before: Timestamp) -> Result<u64> {
                let purged = sqlx::query(
                    "DELETE FROM workers WHERE ended_at < $1 AND NOT EXISTS
                     (SELECT 1 FROM deliveries d WHERE d.worker = workers.incarnation AND d.phase = 'leased')",
                )
                .bind(At(before))
                .execute(&mut *self.tx)
                .await
                .map_err(step("forget workers"))?;
                Ok(purged.rows_affected())
            }
        }
    };
}

pub(crate) use impl_plain;
