//! `POST /v1/schedules/{schedule}:VERB`, `POST /v1/workRequests/{id}:VERB`: the router can't tell verbs apart that stand behind a parameter, so one
//! route takes them all and hands the request on.

use axum::extract::{Request, State};
use axum::handler::Handler as _;
use axum::http::StatusCode;
use axum::http::header::ALLOW;
use axum::response::{IntoResponse, Response};

use super::error::{Problem, printable};
use super::extract::{Segment, TwoSegments};
use super::keys::{revoke, rotate};
use super::schedules::{backfills, pause, resume, trigger};
use super::work_requests::{claim, heartbeat, retry_failed};
use super::{ApiState, google, webhooks};

/// The path by which a request is counted, where the router's own does not say enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern(pub(crate) &'static str);

/// Hands a request to the verb that its path ends in.
pub(crate) async fn of_schedule(State(state): State<ApiState>, Segment(text): Segment, request: Request) -> Response {
    let Some(verb) = verb(&text) else { return nothing_to_post() };
    let (pattern, response) = match verb {
        "pause" => ("/v1/schedules/{schedule}:pause", pause::pause_schedule.call(request, state).await),
        "resume" => ("/v1/schedules/{schedule}:resume", resume::resume_schedule.call(request, state).await),
        "trigger" => ("/v1/schedules/{schedule}:trigger", trigger::trigger_schedule.call(request, state).await),
        "backfill" => ("/v1/schedules/{schedule}:backfill", backfills::create::backfill.call(request, state).await),
        unknown => {
            return unknown_verb("a schedule", unknown, ":pause, :resume, :trigger and :backfill");
        }
    };
    counted(pattern, response)
}

/// The same for keys.
pub(crate) async fn of_key(State(state): State<ApiState>, Segment(text): Segment, request: Request) -> Response {
    let Some(verb) = verb(&text) else { return nothing_to_post() };
    let (pattern, response) = match verb {
        "rotate" => ("/v1/keys/{prefix}:rotate", rotate::rotate_key.call(request, state).await),
        "revoke" => ("/v1/keys/{prefix}:revoke", revoke::revoke_key.call(request, state).await),
        unknown => return unknown_verb("a key", unknown, ":rotate and :revoke"),
    };
    counted(pattern, response)
}

/// The same for work requests.
pub(crate) async fn of_work_request(
    State(state): State<ApiState>,
    Segment(text): Segment,
    request: Request,
) -> Response {
    let Some(verb) = verb(&text) else { return nothing_to_post() };
    let (pattern, response) = match verb {
        "claim" => ("/v1/workRequests/{id}:claim", claim::claim_work_request.call(request, state).await),
        "heartbeat" => ("/v1/workRequests/{id}:heartbeat", heartbeat::heartbeat.call(request, state).await),
        "retryFailed" => ("/v1/workRequests/{id}:retryFailed", retry_failed::retry_failed.call(request, state).await),
        unknown => return unknown_verb("a work request", unknown, ":claim, :heartbeat and :retryFailed"),
    };
    counted(pattern, response)
}

/// The same for webhooks.
pub(crate) async fn of_webhook(State(state): State<ApiState>, Segment(text): Segment, request: Request) -> Response {
    let Some(verb) = verb(&text) else { return nothing_to_post() };
    let (pattern, response) = match verb {
        "test" => ("/v1/webhooks/{id}:test", webhooks::test::test_webhook.call(request, state).await),
        "rotateSecret" => {
            ("/v1/webhooks/{id}:rotateSecret", webhooks::rotate::rotate_secret.call(request, state).await)
        }
        unknown => return unknown_verb("a webhook", unknown, ":test and :rotateSecret"),
    };
    counted(pattern, response)
}

/// The same for deliveries of webhooks.
pub(crate) async fn of_delivery(
    State(state): State<ApiState>,
    TwoSegments(_, text): TwoSegments,
    request: Request,
) -> Response {
    let Some(verb) = verb(&text) else { return nothing_to_post() };
    let (pattern, response) = match verb {
        "redeliver" => {
            let pattern = "/v1/webhooks/{id}/deliveries/{delivery}:redeliver";
            (pattern, webhooks::redeliver::redeliver.call(request, state).await)
        }
        unknown => return unknown_verb("a delivery", unknown, ":redeliver"),
    };
    counted(pattern, response)
}

/// The same for operations, of any parent: `last` is the last segment of the path.
pub(crate) async fn of_operation(state: ApiState, last: &str, request: Request) -> Response {
    // The document knows operations without a parent only.
    let Some(verb) = verb(last) else { return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET,HEAD")]).into_response() };
    let (pattern, response) = match verb {
        "cancel" => ("/v1/operations/{id}:cancel", google::cancel::cancel_operation.call(request, state).await),
        "wait" => ("/v1/operations/{id}:wait", google::wait::wait_operation.call(request, state).await),
        unknown => return unknown_verb("an operation", unknown, ":cancel and :wait"),
    };
    counted(pattern, response)
}

fn verb(text: &str) -> Option<&str> {
    text.rsplit_once(':').map(|(_, verb)| verb)
}

/// An answer, counted under this path.
pub(crate) fn counted(pattern: &'static str, mut response: Response) -> Response {
    response.extensions_mut().insert(Pattern(pattern));
    response
}

/// Without a verb there is nothing that could be posted. `openapi::allowed` says what else the path takes.
fn nothing_to_post() -> Response {
    StatusCode::METHOD_NOT_ALLOWED.into_response()
}

fn unknown_verb(what: &str, unknown: &str, known: &str) -> Response {
    let message = format!("{what} has no verb {}: it has {known}", printable(unknown));
    Problem::new(StatusCode::NOT_FOUND, "UnknownVerb", message).into_response()
}
