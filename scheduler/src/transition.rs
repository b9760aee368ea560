//! What has happened to a run, as announcements and streams tell it.

use reveille_shared::state::Status;
use reveille_shared::work_request::{HistoryEvent, WorkRequestId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::work_requests::view::{EventView, StatusName};

/// An entry of a run's history, and whose it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Transition {
    /// The run.
    work_request_id: String,
    /// Its namespace.
    namespace: String,
    /// Its job.
    job: String,
    /// The schedule that called for it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// Where the run stands from this entry on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<StatusName>)]
    status: Option<&'static str>,
    /// The entry.
    event: EventView,
}

/// Whose histories are told.
#[derive(Debug, Clone)]
pub(crate) struct Whose {
    /// The run.
    pub(crate) id: WorkRequestId,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its job.
    pub(crate) job: String,
    /// The schedule that called for it, if one did.
    pub(crate) schedule: Option<String>,
}

impl Transition {
    /// An entry after which the run has this status, if that is known.
    pub(crate) fn new(whose: Whose, event: HistoryEvent, status: Option<Status>) -> Self {
        let Whose { id, namespace, job, schedule } = whose;
        let (status, event) = (status.map(Status::as_str), EventView::from(event));
        Self { work_request_id: id.to_string(), namespace, job, schedule, status, event }
    }

    /// As JSON.
    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers have a JSON form")
    }

    /// What happened, as a word.
    pub(crate) const fn what(&self) -> &'static str {
        self.event.what()
    }
}
