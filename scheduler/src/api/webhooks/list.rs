//! `GET /v1/webhooks`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use uuid::Uuid;

use super::view::View;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{Paging, Query};
use crate::api::page::{List, Page, id};

/// Webhooks of a namespace, the first made first
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "webhooks", operation_id = "listWebhooks", params(Paging),
    responses((status = 200, body = Page<View>, description = "A page of them, without their secrets"))
)]
pub(crate) async fn list_webhooks(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    Query(paging): Query<Paging>,
    uri: Uri,
) -> Result<Response, Problem> {
    let list = List::of(&("webhooks", &namespace));
    let after = list.place(paging.page.as_deref(), id)?.unwrap_or(Uuid::nil());
    let found = state.store.webhooks(&namespace, after, i64::from(paging.limit) + 1).await?;
    let now = state.store.now().await?;
    let page = Page::cut(found, paging.limit, &list, |last| last.id.as_bytes().to_vec());
    Ok(page.map(|webhook| View::new(webhook, now)).answer(&uri))
}
