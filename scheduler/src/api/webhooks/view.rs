//! Webhooks and their deliveries as JSON.

use jiff::Timestamp;
use reveille_shared::store::{DeliveryAttempt, Webhook, WebhookDelivery};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::time::Instant;
use crate::api::work_requests::view::StatusName;

/// Who has it posted what happens to runs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
pub(crate) struct View {
    /// Its name.
    id: String,
    /// The tenant whose runs it is told of.
    namespace: String,
    /// Where deliveries are posted to.
    url: String,
    /// What it is for, in its owner's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// It is told of runs of these jobs only; empty is no restriction.
    jobs: Vec<String>,
    /// It is told of runs only that these schedules have called for; empty is no restriction.
    schedules: Vec<String>,
    /// It is told what leads to one of these.
    #[schema(value_type = Vec<StatusName>)]
    statuses: Vec<&'static str>,
    /// Whether anything is sent.
    enabled: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_reason: Option<String>,
    /// Since when not.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_disabled: Option<Instant>,
    /// Since when every attempt has failed, if the last one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    failing_since: Option<Instant>,
    /// Until when the secret before this one signs too.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_valid_until: Option<Instant>,
    /// When it was made.
    time_created: Instant,
}

impl View {
    pub(super) fn new(webhook: Webhook, now: Timestamp) -> Self {
        let (time_disabled, disabled_reason) = webhook.disabled.unzip();
        let old = webhook.old_secret.map(|(_, until)| until).filter(|until| *until > now);
        Self {
            id: webhook.id.to_string(),
            namespace: webhook.namespace,
            url: webhook.url,
            description: webhook.description,
            jobs: webhook.filter.jobs,
            schedules: webhook.filter.schedules,
            statuses: webhook.filter.statuses.into_iter().map(reveille_shared::state::Status::as_str).collect(),
            enabled: time_disabled.is_none(),
            disabled_reason,
            time_disabled: time_disabled.map(Instant),
            failing_since: webhook.failing_since.map(Instant),
            old_secret_valid_until: old.map(Instant),
            time_created: webhook.created_at.into(),
        }
    }
}

/// A webhook with its secret, which is shown this once.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookWithSecret)]
pub(crate) struct WithSecret {
    #[serde(flatten)]
    pub(super) webhook: View,
    /// What signs its deliveries. Keep it: it is not shown again.
    #[schema(examples("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"))]
    pub(super) secret: String,
}

/// One entry of a run's history for one webhook.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookDelivery)]
pub(crate) struct DeliveryView {
    /// Its name.
    id: String,
    /// The event's id, as `webhook-id` says it.
    event_id: String,
    /// The run.
    work_request_id: String,
    /// The entry's number in the run's history.
    seq: i32,
    /// `pending`, `delivered` or `failed`.
    state: &'static str,
    /// It is being posted at this moment.
    sending: bool,
    /// When it was decided that it is to be posted.
    time_created: Instant,
    /// When it is posted next. Absent while it waits for an earlier entry of its run, and once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<Instant>,
    /// When it was taken or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ended: Option<Instant>,
    /// What came of the last 30 attempts, the latest last.
    attempts: Vec<AttemptView>,
}

/// What came of one post.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookAttempt)]
pub(crate) struct AttemptView {
    /// When it began.
    timestamp: Instant,
    /// How long it took, in milliseconds.
    duration_ms: u32,
    /// The status of the answer, if one came.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<DeliveryAttempt> for AttemptView {
    fn from(DeliveryAttempt { at, ms, status, error }: DeliveryAttempt) -> Self {
        Self { timestamp: at.into(), duration_ms: ms, status, error }
    }
}

impl From<WebhookDelivery> for DeliveryView {
    fn from(delivery: WebhookDelivery) -> Self {
        Self {
            id: delivery.id.to_string(),
            event_id: format!("{}/{}", delivery.run, delivery.seq),
            work_request_id: delivery.run.to_string(),
            seq: delivery.seq,
            state: delivery.state.as_str(),
            sending: delivery.claim.is_some(),
            time_created: delivery.created_at.into(),
            next_attempt: delivery.due_at.filter(|_| delivery.claim.is_none()).map(Instant),
            time_ended: delivery.ended_at.map(Instant),
            attempts: delivery.attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}
