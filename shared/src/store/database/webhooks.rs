//! What a database must do about webhooks and their deliveries.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::store::Result;
use crate::store::rows::InOutbox;
use crate::store::webhook_deliveries::{
    ClaimedDelivery, DeliveryState, NewDelivery, Room, Tried, WebhookCounts, WebhookDelivery,
};
use crate::store::webhooks::Webhook;

/// Reads of webhooks, the same text in both databases.
#[async_trait]
pub(crate) trait ReadWebhooks {
    async fn webhook(&self, namespace: &str, id: Uuid) -> Result<Option<Webhook>>;
    async fn webhooks(&self, namespace: &str, after: Uuid, limit: i64) -> Result<Vec<Webhook>>;
    async fn every_webhook(&self) -> Result<Vec<Webhook>>;
    /// Up to `limit` deliveries before this one, the latest first.
    async fn webhook_deliveries(
        &self,
        webhook: Uuid,
        state: Option<DeliveryState>,
        before: Uuid,
        limit: i64,
    ) -> Result<Vec<WebhookDelivery>>;
    async fn webhook_delivery(&self, webhook: Uuid, id: Uuid) -> Result<Option<WebhookDelivery>>;
    async fn webhook_counts(&self) -> Result<WebhookCounts>;
    async fn any_webhook_entries(&self) -> Result<bool>;
    async fn any_due_deliveries(&self, now: Timestamp) -> Result<bool>;
}

/// Single statements about webhooks.
#[async_trait]
pub(crate) trait Webhooks {
    /// Waits for whoever else changes what webhooks wish for.
    async fn lock_wishes(&mut self) -> Result<()>;
    /// Which entries are kept for them: `none`, `ends` or `all`.
    async fn put_wishes(&mut self, wanted: &'static str) -> Result<()>;
    async fn count_webhooks(&mut self, namespace: &str) -> Result<i64>;
    async fn enabled_webhooks(&mut self) -> Result<Vec<Webhook>>;
    /// Those of these that are not deleted. Ids in ascending order.
    async fn lock_webhooks(&mut self, ids: &[Uuid]) -> Result<Vec<Webhook>>;
    async fn insert_webhook(&mut self, webhook: &Webhook) -> Result<()>;
    async fn save_webhook(&mut self, webhook: &Webhook) -> Result<()>;
    async fn delete_webhook(&mut self, id: Uuid) -> Result<()>;
    /// Forgets deleted webhooks that have no deliveries any more.
    async fn purge_webhooks(&mut self) -> Result<u64>;
    /// Up to `limit` entries for which it is not known who wants them.
    async fn webhook_entries(&mut self, limit: i64) -> Result<Vec<InOutbox>>;
    /// What is pending of a webhook is due now and has all its tries again, but for what is being tried, or has to wait.
    async fn wake_webhook(&mut self, id: Uuid) -> Result<()>;
    async fn lock_delivery(&mut self, webhook: Uuid, id: Uuid) -> Result<Option<WebhookDelivery>>;
    /// Keeps that a delivery is to be sent again.
    async fn queue_again(&mut self, delivery: &WebhookDelivery) -> Result<()>;
}

/// Batches of their deliveries.
#[async_trait]
pub(crate) trait Deliveries {
    /// Takes entries out of those for which it is not known who wants them.
    async fn take_webhook_entries(&mut self, numbers: &[i64]) -> Result<()>;
    /// Due now, unless an earlier one of the same run is pending or among them.
    async fn insert_deliveries(&mut self, new: &[NewDelivery]) -> Result<()>;
    async fn claim_deliveries(
        &mut self,
        rooms: &[Room],
        most: i64,
        claim: Uuid,
        until: Timestamp,
    ) -> Result<Vec<ClaimedDelivery>>;
    /// Answers of which webhooks and runs a delivery has ended.
    async fn save_tried(&mut self, tried: &[Tried]) -> Result<Vec<(Uuid, Uuid)>>;
    /// The first pending one of each of these webhooks and runs is due now, unless it was before.
    async fn wake_next(&mut self, of: &[(Uuid, Uuid)]) -> Result<()>;
    async fn purge_deliveries(&mut self, before: Timestamp, limit: i64) -> Result<u64>;
}
