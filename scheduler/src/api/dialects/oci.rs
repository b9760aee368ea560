//! Oracle's work requests.

use jiff::Timestamp;
use reveille_shared::state::Status;
use reveille_shared::work_request::{HistoryEvent, WorkRequest};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::known::Known;
use crate::api::time::Instant;
use crate::api::work_requests::view::{EventView, FailureView, StatusName};

/// A run as Oracle's clients read it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OciWorkRequest)]
pub(crate) struct View {
    /// Its name; opaque.
    id: String,
    /// The job that runs.
    #[schema(min_length = 1)]
    operation_type: String,
    /// Where it stands.
    #[schema(value_type = StatusName)]
    status: &'static str,
    /// The namespace.
    #[schema(min_length = 1)]
    compartment_id: String,
    /// What it creates or changes; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<Resource>>,
    /// 0 to 100; 100 when SUCCEEDED.
    #[schema(minimum = 0, maximum = 100)]
    percent_complete: f32,
    /// When it was accepted.
    time_accepted: Instant,
    /// When it started; of one that ended without a start, when it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_started: Option<Instant>,
    /// When it reached its terminal state.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_finished: Option<Instant>,
}

/// Something that a run creates or changes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OciWorkRequestResource)]
pub(crate) struct Resource {
    /// `IN_PROGRESS` until the run has ended, then `CREATED`, or `RELATED` if it did not succeed.
    action_type: &'static str,
    /// Its `type`.
    #[schema(min_length = 1)]
    entity_type: String,
    /// Its `name`.
    #[schema(min_length = 1)]
    identifier: String,
    /// Its `location`.
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_uri: Option<String>,
}

/// Why a run or one of its attempts failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OciWorkRequestError)]
pub(crate) struct Failure {
    /// A stable word for programs.
    #[schema(min_length = 1)]
    code: String,
    /// For people.
    #[schema(min_length = 1)]
    message: String,
    /// When it was recorded.
    timestamp: Instant,
}

/// What has happened to a run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OciWorkRequestLogEntry)]
pub(crate) struct LogEntry {
    /// For people.
    #[schema(min_length = 1)]
    message: String,
    /// When it was recorded.
    timestamp: Instant,
}

impl View {
    /// One run.
    pub(crate) fn full(known: &Known) -> Self {
        Self { resources: Some(resources(&known.request)), ..Self::summary(known) }
    }

    /// One of a list.
    pub(crate) fn summary(Known { request, .. }: &Known) -> Self {
        let (accepted, started, finished) = times(request);
        Self {
            id: request.id.to_string(),
            operation_type: request.job.clone(),
            status: request.status.as_str(),
            compartment_id: request.namespace.clone(),
            resources: None,
            percent_complete: request.percent,
            time_accepted: accepted.into(),
            time_started: started.map(Instant),
            time_finished: finished.map(Instant),
        }
    }
}

/// When a run was accepted, started and ended, in this order whatever clocks have done meanwhile. What is under way, or has
/// ended of itself, has started: a run that waits for its children, or that could not be started, counts as one that did.
fn times(request: &WorkRequest) -> (Timestamp, Option<Timestamp>, Option<Timestamp>) {
    let accepted = request.accepted_at;
    let started = request.started_at.or(match request.status {
        Status::InProgress => Some(accepted),
        Status::Succeeded | Status::Failed => request.finished_at,
        Status::Accepted | Status::Canceling | Status::Canceled => None,
    });
    let started = started.map(|at| at.max(accepted));
    (accepted, started, request.finished_at.map(|at| at.max(started.unwrap_or(accepted))))
}

/// What a run creates or changes, if its caller has given that a type and a name.
pub(crate) fn resources(request: &WorkRequest) -> Vec<Resource> {
    let member = |name: &str| {
        let text = request.resource.as_ref()?.get(name)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let (Some(entity_type), Some(identifier)) = (member("type"), member("name")) else { return Vec::new() };
    let action_type = match request.status {
        Status::Accepted | Status::InProgress | Status::Canceling => "IN_PROGRESS",
        Status::Succeeded => "CREATED",
        Status::Failed | Status::Canceled => "RELATED",
    };
    vec![Resource { action_type, entity_type, identifier, entity_uri: member("location") }]
}

impl Failure {
    /// The failure that an event tells of, if it does.
    pub(crate) fn of(event: HistoryEvent) -> Option<Self> {
        let FailureView { code, message, timestamp, .. } = FailureView::of(event)?;
        let or = |text: String, default: &str| if text.trim().is_empty() { default.to_owned() } else { text };
        Some(Self { message: or(message, &code), code: or(code, "Failed"), timestamp })
            .map(|failure| Self { message: or(failure.message, "it failed"), ..failure })
    }
}

impl From<HistoryEvent> for LogEntry {
    fn from(event: HistoryEvent) -> Self {
        let timestamp = event.at.into();
        Self { message: EventView::from(event).message, timestamp }
    }
}
