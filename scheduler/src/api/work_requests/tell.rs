//! `POST /v1/workRequests/{id}/events`

use axum::Json;
use axum::body::Body as RawBody;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use reveille_shared::access::Names;
use reveille_shared::cloud_event::{CloudEvent, MAX_MESSAGE, Message, RefusedEvent};
use reveille_shared::run_event::RunEvent;
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{EventVerdict, Incoming, Via};
use serde::Serialize;
use utoipa::ToSchema;

use super::find;
use crate::api::ApiState;
use crate::api::access::Tenant;
use crate::api::body::read_body;
use crate::api::error::Problem;
use crate::api::extract::Segment;
use crate::api::time::Instant;

/// What HTTP's binding of CloudEvents puts before the name of an attribute.
const PREFIX: &str = "ce-";

/// What became of events.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventsTaken)]
pub(crate) struct Taken {
    /// One for each event, in order.
    items: Vec<VerdictView>,
    /// When the lease of the first event ends unless its worker gives another sign of life, while it has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_until: Option<Instant>,
    /// Someone has asked for that run to stop: stop it, and report it as canceled.
    #[serde(skip_serializing_if = "Option::is_none")]
    canceling: Option<bool>,
}

/// A CloudEvent of a worker, as docs/events.md has it.
#[derive(ToSchema)]
#[schema(as = WorkerEvent)]
#[allow(dead_code, reason = "declares the shape to the OpenAPI document")]
struct Told {
    /// Always `1.0`.
    #[schema(pattern = "^1\\.0$")]
    specversion: String,
    /// Tells the event from others of the source: repeated, it counts once.
    #[schema(min_length = 1, max_length = 256)]
    id: String,
    /// Who tells.
    #[schema(min_length = 1, max_length = 256)]
    source: String,
    /// Such as `io.reveille.run.progress`.
    #[schema(pattern = "^io\\.reveille\\.run\\.(heartbeat|progress|log|output|succeeded|failed|canceled|released)$")]
    r#type: String,
    /// When it happened; at most 5 minutes ahead of the database's clock.
    time: Instant,
    /// The token of the lease.
    leasetoken: uuid::Uuid,
    /// What the type says.
    data: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What became of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventVerdict)]
struct VerdictView {
    /// Its own `id`, where that could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// `taken`; `repeated`: it was before; `late`: the lease was lost, and the end is kept as evidence; `refused`.
    verdict: &'static str,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<EventError>,
}

/// Why an event was refused.
#[derive(Debug, Serialize, ToSchema)]
struct EventError {
    /// A stable word for programs.
    code: &'static str,
    /// What is wrong, for people.
    message: String,
}

/// Takes what a worker in another language tells of its run
///
/// CloudEvents 1.0: one as a JSON object (`application/cloudevents+json`) or with its attributes as `ce-` headers, or several
/// (`application/cloudevents-batch+json`). The types and their data are in docs/events.md. What is refused is listed in
/// `/v1/refusedEvents` too.
#[utoipa::path(
    post, path = "/v1/workRequests/{id}/events", tag = "workers", operation_id = "tellEvents",
    params(("id" = String, Path, description = "The work request's id; events may leave out their `subject`")),
    request_body(
        content((Told = "application/cloudevents+json"), (Vec<serde_json::Value> = "application/cloudevents-batch+json")),
    ),
    responses(
        (status = 200, body = Taken, description = "What became of each; of a batch, some may be refused"),
        (status = 400, description = "`Malformed`: no CloudEvent"),
        (status = 404, description = "`UnknownRun`: there is none of this id in the namespace"),
        (status = 409, description = "`StaleToken`: the lease was lost, stop; `NotCanceling`: nobody has asked for that; `AlreadyEnded`"),
        (status = 413, description = "`TooLarge`: the body has more than 1 MiB, or more than 1,000 events"),
        (status = 422, description = "`UnknownType`, `InvalidData`, `FutureTime`"),
    )
)]
pub(crate) async fn tell_events(
    State(state): State<ApiState>,
    tenant: Tenant,
    Segment(id): Segment,
    headers: HeaderMap,
    body: RawBody,
) -> Result<Json<Taken>, Problem> {
    if tenant.jobs != Names::All {
        find(&state, &tenant, &id).await?;
    }
    let message = match read_body(&headers, body, MAX_MESSAGE).await {
        Ok(body) => read(&headers, &body),
        Err(problem) if problem.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let known = RefusedEvent::of_nothing("TooLarge", format!("the body has more than {MAX_MESSAGE} bytes"));
            Message::Single(Err(known))
        }
        Err(problem) => return Err(problem),
    };
    let is_batch = matches!(message, Message::Batch(_));
    let came: Vec<Incoming> =
        message.into_events().into_iter().map(|event| place(event, &tenant.namespace, &id)).collect();
    let names: Vec<_> = came.iter().map(name).collect();
    let token = came.iter().flatten().map(|event| event.token).next();
    let verdicts = state.events.take(Via::Rest, came).await?;
    if let ([EventVerdict::Refused(event) | EventVerdict::Late(event)], false) = (&verdicts[..], is_batch) {
        return Err(problem(event));
    }
    let mut taken = Taken::default();
    if let Some(token) = token
        && let Ok(request) = find(&state, &tenant, &id).await
        && let Phase::Leased(held) = request.phase
        && held.token == token
    {
        let canceling = request.status == Status::Canceling;
        (taken.lease_until, taken.canceling) = (Some(held.ends_at().into()), Some(canceling));
    }
    taken.items = names.into_iter().zip(verdicts).map(|(id, verdict)| view(id, verdict)).collect();
    Ok(Json(taken))
}

fn read(headers: &HeaderMap, body: &[u8]) -> Message {
    let attributes = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(PREFIX)?;
        Some((name.to_owned(), percent_decoded(value.as_bytes())))
    });
    Message::read(headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()), attributes, body)
}

/// Attributes in headers are percent-encoded where they are not plain ASCII.
fn percent_decoded(value: &[u8]) -> String {
    let hex = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
    let mut bytes = Vec::with_capacity(value.len());
    let mut at = 0;
    while let Some(byte) = value.get(at) {
        let code = (*byte == b'%').then(|| hex(value.get(at + 1)).zip(hex(value.get(at + 2)))).flatten();
        if let Some((high, low)) = code {
            bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
            at += 3;
        } else {
            bytes.push(*byte);
            at += 1;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Gives an event the run and the tenant of the request, and refuses it if it names others.
fn place(event: Result<CloudEvent, RefusedEvent>, namespace: &str, id: &str) -> Incoming {
    let here = |mut refused: RefusedEvent| {
        refused.of.namespace.get_or_insert_with(|| namespace.to_owned());
        refused.of.subject.get_or_insert_with(|| id.chars().take(64).collect());
        refused
    };
    let event = event.map_err(here)?;
    if event.subject.as_deref().is_some_and(|subject| subject != id) {
        return Err(event.refused("Malformed", "`subject` is not the work request of the path"));
    }
    if event.namespace.as_deref().is_some_and(|named| named != namespace) {
        return Err(event.refused("Malformed", "`namespace` is not that of the request"));
    }
    let (subject, namespace) = (Some(id.to_owned()), Some(namespace.to_owned()));
    RunEvent::try_from(CloudEvent { subject, namespace, ..event })
}

fn name(event: &Incoming) -> Option<String> {
    match event {
        Ok(event) => Some(event.id.clone()),
        Err(refused) => refused.of.id.clone(),
    }
}

fn view(id: Option<String>, verdict: EventVerdict) -> VerdictView {
    let word = verdict.as_str();
    let error = match verdict {
        EventVerdict::Taken | EventVerdict::Repeated => None,
        EventVerdict::Late(event) | EventVerdict::Refused(event) => {
            Some(EventError { code: event.code, message: event.message })
        }
    };
    VerdictView { id, verdict: word, error }
}

fn problem(event: &RefusedEvent) -> Problem {
    let status = match event.code {
        "Malformed" => StatusCode::BAD_REQUEST,
        "UnknownRun" => StatusCode::NOT_FOUND,
        "StaleToken" | "NotCanceling" | "AlreadyEnded" => StatusCode::CONFLICT,
        "TooLarge" => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    Problem::new(status, event.code, event.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_in_headers_are_decoded() {
        for (header, text) in
            [("/w 1", "/w 1"), ("%E2%82%AC%20x", "€ x"), ("100%", "100%"), ("%2", "%2"), ("%zz", "%zz")]
        {
            assert_eq!(percent_decoded(header.as_bytes()), text);
        }
    }
}
