//! `GET /v1/keys`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use super::is_visible;
use super::view::View;
use crate::api::ApiState;
use crate::api::access::Caller;
use crate::api::error::Problem;
use crate::api::extract::{Query, Search};
use crate::api::page::{List, Page, name};

/// Keys that are read at once when most are not the caller's to see.
const CHUNK: i64 = 500;

/// Keys for namespaces of the caller's, by prefix
///
/// `search` finds them by part of their prefix or name. Those that have expired or were revoked stay in the list.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", operation_id = "listKeys",
    params(Search),
    responses((status = 200, body = Page<View>, description = "A page of keys"))
)]
pub(crate) async fn list_keys(
    State(state): State<ApiState>,
    caller: Caller,
    Query(asked): Query<Search>,
    uri: Uri,
) -> Result<Response, Problem> {
    let list = List::of(&("keys", &asked.search));
    let mut after = list.place(asked.page.as_deref(), name)?.unwrap_or_default();
    let mut found = Vec::new();
    while found.len() <= usize::from(asked.limit) {
        let read = state.store.keys(&after, &asked.search, CHUNK).await?;
        let Some(last) = read.last() else { break };
        after.clone_from(&last.prefix);
        found.extend(read.into_iter().filter(|key| is_visible(caller.grant(), key)));
    }
    found.truncate(usize::from(asked.limit) + 1);
    let now = state.clock.now();
    let page = Page::cut(found, asked.limit, &list, |last| last.prefix.clone().into_bytes());
    Ok(page.map(|key| View::new(key, now)).answer(&uri))
}
