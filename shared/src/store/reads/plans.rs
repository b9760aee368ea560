//! Reads of definitions, fires, backfills and what follows.

/// Implements [`super::super::database::ReadPlans`] for a type with a pool `read` of database `$db`;
/// `$beside` looks up what a row names.
macro_rules! impl_read_plans {
    ($database:ty, $db:ty, $beside:ident) => {
        #[async_trait::async_trait]
        impl $crate::store::database::ReadPlans for $database {
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
                     FROM schedules WHERE next_due_at <= $1 AND paused_at IS NULL ORDER BY next_due_at LIMIT $2",
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

            async fn external_queues(&self) -> Result<Vec<String>> {
                sqlx::query_scalar(
                    "SELECT DISTINCT v.spec ->> 'queue' AS queue
                     FROM jobs j JOIN job_versions v USING (namespace, name, version)
                     WHERE v.spec -> 'handler' -> 'external' IS NOT NULL ORDER BY queue",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("read the queues of external jobs"))
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

            async fn leader_before_ended(&self) -> Result<Option<Timestamp>> {
                let at: Option<At> = sqlx::query_scalar("SELECT before_ended_at FROM leader")
                    .fetch_one(&self.read)
                    .await
                    .map_err(step("read who leads"))?;
                Ok(at.map(|at| at.0))
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

            async fn changes_of_namespace(
                &self,
                namespace: &str,
                before: i64,
                limit: i64,
            ) -> Result<Vec<NamedChange>> {
                let rows: Vec<NamedChangeRow> = sqlx::query_as(
                    "SELECT kind, name, seq, version, action, at, actor, reason, spec FROM changes
                     WHERE namespace = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3",
                )
                .bind(namespace)
                .bind(before)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read the changes of a namespace"))?;
                all(rows)
            }

            async fn held_schedules(&self) -> Result<Vec<ScheduleKey>> {
                let rows: Vec<(String, String)> = sqlx::query_as(
                    "SELECT DISTINCT h.namespace, h.schedule FROM deliveries h
                     WHERE h.phase = 'held' AND coalesce(h.hold, 'overlap') = 'overlap' AND NOT EXISTS
                           (SELECT 1 FROM deliveries a WHERE a.namespace = h.namespace AND a.schedule = h.schedule
                                                         AND a.origin = 'schedule'
                                                         AND NOT (a.phase = 'held' AND coalesce(a.hold, 'overlap') = 'overlap'))
                     ORDER BY 1, 2",
                )
                .fetch_all(&self.read)
                .await
                .map_err(step("look for held fires"))?;
                Ok(rows.into_iter().map(|(namespace, name)| ScheduleKey { namespace, name }).collect())
            }

            async fn ended_runs(&self, limit: i64) -> Result<Vec<EndedRun>> {
                let rows: Vec<EndedRow> = sqlx::query_as(concat!(
                    "SELECT w.id, w.namespace, w.job, w.job_version, w.schedule, w.due_at, w.origin, w.status, w.input,
                            w.output, w.error_code, w.error_message, w.finished_at, w.parent
                     FROM follow_ups o",
                    $crate::store::reads::$beside!(run),
                    " WHERE w.id IS NOT NULL ORDER BY o.work_request_id LIMIT $1",
                ))
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
                     FROM (SELECT * FROM (SELECT * FROM fires
                                          WHERE namespace = $1 AND schedule = $2 AND origin = 'schedule' AND due_at < $3
                                          ORDER BY due_at DESC LIMIT $4) own
                           UNION ALL
                           SELECT * FROM (SELECT * FROM fires
                                          WHERE namespace = $1 AND schedule = $2 AND origin <> 'schedule' AND due_at < $3
                                          ORDER BY due_at DESC, origin LIMIT $4) asked) found
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
        }
    };
}

pub(crate) use impl_read_plans;
