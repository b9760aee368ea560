//! `GET /livez`

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

/// The process runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Live {
    /// Always `live`.
    status: &'static str,
}

/// Whether the process runs; asks nothing else
#[utoipa::path(
    get, path = "/livez", tag = "operations", operation_id = "live",
    responses((status = 200, body = Live, description = "It runs"))
)]
pub(crate) async fn live() -> Json<Live> {
    Json(Live { status: "live" })
}
