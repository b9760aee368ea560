//! `GET /v1/audit`

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use reveille_shared::access::Names;
use reveille_shared::store::{EVERYWHERE, NamedChange};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::ApiState;
use super::access::{Caller, Tenant, forbidden};
use super::error::Problem;
use super::extract::{FromQuery, Query, QueryFields};
use super::page::{List, Page};
use super::time::Instant;

/// Which changes.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// `true`: instead of those of the namespace, those of what belongs to several or to all, such as keys.
    #[param(value_type = Option<bool>, default = false)]
    everywhere: bool,
    /// How many at most.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 50)]
    limit: u16,
    /// `nextPage` of the page before.
    page: Option<String>,
}

impl FromQuery for Asked {
    fn read(query: &mut QueryFields) -> Self {
        let (limit, page) = query.paging();
        Self { everywhere: query.one("everywhere").unwrap_or_default(), limit, page }
    }
}

/// Who changed what, when and why.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditedChange)]
pub(crate) struct View {
    /// Orders changes; later ones have higher numbers.
    seq: i64,
    /// `job`, `schedule`, `key` or `webhook`.
    kind: &'static str,
    /// Its name; of a key the prefix, of a webhook the id.
    name: String,
    /// Its version from then on.
    version: i64,
    /// `created`, `changed`, `removed`, `paused`, `resumed`, `rotated` or `revoked`.
    action: &'static str,
    /// When.
    timestamp: Instant,
    /// Who did it; with a key, its name and prefix.
    by: String,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<NamedChange> for View {
    fn from(NamedChange { kind, name, change }: NamedChange) -> Self {
        Self {
            seq: change.seq,
            kind: kind.as_str(),
            name,
            version: change.version,
            action: change.action.as_str(),
            timestamp: change.at.into(),
            by: change.actor,
            reason: change.reason,
        }
    }
}

/// Who changed which job, schedule, key or webhook, the newest change first
///
/// What people do with runs stands in the histories of these.
#[utoipa::path(
    get, path = "/v1/audit", tag = "keys", operation_id = "listAudit",
    params(Asked),
    responses((status = 200, body = Page<View>, description = "A page of changes"))
)]
pub(crate) async fn list_audit(
    State(state): State<ApiState>,
    tenant: Tenant,
    caller: Caller,
    Query(asked): Query<Asked>,
    uri: Uri,
) -> Result<Response, Problem> {
    if asked.everywhere && caller.grant().namespaces != Names::All {
        return Err(forbidden("this concerns all namespaces, and the key is for some only"));
    }
    let namespace = if asked.everywhere { EVERYWHERE } else { &tenant.namespace };
    let list = List::of(&("audit", namespace));
    let place = |bytes: &[u8]| bytes.try_into().ok().map(i64::from_be_bytes);
    let before = list.place(asked.page.as_deref(), place)?.unwrap_or(i64::MAX);
    let found = state.store.changes_of_namespace(namespace, before, i64::from(asked.limit) + 1).await?;
    let page = Page::cut(found, asked.limit, &list, |last| last.change.seq.to_be_bytes().to_vec());
    Ok(page.map(View::from).answer(&uri))
}
