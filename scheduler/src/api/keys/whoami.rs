//! `GET /v1/whoami`

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::view::listed;
use crate::api::ApiState;
use crate::api::access::{Access, Caller};

/// Who the caller is, and what they may do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Whoami {
    /// `keys`, or `open` where nobody needs one.
    access: &'static str,
    /// The prefix of the caller's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// `viewer`, `operator` or `admin`.
    role: &'static str,
    /// The namespaces that it is for; absent if for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespaces: Option<Vec<String>>,
    /// The jobs that it is limited to; absent if to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<Vec<String>>,
}

/// Who the caller is, and what they may do
#[utoipa::path(
    get, path = "/v1/whoami", tag = "keys", operation_id = "whoami",
    responses((status = 200, body = Whoami, description = "The caller"))
)]
pub(crate) async fn whoami(State(state): State<ApiState>, caller: Caller) -> Json<Whoami> {
    let (prefix, name) = caller.key().map(|key| (key.prefix.clone(), key.name.clone())).unzip();
    Json(Whoami {
        access: if matches!(state.access, Access::Open) { "open" } else { "keys" },
        prefix,
        name,
        role: caller.grant().role.as_str(),
        namespaces: listed(&caller.grant().namespaces),
        jobs: listed(&caller.grant().jobs),
    })
}
