//! `GET /v1/refusedEvents`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use reveille_shared::store::RefusedRecord;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::ApiState;
use crate::api::error::Problem;
use crate::api::extract::{Paging, Query};
use crate::api::page::{List, Page};
use crate::api::time::Instant;

/// An event of a worker in another language that was refused, and how often for the same reason.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RefusedEvent)]
pub(crate) struct RefusedView {
    /// Why, for programs.
    code: String,
    /// Why, for people.
    message: String,
    /// How it came first: `broker` or `rest`.
    via: String,
    /// The event's own `source`, where that could be read; likewise the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// Its `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Its `type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<String>,
    /// Its `subject`: a work request's id, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The tenant that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    /// When it came first.
    time_first: Instant,
    /// When it came last.
    time_last: Instant,
    /// How often it came.
    count: i64,
}

impl From<RefusedRecord> for RefusedView {
    fn from(known: RefusedRecord) -> Self {
        Self {
            code: known.code,
            message: known.message,
            via: known.via,
            source: known.of.source,
            id: known.of.id,
            r#type: known.of.kind,
            subject: known.of.subject,
            namespace: known.of.namespace,
            time_first: known.first_at.into(),
            time_last: known.last_at.into(),
            count: known.count,
        }
    }
}

/// Events that were refused, in all namespaces, the newest first
///
/// The last 10,000 of the last two days. They have changed nothing; their data is not kept.
#[utoipa::path(
    get, path = "/v1/refusedEvents", tag = "operations", operation_id = "listRefusedEvents", params(Paging),
    responses((status = 200, body = Page<RefusedView>, description = "A page of them"))
)]
pub(crate) async fn list_refused_events(
    State(state): State<ApiState>,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    let list = List::of(&"refusedEvents");
    let before = list.place(paging.page.as_deref(), |bytes| bytes.try_into().ok().map(i64::from_be_bytes))?;
    let found = state.store.refused_events(before, i64::from(paging.limit) + 1).await?;
    let page = Page::cut(found, paging.limit, &list, |last| last.seq.to_be_bytes().to_vec());
    Ok(page.map(RefusedView::from).answer(&uri))
}
