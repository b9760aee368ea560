//! Batches of deliveries of webhooks: arrays in, one statement for all.
//!
//! Each is planned anew (`persistent(false)`): a plan that was made while the table was small reads all of it for each array
//! element, and would be used until it is analyzed again.

use async_trait::async_trait;

use super::PgTx;
use crate::store::database::Deliveries;
use crate::store::reads::claimed_columns;
use crate::store::reads::prelude::*;
use crate::store::rows::ClaimedRow;
use crate::store::webhook_deliveries::{ClaimedDelivery, NewDelivery, Room, Tried};

#[async_trait]
impl Deliveries for PgTx {
    async fn take_webhook_entries(&mut self, numbers: &[i64]) -> Result<()> {
        sqlx::query("DELETE FROM webhook_outbox WHERE number = ANY($1)")
            .bind(numbers)
            .execute(&mut *self.tx)
            .await
            .map_err(step("take out what webhooks may want"))?;
        Ok(())
    }

    async fn insert_deliveries(&mut self, new: &[NewDelivery]) -> Result<()> {
        sqlx::query(
            "INSERT INTO webhook_deliveries (webhook_id, id, work_request_id, seq, state, created_at, queued_at, due_at)
             SELECT u.webhook, u.id, u.run, u.seq, 'pending', $6, $6,
                    CASE WHEN u.is_first AND NOT EXISTS (
                        SELECT 1 FROM webhook_deliveries d
                        WHERE d.webhook_id = u.webhook AND d.work_request_id = u.run AND d.state = 'pending'
                    ) THEN $6 END
             FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::integer[], $5::boolean[])
                  AS u (webhook, id, run, seq, is_first)",
        )
        .bind(new.iter().map(|new| new.webhook).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.id).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.run.0).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.seq).collect::<Vec<_>>())
        .bind(new.iter().map(|new| new.is_first).collect::<Vec<_>>())
        .bind(At(self.now))
        .persistent(false)
        .execute(&mut *self.tx)
        .await
        .map_err(step("insert deliveries of webhooks"))?;
        Ok(())
    }

    async fn claim_deliveries(
        &mut self,
        rooms: &[Room],
        most: i64,
        claim: Uuid,
        until: Timestamp,
    ) -> Result<Vec<ClaimedDelivery>> {
        let rows: Vec<ClaimedRow> = sqlx::query_as(concat!(
            "WITH due AS MATERIALIZED (
                SELECT of_one.webhook_id, of_one.id, of_one.work_request_id, of_one.seq
                FROM webhooks h
                LEFT JOIN unnest($1::uuid[], $2::bigint[]) AS r (webhook_id, room) ON r.webhook_id = h.id
                -- Of each a look into the index: a backlog of one costs the others nothing.
                CROSS JOIN LATERAL (
                    SELECT webhook_id, id, work_request_id, seq FROM webhook_deliveries
                    WHERE webhook_id = h.id AND due_at <= $3 ORDER BY due_at LIMIT coalesce(r.room, $4)
                    FOR UPDATE SKIP LOCKED
                ) AS of_one
                WHERE h.deleted_at IS NULL AND h.disabled_at IS NULL
             )
             UPDATE webhook_deliveries d SET claim = $5, due_at = $6, tries = d.tries + 1
             FROM due JOIN webhooks h ON h.id = due.webhook_id
             -- Looked up one by one (see `beside_in_postgres`). Of what is beside a row that is updated all columns are read.
             LEFT JOIN LATERAL (SELECT namespace, job, schedule FROM work_requests
                                WHERE id = due.work_request_id OFFSET 0) AS w ON true
             LEFT JOIN LATERAL (SELECT at, what FROM events
                                WHERE work_request_id = due.work_request_id AND seq = due.seq OFFSET 0) AS e ON true
             WHERE d.webhook_id = due.webhook_id AND d.id = due.id
             RETURNING ",
            delivery_columns!(),
            ", ",
            claimed_columns!()
        ))
        .bind(rooms.iter().map(|room| room.webhook).collect::<Vec<_>>())
        .bind(rooms.iter().map(|room| room.left).collect::<Vec<_>>())
        .bind(At(self.now))
        .bind(most)
        .bind(claim)
        .bind(At(until))
        .persistent(false)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("claim deliveries of webhooks"))?;
        rows.into_iter().map(|row| row.under(claim)).collect()
    }

    async fn save_tried(&mut self, tried: &[Tried]) -> Result<Vec<(Uuid, Uuid)>> {
        sqlx::query_as(
            "WITH saved AS (
                UPDATE webhook_deliveries d
                SET claim = NULL, state = u.state, due_at = u.due_at, attempts = u.attempts,
                    ended_at = CASE WHEN u.state <> 'pending' THEN $7 END
                FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::jsonb[])
                     AS u (webhook, id, claim, state, due_at, attempts)
                WHERE d.webhook_id = u.webhook AND d.id = u.id AND d.claim = u.claim
                RETURNING d.webhook_id, d.work_request_id, d.state
             )
             SELECT webhook_id, work_request_id FROM saved WHERE state <> 'pending'",
        )
        .bind(tried.iter().map(|tried| tried.webhook).collect::<Vec<_>>())
        .bind(tried.iter().map(|tried| tried.id).collect::<Vec<_>>())
        .bind(tried.iter().map(|tried| tried.claim).collect::<Vec<_>>())
        .bind(tried.iter().map(|tried| tried.state().as_str()).collect::<Vec<_>>())
        .bind(tried.iter().map(|tried| tried.due_at().map(At)).collect::<Vec<_>>())
        .bind(tried.iter().map(|tried| Json(&tried.attempts)).collect::<Vec<_>>())
        .bind(At(self.now))
        .persistent(false)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(step("keep what came of deliveries"))
    }

    async fn wake_next(&mut self, of: &[(Uuid, Uuid)]) -> Result<()> {
        if of.is_empty() {
            return Ok(());
        }
        sqlx::query(
            // By itself, as a plan that joins the deliveries first looks for each of them.
            "WITH next AS MATERIALIZED (
                SELECT u.webhook, first.id FROM unnest($1::uuid[], $2::uuid[]) AS u (webhook, run)
                CROSS JOIN LATERAL (SELECT id, due_at FROM webhook_deliveries
                                    WHERE webhook_id = u.webhook AND work_request_id = u.run AND state = 'pending'
                                    ORDER BY seq LIMIT 1) AS first
                WHERE first.due_at IS NULL
             )
             UPDATE webhook_deliveries d SET due_at = $3, queued_at = $3
             FROM next WHERE d.webhook_id = next.webhook AND d.id = next.id",
        )
        .bind(of.iter().map(|(webhook, _)| *webhook).collect::<Vec<_>>())
        .bind(of.iter().map(|(_, run)| *run).collect::<Vec<_>>())
        .bind(At(self.now))
        .persistent(false)
        .execute(&mut *self.tx)
        .await
        .map_err(step("wake the next deliveries"))?;
        Ok(())
    }

    async fn purge_deliveries(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
        let purged = sqlx::query(
            "DELETE FROM webhook_deliveries d USING (
                SELECT old.webhook_id, old.id FROM webhooks h
                CROSS JOIN LATERAL (
                    SELECT webhook_id, id FROM webhook_deliveries
                    WHERE webhook_id = h.id
                    AND id < CASE WHEN h.deleted_at IS NULL THEN $1 ELSE 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid END
                    AND (state <> 'pending' OR h.deleted_at IS NOT NULL OR h.disabled_at IS NOT NULL)
                    ORDER BY id LIMIT $2
                ) AS old
             ) AS old
             WHERE d.webhook_id = old.webhook_id AND d.id = old.id",
        )
        .bind(id_floor(before))
        .bind(limit)
        .persistent(false)
        .execute(&mut *self.tx)
        .await
        .map_err(step("forget deliveries"))?;
        Ok(purged.rows_affected())
    }
}
