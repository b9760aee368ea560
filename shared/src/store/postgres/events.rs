//! What workers in other languages tell: arrays in, one statement for all.

use std::collections::HashSet;

use async_trait::async_trait;

use super::PgTx;
use crate::store::database::Events;
use crate::store::reads::prelude::*;

#[async_trait]
impl Events for PgTx {
    async fn lock_external(&mut self, runs: &[Uuid]) -> Result<Vec<ExternalRow>> {
        let rows: Vec<ExternalDbRow> = sqlx::query_as(concat!(
            external_leases!(),
            "WHERE e.work_request_id = ANY($1) ORDER BY e.work_request_id, e.token FOR UPDATE OF e"
        ))
        .bind(runs)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("lock leases"))?;
        all(rows)
    }

    async fn seen(&mut self, keys: &[SeenKey]) -> Result<HashSet<SeenKey>> {
        let rows: Vec<SeenKey> = sqlx::query_as(
            "SELECT u.run, u.source, u.id
             FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u (run, source, id)
             -- The limit keeps it a look into the index for each: a join may read the whole table, which grows quickly.
             CROSS JOIN LATERAL (SELECT 1 FROM seen_events s
                                 WHERE s.work_request_id = u.run AND s.source = u.source AND s.id = u.id LIMIT 1) AS known",
        )
        .bind(keys.iter().map(|(run, ..)| *run).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, source, _)| source.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|(.., id)| id.as_str()).collect::<Vec<_>>())
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("look for earlier events"))?;
        Ok(rows.into_iter().collect())
    }

    async fn keep_seen(&mut self, keys: &[SeenKey]) -> Result<()> {
        sqlx::query(
            "INSERT INTO seen_events (work_request_id, source, id, at)
             SELECT u.run, u.source, u.id, $4 FROM unnest($1::uuid[], $2::text[], $3::text[]) AS u (run, source, id)
             ON CONFLICT DO NOTHING",
        )
        .bind(keys.iter().map(|(run, ..)| *run).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, source, _)| source.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|(.., id)| id.as_str()).collect::<Vec<_>>())
        .bind(At(self.now))
        .execute(&mut *self.tx)
        .await
        .map_err(step("note events"))?;
        Ok(())
    }
}
