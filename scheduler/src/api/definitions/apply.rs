//! `POST /v1/definitions:apply`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use reveille_shared::json::whole;
use reveille_shared::store::{Applied, StoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::files::{self, File, MOST_BODY, Texts};
use super::{aside, current, read_and_merge};
use crate::api::ApiState;
use crate::api::access::Caller;
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::Problem;
use crate::api::note;

/// How often to begin anew when others change definitions at the same time.
const MOST_TRIES: usize = 5;

/// Files of definitions, and who wants them in force.
#[derive(Debug, ToSchema)]
#[schema(as = DefinitionApplyRequest, rename_all = "camelCase")]
pub(crate) struct Ask {
    /// At least one.
    #[schema(value_type = Vec<File>, min_items = 1)]
    files: Texts,
    /// What is in force, of the files' namespaces, and in no file goes out of force; else it stays.
    #[schema(value_type = Option<bool>, default = false)]
    prune: bool,
    /// Only if this is the version in force, as a plan has said; null: only if nothing is in force. Without it, whatever is
    /// in force.
    #[schema(value_type = Option<i64>)]
    if_version: Option<Option<i64>>,
    /// Who asks; default is `api`. The name and prefix of the key stand beside it.
    #[schema(min_length = 1, max_length = 100, examples("alice"))]
    by: Option<String>,
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500, examples("bill an hour later, as agreed with accounting"))]
    reason: Option<String>,
}

impl FromBody for Ask {
    const MOST_BYTES: usize = MOST_BODY;

    fn read(body: &mut BodyFields) -> Self {
        Self {
            files: files::take(body),
            prune: body.flag("prune"),
            if_version: version(body),
            by: note::by(body),
            reason: note::reason(body),
        }
    }
}

fn version(body: &mut BodyFields) -> Option<Option<i64>> {
    let given = body.take("ifVersion")?;
    if given.is_null() {
        return Some(None);
    }
    let version = given.as_number().and_then(whole);
    if version.is_none() {
        body.fault("ifVersion", "must be a whole number or null");
    }
    version.map(Some)
}

/// What is in force now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DefinitionsApplied)]
pub(crate) struct View {
    /// Of the definitions in force.
    version: i64,
    /// Jobs that are new or changed.
    jobs: usize,
    /// Schedules that are new or changed.
    schedules: usize,
    /// Jobs and schedules that are gone.
    removed: usize,
}

/// Puts files of definitions in force
///
/// All or nothing, in one transaction. Where nothing would change, nothing is done.
#[utoipa::path(
    post, path = "/v1/definitions:apply", tag = "definitions", operation_id = "applyDefinitions",
    request_body(content = Ask, content_type = "application/json"),
    responses(
        (status = 200, body = View, description = "They are in force"),
        (status = 409, description = "`StateMoved`: `ifVersion` is not what is in force; plan again"),
        (status = 413, description = "The body has more than 64 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong; or `FaultyDefinitions`: the definitions have faults, \
            all of them in the member `faults`, an array of DefinitionFault"),
    )
)]
pub(crate) async fn apply_definitions(
    State(state): State<ApiState>,
    caller: Caller,
    Body(ask): Body<Ask>,
) -> Result<Json<View>, Problem> {
    let Ask { files, prune, if_version, by, reason } = ask;
    let by = caller.actor(by.as_deref());
    let files = std::sync::Arc::new(files);
    let _alone = state.whole.lock().await;
    for _ in 0..MOST_TRIES {
        let current = current(&state).await?;
        let in_force = current.in_force.as_ref().map(|in_force| in_force.version);
        if if_version.is_some_and(|expected| expected != in_force) {
            return Err(moved(in_force));
        }
        let (files, caller) = (std::sync::Arc::clone(&files), caller.clone());
        let (current, merged) = aside(move || {
            let merged = read_and_merge(&current, &caller, &files, prune);
            (current, merged)
        })
        .await;
        let merged = merged?;
        if let (false, Some(version)) = (merged.is_change(&current), in_force) {
            return Ok(Json(View { version, jobs: 0, schedules: 0, removed: 0 }));
        }
        match state.store.apply_changes(None, &merged.set, &by, reason.as_deref()).await {
            Ok(Applied { version, jobs, schedules, removed }) => {
                tracing::info!(by, jobs, schedules, removed, "definitions are in force, as a caller has asked");
                return Ok(Json(View { version, jobs, schedules, removed }));
            }
            Err(StoreError::Moved) if if_version.is_none() => {}
            Err(StoreError::Moved) => return Err(moved(state.store.in_force().await?.map(|now| now.version))),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Problem::unavailable("others change definitions at the same time; try again", 2))
}

fn moved(in_force: Option<i64>) -> Problem {
    let in_force =
        in_force.map_or("nothing is in force".to_owned(), |version| format!("version {version} is in force"));
    let message = format!("the definitions have changed since the plan was made: {in_force}; plan again");
    Problem::new(StatusCode::CONFLICT, "StateMoved", message)
}
