//! `GET /v1/workers`

use axum::Json;
use axum::extract::State;
use reveille_shared::store::Worker;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::page::Page;
use crate::api::time::Instant;

/// A worker process.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Worker)]
pub(crate) struct WorkerView {
    /// Fresh for each start of the process.
    id: Uuid,
    /// For people.
    name: String,
    /// The work queues that it consumes; of an external one, the last from which it claimed.
    queues: Vec<String>,
    /// `reveille`, or `external` for one in another language: that is listed from its first claim until it has been silent for an
    /// hour, and its runs are looked after one by one.
    kind: &'static str,
    /// How many runs it executes at once; 0 if that is not known.
    slots: u32,
    /// How many it executes now.
    running: i64,
    /// Its build.
    version: String,
    /// Whether it is known to be alive.
    live: bool,
    /// When it started.
    time_started: Instant,
    /// When it last beat.
    time_last_beat: Instant,
    /// When it said goodbye or was found dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_ended: Option<Instant>,
}

impl From<Worker> for WorkerView {
    fn from(known: Worker) -> Self {
        Self {
            id: known.worker.incarnation,
            name: known.worker.name,
            queues: known.worker.queues,
            kind: if known.is_external { "external" } else { "reveille" },
            slots: known.worker.slots,
            running: known.leases,
            version: known.worker.version,
            live: known.ended_at.is_none(),
            time_started: known.started_at.into(),
            time_last_beat: known.beat_at.into(),
            time_ended: known.ended_at.map(Instant),
        }
    }
}

/// Workers that live, hold a run, or ended within the last day or so
#[utoipa::path(
    get, path = "/v1/workers", tag = "operations", operation_id = "listWorkers",
    responses((status = 200, body = Page<WorkerView>, description = "All of them; never paged"))
)]
pub(crate) async fn list_workers(State(state): State<ApiState>) -> Result<Json<Page<WorkerView>>, Problem> {
    let items = state.store.workers().await?.into_iter().map(WorkerView::from).collect();
    Ok(Json(Page { items, next_page: None }))
}
