//! `GET /v1/operations`

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use utoipa::IntoParams;

use super::Named;
use super::filter::Filter;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::dialects::google::{Operation, Operations};
use crate::api::error::Problem;
use crate::api::extract::{FromQuery, Query, QueryFields};
use crate::api::known::Known;

/// Operations of a page at most: each has its output.
const MOST: u16 = 100;

/// Which operations.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(crate) struct Asked {
    /// How many at most; 0 is the default of 50, and of more than 100 there are 100.
    #[param(value_type = Option<u16>, minimum = 0, maximum = 65535)]
    page_size: u16,
    /// `nextPageToken` of the page before.
    page_token: Option<String>,
    /// Like `done=false AND job=invoice-run`: of `done`, `status`, `job` and `schedule`.
    #[param(value_type = Option<String>, pattern = r#"^((^| AND ) *(done *= *"?(true|false)|status *= *"?(ACCEPTED|IN_PROGRESS|CANCELING|SUCCEEDED|FAILED|CANCELED)|(job|schedule) *= *"?[a-z0-9][a-z0-9._-]{0,63})"? *)*$"#)]
    filter: Filter,
    /// There are no partial answers.
    #[param(value_type = Option<bool>)]
    #[allow(dead_code, reason = "read to be checked")]
    return_partial_success: Option<bool>,
}

impl FromQuery for Asked {
    fn read(query: &mut QueryFields) -> Self {
        // How Google's clients ask for JSON, which is all there is.
        for system in ["$alt", "alt"] {
            let _is_json: Option<String> = query.one(system);
        }
        let page_size = match query.number("pageSize", 0, u16::MAX, 0) {
            0 => 50,
            size => size.min(MOST),
        };
        Self {
            page_size,
            page_token: query.one::<String>("pageToken").filter(|token| !token.is_empty()),
            filter: query.one("filter").unwrap_or_default(),
            return_partial_success: query.one("returnPartialSuccess"),
        }
    }
}

/// Work requests, newest first, for Google's clients
///
/// With a parent before `operations` (`/v1/compartments/C/operations`) the same, named so.
#[utoipa::path(
    get, path = "/v1/operations", tag = "google", operation_id = "listOperations",
    params(Asked),
    responses((status = 200, body = Operations, description = "A page of operations"))
)]
pub(crate) async fn list_operations(
    State(state): State<ApiState>,
    tenant: Tenant,
    Query(asked): Query<Asked>,
    named: Named,
) -> Result<Json<Operations>, Problem> {
    let page = Known::list(
        &state,
        &tenant,
        asked.filter.of(tenant.namespace.clone()),
        asked.page_size,
        ("pageToken", asked.page_token.as_deref()),
    )
    .await?;
    let ids: Vec<_> = page.items.iter().map(|known| known.request.id).collect();
    let mut outputs: HashMap<_, _> = state.store.outputs(&ids).await?.into_iter().collect();
    let page = page.map(|known| Operation::new(named.name(&known), &known, outputs.remove(&known.request.id)));
    Ok(Json(Operations { operations: page.items, next_page_token: page.next_page }))
}
