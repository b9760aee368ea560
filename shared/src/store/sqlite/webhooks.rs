//! Batches of deliveries of webhooks: one prepared statement for each.

use async_trait::async_trait;

use super::SqliteTx;
use crate::store::database::{Deliveries, Webhooks as _};
use crate::store::reads::claimed_columns;
use crate::store::reads::prelude::*;
use crate::store::rows::ClaimedRow;
use crate::store::webhook_deliveries::{ClaimedDelivery, NewDelivery, Room, Tried};

#[async_trait]
impl Deliveries for SqliteTx {
    async fn take_webhook_entries(&mut self, numbers: &[i64]) -> Result<()> {
        for number in numbers {
            sqlx::query("DELETE FROM webhook_outbox WHERE number = $1")
                .bind(number)
                .execute(&mut *self.tx)
                .await
                .map_err(step("take out what webhooks may want"))?;
        }
        Ok(())
    }

    async fn insert_deliveries(&mut self, new: &[NewDelivery]) -> Result<()> {
        for new in new {
            sqlx::query(
                "INSERT INTO webhook_deliveries (webhook_id, id, work_request_id, seq, state, created_at, queued_at, due_at)
                 VALUES ($1, $2, $3, $4, 'pending', $6, $6, CASE WHEN $5 AND NOT EXISTS (
                     SELECT 1 FROM webhook_deliveries WHERE webhook_id = $1 AND work_request_id = $3 AND state = 'pending'
                 ) THEN $6 END)",
            )
            .bind(new.webhook)
            .bind(new.id)
            .bind(new.run.0)
            .bind(new.seq)
            .bind(new.is_first)
            .bind(At(self.now))
            .execute(&mut *self.tx)
            .await
            .map_err(step("insert deliveries of webhooks"))?;
        }
        Ok(())
    }

    async fn claim_deliveries(
        &mut self,
        rooms: &[Room],
        most: i64,
        claim: Uuid,
        until: Timestamp,
    ) -> Result<Vec<ClaimedDelivery>> {
        let mut claimed = Vec::new();
        for webhook in self.enabled_webhooks().await? {
            let room = rooms.iter().find(|room| room.webhook == webhook.id).map_or(most, |room| room.left);
            let rows: Vec<ClaimedRow> = sqlx::query_as(concat!(
                "SELECT ",
                delivery_columns!(),
                ", ",
                claimed_columns!(),
                " FROM webhook_deliveries d JOIN webhooks h ON h.id = d.webhook_id
                  LEFT JOIN work_requests w ON w.id = d.work_request_id
                  LEFT JOIN events e ON e.work_request_id = d.work_request_id AND e.seq = d.seq
                  WHERE d.webhook_id = $1 AND d.due_at <= $2 ORDER BY d.due_at LIMIT $3"
            ))
            .bind(webhook.id)
            .bind(At(self.now))
            .bind(room)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(step("look for deliveries of webhooks"))?;
            for row in rows {
                let mut one = row.under(claim)?;
                (one.delivery.claim, one.delivery.due_at) = (Some(claim), Some(until));
                one.delivery.tries += 1;
                sqlx::query(
                    "UPDATE webhook_deliveries SET claim = $3, due_at = $4, tries = $5 WHERE webhook_id = $1 AND id = $2",
                )
                .bind(webhook.id)
                .bind(one.delivery.id)
                .bind(claim)
                .bind(At(until))
                .bind(number(one.delivery.tries))
                .execute(&mut *self.tx)
                .await
                .map_err(step("claim deliveries of webhooks"))?;
                claimed.push(one);
            }
        }
        Ok(claimed)
    }

    async fn save_tried(&mut self, tried: &[Tried]) -> Result<Vec<(Uuid, Uuid)>> {
        let mut ended = Vec::new();
        for tried in tried {
            let saved: Option<(Uuid, Uuid, String)> = sqlx::query_as(
                "UPDATE webhook_deliveries
                 SET claim = NULL, state = $4, due_at = $5, attempts = $6,
                     ended_at = CASE WHEN $4 <> 'pending' THEN $7 END
                 WHERE webhook_id = $1 AND id = $2 AND claim = $3
                 RETURNING webhook_id, work_request_id, state",
            )
            .bind(tried.webhook)
            .bind(tried.id)
            .bind(tried.claim)
            .bind(tried.state().as_str())
            .bind(tried.due_at().map(At))
            .bind(Json(&tried.attempts))
            .bind(At(self.now))
            .fetch_optional(&mut *self.tx)
            .await
            .map_err(step("keep what came of deliveries"))?;
            ended.extend(saved.filter(|(.., state)| state != "pending").map(|(webhook, run, _)| (webhook, run)));
        }
        Ok(ended)
    }

    async fn wake_next(&mut self, of: &[(Uuid, Uuid)]) -> Result<()> {
        for (webhook, run) in of {
            sqlx::query(
                "UPDATE webhook_deliveries SET due_at = $3, queued_at = $3
                 WHERE due_at IS NULL AND webhook_id = $1 AND id =
                     (SELECT id FROM webhook_deliveries
                      WHERE webhook_id = $1 AND work_request_id = $2 AND state = 'pending' ORDER BY seq LIMIT 1)",
            )
            .bind(webhook)
            .bind(run)
            .bind(At(self.now))
            .execute(&mut *self.tx)
            .await
            .map_err(step("wake the next deliveries"))?;
        }
        Ok(())
    }

    async fn purge_deliveries(&mut self, before: Timestamp, limit: i64) -> Result<u64> {
        let all: Vec<(Uuid, bool, bool)> =
            sqlx::query_as("SELECT id, deleted_at IS NOT NULL, disabled_at IS NOT NULL FROM webhooks")
                .fetch_all(&mut *self.tx)
                .await
                .map_err(step("read webhooks"))?;
        let mut purged = 0;
        for (webhook, is_deleted, is_disabled) in all {
            let below = if is_deleted { Uuid::max() } else { id_floor(before) };
            let done = sqlx::query(
                "DELETE FROM webhook_deliveries WHERE webhook_id = $1 AND id IN
                 (SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND id < $2 AND (state <> 'pending' OR $4)
                  ORDER BY id LIMIT $3)",
            )
            .bind(webhook)
            .bind(below)
            .bind(limit)
            .bind(is_deleted || is_disabled)
            .execute(&mut *self.tx)
            .await
            .map_err(step("forget deliveries"))?;
            purged += done.rows_affected();
        }
        Ok(purged)
    }
}
