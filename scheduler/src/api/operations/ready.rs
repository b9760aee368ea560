//! `GET /readyz`

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use reveille_shared::access::Names;
use reveille_shared::due::timezone_data;
use reveille_shared::store::Generation;
use reveille_shared::telemetry;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::api::ApiState;
use crate::api::access::Caller;
use crate::api::error::Problem;
use crate::api::time::Instant;

/// How long the database may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the parts of this process do their work.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Readiness {
    /// Always true; the parts of a process that is not ready are in the problem.
    ready: bool,
    /// The parts, by name.
    parts: Vec<PartView>,
    /// What is wrong with the definitions on disk; the last good ones are in force.
    faults: Vec<String>,
    /// Who decides due times.
    leader: LeaderView,
    /// The time zone database in use: schedulers with different editions can disagree about changes of clocks.
    timezone_data: TimezoneDataView,
}

/// Who decides due times.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Leader)]
struct LeaderView {
    /// Whether it is this process.
    leading: bool,
    /// The generation that leads, here or elsewhere; absent when nobody leads or nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
    /// When this process decided a due time last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_decision: Option<Instant>,
}

/// Which time zone database is in use.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimezoneData)]
struct TimezoneDataView {
    /// Its edition, such as `2025b`.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// The folder that it is in, or `bundled`.
    source: String,
}

/// One part of the process.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Part)]
struct PartView {
    /// Its name.
    name: &'static str,
    /// Whether it does its work.
    ready: bool,
    /// It does, and somebody has to look into something all the same: files with faults, or older than what is in force.
    attention: bool,
    /// What it does, or what is wrong.
    detail: String,
}

/// Whether every part of this process does its work, and which does not
///
/// Without a key that is for all namespaces, of each part only whether it does.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "ready",
    responses(
        (status = 200, body = Readiness, description = "Every part does its work"),
        (status = 503, description = "Some part does not; members `parts`, `faults`, `leader` and \
            `timezoneData` are as in the answer 200"),
    )
)]
pub(crate) async fn ready(State(state): State<ApiState>, caller: Caller) -> Result<Json<Readiness>, Problem> {
    let mut parts: Vec<_> = state
        .status
        .parts()
        .into_iter()
        .map(|part| PartView { name: part.name, ready: part.ready, attention: part.attention, detail: part.detail })
        .collect();
    // The scheduler's own word on the database counts unless it is older news than ours.
    let (database, elsewhere) = database(&state).await;
    if !database.ready || !parts.iter().any(|part| part.name == database.name) {
        parts.retain(|part| part.name != database.name);
        parts.push(database);
    }
    parts.sort_by_key(|part| part.name);
    let leader = leader(&state, elsewhere);
    let timezone_data = timezone_data();
    let timezone_data = TimezoneDataView { version: timezone_data.version, source: timezone_data.source };
    let mut faults = state.status.faults();
    if caller.grant().namespaces != Names::All {
        parts.iter_mut().for_each(|part| (part.attention, part.detail) = (false, String::new()));
        faults.clear();
    }
    let missing: Vec<_> = parts.iter().filter(|part| !part.ready).map(|part| part.name).collect();
    if missing.is_empty() {
        return Ok(Json(Readiness { ready: true, parts, faults, leader, timezone_data }));
    }
    Err(Problem::unavailable(format!("not ready: {}", missing.join(", ")), 1)
        .with_member("ready", false.into())
        .with_member("parts", json!(parts))
        .with_member("faults", json!(faults))
        .with_member("leader", json!(leader))
        .with_member("timezoneData", json!(timezone_data)))
}

/// Who leads: this process knows of itself; of another one the database does.
fn leader(state: &ApiState, elsewhere: Option<Generation>) -> LeaderView {
    let own = state.status.leading();
    let generation = own.and_then(|own| own.generation);
    LeaderView {
        leading: generation.is_some(),
        generation: generation.or(elsewhere).map(|Generation(number)| number),
        last_decision: own.and_then(|own| own.last_decision).map(Instant),
    }
}

/// Whether the database answers, and who leads by its word.
async fn database(state: &ApiState) -> (PartView, Option<Generation>) {
    let answer = tokio::time::timeout(PATIENCE, state.store.leader()).await;
    let (ready, detail) = match &answer {
        Ok(Ok(_)) => (true, "answers".to_owned()),
        Ok(Err(error)) => (false, telemetry::chain(error)),
        Err(_) => (false, format!("does not answer within {} s", PATIENCE.as_secs())),
    };
    (PartView { name: "database", ready, attention: false, detail }, answer.ok().and_then(Result::ok).flatten())
}
