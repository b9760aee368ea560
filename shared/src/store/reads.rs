//! Single statements whose text is the same in both databases, written once.
//!
//! sqlx's types are bound to one database each, so a macro stands in for what a generic function can't say.

/// Implements [`super::database::Reads`] for a type with a pool `read` of database `$db`.
macro_rules! impl_reads {
    ($database:ty, $db:ty) => {
        #[async_trait::async_trait]
        impl $crate::store::database::Reads for $database {
            async fn in_force(&self) -> Result<Option<InForce>> {
                let row: Option<InForceRow> = sqlx::query_as(
                    "SELECT version, digest, revision, applied_at, applied_by
                     FROM definition_sets ORDER BY version DESC LIMIT 1",
                )
                .fetch_optional(&self.read)
                .await
                .map_err(step("read the definitions in force"))?;
                row.map(InForce::try_from).transpose()
            }

            async fn was_in_force(&self, digest: &str) -> Result<bool> {
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM definition_sets WHERE digest = $1)")
                    .bind(digest)
                    .fetch_one(&self.read)
                    .await
                    .map_err(step("look for earlier definitions"))
            }

            async fn job_version(&self, namespace: &str, name: &str, version: i64) -> Result<Option<Job>> {
                let row: Option<VersionedJobRow> = sqlx::query_as(
                    "SELECT version, spec FROM job_versions WHERE namespace = $1 AND name = $2 AND version = $3",
                )
                .bind(namespace)
                .bind(name)
                .bind(version)
                .fetch_optional(&self.read)
                .await
                .map_err(step("read a job"))?;
                row.map(|row| Versioned::try_from(row).map(|job| job.item)).transpose()
            }

            async fn jobs(&self, namespace: &str, from: NamePage<'_>) -> Result<Vec<Versioned<Job>>> {
                let query = match from {
                    NamePage::Only(name) => sqlx::query_as::<$db, VersionedJobRow>(
                        "SELECT v.version, v.spec FROM jobs j JOIN job_versions v USING (namespace, name, version)
                         WHERE namespace = $1 AND name = $2",
                    )
                    .bind(namespace)
                    .bind(name),
                    NamePage::After { name, part, limit } => sqlx::query_as(
                        "SELECT v.version, v.spec FROM jobs j JOIN job_versions v USING (namespace, name, version)
                         WHERE namespace = $1 AND name > $2 AND ($4 = '' OR replace(name, $4, '') <> name)
                         ORDER BY name LIMIT $3",
                    )
                    .bind(namespace)
                    .bind(name)
                    .bind(limit)
                    .bind(part),
                };
                all(query.fetch_all(&self.read).await.map_err(step("read jobs"))?)
            }

            async fn schedules(&self, namespace: &str, from: NamePage<'_>) -> Result<Vec<ScheduleRow>> {
                let query = match from {
                    NamePage::Only(name) => sqlx::query_as::<$db, ScheduleDbRow>(
                        "SELECT spec, version, cursor, next_due_at, fired, failures, paused_at, paused_by, pause_reason
                         FROM schedules WHERE namespace = $1 AND name = $2",
                    )
                    .bind(namespace)
                    .bind(name),
                    NamePage::After { name, part, limit } => sqlx::query_as(
                        "SELECT spec, version, cursor, next_due_at, fired, failures, paused_at, paused_by, pause_reason
                         FROM schedules WHERE namespace = $1 AND name > $2 AND ($4 = '' OR replace(name, $4, '') <> name)
                         ORDER BY name LIMIT $3",
                    )
                    .bind(namespace)
                    .bind(name)
                    .bind(limit)
                    .bind(part),
                };
                all(query.fetch_all(&self.read).await.map_err(step("read schedules"))?)
            }

            async fn every_job(&self) -> Result<Vec<Versioned<Job>>> {
                let rows: Vec<VersionedJobRow> = sqlx::query_as(
                    "SELECT v.version, v.spec FROM jobs j JOIN job_versions v USING (namespace, name, version)
                     ORDER BY namespace, name",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("read every job"))?;
                all(rows)
            }

            async fn every_schedule(&self) -> Result<Vec<ScheduleRow>> {
                let rows: Vec<ScheduleDbRow> = sqlx::query_as(
                    "SELECT spec, version, cursor, next_due_at, fired, failures, paused_at, paused_by, pause_reason
                     FROM schedules ORDER BY namespace, name",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("read every schedule"))?;
                all(rows)
            }

            async fn due_schedules(&self, until: Timestamp, limit: i64) -> Result<Vec<ScheduleRow>> {
                let rows: Vec<ScheduleDbRow> = sqlx::query_as(
                    "SELECT spec, version, cursor, next_due_at, fired, failures, paused_at, paused_by, pause_reason
                     FROM schedules WHERE next_due_at <= $1 ORDER BY next_due_at LIMIT $2",
                )
                .bind(At(until))
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read the schedules that are due"))?;
                all(rows)
            }

            async fn queues(&self) -> Result<Vec<String>> {
                sqlx::query_scalar(
                    "SELECT v.spec ->> 'queue' AS queue
                     FROM jobs j JOIN job_versions v USING (namespace, name, version)
                     UNION SELECT queue FROM deliveries ORDER BY queue",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("read the queues"))
            }

            async fn leader(&self, now: Timestamp) -> Result<Option<Generation>> {
                let generation: Option<i64> =
                    sqlx::query_scalar("SELECT generation FROM leader WHERE holder IS NOT NULL AND expires_at > $1")
                        .bind(At(now))
                        .fetch_optional(&self.read)
                        .await
                        .map_err(step("ask who leads"))?;
                Ok(generation.map(Generation))
            }

            async fn changes(
                &self,
                kind: DefinitionKind,
                key: &ScheduleKey,
                before: i64,
                limit: i64,
            ) -> Result<Vec<RecordedChange>> {
                let rows: Vec<ChangeRow> = sqlx::query_as(
                    "SELECT seq, version, action, at, actor, reason, spec FROM changes
                     WHERE namespace = $1 AND kind = $2 AND name = $3 AND seq < $4 ORDER BY seq DESC LIMIT $5",
                )
                .bind(&key.namespace)
                .bind(kind.as_str())
                .bind(&key.name)
                .bind(before)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read a definition's changes"))?;
                all(rows)
            }

            async fn held_schedules(&self) -> Result<Vec<ScheduleKey>> {
                let rows: Vec<(String, String)> = sqlx::query_as(
                    "SELECT DISTINCT namespace, schedule FROM deliveries WHERE phase = 'held' ORDER BY 1, 2",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("look for held fires"))?;
                Ok(rows.into_iter().map(|(namespace, name)| ScheduleKey { namespace, name }).collect())
            }

            async fn ended_runs(&self, limit: i64) -> Result<Vec<EndedRun>> {
                let rows: Vec<EndedRow> = sqlx::query_as(
                    "SELECT w.id, w.namespace, w.job, w.job_version, w.schedule, w.due_at, w.origin, w.status, w.input,
                            w.output, w.error_code, w.error_message, w.finished_at
                     FROM follow_ups f JOIN work_requests w ON w.id = f.work_request_id
                     ORDER BY f.work_request_id LIMIT $1",
                )
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read what has ended"))?;
                all(rows)
            }

            async fn backfill(&self, key: &ScheduleKey, id: &str) -> Result<Option<Backfill>> {
                let row: Option<BackfillRow> = sqlx::QueryBuilder::<$db>::new(BACKFILL)
                    .push(" WHERE b.namespace = ")
                    .push_bind(&key.namespace)
                    .push(" AND b.schedule = ")
                    .push_bind(&key.name)
                    .push(" AND b.id = ")
                    .push_bind(id)
                    .build_query_as()
                    .fetch_optional(&self.read)
                    .await
                    .map_err(step("read a backfill"))?;
                row.map(Backfill::try_from).transpose()
            }

            async fn backfills(&self, key: &ScheduleKey, after: &str, limit: i64) -> Result<Vec<Backfill>> {
                let rows: Vec<BackfillRow> = sqlx::QueryBuilder::<$db>::new(BACKFILL)
                    .push(" WHERE b.namespace = ")
                    .push_bind(&key.namespace)
                    .push(" AND b.schedule = ")
                    .push_bind(&key.name)
                    .push(" AND b.id > ")
                    .push_bind(after)
                    .push(" ORDER BY b.id LIMIT ")
                    .push_bind(limit)
                    .build_query_as()
                    .fetch_all(&self.read)
                    .await
                    .map_err(step("read backfills"))?;
                all(rows)
            }

            async fn running_backfills(&self) -> Result<Vec<Backfill>> {
                let rows: Vec<BackfillRow> = sqlx::QueryBuilder::<$db>::new(BACKFILL)
                    .push(" WHERE b.status = 'running' ORDER BY b.namespace, b.schedule, b.id")
                    .build_query_as()
                    .fetch_all(&self.read)
                    .await
                    .map_err(step("read backfills"))?;
                all(rows)
            }

            async fn fires_at(&self, key: &ScheduleKey, at: Timestamp) -> Result<Vec<Fire>> {
                // The ledger's stretches do not overlap: the last that begins at or before the instant is the only
                // one of the schedule's own that can hold it.
                let rows: Vec<FireRow> = sqlx::query_as(
                    "SELECT namespace, schedule, origin, due_at, last_due_at, count, reason, detail, work_requests,
                            version, decided_at
                     FROM (SELECT * FROM fires WHERE namespace = $1 AND schedule = $2 AND origin = 'schedule'
                           AND due_at <= $3 ORDER BY due_at DESC LIMIT 1) own
                     WHERE last_due_at >= $3
                     UNION ALL
                     SELECT namespace, schedule, origin, due_at, last_due_at, count, reason, detail, work_requests,
                            version, decided_at
                     FROM fires WHERE namespace = $1 AND schedule = $2 AND origin <> 'schedule' AND due_at = $3",
                )
                .bind(&key.namespace)
                .bind(&key.name)
                .bind(At(at))
                .fetch_all(&self.read)
                .await
                .map_err(step("read fires"))?;
                all(rows)
            }

            async fn fires(&self, key: &ScheduleKey, before: Timestamp, limit: i64) -> Result<Vec<Fire>> {
                let rows: Vec<FireRow> = sqlx::query_as(
                    "SELECT namespace, schedule, origin, due_at, last_due_at, count, reason, detail, work_requests,
                            version, decided_at
                     FROM fires WHERE namespace = $1 AND schedule = $2 AND due_at < $3
                     ORDER BY due_at DESC, origin LIMIT $4",
                )
                .bind(&key.namespace)
                .bind(&key.name)
                .bind(At(before))
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read fires"))?;
                all(rows)
            }

            async fn next_due(&self) -> Result<Option<Timestamp>> {
                let at: Option<At> =
                    sqlx::query_scalar("SELECT phase_at FROM deliveries WHERE phase = 'due' ORDER BY phase_at LIMIT 1")
                        .fetch_optional(&self.read)
                        .await
                        .map_err(step("look for the next trigger"))?;
                Ok(at.map(|at| at.0))
            }

            async fn work_request(&self, namespace: &str, id: WorkRequestId) -> Result<Option<WorkRequest>> {
                let row: Option<WorkRequestRow> = sqlx::QueryBuilder::<$db>::new(WORK_REQUEST)
                    .push(" WHERE w.id = ")
                    .push_bind(id.0)
                    .push(" AND w.namespace = ")
                    .push_bind(namespace)
                    .build_query_as()
                    .fetch_optional(&self.read)
                    .await
                    .map_err(step("read a work request"))?;
                row.map(WorkRequest::try_from).transpose()
            }

            async fn work_requests(&self, filter: &ListFilter, limit: i64) -> Result<Vec<WorkRequest>> {
                let mut query = sqlx::QueryBuilder::<$db>::new(WORK_REQUEST);
                query.push(" WHERE w.namespace = ").push_bind(&filter.namespace);
                if let Some(job) = &filter.job {
                    query.push(" AND w.job = ").push_bind(job);
                }
                if let Some(schedule) = &filter.schedule {
                    query.push(" AND w.schedule = ").push_bind(schedule);
                }
                if !filter.status.is_empty() {
                    let mut list = query.push(" AND w.status IN (").separated(", ");
                    for status in &filter.status {
                        list.push_bind(status.as_str());
                    }
                    query.push(")");
                }
                if let Some(after) = filter.accepted_after {
                    query.push(" AND w.accepted_at >= ").push_bind(At(after));
                    query.push(" AND w.id >= ").push_bind(id_floor(after, -1));
                }
                if let Some(before) = filter.accepted_before {
                    query.push(" AND w.accepted_at < ").push_bind(At(before));
                    query.push(" AND w.id < ").push_bind(id_floor(before, 1));
                }
                if let Some(last) = filter.after {
                    query.push(" AND w.id < ").push_bind(last.0);
                }
                query.push(" ORDER BY w.id DESC LIMIT ").push_bind(limit);
                let rows: Vec<WorkRequestRow> =
                    query.build_query_as().fetch_all(&self.read).await.map_err(step("list work requests"))?;
                all(rows)
            }

            async fn output(&self, id: WorkRequestId) -> Result<Option<Value>> {
                let output: Option<Option<Json<Value>>> =
                    sqlx::query_scalar("SELECT output FROM work_requests WHERE id = $1")
                        .bind(id.0)
                        .fetch_optional(&self.read)
                        .await
                        .map_err(step("read an output"))?;
                Ok(output.flatten().map(|json| json.0))
            }

            async fn events(&self, id: WorkRequestId, after: i32, limit: i64) -> Result<Vec<HistoryEvent>> {
                let rows: Vec<EventRow> = sqlx::query_as(
                    "SELECT seq, at, what FROM events WHERE work_request_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
                )
                .bind(id.0)
                .bind(after)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read a history"))?;
                all(rows)
            }

            async fn logs(&self, id: WorkRequestId, after: (i32, i32), limit: i64) -> Result<Vec<LogLine>> {
                let rows: Vec<LogRow> = sqlx::query_as(
                    "SELECT attempt, seq, at, stream, text FROM logs
                     WHERE work_request_id = $1 AND (attempt, seq) > ($2, $3) ORDER BY attempt, seq LIMIT $4",
                )
                .bind(id.0)
                .bind(after.0)
                .bind(after.1)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read logs"))?;
                all(rows)
            }

            async fn depths(&self) -> Result<Vec<QueueDepth>> {
                let rows: Vec<DepthRow> = sqlx::query_as(
                    "SELECT queue, phase, count(*) AS count FROM deliveries GROUP BY queue, phase ORDER BY queue, phase",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("count unended runs"))?;
                all(rows)
            }

            async fn workers(&self) -> Result<Vec<Worker>> {
                let rows: Vec<WorkerRow> = sqlx::query_as(
                    "SELECT w.incarnation, w.name, w.queues, w.slots, w.version, w.started_at, w.beat, w.beat_at,
                            w.ended_at,
                            (SELECT count(*) FROM deliveries d WHERE d.worker = w.incarnation AND d.phase = 'leased')
                                AS leases
                     FROM workers w ORDER BY w.started_at DESC, w.incarnation",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("read the workers"))?;
                all(rows)
            }

            async fn leases_of(&self, worker: Uuid) -> Result<Vec<HeldLease>> {
                let rows: Vec<LeaseRow> = sqlx::query_as(
                    "SELECT d.id, d.token, d.worker, w.status, d.namespace, w.job, w.job_version, d.failures
                     FROM deliveries d JOIN work_requests w USING (id)
                     WHERE d.worker = $1 AND d.phase = 'leased'",
                )
                .bind(worker)
                .fetch_all(&self.read)
                .await
                .map_err(step("read a worker's leases"))?;
                all(rows)
            }

            async fn overdue_leases(&self, now: Timestamp, limit: i64) -> Result<Vec<HeldLease>> {
                let rows: Vec<LeaseRow> = sqlx::query_as(
                    "SELECT d.id, d.token, d.worker, w.status, d.namespace, w.job, w.job_version, d.failures
                     FROM deliveries d JOIN work_requests w USING (id)
                     WHERE d.phase = 'leased' AND d.phase_at < $1 LIMIT $2",
                )
                .bind(At(now))
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("look for overdue leases"))?;
                all(rows)
            }
        }
    };
}

/// Implements [`super::database::Plain`] for a type with a transaction `tx` and an instant `now`.
macro_rules! impl_plain {
    ($tx:ty) => {
        #[async_trait::async_trait]
        impl $crate::store::database::Plain for $tx {
            async fn take_key(
                &mut self,
                key: &IdempotencyKey,
                id: WorkRequestId,
            ) -> Result<Option<(WorkRequestId, String)>> {
                let taken = sqlx::query(
                    "INSERT INTO idempotency_keys (namespace, key, request_hash, work_request_id, taken_at)
                     VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                )
                .bind(&key.namespace)
                .bind(&key.key)
                .bind(&key.request_hash)
                .bind(id.0)
                .bind(At(self.now))
                .execute(&mut *self.tx)
                .await
                .map_err(step("take an idempotency key"))?;
                if taken.rows_affected() == 1 {
                    return Ok(None);
                }
                let (id, hash): (Uuid, String) = sqlx::query_as(
                    "SELECT work_request_id, request_hash FROM idempotency_keys WHERE namespace = $1 AND key = $2",
                )
                .bind(&key.namespace)
                .bind(&key.key)
                .fetch_one(&mut *self.tx)
                .await
                .map_err(step("read an idempotency key"))?;
                Ok(Some((WorkRequestId(id), hash)))
            }

            async fn purge_keys(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
                let purged = sqlx::query(
                    "DELETE FROM idempotency_keys WHERE (namespace, key) IN
                     (SELECT namespace, key FROM idempotency_keys WHERE taken_at < $1 LIMIT $2)",
                )
                .bind(At(before))
                .bind(limit)
                .execute(&mut *self.tx)
                .await
                .map_err(step("forget idempotency keys"))?;
                Ok(purged.rows_affected())
            }

            async fn lead(&mut self, holder: Uuid, ttl: std::time::Duration) -> Result<Option<Generation>> {
                let ttl = jiff::SignedDuration::try_from(ttl).unwrap_or(jiff::SignedDuration::MAX);
                let generation: Option<i64> = sqlx::query_scalar(
                    "UPDATE leader
                     SET holder = $1, expires_at = $3,
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

            async fn sent_queues(&mut self, until: Timestamp) -> Result<Vec<(String, Timestamp)>> {
                let rows: Vec<(String, At)> = sqlx::query_as(
                    "SELECT queue, min(phase_at) FROM deliveries WHERE phase = 'sent' AND phase_at <= $1 GROUP BY queue",
                )
                .bind(At(until))
                .fetch_all(&mut *self.tx)
                .await
                .map_err(step("look for unclaimed triggers"))?;
                Ok(rows.into_iter().map(|(queue, at)| (queue, at.0)).collect())
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

            async fn put_worker(&mut self, worker: &NewWorker) -> Result<()> {
                sqlx::query(
                    "INSERT INTO workers (incarnation, name, queues, slots, version, started_at, beat_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT DO NOTHING",
                )
                .bind(worker.incarnation)
                .bind(&worker.name)
                .bind(Json(&worker.queues))
                .bind(i32::try_from(worker.slots).unwrap_or(i32::MAX))
                .bind(&worker.version)
                .bind(At(self.now))
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
pub(crate) use impl_reads;

/// A work request with its delivery phase.
pub(crate) const WORK_REQUEST: &str = "SELECT w.id, w.namespace, w.job, w.job_version, w.queue, w.schedule, w.due_at,
       w.origin, w.chained_from, w.status, d.phase, d.phase_at, d.token, d.worker, w.attempt, w.input, w.resource,
       w.percent, w.message, w.error_code, w.error_message, w.accepted_at, w.started_at, w.finished_at
FROM work_requests w LEFT JOIN deliveries d ON d.id = w.id";

/// A backfill with the number of its fires whose runs have not ended.
pub(crate) const BACKFILL: &str =
    "SELECT b.namespace, b.schedule, b.id, b.version, b.spec, b.from_at, b.to_at, b.cursor,
       b.total, b.triggered, b.skipped, b.max_parallel, b.status, b.created_at, b.created_by, b.reason, b.ended_at,
       b.ended_by,
       (SELECT count(DISTINCT w.due_at) FROM deliveries d JOIN work_requests w ON w.id = d.id
        WHERE d.namespace = b.namespace AND d.schedule = b.schedule AND d.origin = 'backfill:' || b.id) AS unended
FROM backfills b";

/// What a transition looks at, of the delivery `d` and its work request `w`.
pub(crate) const LOCKED: &str =
    "SELECT w.id, w.namespace, w.job, w.job_version, w.queue, w.schedule, w.due_at, w.origin, w.status,
       d.phase, d.phase_at, d.token, d.worker, d.sends, d.resends, d.attempt, d.failures, d.timeout_ms, d.seq,
       d.follow
FROM deliveries d JOIN work_requests w USING (id) ";

/// A lower bound, `hours` off, of the ids made at an instant: it lets a list filtered by time use the index by id.
/// The hour is for clocks that differ; the filter by time itself is exact.
pub(crate) fn id_floor(at: jiff::Timestamp, hours: i64) -> uuid::Uuid {
    let millis = at.as_millisecond().saturating_add(hours * 3_600_000).clamp(0, (1 << 48) - 1);
    uuid::Uuid::from_u128(u128::from(millis.unsigned_abs()) << 80)
}

/// The imports that both macros' expansions need.
pub(crate) mod prelude {
    pub(crate) use jiff::Timestamp;
    pub(crate) use serde_json::Value;
    pub(crate) use sqlx::types::Json;
    pub(crate) use uuid::Uuid;

    pub(crate) use super::super::accept::IdempotencyKey;
    pub(crate) use super::super::backfills::{Backfill, BackfillStep, NewBackfill};
    pub(crate) use super::super::changes::{DefinitionKind, RecordedChange};
    pub(crate) use super::super::database::NamePage;
    pub(crate) use super::super::definitions::{InForce, Versioned};
    pub(crate) use super::super::fires::Fire;
    pub(crate) use super::super::follow::EndedRun;
    pub(crate) use super::super::leader::Generation;
    pub(crate) use super::super::leases::HeldLease;
    pub(crate) use super::super::requests::{ListFilter, QueueDepth};
    pub(crate) use super::super::rows::{
        At, BackfillRow, ChangeRow, DepthRow, EndedRow, EventRow, FireRow, InForceRow, LeaseRow, LogRow, ScheduleDbRow,
        VersionedJobRow, WorkRequestRow, WorkerRow, all, number,
    };
    pub(crate) use super::super::schedules::{ScheduleKey, ScheduleRow, just_before};
    pub(crate) use super::super::workers::{NewWorker, Worker};
    pub(crate) use super::super::{Result, step};
    pub(crate) use super::{BACKFILL, WORK_REQUEST, id_floor};
    pub(crate) use crate::definition::Job;
    pub(crate) use crate::work_request::{HistoryEvent, LogLine, WorkRequest, WorkRequestId};
}
