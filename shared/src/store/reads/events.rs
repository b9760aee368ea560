//! Single statements about workers in other languages and what they tell.

/// Implements [`super::super::database::PlainEvents`] for a type with a transaction `tx` and an instant `now`.
macro_rules! impl_plain_events {
    ($tx:ty) => {
        #[async_trait::async_trait]
        impl $crate::store::database::PlainEvents for $tx {
            async fn put_external(&mut self, lease: &ExternalRow) -> Result<()> {
                sqlx::query(
                    "INSERT INTO external_leases (work_request_id, token, worker, attempt, lease_ms, retry)
                     VALUES ($1, $2, $3, $4, $5, $6)",
                )
                .bind(lease.run.0)
                .bind(lease.token)
                .bind(lease.worker)
                .bind(number(lease.attempt))
                .bind(millis(lease.lease.get()))
                .bind(Json(&lease.retry))
                .execute(&mut *self.tx)
                .await
                .map_err(step("note a lease"))?;
                Ok(())
            }

            async fn save_external(&mut self, lease: &ExternalRow) -> Result<()> {
                sqlx::query(
                    "UPDATE external_leases
                     SET ended = $3, words_at = $4, words_id = $5, output = $6, output_at = $7, output_id = $8, has_own = $9
                     WHERE work_request_id = $1 AND token = $2",
                )
                .bind(lease.run.0)
                .bind(lease.token)
                .bind(lease.ended.as_deref())
                .bind(lease.words.as_ref().map(|(at, _)| At(*at)))
                .bind(lease.words.as_ref().map(|(_, id)| id.as_str()))
                .bind(lease.output.as_ref().map(|(output, ..)| Json(output)))
                .bind(lease.output.as_ref().map(|(_, at, _)| At(*at)))
                .bind(lease.output.as_ref().map(|(.., id)| id.as_str()))
                .bind(lease.has_own)
                .execute(&mut *self.tx)
                .await
                .map_err(step("keep what was told under a lease"))?;
                Ok(())
            }

            async fn put_external_worker(&mut self, worker: Uuid, name: &str, queue: &str) -> Result<()> {
                // Builds before this schema lead for a while during an upgrade, and know no kinds: the longest time-to-live
                // keeps them from taking it for dead.
                let longest = i64::try_from($crate::duration::LONGEST.as_millis()).unwrap_or(i64::MAX);
                sqlx::query(
                    "INSERT INTO workers (incarnation, name, queues, slots, version, started_at, beat_at, lease_ttl_ms, kind)
                     VALUES ($1, $2, $3, 0, '', $4, $4, $5, 'external')
                     ON CONFLICT (incarnation) DO UPDATE
                     SET queues = excluded.queues, beat = workers.beat + 1, beat_at = excluded.beat_at, ended_at = NULL",
                )
                .bind(worker)
                .bind(name)
                .bind(Json([queue]))
                .bind(At(self.now))
                .bind(longest)
                .execute(&mut *self.tx)
                .await
                .map_err(step("note a worker"))?;
                Ok(())
            }

            async fn namespace_of(&mut self, run: Uuid) -> Result<Option<String>> {
                sqlx::query_scalar("SELECT namespace FROM work_requests WHERE id = $1")
                    .bind(run)
                    .fetch_optional(&mut *self.tx)
                    .await
                    .map_err(step("look for a work request"))
            }

            async fn set_words(&mut self, run: Uuid, percent: f32, message: Option<&str>) -> Result<()> {
                sqlx::query(
                    "UPDATE work_requests
                     SET percent = CASE WHEN percent < $2 THEN $2 ELSE percent END, message = coalesce($3, message)
                     WHERE id = $1",
                )
                .bind(run)
                .bind(f64::from(percent))
                .bind(message)
                .execute(&mut *self.tx)
                .await
                .map_err(step("save progress"))?;
                Ok(())
            }

            async fn set_output(&mut self, run: Uuid, output: &Value) -> Result<()> {
                sqlx::query("UPDATE work_requests SET output = $2 WHERE id = $1")
                    .bind(run)
                    .bind(Json(output))
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("save an output"))?;
                Ok(())
            }

            async fn keep_refused(
                &mut self,
                fingerprint: &str,
                via: &str,
                event: &RefusedEvent,
                count: i64,
            ) -> Result<()> {
                // Looked for first: an insert that conflicts takes a number all the same, and by numbers the old go.
                let known =
                    sqlx::query("UPDATE refused_events SET count = count + $2, last_at = $3 WHERE fingerprint = $1")
                        .bind(fingerprint)
                        .bind(count)
                        .bind(At(self.now))
                        .execute(&mut *self.tx)
                        .await
                        .map_err(step("count a refused event"))?;
                if known.rows_affected() > 0 {
                    return Ok(());
                }
                sqlx::query(
                    "INSERT INTO refused_events (fingerprint, via, code, message, source, id, kind, subject, namespace,
                                                 first_at, last_at, count)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)
                     ON CONFLICT (fingerprint) DO UPDATE
                     SET count = refused_events.count + excluded.count, last_at = excluded.last_at",
                )
                .bind(fingerprint)
                .bind(via)
                .bind(event.code)
                .bind(&event.message)
                .bind(event.of.source.as_deref())
                .bind(event.of.id.as_deref())
                .bind(event.of.kind.as_deref())
                .bind(event.of.subject.as_deref())
                .bind(event.of.namespace.as_deref())
                .bind(At(self.now))
                .bind(count)
                .execute(&mut *self.tx)
                .await
                .map_err(step("keep a refused event"))?;
                Ok(())
            }

            async fn purge_refused(&mut self, before: Timestamp, most: i64) -> Result<u64> {
                let purged = sqlx::query(
                    "DELETE FROM refused_events
                     WHERE last_at < $1 OR seq <= (SELECT max(seq) FROM refused_events) - $2",
                )
                .bind(At(before))
                .bind(most)
                .execute(&mut *self.tx)
                .await
                .map_err(step("forget refused events"))?;
                Ok(purged.rows_affected())
            }

            async fn purge_seen(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
                let purged = sqlx::query(
                    "DELETE FROM seen_events WHERE (work_request_id, source, id) IN
                     (SELECT work_request_id, source, id FROM seen_events WHERE at < $1 LIMIT $2)",
                )
                .bind(At(before))
                .bind(limit)
                .execute(&mut *self.tx)
                .await
                .map_err(step("forget events"))?;
                Ok(purged.rows_affected())
            }
        }
    };
}

pub(crate) use impl_plain_events;
