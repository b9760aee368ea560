//! Webhooks.

/// Implements [`super::super::database::ReadWebhooks`] for a type with a pool `read` of database `$db`.
macro_rules! impl_read_webhooks {
    ($database:ty, $db:ty) => {
        #[async_trait::async_trait]
        impl $crate::store::database::ReadWebhooks for $database {
            async fn webhook(&self, namespace: &str, id: Uuid) -> Result<Option<Webhook>> {
                let row: Option<WebhookRow> = sqlx::QueryBuilder::<$db>::new(WEBHOOK)
                    .push(" AND namespace = ")
                    .push_bind(namespace)
                    .push(" AND id = ")
                    .push_bind(id)
                    .build_query_as()
                    .fetch_optional(&self.read)
                    .await
                    .map_err(step("read a webhook"))?;
                row.map(Webhook::try_from).transpose()
            }

            async fn webhooks(&self, namespace: &str, after: Uuid, limit: i64) -> Result<Vec<Webhook>> {
                let rows: Vec<WebhookRow> = sqlx::QueryBuilder::<$db>::new(WEBHOOK)
                    .push(" AND namespace = ")
                    .push_bind(namespace)
                    .push(" AND id > ")
                    .push_bind(after)
                    .push(" ORDER BY id LIMIT ")
                    .push_bind(limit)
                    .build_query_as()
                    .fetch_all(&self.read)
                    .await
                    .map_err(step("read webhooks"))?;
                all(rows)
            }

            async fn every_webhook(&self) -> Result<Vec<Webhook>> {
                let rows: Vec<WebhookRow> =
                    sqlx::query_as(WEBHOOK).fetch_all(&self.read).await.map_err(step("read all webhooks"))?;
                all(rows)
            }

            async fn webhook_deliveries(
                &self,
                webhook: Uuid,
                state: Option<DeliveryState>,
                before: Uuid,
                limit: i64,
            ) -> Result<Vec<WebhookDelivery>> {
                let mut query = sqlx::QueryBuilder::<$db>::new(concat!(
                    "SELECT ",
                    delivery_columns!(),
                    " FROM webhook_deliveries d WHERE d.webhook_id = "
                ));
                query.push_bind(webhook).push(" AND d.id < ").push_bind(before);
                if let Some(state) = state {
                    query.push(" AND d.state = ").push_bind(state.as_str());
                    if state != DeliveryState::Delivered {
                        // They have an index of their own.
                        query.push(" AND d.state <> 'delivered'");
                    }
                }
                query.push(" ORDER BY d.id DESC LIMIT ").push_bind(limit);
                let rows: Vec<DeliveryRow> =
                    query.build_query_as().fetch_all(&self.read).await.map_err(step("read deliveries of a webhook"))?;
                all(rows)
            }

            async fn webhook_delivery(&self, webhook: Uuid, id: Uuid) -> Result<Option<WebhookDelivery>> {
                let row: Option<DeliveryRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    delivery_columns!(),
                    " FROM webhook_deliveries d WHERE d.webhook_id = $1 AND d.id = $2"
                ))
                .bind(webhook)
                .bind(id)
                .fetch_optional(&self.read)
                .await
                .map_err(step("read a delivery of a webhook"))?;
                row.map(WebhookDelivery::try_from).transpose()
            }

            async fn webhook_counts(&self) -> Result<WebhookCounts> {
                let (pending, disabled) = sqlx::query_as(
                    "SELECT (SELECT count(*) FROM webhook_deliveries d JOIN webhooks h ON h.id = d.webhook_id
                             WHERE d.state = 'pending' AND d.state <> 'delivered' AND h.deleted_at IS NULL),
                            (SELECT count(*) FROM webhooks WHERE disabled_at IS NOT NULL AND deleted_at IS NULL)",
                )
                .fetch_one(&self.read)
                .await
                .map_err(step("count webhooks"))?;
                Ok(WebhookCounts { pending, disabled })
            }

            async fn any_webhook_entries(&self) -> Result<bool> {
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM webhook_outbox)")
                    .fetch_one(&self.read)
                    .await
                    .map_err(step("look for what webhooks may want"))
            }

            async fn any_due_deliveries(&self, now: Timestamp) -> Result<bool> {
                sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM webhooks h WHERE h.deleted_at IS NULL AND h.disabled_at IS NULL
                                    AND EXISTS (SELECT 1 FROM webhook_deliveries d
                                                WHERE d.webhook_id = h.id AND d.due_at <= $1))",
                )
                .bind(At(now))
                .fetch_one(&self.read)
                .await
                .map_err(step("look for deliveries of webhooks"))
            }
        }
    };
}

/// Implements [`super::super::database::Webhooks`] for a type with a transaction `tx` and an instant `now`; `$for_update` is
/// what locks a row that was read, `$beside` looks up what a row names.
macro_rules! impl_webhooks {
    ($tx:ty, $db:ty, $for_update:literal, $beside:ident) => {
        #[async_trait::async_trait]
        impl $crate::store::database::Webhooks for $tx {
            async fn lock_wishes(&mut self) -> Result<()> {
                // An update that changes nothing locks the row in both databases.
                sqlx::query("UPDATE schema_info SET webhooks = webhooks")
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("lock what webhooks wish for"))?;
                Ok(())
            }

            async fn put_wishes(&mut self, wanted: &'static str) -> Result<()> {
                sqlx::query("UPDATE schema_info SET webhooks = $1 WHERE webhooks <> $1")
                    .bind(wanted)
                    .execute(&mut *self.tx)
                    .await
                    .map_err(step("note what webhooks wish for"))?;
                Ok(())
            }

            async fn count_webhooks(&mut self, namespace: &str) -> Result<i64> {
                sqlx::query_scalar("SELECT count(*) FROM webhooks WHERE namespace = $1 AND deleted_at IS NULL")
                    .bind(namespace)
                    .fetch_one(&mut *self.tx)
                    .await
                    .map_err(step("count webhooks"))
            }

            async fn enabled_webhooks(&mut self) -> Result<Vec<Webhook>> {
                let rows: Vec<WebhookRow> = sqlx::QueryBuilder::<$db>::new(WEBHOOK)
                    .push(" AND disabled_at IS NULL")
                    .build_query_as()
                    .fetch_all(&mut *self.tx)
                    .await
                    .map_err(step("read webhooks"))?;
                all(rows)
            }

            async fn lock_webhooks(&mut self, ids: &[Uuid]) -> Result<Vec<Webhook>> {
                if ids.is_empty() {
                    return Ok(Vec::new());
                }
                let mut query = sqlx::QueryBuilder::<$db>::new(WEBHOOK);
                query.push(" AND id IN (");
                let mut list = query.separated(", ");
                for id in ids {
                    list.push_bind(*id);
                }
                query.push(concat!(") ORDER BY id", $for_update));
                let rows: Vec<WebhookRow> = query
                    .build_query_as()
                    .persistent(false)
                    .fetch_all(&mut *self.tx)
                    .await
                    .map_err(step("lock webhooks"))?;
                all(rows)
            }

            async fn insert_webhook(&mut self, webhook: &Webhook) -> Result<()> {
                sqlx::query(
                    "INSERT INTO webhooks (id, namespace, url, description, filter, secret, created_at, disabled_at,
                                           disabled_reason, version)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                )
                .bind(webhook.id)
                .bind(&webhook.namespace)
                .bind(&webhook.url)
                .bind(webhook.description.as_deref())
                .bind(Json(&webhook.filter))
                .bind(&webhook.secret.0)
                .bind(At(webhook.created_at))
                .bind(webhook.disabled.as_ref().map(|(at, _)| At(*at)))
                .bind(webhook.disabled.as_ref().map(|(_, reason)| reason.as_str()))
                .bind(webhook.version)
                .execute(&mut *self.tx)
                .await
                .map_err(step("record a webhook"))?;
                Ok(())
            }

            async fn save_webhook(&mut self, webhook: &Webhook) -> Result<()> {
                sqlx::query(
                    "UPDATE webhooks
                     SET url = $2, description = $3, filter = $4, secret = $5, old_secret = $6, old_until = $7,
                         failing_since = $8, disabled_at = $9, disabled_reason = $10, version = $11
                     WHERE id = $1",
                )
                .bind(webhook.id)
                .bind(&webhook.url)
                .bind(webhook.description.as_deref())
                .bind(Json(&webhook.filter))
                .bind(&webhook.secret.0)
                .bind(webhook.old_secret.as_ref().map(|(secret, _)| secret.0.as_slice()))
                .bind(webhook.old_secret.as_ref().map(|(_, until)| At(*until)))
                .bind(webhook.failing_since.map(At))
                .bind(webhook.disabled.as_ref().map(|(at, _)| At(*at)))
                .bind(webhook.disabled.as_ref().map(|(_, reason)| reason.as_str()))
                .bind(webhook.version)
                .execute(&mut *self.tx)
                .await
                .map_err(step("change a webhook"))?;
                Ok(())
            }

            async fn delete_webhook(&mut self, id: Uuid) -> Result<()> {
                sqlx::query("UPDATE webhooks SET deleted_at = $2, secret = $3, old_secret = NULL WHERE id = $1")
                .bind(id)
                .bind(At(self.now))
                .bind(Vec::<u8>::new())
                .execute(&mut *self.tx)
                .await
                .map_err(step("delete a webhook"))?;
                Ok(())
            }

            async fn purge_webhooks(&mut self) -> Result<u64> {
                let purged = sqlx::query(
                    "DELETE FROM webhooks WHERE deleted_at IS NOT NULL
                     AND NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.webhook_id = webhooks.id)",
                )
                .execute(&mut *self.tx)
                .await
                .map_err(step("forget deleted webhooks"))?;
                Ok(purged.rows_affected())
            }

            async fn webhook_entries(&mut self, limit: i64) -> Result<Vec<InOutbox>> {
                let rows: Vec<UntoldRow> = sqlx::query_as(in_outbox!("webhook_outbox", "true", $beside))
                    .bind(limit)
                    .fetch_all(&mut *self.tx)
                    .await
                    .map_err(step("read what webhooks may want"))?;
                all(rows)
            }

            async fn wake_webhook(&mut self, id: Uuid) -> Result<()> {
                sqlx::query(
                    "UPDATE webhook_deliveries SET due_at = $2, queued_at = $2, tries = 0
                     WHERE webhook_id = $1 AND state = 'pending' AND claim IS NULL
                     AND seq = (SELECT min(e.seq) FROM webhook_deliveries e
                                WHERE e.webhook_id = $1 AND e.work_request_id = webhook_deliveries.work_request_id
                                AND e.state = 'pending')",
                )
                .bind(id)
                .bind(At(self.now))
                .execute(&mut *self.tx)
                .await
                .map_err(step("wake a webhook"))?;
                Ok(())
            }

            async fn lock_delivery(&mut self, webhook: Uuid, id: Uuid) -> Result<Option<WebhookDelivery>> {
                let row: Option<DeliveryRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    delivery_columns!(),
                    " FROM webhook_deliveries d WHERE d.webhook_id = $1 AND d.id = $2",
                    $for_update
                ))
                .bind(webhook)
                .bind(id)
                .fetch_optional(&mut *self.tx)
                .await
                .map_err(step("lock a delivery of a webhook"))?;
                row.map(WebhookDelivery::try_from).transpose()
            }

            async fn queue_again(&mut self, delivery: &WebhookDelivery) -> Result<()> {
                sqlx::query(
                    "UPDATE webhook_deliveries
                     SET state = $3, queued_at = $4, due_at = $5, tries = $6, ended_at = $7
                     WHERE webhook_id = $1 AND id = $2",
                )
                .bind(delivery.webhook)
                .bind(delivery.id)
                .bind(delivery.state.as_str())
                .bind(At(delivery.queued_at))
                .bind(delivery.due_at.map(At))
                .bind(number(delivery.tries))
                .bind(delivery.ended_at.map(At))
                .execute(&mut *self.tx)
                .await
                .map_err(step("queue a delivery again"))?;
                Ok(())
            }
        }
    };
}

pub(crate) use {impl_read_webhooks, impl_webhooks};
