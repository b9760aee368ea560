//! `GET /v1/workRequests/{id}/lateReports`

use axum::Json;
use axum::extract::State;
use reveille_shared::store::{LateReport, Outcome};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::find;
use super::view::ErrorView;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::Segment;
use crate::api::page::Page;
use crate::api::time::Instant;

/// What a worker has reported under a lease that it had lost: evidence of what became of that attempt.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LateReport)]
pub(crate) struct LateView {
    /// When it came.
    timestamp: Instant,
    /// What it says: `succeeded`, `failed`, `canceled`, `released`, `verified`, `deferred`, `parked` or `split`.
    outcome: &'static str,
    /// What the attempt answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<Value>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
}

impl From<LateReport> for LateView {
    fn from(LateReport { at, outcome, token: _ }: LateReport) -> Self {
        let view = |outcome| Self { timestamp: at.into(), outcome, output: None, error: None };
        match outcome {
            Outcome::Succeeded { output } => Self { output: Some(output), ..view("succeeded") },
            Outcome::Verified { output } => Self { output: Some(output), ..view("verified") },
            Outcome::Failed { error, .. } => Self { error: Some(error.into()), ..view("failed") },
            Outcome::Deferred { .. } => view("deferred"),
            Outcome::Parked { .. } => view("parked"),
            Outcome::Split { output, .. } => Self { output: Some(output), ..view("split") },
            Outcome::Stopped => view("canceled"),
            Outcome::Released { .. } => view("released"),
            Outcome::Lost { error, .. } => Self { error: Some(error.into()), ..view("lost") },
        }
    }
}

/// What was reported too late
///
/// A worker that was taken for dead may report after all. That changes nothing: another attempt may have begun. It is kept
/// for those who have to find out what took effect.
#[utoipa::path(
    get, path = "/v1/workRequests/{id}/lateReports", tag = "workRequests", operation_id = "listLateReports",
    params(("id" = String, Path, description = "The work request's id")),
    responses(
        (status = 200, body = Page<LateView>, description = "All of them, the first to come first"),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn list_late_reports(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
) -> Result<Json<Page<LateView>>, Problem> {
    let request = find(&state, &tenant, &id).await?;
    let items = state.store.late_reports(request.id).await?.into_iter().map(LateView::from).collect();
    Ok(Json(Page { items, next_page: None }))
}
