//! `POST /v1/schedules/{schedule}:VERB`, `POST /v1/workRequests/{id}:VERB`: the router can't tell verbs apart that stand behind a parameter, so one route
//! takes all of a resource and hands the request on.

use axum::extract::{Request, State};
use axum::handler::Handler as _;
use axum::http::StatusCode;
use axum::http::header::ALLOW;
use axum::response::{IntoResponse, Response};

use super::ApiState;
use super::error::{Problem, printable};
use super::extract::Segment;
use super::schedules::{backfills, pause, resume, trigger};
use super::work_requests::retry_failed;

/// The path by which a request is counted, where the router's own does not say enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pattern(pub(crate) &'static str);

/// Hands a request to the verb that its path ends in.
pub(crate) async fn of_schedule(State(state): State<ApiState>, Segment(text): Segment, request: Request) -> Response {
    let Some((_, verb)) = text.rsplit_once(':') else {
        // Without a verb there is nothing that could be posted.
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET,HEAD")]).into_response();
    };
    let (pattern, mut response) = match verb {
        "pause" => ("/v1/schedules/{schedule}:pause", pause::pause_schedule.call(request, state).await),
        "resume" => ("/v1/schedules/{schedule}:resume", resume::resume_schedule.call(request, state).await),
        "trigger" => ("/v1/schedules/{schedule}:trigger", trigger::trigger_schedule.call(request, state).await),
        "backfill" => ("/v1/schedules/{schedule}:backfill", backfills::create::backfill.call(request, state).await),
        unknown => {
            let message = format!(
                "a schedule has no verb {}: it has :pause, :resume, :trigger and :backfill",
                printable(unknown)
            );
            return Problem::new(StatusCode::NOT_FOUND, "UnknownVerb", message).into_response();
        }
    };
    response.extensions_mut().insert(Pattern(pattern));
    response
}

/// The same for a work request.
pub(crate) async fn of_work_request(
    State(state): State<ApiState>,
    Segment(text): Segment,
    request: Request,
) -> Response {
    let (pattern, mut response) = match text.rsplit_once(':') {
        None => return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET,HEAD,DELETE")]).into_response(),
        Some((_, "retryFailed")) => {
            ("/v1/workRequests/{id}:retryFailed", retry_failed::retry_failed.call(request, state).await)
        }
        Some((_, unknown)) => {
            let message = format!("a work request has no verb {}: it has :retryFailed", printable(unknown));
            return Problem::new(StatusCode::NOT_FOUND, "UnknownVerb", message).into_response();
        }
    };
    response.extensions_mut().insert(Pattern(pattern));
    response
}
