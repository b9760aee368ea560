//! What workers in other languages tell: one prepared statement for each.

use std::collections::HashSet;

use async_trait::async_trait;

use super::SqliteTx;
use crate::store::database::Events;
use crate::store::reads::prelude::*;

#[async_trait]
impl Events for SqliteTx {
    async fn lock_external(&mut self, runs: &[Uuid]) -> Result<Vec<ExternalRow>> {
        // The transaction is the only writer, so that reading is locking.
        let mut rows: Vec<ExternalDbRow> = Vec::new();
        for run in runs {
            let of_one: Vec<ExternalDbRow> =
                sqlx::query_as(concat!(external_leases!(), "WHERE e.work_request_id = $1 ORDER BY e.token"))
                    .bind(run)
                    .fetch_all(&mut *self.tx)
                    .await
                    .map_err(step("lock leases"))?;
            rows.extend(of_one);
        }
        all(rows)
    }

    async fn seen(&mut self, keys: &[SeenKey]) -> Result<HashSet<SeenKey>> {
        let mut seen = HashSet::new();
        for key @ (run, source, id) in keys {
            let known: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM seen_events WHERE work_request_id = $1 AND source = $2 AND id = $3)",
            )
            .bind(run)
            .bind(source)
            .bind(id)
            .fetch_one(&mut *self.tx)
            .await
            .map_err(step("look for earlier events"))?;
            seen.extend(known.then(|| key.clone()));
        }
        Ok(seen)
    }

    async fn keep_seen(&mut self, keys: &[SeenKey]) -> Result<()> {
        for (run, source, id) in keys {
            sqlx::query(
                "INSERT INTO seen_events (work_request_id, source, id, at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(run)
            .bind(source)
            .bind(id)
            .bind(At(self.now))
            .execute(&mut *self.tx)
            .await
            .map_err(step("note events"))?;
        }
        Ok(())
    }
}
