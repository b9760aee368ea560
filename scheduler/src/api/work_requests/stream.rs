//! `GET /v1/workRequests/{id}/stream`

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, stream};
use reveille_shared::state::Status;
use reveille_shared::store::StoreError;
use reveille_shared::telemetry::chain;
use reveille_shared::work_request::{HistoryEvent, WorkRequest};

use super::find;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::Problem;
use crate::api::extract::Segment;
use crate::api::polling::{LONGEST_WAIT, Seen};
use crate::api::sse::{BATCH, HEARTBEAT, RECONNECT, last_event_id};
use crate::transition::{Transition, Whose};

/// What happens to a work request, as it happens
///
/// Server-sent events (HTML, section 9.2): the history from its beginning, then what is added to it, until the run has
/// ended. Each event's `id` is the entry's number, its `event` what has happened, and its `data` a `Transition`. Whoever
/// connects again with `Last-Event-ID` gets what comes after that one, from whichever scheduler; and 204 if that was the last.
#[utoipa::path(
    get, path = "/v1/workRequests/{id}/stream", tag = "workRequests", operation_id = "streamWorkRequest",
    params(
        ("id" = String, Path, description = "The work request's id"),
        ("Last-Event-ID" = Option<String>, Header, description = "What the caller has seen last; what is unknown counts for nothing"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "Its history, entry by entry"),
        (status = 204, description = "The caller has seen its end"),
        (status = 404, description = "There is none of this id in the namespace"),
    )
)]
pub(crate) async fn stream_work_request(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
    asked: HeaderMap,
) -> Result<Response, Problem> {
    let request = find(&state, &tenant, &id).await?;
    let seen = last_event_id(&asked).and_then(|seen| seen.parse().ok());
    let follower = Follower::begin(state, &request, seen.unwrap_or(0)).await?;
    if follower.status.is_terminal() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let alive = KeepAlive::new().interval(HEARTBEAT).text("ping");
    Ok(Sse::new(follower.events()).keep_alive(alive).into_response())
}

/// Follows a run's history. Nothing is held for a slow reader but its place.
struct Follower {
    state: ApiState,
    whose: Whose,
    /// The number of the entry that was told last, and the status from it on.
    last: i32,
    status: Status,
    /// Read, and not told yet.
    next: VecDeque<HistoryEvent>,
}

impl Follower {
    /// Behind entry `seen`, or at the beginning if there is none of this number.
    async fn begin(state: ApiState, request: &WorkRequest, seen: i32) -> Result<Self, StoreError> {
        let whose = Whose {
            id: request.id,
            namespace: request.namespace.clone(),
            job: request.job.clone(),
            schedule: request.fire.as_ref().map(|fire| fire.schedule.clone()),
        };
        let mut follower = Self { state, whose, last: 0, status: Status::Accepted, next: VecDeque::new() };
        while follower.last < seen {
            let Some(event) = follower.read().await? else {
                (follower.last, follower.status) = (0, Status::Accepted);
                break;
            };
            follower.pass(&event);
        }
        Ok(follower)
    }

    fn pass(&mut self, event: &HistoryEvent) {
        (self.last, self.status) = (event.seq, event.what.status().unwrap_or(self.status));
    }

    /// The next entry, if there is one by now.
    async fn read(&mut self) -> Result<Option<HistoryEvent>, StoreError> {
        if self.next.is_empty() {
            self.next.extend(self.state.store.events(self.whose.id, self.last, BATCH).await?);
        }
        Ok(self.next.pop_front())
    }

    /// The next entry, as soon as there is one; none after the last, when the run is gone, or when the process stops.
    async fn follow(&mut self) -> Result<Option<HistoryEvent>, StoreError> {
        let mut has_changed = false;
        while !self.status.is_terminal() {
            if let Some(event) = self.read().await? {
                return Ok(Some(event));
            }
            let ApiState { polling, store, .. } = &self.state;
            // What has changed and has nothing to tell is gone.
            if has_changed || polling.is_stopping() {
                break;
            }
            has_changed = polling.change(store, self.whose.id, Seen::Entry(self.last), LONGEST_WAIT).await?;
        }
        Ok(None)
    }

    fn events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        let told = stream::unfold(self, async |mut follower| match follower.follow().await {
            Ok(Some(event)) => {
                follower.pass(&event);
                Some((Ok(follower.tell(event)), follower))
            }
            Ok(None) => None,
            // The client comes again, and goes on where it was.
            Err(error) => {
                log(&error);
                None
            }
        });
        futures_util::StreamExt::chain(stream::iter([Ok(Event::default().retry(RECONNECT))]), told)
    }

    fn tell(&self, event: HistoryEvent) -> Event {
        let number = event.seq.to_string();
        let transition = Transition::new(self.whose.clone(), event, Some(self.status));
        Event::default().id(number).event(transition.what()).data(transition.text())
    }
}

fn log(error: &StoreError) {
    tracing::warn!(error = chain(error), "a stream of a work request ends");
}
