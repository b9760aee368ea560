//! `GET /v1/webhooks/{id}/deliveries`, `GET /v1/webhooks/{id}/deliveries/{delivery}`

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use reveille_shared::store::DeliveryState;
use utoipa::IntoParams;
use uuid::Uuid;

use super::find;
use super::view::DeliveryView;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::{FromQuery, Query, QueryFields, Segment, TwoSegments};
use crate::api::page::{List, Page, id as place};

/// Which deliveries.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Only `pending`, `delivered` or `failed` ones.
    #[param(value_type = Option<String>, pattern = "^(pending|delivered|failed)$")]
    state: Option<DeliveryState>,
    /// How many at most.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 1000, default = 50)]
    limit: u16,
    /// `nextPage` of the page before.
    page: Option<String>,
}

impl FromQuery for Filter {
    fn read(query: &mut QueryFields) -> Self {
        let (limit, page) = query.paging();
        Self { state: query.one("state"), limit, page }
    }
}

/// There is no delivery of this id.
pub(super) fn unknown(id: &str) -> Problem {
    Problem::not_found("delivery", id)
}

/// Deliveries of a webhook, the latest first
///
/// They are kept for seven days.
#[utoipa::path(
    get, path = "/v1/webhooks/{id}/deliveries", tag = "webhooks", operation_id = "listWebhookDeliveries",
    params(("id" = String, Path, description = "The webhook's id"), Filter),
    responses(
        (status = 200, body = Page<DeliveryView>, description = "A page of them"),
        (status = 404, description = "There is no webhook of this id in the namespace"),
    )
)]
pub(crate) async fn list_deliveries(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    Segment(id): Segment,
    Query(filter): Query<Filter>,
    uri: Uri,
) -> Result<Response, Problem> {
    let webhook = find(&state, &namespace, &id).await?.id;
    let list = List::of(&("webhook deliveries", webhook, filter.state));
    let before = list.place(filter.page.as_deref(), place)?.unwrap_or(Uuid::max());
    let limit = i64::from(filter.limit) + 1;
    let found = state.store.webhook_deliveries(webhook, filter.state, before, limit).await?;
    let page = Page::cut(found, filter.limit, &list, |last| last.id.as_bytes().to_vec());
    Ok(page.map(DeliveryView::from).answer(&uri))
}

/// A delivery of a webhook
#[utoipa::path(
    get, path = "/v1/webhooks/{id}/deliveries/{delivery}", tag = "webhooks", operation_id = "getWebhookDelivery",
    params(
        ("id" = String, Path, description = "The webhook's id"),
        ("delivery" = String, Path, description = "The delivery's id"),
    ),
    responses(
        (status = 200, body = DeliveryView, description = "The delivery"),
        (status = 404, description = "There is none of this id"),
    )
)]
pub(crate) async fn get_delivery(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    TwoSegments(id, delivery): TwoSegments,
) -> Result<Json<DeliveryView>, Problem> {
    let webhook = find(&state, &namespace, &id).await?.id;
    let key = delivery.parse().map_err(|_| unknown(&delivery))?;
    let known = state.store.webhook_delivery(webhook, key).await?.ok_or_else(|| unknown(&delivery))?;
    Ok(Json(known.into()))
}
