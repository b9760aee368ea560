//! `POST /v1/definitions:plan`

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use reveille_shared::store::StoreError;
use utoipa::ToSchema;

use super::files::{self, File, MOST_BODY, Texts};
use super::view::View;
use super::{aside, current, read_and_merge};
use crate::api::ApiState;
use crate::api::access::Caller;
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::Problem;
use crate::definition_plan::{Interval, outlook, overruns};

/// Files of definitions.
#[derive(Debug, ToSchema)]
#[schema(as = DefinitionPlanRequest)]
pub(crate) struct Ask {
    /// At least one.
    #[schema(value_type = Vec<File>, min_items = 1)]
    files: Texts,
    /// What is in force, of the files' namespaces, and in no file goes out of force; else it stays.
    #[schema(value_type = Option<bool>, default = false)]
    prune: bool,
}

impl FromBody for Ask {
    const MOST_BYTES: usize = MOST_BODY;

    fn read(body: &mut BodyFields) -> Self {
        Self { files: files::take(body), prune: body.flag("prune") }
    }
}

/// What files of definitions would change
///
/// Changes nothing. Files may name jobs that are in force and in no file. What would not be sound as a whole is refused:
/// a schedule or chain that calls a job which would not be in force, a chain that comes back to itself.
#[utoipa::path(
    post, path = "/v1/definitions:plan", tag = "definitions", operation_id = "planDefinitions",
    request_body(content = Ask, content_type = "application/json"),
    responses(
        (status = 200, body = View, description = "The plan"),
        (status = 413, description = "The body has more than 64 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong; or `FaultyDefinitions`: the definitions have faults, \
            all of them in the member `faults`, an array of DefinitionFault"),
    )
)]
pub(crate) async fn plan_definitions(
    State(state): State<ApiState>,
    caller: Caller,
    Body(ask): Body<Ask>,
) -> Result<Json<View>, Problem> {
    let _alone = state.whole.lock().await;
    let current = current(&state).await?;
    let now = state.clock.now();
    let (current, merged, outlook) = aside(move || {
        let merged = read_and_merge(&current, &caller, &ask.files, ask.prune)?;
        let outlook = outlook(&current, &merged, now)
            .map_err(|source| StoreError::Timing { schedule: "in force".to_owned(), source })?;
        Ok::<_, Problem>((current, merged, outlook))
    })
    .await?;
    let overruns = overruns(&outlook.intervals, &usual_durations(&state, &outlook.intervals).await?);
    Ok(Json(View::new(&current, merged, outlook, overruns)))
}

/// How long the jobs of these schedules usually take, as far as they have run.
async fn usual_durations(
    state: &ApiState,
    intervals: &[Interval],
) -> Result<HashMap<(String, String), Duration>, Problem> {
    let mut usual = HashMap::new();
    for Interval { key, jobs, .. } in intervals {
        for job in jobs {
            let name = (key.namespace.clone(), job.clone());
            if let Entry::Vacant(unknown) = usual.entry(name) {
                let (namespace, job) = unknown.key();
                let found = state.store.usual_duration(namespace, job).await?;
                unknown.insert(found.unwrap_or_default());
            }
        }
    }
    Ok(usual)
}
