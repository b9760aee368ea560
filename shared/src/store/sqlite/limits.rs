//! Limits, one by one: the transaction is the only writer, so that reading is locking.

use std::collections::HashMap;

use async_trait::async_trait;

use super::SqliteTx;
use crate::store::database::{Limits, Locking};
use crate::store::limits::{Limit, LimitRow};
use crate::store::reads::prelude::*;
use crate::store::rows::LimitDbRow;

#[async_trait]
impl Limits for SqliteTx {
    async fn limits(&mut self, keys: &[String], _: Locking) -> Result<Vec<LimitRow>> {
        let mut rows: Vec<LimitDbRow> = Vec::with_capacity(keys.len());
        for key in keys {
            let row = sqlx::query_as("SELECT key, most, period_ms, used_at FROM limits WHERE key = $1")
                .bind(key)
                .fetch_optional(&mut *self.tx)
                .await
                .map_err(step("read limits"))?;
            rows.extend(row);
        }
        all(rows)
    }

    async fn put_limits(&mut self, limits: &[&Limit]) -> Result<()> {
        for limit in limits {
            sqlx::query(
                "INSERT INTO limits AS l (key, most, period_ms, used_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (key) DO UPDATE
                 SET most = excluded.most, period_ms = excluded.period_ms, used_at = excluded.used_at,
                     wake_at = CASE WHEN l.most IS NOT excluded.most OR l.period_ms IS NOT excluded.period_ms
                                    THEN $4 ELSE l.wake_at END",
            )
            .bind(&limit.key)
            .bind(i64::from(limit.most))
            .bind(limit.per.map(|per| millis(per.get())))
            .bind(At(self.now))
            .execute(&mut *self.tx)
            .await
            .map_err(step("make limits known"))?;
        }
        Ok(())
    }

    async fn under_way(&mut self, keys: &[String]) -> Result<HashMap<String, i64>> {
        let mut counts = HashMap::new();
        for key in keys {
            let count: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM deliveries
                 WHERE concurrency_key = $1 AND concurrency_key IS NOT NULL AND phase IN ('sent', 'leased', 'parked')",
            )
            .bind(key)
            .fetch_one(&mut *self.tx)
            .await
            .map_err(step("count runs under way"))?;
            counts.insert(key.clone(), count);
        }
        Ok(counts)
    }

    async fn starts(&mut self, spans: &[(String, Timestamp)]) -> Result<HashMap<String, (i64, Timestamp)>> {
        let mut counts = HashMap::new();
        for (key, after) in spans {
            let (count, first): (i64, Option<At>) =
                sqlx::query_as("SELECT count(*), min(at) FROM starts WHERE key = $1 AND at > $2")
                    .bind(key)
                    .bind(At(*after))
                    .fetch_one(&mut *self.tx)
                    .await
                    .map_err(step("count starts"))?;
            counts.extend(first.map(|At(first)| (key.clone(), (count, first))));
        }
        Ok(counts)
    }

    async fn record_starts(
        &mut self,
        starts: &[(String, WorkRequestId)],
        forget: &[(String, Timestamp)],
    ) -> Result<()> {
        for (key, until) in forget {
            sqlx::query("DELETE FROM starts WHERE key = $1 AND at <= $2")
                .bind(key)
                .bind(At(*until))
                .execute(&mut *self.tx)
                .await
                .map_err(step("forget starts"))?;
        }
        for (key, id) in starts {
            sqlx::query("INSERT INTO starts (key, at, id) VALUES ($1, $2, $3)")
                .bind(key)
                .bind(At(self.now))
                .bind(id.0)
                .execute(&mut *self.tx)
                .await
                .map_err(step("record starts"))?;
        }
        Ok(())
    }

    async fn wake_limits(&mut self, wakes: &[(String, Option<Timestamp>)]) -> Result<()> {
        for (key, at) in wakes {
            sqlx::query("UPDATE limits SET wake_at = $2 WHERE key = $1")
                .bind(key)
                .bind(at.map(At))
                .execute(&mut *self.tx)
                .await
                .map_err(step("wake limits"))?;
        }
        Ok(())
    }

    async fn wake_holding(&mut self, keys: &[String]) -> Result<()> {
        for key in keys {
            sqlx::query(
                "UPDATE limits SET wake_at = $2 WHERE key = $1 AND EXISTS
                 (SELECT 1 FROM deliveries d WHERE d.concurrency_key = $1 AND d.phase = 'held' AND d.hold = 'concurrency')",
            )
            .bind(key)
            .bind(At(self.now))
            .execute(&mut *self.tx)
            .await
            .map_err(step("wake limits"))?;
        }
        Ok(())
    }

    async fn purge_limits(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
        let purged = sqlx::query(
            "DELETE FROM limits WHERE key IN
             (SELECT key FROM limits WHERE used_at < $1 AND key NOT IN
                     (SELECT concurrency_key FROM deliveries WHERE concurrency_key IS NOT NULL
                      UNION SELECT rate_key FROM deliveries WHERE rate_key IS NOT NULL)
              LIMIT $2)",
        )
        .bind(At(before))
        .bind(limit)
        .execute(&mut *self.tx)
        .await
        .map_err(step("forget limits"))?;
        Ok(purged.rows_affected())
    }
}
