//! `GET /livez`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::api::ApiState;
use crate::api::error::Problem;

/// The process does its work, or says why it can't.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Live {
    /// Always `live`.
    status: &'static str,
}

/// Whether the process is alive; if not, only a new one helps
///
/// It is as long as each of its background passes finishes a round in time, well or with an error: a database or broker
/// that is away is for `/readyz` to tell. Asks nothing but this process's memory.
#[utoipa::path(
    get, path = "/livez", tag = "operations", operation_id = "live",
    responses(
        (status = 200, body = Live, description = "It is alive"),
        (status = 503, description = "A background pass is stuck: restart the process"),
    )
)]
pub(crate) async fn live(State(state): State<ApiState>) -> Result<Json<Live>, Problem> {
    let stuck = state.status.stuck(Instant::now());
    if stuck.is_empty() {
        return Ok(Json(Live { status: "live" }));
    }
    let stuck: Vec<_> = stuck.iter().map(|(name, age)| format!("{name} for {} s", age.as_secs())).collect();
    Err(Problem::unavailable(format!("stuck: {}", stuck.join(", ")), 1))
}
