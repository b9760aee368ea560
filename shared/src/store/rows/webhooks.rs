//! Rows of webhooks and their deliveries.

use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::{At, EventRow, count, malformed};
use crate::store::webhook_deliveries::{ClaimedDelivery, DeliveryAttempt, WebhookDelivery};
use crate::store::webhooks::{Sealed, Webhook, WebhookFilter};
use crate::store::{Result, StoreError, Untold};
use crate::work_request::WorkRequestId;

#[derive(FromRow)]
pub(crate) struct WebhookRow {
    id: Uuid,
    namespace: String,
    url: String,
    description: Option<String>,
    filter: Json<WebhookFilter>,
    secret: Vec<u8>,
    old_secret: Option<Vec<u8>>,
    old_until: Option<At>,
    version: i64,
    created_at: At,
    failing_since: Option<At>,
    disabled_at: Option<At>,
    disabled_reason: Option<String>,
}

fn old(secret: Option<Vec<u8>>, until: Option<At>) -> Option<(Sealed, jiff::Timestamp)> {
    secret.map(Sealed).zip(until.map(|at| at.0))
}

impl TryFrom<WebhookRow> for Webhook {
    type Error = StoreError;

    fn try_from(row: WebhookRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            namespace: row.namespace,
            url: row.url,
            description: row.description,
            filter: row.filter.0,
            secret: Sealed(row.secret),
            old_secret: old(row.old_secret, row.old_until),
            version: row.version,
            created_at: row.created_at.0,
            failing_since: row.failing_since.map(|at| at.0),
            disabled: row.disabled_at.map(|at| (at.0, row.disabled_reason.unwrap_or_default())),
        })
    }
}

#[derive(FromRow)]
pub(crate) struct DeliveryRow {
    webhook_id: Uuid,
    id: Uuid,
    work_request_id: Uuid,
    seq: i32,
    state: String,
    created_at: At,
    queued_at: At,
    due_at: Option<At>,
    claim: Option<Uuid>,
    tries: i32,
    attempts: Json<Vec<DeliveryAttempt>>,
    ended_at: Option<At>,
}

impl TryFrom<DeliveryRow> for WebhookDelivery {
    type Error = StoreError;

    fn try_from(row: DeliveryRow) -> Result<Self> {
        Ok(Self {
            webhook: row.webhook_id,
            id: row.id,
            run: WorkRequestId(row.work_request_id),
            seq: row.seq,
            state: row.state.parse().map_err(malformed("state of a delivery"))?,
            created_at: row.created_at.0,
            queued_at: row.queued_at.0,
            due_at: row.due_at.map(|at| at.0),
            claim: row.claim,
            tries: count("number of tries", row.tries)?,
            attempts: row.attempts.0,
            ended_at: row.ended_at.map(|at| at.0),
        })
    }
}

#[derive(FromRow)]
pub(crate) struct ClaimedRow {
    #[sqlx(flatten)]
    delivery: DeliveryRow,
    url: String,
    secret: Vec<u8>,
    old_secret: Option<Vec<u8>>,
    old_until: Option<At>,
    failing_since: Option<At>,
    namespace: Option<String>,
    job: Option<String>,
    schedule: Option<String>,
    at: Option<At>,
    what: Option<Json<Value>>,
}

impl ClaimedRow {
    pub(crate) fn under(self, claim: Uuid) -> Result<ClaimedDelivery> {
        let delivery = WebhookDelivery::try_from(self.delivery)?;
        let entry = match (self.namespace, self.job, self.at, self.what) {
            (Some(namespace), Some(job), Some(at), Some(what)) => {
                let event = EventRow { seq: delivery.seq, at, what }.try_into()?;
                Some(Untold { number: 0, id: delivery.run, namespace, job, schedule: self.schedule, event })
            }
            _ => None,
        };
        Ok(ClaimedDelivery {
            delivery,
            claim,
            url: self.url,
            secret: Sealed(self.secret),
            old_secret: old(self.old_secret, self.old_until),
            is_failing: self.failing_since.is_some(),
            entry,
        })
    }
}
