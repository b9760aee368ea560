//! `PATCH /v1/webhooks/{id}`

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use reveille_shared::state::Status;
use reveille_shared::store::{Action, Webhook};
use utoipa::ToSchema;

use super::view::View;
use super::{BY_REQUEST, fields, judge, key, unknown};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::Problem;
use crate::api::extract::Segment;
use crate::api::note;
use crate::api::work_requests::view::StatusName;

/// What is to be changed; what is left out stays, and `null` is the default.
#[derive(Debug, ToSchema)]
#[schema(as = UpdateWebhookRequest, rename_all = "camelCase")]
pub(crate) struct Change {
    /// Where to post to.
    #[schema(value_type = String, required = false, max_length = 2048, pattern = "^https?://")]
    url: Option<String>,
    /// What it is for: one line.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200)]
    description: Option<Option<String>>,
    /// Only runs of these jobs.
    #[schema(max_items = 100)]
    jobs: Option<Vec<String>>,
    /// Only runs that these schedules have called for.
    #[schema(max_items = 100)]
    schedules: Option<Vec<String>>,
    /// What leads to one of these is told.
    #[schema(value_type = Option<Vec<StatusName>>, min_items = 1, max_items = 6)]
    statuses: Option<Vec<Status>>,
    /// Whether anything is sent. Once it is again, what was pending goes out at once.
    enabled: Option<bool>,
    /// Who asks; the name of the key stands behind it.
    #[schema(min_length = 1, max_length = 100)]
    by: Option<String>,
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500)]
    reason: Option<String>,
}

impl FromBody for Change {
    fn read(body: &mut BodyFields) -> Self {
        Self {
            url: fields::url(body),
            description: fields::description(body),
            jobs: fields::names(body, "jobs"),
            schedules: fields::names(body, "schedules"),
            statuses: fields::statuses(body),
            enabled: fields::enabled(body),
            by: note::by(body),
            reason: note::reason(body),
        }
    }
}

impl Change {
    fn apply(self, webhook: &mut Webhook, now: Timestamp) {
        let Self { url, description, jobs, schedules, statuses, enabled, by: _, reason: _ } = self;
        let filter = &mut webhook.filter;
        (filter.jobs, filter.schedules, filter.statuses) = (
            jobs.unwrap_or_else(|| std::mem::take(&mut filter.jobs)),
            schedules.unwrap_or_else(|| std::mem::take(&mut filter.schedules)),
            statuses.unwrap_or_else(|| std::mem::take(&mut filter.statuses)),
        );
        if let Some(url) = url {
            webhook.url = url;
        }
        if let Some(description) = description {
            webhook.description = description;
        }
        match enabled {
            Some(true) => webhook.enable(),
            Some(false) => webhook.disable(now, BY_REQUEST),
            None => {}
        }
    }
}

/// Changes a webhook, or enables it again
///
/// Changed filters hold for what happens from then on; a changed URL also for what is pending.
#[utoipa::path(
    patch, path = "/v1/webhooks/{id}", tag = "webhooks", operation_id = "updateWebhook",
    params(("id" = String, Path, description = "The webhook's id")),
    request_body(content = Option<Change>, content_type = "application/json"),
    responses(
        (status = 200, body = View, description = "The webhook as it is now"),
        (status = 404, description = "There is none of this id in the namespace"),
        (status = 413, description = "The body has more than 1 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong, or the URL is not allowed"),
    )
)]
pub(crate) async fn update_webhook(
    State(state): State<ApiState>,
    Tenant { namespace, .. }: Tenant,
    caller: Caller,
    Segment(id): Segment,
    Body(change): Body<Change>,
) -> Result<Json<View>, Problem> {
    let key = key(&id)?;
    if let Some(url) = &change.url {
        judge(url, state.webhooks.poster.allowed())?;
    }
    let (by, reason) = (caller.actor(change.by.as_deref()), change.reason.clone());
    let done = Some((Action::Changed, (by.as_str(), reason.as_deref())));
    let changed = state.store.change_webhook(&namespace, key, |webhook, now| change.apply(webhook, now), done).await?;
    let webhook = changed.ok_or_else(|| unknown(&id))?;
    Ok(Json(View::new(webhook, state.store.now().await?)))
}
