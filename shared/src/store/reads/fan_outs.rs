//! Statements about runs with children.

/// Implements [`super::super::database::FanOuts`] for a type with a transaction `tx` and an instant `now`; `$for_update` is
/// what keeps others from a row that was read to be changed.
macro_rules! impl_fan_outs {
    ($tx:ty, $for_update:literal) => {
        #[async_trait::async_trait]
        impl $crate::store::database::FanOuts for $tx {
            async fn stage_inputs(&mut self, batch: Uuid, chunk: i32, inputs: &[Value]) -> Result<()> {
                let count = i32::try_from(inputs.len()).unwrap_or(i32::MAX);
                sqlx::query(
                    "INSERT INTO fan_out_inputs (batch, chunk, inputs, count, staged_at) VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT DO NOTHING",
                )
                .bind(batch)
                .bind(chunk)
                .bind(Json(inputs))
                .bind(count)
                .bind(At(self.now))
                .execute(&mut *self.tx)
                .await
                .map_err(step("keep inputs"))?;
                Ok(())
            }

            async fn discard_inputs(&mut self, batch: Uuid, limit: i64) -> Result<u64> {
                let gone = sqlx::query(
                    "DELETE FROM fan_out_inputs WHERE batch = $1 AND chunk IN
                     (SELECT chunk FROM fan_out_inputs WHERE batch = $1 LIMIT $2)",
                )
                .bind(batch)
                .bind(limit)
                .execute(&mut *self.tx)
                .await
                .map_err(step("forget inputs"))?;
                Ok(gone.rows_affected())
            }

            async fn purge_inputs(&mut self, staged: Timestamp, ended: Timestamp, limit: i64) -> Result<u64> {
                let purged = sqlx::query(
                    "DELETE FROM fan_out_inputs WHERE (batch, chunk) IN
                     (SELECT i.batch, i.chunk FROM fan_out_inputs i LEFT JOIN fan_outs f ON f.batch = i.batch
                      WHERE i.staged_at < $1
                        AND (f.ended_at < $2 OR f.batch IS NULL AND NOT EXISTS
                                (SELECT 1 FROM deliveries d WHERE d.token = i.batch))
                      LIMIT $3)",
                )
                .bind(At(staged))
                .bind(At(ended))
                .bind(limit)
                .execute(&mut *self.tx)
                .await
                .map_err(step("forget inputs"))?;
                Ok(purged.rows_affected())
            }

            async fn staged(&mut self, batch: Uuid) -> Result<i64> {
                sqlx::query_scalar(
                    "SELECT CAST(coalesce(sum(count), 0) AS bigint) FROM fan_out_inputs WHERE batch = $1",
                )
                .bind(batch)
                .fetch_one(&mut *self.tx)
                .await
                .map_err(step("count inputs"))
            }

            async fn take_chunk(&mut self, batch: Uuid, chunk: i32) -> Result<bool> {
                let taken = sqlx::query("DELETE FROM fan_out_inputs WHERE batch = $1 AND chunk = $2")
                    .bind(batch)
                    .bind(chunk)
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("take inputs"))?;
                Ok(taken.rows_affected() == 1)
            }

            async fn insert_fan_out(
                &mut self,
                parent: WorkRequestId,
                namespace: &str,
                new: &NewFanOut,
                depth: i32,
            ) -> Result<()> {
                sqlx::query(
                    "INSERT INTO fan_outs (parent, namespace, job, job_version, policy, depth, batch, total)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(parent.0)
                .bind(namespace)
                .bind(&new.job)
                .bind(new.job_version)
                .bind(new.policy.to_string())
                .bind(depth)
                .bind(new.batch)
                .bind(number(new.total))
                .execute(&mut *self.tx)
                .await
                .map_err(step("record a run's children"))?;
                Ok(())
            }

            async fn lock_fan_out(&mut self, parent: WorkRequestId) -> Result<Option<FanOut>> {
                let row: Option<FanOutRow> = sqlx::query_as(concat!(
                    "SELECT parent, namespace, job, job_version, policy, depth, batch, total, born, succeeded, failed,
                            canceled, first_failed, stopped, ended_at
                     FROM fan_outs WHERE parent = $1",
                    $for_update
                ))
                .bind(parent.0)
                .fetch_optional(&mut *self.tx)
                .await
                .map_err(step("lock a run's children"))?;
                row.map(FanOut::try_from).transpose()
            }

            async fn save_fan_out(&mut self, row: &FanOut) -> Result<()> {
                sqlx::query(
                    "UPDATE fan_outs SET born = $2, succeeded = $3, failed = $4, canceled = $5, first_failed = $6,
                                         stopped = $7, ended_at = $8
                     WHERE parent = $1",
                )
                .bind(row.parent.0)
                .bind(number(row.counts.born))
                .bind(number(row.counts.succeeded))
                .bind(number(row.counts.failed))
                .bind(number(row.counts.canceled))
                .bind(row.first_failed.map(|id| id.0))
                .bind(row.stopped.map($crate::fan_out::Stop::as_str))
                .bind(row.ended_at.map(At))
                .execute(&mut *self.tx)
                .await
                .map_err(step("count a run's children"))?;
                Ok(())
            }

            async fn raise_percent(&mut self, id: WorkRequestId, percent: f64) -> Result<()> {
                sqlx::query("UPDATE work_requests SET percent = $2 WHERE id = $1 AND percent < $2")
                    .bind(id.0)
                    .bind(percent)
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("save progress"))?;
                Ok(())
            }

            async fn depth_of(&mut self, id: WorkRequestId) -> Result<i32> {
                let depth: Option<i32> = sqlx::query_scalar(
                    "SELECT f.depth FROM work_requests w JOIN fan_outs f ON f.parent = w.parent WHERE w.id = $1",
                )
                .bind(id.0)
                .fetch_optional(&mut *self.tx)
                .await
                .map_err(step("read how deep a run is"))?;
                Ok(depth.unwrap_or(0))
            }

            async fn output_of(&mut self, id: WorkRequestId) -> Result<Option<Value>> {
                let output: Option<Option<Json<Value>>> =
                    sqlx::query_scalar("SELECT output FROM work_requests WHERE id = $1")
                        .bind(id.0)
                        .fetch_optional(&mut *self.tx)
                        .await
                        .map_err(step("read an output"))?;
                Ok(output.flatten().map(|json| json.0))
            }

            async fn parents_sharing(&mut self, id: WorkRequestId) -> Result<Vec<WorkRequestId>> {
                let parents: Vec<Uuid> =
                    sqlx::query_scalar("SELECT parent FROM fan_out_shared WHERE work_request_id = $1")
                        .bind(id.0)
                        .fetch_all(&mut *self.tx)
                        .await
                        .map_err(step("look for shared children"))?;
                Ok(parents.into_iter().map(WorkRequestId).collect())
            }

            async fn any_shared(&mut self) -> Result<bool> {
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM fan_out_shared)")
                    .fetch_one(&mut *self.tx)
                    .await
                    .map_err(step("look for shared children"))
            }

            async fn take_shared(&mut self, id: WorkRequestId, parent: WorkRequestId) -> Result<u32> {
                let children: Option<i32> = sqlx::query_scalar(
                    "DELETE FROM fan_out_shared WHERE work_request_id = $1 AND parent = $2 RETURNING children",
                )
                .bind(id.0)
                .bind(parent.0)
                .fetch_optional(&mut *self.tx)
                .await
                .map_err(step("take shared children"))?;
                Ok(children.map_or(0, |children| u32::try_from(children).unwrap_or(0)))
            }

            async fn leave_shared(&mut self, parent: WorkRequestId) -> Result<u32> {
                let children: Vec<i32> =
                    sqlx::query_scalar("DELETE FROM fan_out_shared WHERE parent = $1 RETURNING children")
                        .bind(parent.0)
                        .fetch_all(&mut *self.tx)
                        .await
                        .map_err(step("leave shared children"))?;
                Ok(children.into_iter().map(|children| u32::try_from(children).unwrap_or(0)).sum())
            }

            async fn put_shared(&mut self, id: WorkRequestId, parent: WorkRequestId, children: u32) -> Result<()> {
                sqlx::query(
                    "INSERT INTO fan_out_shared (work_request_id, parent, children) VALUES ($1, $2, $3)
                     ON CONFLICT (work_request_id, parent)
                     DO UPDATE SET children = fan_out_shared.children + excluded.children",
                )
                .bind(id.0)
                .bind(parent.0)
                .bind(number(children))
                .execute(&mut *self.tx)
                .await
                .map_err(step("share a run"))?;
                Ok(())
            }

            async fn awaited(&mut self, parent: WorkRequestId) -> Result<bool> {
                sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM deliveries d JOIN work_requests w ON w.id = d.id WHERE w.parent = $1)
                         OR EXISTS (SELECT 1 FROM follow_ups f JOIN work_requests w ON w.id = f.work_request_id
                                    WHERE w.parent = $1)
                         OR EXISTS (SELECT 1 FROM fan_out_shared s WHERE s.parent = $1)",
                )
                .bind(parent.0)
                .fetch_one(&mut *self.tx)
                .await
                .map_err(step("look for children under way"))
            }

            async fn count_children(&mut self, parent: WorkRequestId) -> Result<[u32; 3]> {
                let counts: Vec<(String, i64)> =
                    sqlx::query_as("SELECT status, count(*) FROM work_requests WHERE parent = $1 GROUP BY status")
                        .bind(parent.0)
                        .fetch_all(&mut *self.tx)
                        .await
                        .map_err(step("count a run's children"))?;
                let of = |status: Status| {
                    let found = counts.iter().find(|(text, _)| text == status.as_str());
                    found.map_or(0, |(_, count)| u32::try_from(*count).unwrap_or(u32::MAX))
                };
                Ok([Status::Succeeded, Status::Failed, Status::Canceled].map(of))
            }
        }
    };
}

/// Implements [`super::super::database::ReadFanOuts`] for a type with a pool `read` of database `$db`.
macro_rules! impl_read_fan_outs {
    ($database:ty, $db:ty) => {
        #[async_trait::async_trait]
        impl $crate::store::database::ReadFanOuts for $database {
            async fn open_fan_outs(&self, after: Uuid, limit: i64) -> Result<Vec<OpenFanOut>> {
                let rows: Vec<OpenFanOutRow> = sqlx::query_as(
                    "SELECT f.parent, f.namespace, f.job, f.job_version, f.policy, f.depth, f.batch, f.total, f.born,
                            f.succeeded, f.failed, f.canceled, f.first_failed, f.stopped, f.ended_at, w.status
                     FROM fan_outs f JOIN work_requests w ON w.id = f.parent
                     WHERE f.ended_at IS NULL AND f.parent > $1 ORDER BY f.parent LIMIT $2",
                )
                .bind(after)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("look for runs with children"))?;
                all(rows)
            }

            async fn fan_out(&self, parent: WorkRequestId) -> Result<Option<FanOut>> {
                let row: Option<FanOutRow> = sqlx::query_as(
                    "SELECT parent, namespace, job, job_version, policy, depth, batch, total, born, succeeded, failed,
                            canceled, first_failed, stopped, ended_at
                     FROM fan_outs WHERE parent = $1",
                )
                .bind(parent.0)
                .fetch_optional(&self.read)
                .await
                .map_err(step("read a run's children"))?;
                row.map(FanOut::try_from).transpose()
            }

            async fn next_chunk(&self, batch: Uuid, after: i32) -> Result<Option<InputChunk>> {
                let row: Option<ChunkRow> = sqlx::query_as(
                    "SELECT chunk, inputs FROM fan_out_inputs WHERE batch = $1 AND chunk > $2 ORDER BY chunk LIMIT 1",
                )
                .bind(batch)
                .bind(after)
                .fetch_optional(&self.read)
                .await
                .map_err(step("read inputs"))?;
                Ok(row.map(InputChunk::from))
            }

            async fn unfinished_children(
                &self,
                parent: WorkRequestId,
                after: Uuid,
                limit: i64,
            ) -> Result<Vec<UnfinishedChild>> {
                let rows: Vec<UnfinishedRow> = sqlx::query_as(
                    "SELECT id, input FROM work_requests
                     WHERE parent = $1 AND parent IS NOT NULL AND id > $2 AND status IN ('FAILED', 'CANCELED')
                     ORDER BY id LIMIT $3",
                )
                .bind(parent.0)
                .bind(after)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read a run's children"))?;
                Ok(rows.into_iter().map(UnfinishedChild::from).collect())
            }
        }
    };
}

pub(crate) use impl_fan_outs;
pub(crate) use impl_read_fan_outs;
