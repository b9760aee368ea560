//! `GET /readyz`

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use reveille_shared::telemetry;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::api::ApiState;
use crate::api::error::Problem;

/// How long the database may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the parts of this process do their work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// Always true; the parts of a process that is not ready are in the problem.
    ready: bool,
    /// The parts, by name.
    parts: Vec<PartView>,
    /// What is wrong with the definitions on disk; the last good ones are in force.
    faults: Vec<String>,
}

/// One part of the process.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Part)]
struct PartView {
    /// Its name.
    name: &'static str,
    /// Whether it does its work.
    ready: bool,
    /// What it does, or what is wrong.
    detail: String,
}

/// Whether every part of this process does its work, and which does not
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "ready",
    responses(
        (status = 200, body = Readiness, description = "Every part does its work"),
        (status = 503, description = "Some part does not; members `parts` and `faults` are as in the answer 200"),
    )
)]
pub(crate) async fn ready(State(state): State<ApiState>) -> Result<Json<Readiness>, Problem> {
    let mut parts: Vec<_> = state
        .status
        .parts()
        .into_iter()
        .map(|part| PartView { name: part.name, ready: part.ready, detail: part.detail })
        .collect();
    // The scheduler's own word on the database counts unless it is older news than ours.
    let database = database(&state).await;
    if !database.ready || !parts.iter().any(|part| part.name == database.name) {
        parts.retain(|part| part.name != database.name);
        parts.push(database);
    }
    parts.sort_by_key(|part| part.name);
    let faults = state.status.faults();
    let missing: Vec<_> = parts.iter().filter(|part| !part.ready).map(|part| part.name).collect();
    if missing.is_empty() {
        return Ok(Json(Readiness { ready: true, parts, faults }));
    }
    Err(Problem::unavailable(format!("not ready: {}", missing.join(", ")), 1)
        .with_member("ready", false.into())
        .with_member("parts", json!(parts))
        .with_member("faults", json!(faults)))
}

async fn database(state: &ApiState) -> PartView {
    let (ready, detail) = match tokio::time::timeout(PATIENCE, state.store.now()).await {
        Ok(Ok(_)) => (true, "answers".to_owned()),
        Ok(Err(error)) => (false, telemetry::chain(&error)),
        Err(_) => (false, format!("does not answer within {} s", PATIENCE.as_secs())),
    };
    PartView { name: "database", ready, detail }
}
