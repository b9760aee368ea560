//! `GET /v1/workRequests:stream`

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _, stream};
use reveille_shared::state::Status;
use reveille_shared::store::FeedEntry;
use reveille_shared::telemetry::chain;
use reveille_shared::work_request::WorkRequestId;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::view::StatusName;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::error::{Fault, Problem, printable};
use crate::api::extract::{FromQuery, Name, Query, QueryFields};
use crate::api::polling::{Batch, Listening};
use crate::api::sse::{BATCH, HEARTBEAT, RECONNECT, last_event_id};

/// What to tell.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Only of runs of this job.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    job: Option<Name>,
    /// Only of runs that this schedule has called for.
    #[param(value_type = Option<String>, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$")]
    schedule: Option<Name>,
    /// Only of children of this work request.
    #[param(value_type = Option<uuid::Uuid>)]
    parent: Option<WorkRequestId>,
    /// Only what leaves the run in one of these states: several times, or once as a list with commas.
    #[param(value_type = Option<Vec<StatusName>>)]
    status: Vec<Status>,
}

impl FromQuery for Filter {
    fn read(query: &mut QueryFields) -> Self {
        Self {
            job: query.one("job"),
            schedule: query.one("schedule"),
            parent: query.one("parent"),
            status: query.many("status"),
        }
    }
}

impl Filter {
    fn lets_through(&self, entry: &FeedEntry) -> bool {
        let is =
            |wanted: &Option<Name>, name: Option<&String>| wanted.as_ref().is_none_or(|Name(job)| Some(job) == name);
        is(&self.job, Some(&entry.job))
            && is(&self.schedule, entry.schedule.as_ref())
            && (self.parent.is_none() || self.parent == entry.parent)
            && (self.status.is_empty() || entry.status.is_some_and(|status| self.status.contains(&status)))
    }
}

/// What happens to work requests, as it happens
///
/// Server-sent events (HTML, section 9.2): entries of the histories of all runs of the namespace that the filter lets through,
/// from the moment of the answer on, those of one run in their order. Each event's `id` is a number that rises, its `event` what
/// has happened, and its `data` a `Transition`. Whoever connects again with `Last-Event-ID`, from whichever scheduler, gets what
/// comes after that one, for an hour; later it is 410. An event with an `id` alone, at the beginning and at least every 15
/// seconds, says how far the stream is.
#[utoipa::path(
    get, path = "/v1/workRequests:stream", tag = "workRequests", operation_id = "streamWorkRequests",
    params(
        Filter,
        ("Last-Event-ID" = Option<String>, Header, pattern = "^[0-9]{0,18}$", description = "What the caller has seen last, of any filter"),
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "Transitions"),
        (status = 410, description = "`Expired`: it is not known any more what has happened since then, or never was. Begin anew, without `Last-Event-ID`"),
    )
)]
pub(crate) async fn stream_work_requests(
    State(state): State<ApiState>,
    tenant: Tenant,
    Query(filter): Query<Filter>,
    asked: HeaderMap,
) -> Result<Response, Problem> {
    let seen = last_event_id(&asked).map(number).transpose()?;
    let Listening { position: until, receiver } = state.polling.listen(&state.store).await?;
    let position = match seen {
        Some(seen) if state.store.feed_bounds().await?.contains(&seen) => seen,
        Some(_) => return Err(expired()),
        None => until,
    };
    let listener = Listening { position, receiver };
    let reader = Reader { state, tenant, filter, listener, until, at_hand: None, beat_at: Instant::now() + HEARTBEAT };
    Ok(Sse::new(reader.events()).into_response())
}

fn number(id: &str) -> Result<i64, Problem> {
    id.parse().ok().filter(|number| *number >= 0).ok_or_else(|| {
        let message = format!("{} is not the id of an event of this stream", printable(id));
        let fault = Fault { field: "Last-Event-ID".to_owned(), message };
        Problem::invalid(StatusCode::BAD_REQUEST, vec![fault])
    })
}

fn expired() -> Problem {
    let message = "it is not known any more what has happened since that event: begin anew, without Last-Event-ID";
    Problem::new(StatusCode::GONE, "Expired", message)
}

/// Tells one caller. What it has not taken yet is read again if it falls behind; nothing is held for it but its place.
struct Reader {
    state: ApiState,
    tenant: Tenant,
    filter: Filter,
    /// Its position is the number up to which the caller was told.
    listener: Listening,
    /// What is up to this number is read from the store, as it was not received.
    until: i64,
    /// What is being told, and how much of it was.
    at_hand: Option<(Arc<Batch>, usize)>,
    /// When the next sign of life is due.
    beat_at: Instant,
}

impl Reader {
    /// The next event; none when the process stops, the caller has fallen too far behind, or the store fails: it comes again,
    /// and goes on where it was.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.of_those_at_hand() {
                return Some(event);
            }
            let batch = if self.listener.position < self.until {
                self.read().await?
            } else {
                let polling = &self.state.polling;
                tokio::select! {
                    biased;
                    () = polling.stopping() => return None,
                    received = self.listener.receiver.recv() => match received {
                        Ok(batch) => batch,
                        Err(RecvError::Closed) => return None,
                        Err(RecvError::Lagged(_)) => {
                            metrics::counter!("reveille_slow_readers_total").increment(1);
                            return None;
                        }
                    },
                    () = tokio::time::sleep_until(self.beat_at) => return Some(self.place().comment("ping")),
                }
            };
            self.at_hand = Some((batch, 0));
        }
    }

    fn of_those_at_hand(&mut self) -> Option<Event> {
        let (batch, done) = self.at_hand.as_mut()?;
        while let Some(told) = batch.entries.get(*done) {
            *done += 1;
            let entry = &told.entry;
            if entry.number > self.listener.position
                && entry.namespace == self.tenant.namespace
                && self.tenant.jobs.has(&entry.job)
                && self.filter.lets_through(entry)
            {
                let (what, text) = told.text();
                self.listener.position = entry.number;
                self.beat_at = Instant::now() + HEARTBEAT;
                return Some(Event::default().id(entry.number.to_string()).event(what).data(text));
            }
        }
        self.listener.position = self.listener.position.max(batch.until);
        self.at_hand = None;
        None
    }

    /// What the caller has missed.
    async fn read(&self) -> Option<Arc<Batch>> {
        match self.state.store.feed_before(self.listener.position, self.until, BATCH).await {
            Ok(part) => part.map(|part| Arc::new(Batch::new(part.entries, part.position))),
            Err(error) => {
                tracing::warn!(error = chain(&error), "a stream of work requests ends");
                None
            }
        }
    }

    /// Tells where the caller is, so that it need not go back to the last event that its filter has let through.
    fn place(&mut self) -> Event {
        self.beat_at = Instant::now() + HEARTBEAT;
        Event::default().id(self.listener.position.to_string())
    }

    fn events(mut self) -> impl Stream<Item = Result<Event, Infallible>> {
        let first = self.place().retry(RECONNECT);
        let told = stream::unfold(self, async |mut reader| Some((Ok(reader.next().await?), reader)));
        stream::iter([Ok(first)]).chain(told)
    }
}
