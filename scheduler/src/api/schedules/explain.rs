//! `GET /v1/schedules/{schedule}/explain`

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use reveille_shared::store::{Action, DefinitionKind, Fire, FireOutcome, RecordedChange, ScheduleKey};
use reveille_shared::work_request::WorkRequest;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::fire_view::FireView;
use super::{due_times, key, unknown};
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::{Problem, printable};
use crate::api::extract::{FromQuery, Query, QueryFields, Segment};
use crate::api::time::Instant;
use crate::explain::{self, Explanation, Facts, Then, Verdict};

/// Changes of a schedule that are read at once.
const CHUNK: i64 = 100;

/// Which instant.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct When {
    /// Default is now, in whole seconds.
    #[param(value_type = Option<Instant>)]
    at: Option<Timestamp>,
}

impl FromQuery for When {
    fn read(query: &mut QueryFields) -> Self {
        Self { at: query.instant("at") }
    }
}

/// What became, or will become, of an instant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Explanation)]
pub(crate) struct View {
    /// The instant.
    at: Instant,
    /// In a word: `triggered`, `skipped`, `undecided`, `will_trigger`, `will_be_skipped` or `not_due`.
    #[schema(value_type = String, examples("skipped"))]
    verdict: Verdict,
    /// In plain words.
    #[schema(examples(
        "Skipped, as an earlier fire was not over: work request 019a… had not ended. It was decided at …"
    ))]
    explanation: String,
    /// The schedule's own decision, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    fire: Option<FireView>,
    /// What was recorded for the same instant beside it, by hand and by backfills.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    also_fired: Vec<FireView>,
    /// The next instants after it at which the schedule is due and not excluded; a pause is not counted.
    #[schema(max_items = 3)]
    next_due: Vec<Instant>,
    /// The due time before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_due: Option<Instant>,
}

/// Why a schedule did or did not run at an instant, or what it will do then
#[utoipa::path(
    get, path = "/v1/schedules/{schedule}/explain", tag = "schedules", operation_id = "explainSchedule",
    params(("schedule" = String, Path, description = "The schedule's name"), When),
    responses(
        (status = 200, body = View, description = "The answer, in a word and in plain words"),
        (status = 404, description = "No such schedule is in force; if one was, `detail` says who removed it and when"),
    )
)]
pub(crate) async fn explain_schedule(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    Segment(name): Segment,
    Query(when): Query<When>,
) -> Result<Json<View>, Problem> {
    let key = key(&namespace, &name)?;
    let Some(row) = state.store.schedule(&key).await? else { return Err(gone(&state, &key).await?) };
    let due = due_times(&row.schedule)?;
    let now = state.store.now().await?;
    // Nothing is due between two seconds that people would ask about.
    let at = when.at.unwrap_or_else(|| Timestamp::from_second(now.as_second()).unwrap_or(now));
    let fires = state.store.fires_at(&key, at).await?;
    let history = if at < now { history(&state, &key, at).await? } else { Vec::new() };
    let facts = Facts {
        row: &row,
        due: &due,
        then: &if at < now { Then::of(&row, &history, at) } else { Then::AsNow },
        fires: &fires,
        runs: &runs(&state, &namespace, &fires).await?,
        missing_job: missing_job(&state, &namespace, &row.schedule.trigger).await?,
        leader: state.store.leader().await?,
        now,
    };
    let Explanation { verdict, text, fire, also_fired, next_due, last_due } = explain::explain(&facts, at);
    Ok(Json(View {
        at: at.into(),
        verdict,
        explanation: text,
        fire: fire.cloned().map(FireView::from),
        also_fired: also_fired.into_iter().cloned().map(FireView::from).collect(),
        next_due: next_due.into_iter().map(Instant).collect(),
        last_due: last_due.map(Instant),
    }))
}

/// There is no such schedule, and what became of it if there was one.
async fn gone(state: &ApiState, key: &ScheduleKey) -> Result<Problem, Problem> {
    let last = state.store.changes(DefinitionKind::Schedule, key, i64::MAX, 1).await?.pop();
    let Some(removed) = last.filter(|last| last.action == Action::Removed) else { return Ok(unknown(&key.name)) };
    let reason = removed.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (name, by, at) = (printable(&key.name), removed.actor, Instant(removed.at));
    let message = format!("schedule {name} is not in force: {by} removed it at {at}{reason}");
    Ok(Problem::new(axum::http::StatusCode::NOT_FOUND, "NotFound", message))
}

/// The changes of a schedule, newest first, back to `at` or to the first one.
async fn history(state: &ApiState, key: &ScheduleKey, at: Timestamp) -> Result<Vec<RecordedChange>, Problem> {
    let mut found: Vec<RecordedChange> = Vec::new();
    let reaches =
        |change: &RecordedChange| change.at <= at && (change.spec.is_some() || change.action == Action::Removed);
    loop {
        let before = found.last().map_or(i64::MAX, |last| last.seq);
        let older = state.store.changes(DefinitionKind::Schedule, key, before, CHUNK).await?;
        let end = older.is_empty() || older.iter().any(reaches);
        found.extend(older);
        if end {
            return Ok(found);
        }
    }
}

/// The work requests that fires have called for.
async fn runs(state: &ApiState, namespace: &str, fires: &[Fire]) -> Result<Vec<WorkRequest>, Problem> {
    let mut runs = Vec::new();
    for fire in fires {
        let FireOutcome::Triggered(ids) = &fire.outcome else { continue };
        for id in ids {
            runs.extend(state.store.work_request(namespace, *id).await?);
        }
    }
    Ok(runs)
}

/// The first of these jobs that is not in force.
async fn missing_job<'a>(state: &ApiState, namespace: &str, jobs: &'a [String]) -> Result<Option<&'a str>, Problem> {
    for job in jobs {
        if state.store.job(namespace, job).await?.is_none() {
            return Ok(Some(job));
        }
    }
    Ok(None)
}
