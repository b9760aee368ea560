//! Reads for those who wait for an answer.

/// Implements [`super::super::database::ReadAnswers`] for a type with a pool `read` of database `$db`.
macro_rules! impl_read_answers {
    ($database:ty, $db:ty) => {
        #[async_trait::async_trait]
        impl $crate::store::database::ReadAnswers for $database {
            async fn standings(&self, ids: &[WorkRequestId]) -> Result<Vec<(WorkRequestId, Standing)>> {
                let mut query = sqlx::QueryBuilder::<$db>::new(
                    "SELECT w.id, w.status, d.seq FROM work_requests w LEFT JOIN deliveries d ON d.id = w.id
                     WHERE w.id IN (",
                );
                let mut list = query.separated(", ");
                for id in ids {
                    list.push_bind(id.0);
                }
                query.push(")");
                let rows: Vec<(Uuid, String, Option<i32>)> = query
                    .build_query_as()
                    .persistent(false)
                    .fetch_all(&self.read)
                    .await
                    .map_err(step("look for changes that are waited for"))?;
                let standing = |(id, status, last): (Uuid, String, Option<i32>)| {
                    Ok((WorkRequestId(id), Standing { status: status_column(&status)?, last }))
                };
                rows.into_iter().map(standing).collect()
            }

            async fn outputs(&self, ids: &[WorkRequestId]) -> Result<Vec<(WorkRequestId, Value)>> {
                let mut query = sqlx::QueryBuilder::<$db>::new(
                    "SELECT id, output FROM work_requests WHERE output IS NOT NULL AND id IN (",
                );
                let mut list = query.separated(", ");
                for id in ids {
                    list.push_bind(id.0);
                }
                query.push(")");
                let rows: Vec<(Uuid, Json<Value>)> = query
                    .build_query_as()
                    .persistent(false)
                    .fetch_all(&self.read)
                    .await
                    .map_err(step("read outputs"))?;
                Ok(rows.into_iter().map(|(id, Json(output))| (WorkRequestId(id), output)).collect())
            }

            async fn events_before(&self, id: WorkRequestId, before: i32, limit: i64) -> Result<Vec<HistoryEvent>> {
                let rows: Vec<EventRow> = sqlx::query_as(
                    "SELECT seq, at, what FROM events WHERE work_request_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3",
                )
                .bind(id.0)
                .bind(before)
                .bind(limit)
                .fetch_all(&self.read)
                .await
                .map_err(step("read a history backward"))?;
                all(rows)
            }

            async fn taken_key(&self, key: &IdempotencyKey) -> Result<Option<TakenKey>> {
                let taken: Option<(Json<_>, String)> = sqlx::query_as(TAKEN_KEY)
                    .bind(&key.namespace)
                    .bind(&key.caller)
                    .bind(&key.operation)
                    .bind(&key.key)
                    .fetch_optional(&self.read)
                    .await
                    .map_err(step("read an idempotency key"))?;
                Ok(taken.map(|(Json(fields), answer)| (fields, answer)))
            }
        }
    };
}

pub(crate) use impl_read_answers;
