//! Batches of limits.

use std::collections::HashMap;

use async_trait::async_trait;

use super::PgTx;
use crate::store::database::{Limits, Locking};
use crate::store::limits::{Limit, LimitRow};
use crate::store::reads::prelude::*;
use crate::store::rows::LimitDbRow;

#[async_trait]
impl Limits for PgTx {
    async fn limits(&mut self, keys: &[String], locking: Locking) -> Result<Vec<LimitRow>> {
        let mut query = sqlx::QueryBuilder::<sqlx::Postgres>::new(
            "SELECT key, most, period_ms, used_at FROM limits WHERE key = ANY(",
        );
        query.push_bind(keys).push(") ORDER BY key").push(match locking {
            Locking::No => "",
            Locking::Wait => " FOR UPDATE",
            Locking::PassOver => " FOR UPDATE SKIP LOCKED",
        });
        let rows: Vec<LimitDbRow> =
            query.build_query_as().fetch_all(&mut *self.tx).await.map_err(step("read limits"))?;
        all(rows)
    }

    async fn put_limits(&mut self, limits: &[&Limit]) -> Result<()> {
        sqlx::query(
            "INSERT INTO limits AS l (key, most, period_ms, used_at)
             SELECT u.key, u.most, u.period_ms, $4
             FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS u (key, most, period_ms) ORDER BY u.key
             ON CONFLICT (key) DO UPDATE
             SET most = excluded.most, period_ms = excluded.period_ms, used_at = excluded.used_at,
                 wake_at = CASE WHEN (l.most, l.period_ms) IS DISTINCT FROM (excluded.most, excluded.period_ms)
                                THEN $4 ELSE l.wake_at END",
        )
        .bind(limits.iter().map(|limit| limit.key.as_str()).collect::<Vec<_>>())
        .bind(limits.iter().map(|limit| i64::from(limit.most)).collect::<Vec<_>>())
        .bind(limits.iter().map(|limit| period_column(limit)).collect::<Vec<_>>())
        .bind(At(self.now))
        .execute(&mut *self.tx)
        .await
        .map_err(step("make limits known"))?;
        Ok(())
    }

    async fn under_way(&mut self, keys: &[String]) -> Result<HashMap<String, i64>> {
        let counts: Vec<(String, i64)> = sqlx::query_as(
            "SELECT concurrency_key, count(*) FROM deliveries
             WHERE concurrency_key = ANY($1) AND concurrency_key IS NOT NULL AND phase IN ('sent', 'leased', 'parked')
             GROUP BY concurrency_key",
        )
        .bind(keys)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("count runs under way"))?;
        Ok(counts.into_iter().collect())
    }

    async fn starts(&mut self, spans: &[(String, Timestamp)]) -> Result<HashMap<String, (i64, Timestamp)>> {
        let (keys, after): (Vec<_>, Vec<_>) = spans.iter().map(|(key, at)| (key.as_str(), At(*at))).unzip();
        let counts: Vec<(String, i64, At)> = sqlx::query_as(
            "SELECT u.key, count(*), min(s.at)
             FROM unnest($1::text[], $2::timestamptz[]) AS u (key, after)
             JOIN starts s ON s.key = u.key AND s.at > u.after GROUP BY u.key",
        )
        .bind(keys)
        .bind(after)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("count starts"))?;
        Ok(counts.into_iter().map(|(key, count, At(first))| (key, (count, first))).collect())
    }

    async fn record_starts(
        &mut self,
        starts: &[(String, WorkRequestId)],
        forget: &[(String, Timestamp)],
    ) -> Result<()> {
        let (keys, until): (Vec<_>, Vec<_>) = forget.iter().map(|(key, at)| (key.as_str(), At(*at))).unzip();
        sqlx::query(
            "DELETE FROM starts s USING unnest($1::text[], $2::timestamptz[]) AS u (key, until)
             WHERE s.key = u.key AND s.at <= u.until",
        )
        .bind(keys)
        .bind(until)
        .execute(&mut *self.tx)
        .await
        .map_err(step("forget starts"))?;
        // Not the transaction's time: it may have waited for the limit's lock since, and these starts would count no more
        // before their span is over.
        sqlx::query(
            "INSERT INTO starts (key, at, id)
             SELECT u.key, clock_timestamp(), u.id FROM unnest($1::text[], $2::uuid[]) AS u (key, id)",
        )
        .bind(starts.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>())
        .bind(starts.iter().map(|(_, id)| id.0).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await
        .map_err(step("record starts"))?;
        Ok(())
    }

    async fn wake_limits(&mut self, wakes: &[(String, Option<Timestamp>)]) -> Result<()> {
        sqlx::query(
            "UPDATE limits l SET wake_at = u.at FROM unnest($1::text[], $2::timestamptz[]) AS u (key, at)
             WHERE l.key = u.key",
        )
        .bind(wakes.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>())
        .bind(wakes.iter().map(|(_, at)| at.map(At)).collect::<Vec<_>>())
        .execute(&mut *self.tx)
        .await
        .map_err(step("wake limits"))?;
        Ok(())
    }

    async fn wake_holding(&mut self, keys: &[String]) -> Result<()> {
        sqlx::query(
            "UPDATE limits l SET wake_at = $2 WHERE l.key = ANY($1) AND EXISTS
             (SELECT 1 FROM deliveries d
              WHERE d.concurrency_key = l.key AND d.phase = 'held' AND d.hold = 'concurrency')",
        )
        .bind(keys)
        .bind(At(self.now))
        .execute(&mut *self.tx)
        .await
        .map_err(step("wake limits"))?;
        Ok(())
    }

    async fn purge_limits(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
        let purged = sqlx::query(
            "DELETE FROM limits WHERE key IN
             (SELECT key FROM limits WHERE used_at < $1 AND key NOT IN
                     (SELECT concurrency_key FROM deliveries WHERE concurrency_key IS NOT NULL
                      UNION SELECT rate_key FROM deliveries WHERE rate_key IS NOT NULL)
              LIMIT $2 FOR UPDATE SKIP LOCKED)",
        )
        .bind(At(before))
        .bind(limit)
        .execute(&mut *self.tx)
        .await
        .map_err(step("forget limits"))?;
        Ok(purged.rows_affected())
    }
}

fn period_column(limit: &Limit) -> Option<i64> {
    limit.per.map(|per| millis(per.get()))
}
