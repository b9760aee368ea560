//! `GET /v1/queues`

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::page::Page;

/// A work queue, and how many runs that have not ended are in it.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Queue)]
pub(crate) struct QueueView {
    /// Its name.
    name: String,
    /// Runs that are held, by a limit or by runs of an earlier fire.
    held: i64,
    /// Runs whose trigger is to go out, now or later.
    due: i64,
    /// Runs whose trigger is out and that no worker has taken.
    sent: i64,
    /// Runs that a worker executes.
    leased: i64,
    /// Runs whose attempt has begun something elsewhere that is to be asked after later. They take no slot of a worker.
    parked: i64,
    /// Live workers that consume it.
    workers: usize,
}

/// Work queues of all jobs and unended runs, by name
#[utoipa::path(
    get, path = "/v1/queues", tag = "operations", operation_id = "listQueues",
    responses((status = 200, body = Page<QueueView>, description = "All of them; never paged"))
)]
pub(crate) async fn list_queues(State(state): State<ApiState>) -> Result<Json<Page<QueueView>>, Problem> {
    let mut queues = BTreeMap::new();
    for name in state.store.queues().await? {
        queues.insert(name.clone(), QueueView { name, ..QueueView::default() });
    }
    for depth in state.store.depths().await? {
        let queue = queues
            .entry(depth.queue.clone())
            .or_insert_with(|| QueueView { name: depth.queue, ..QueueView::default() });
        match depth.phase.as_str() {
            "held" => queue.held = depth.count,
            "due" => queue.due = depth.count,
            "sent" => queue.sent = depth.count,
            "leased" => queue.leased = depth.count,
            "parked" => queue.parked = depth.count,
            // What waits for its children wants no worker.
            _ => {}
        }
    }
    for worker in state.store.workers().await?.iter().filter(|worker| worker.ended_at.is_none()) {
        for queue in &worker.worker.queues {
            if let Some(queue) = queues.get_mut(queue) {
                queue.workers += 1;
            }
        }
    }
    Ok(Json(Page { items: queues.into_values().collect(), next_page: None }))
}
