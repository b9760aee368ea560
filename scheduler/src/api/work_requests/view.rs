//! Work requests and their history as JSON.

use jiff::{SignedDuration, Timestamp};
use reveille_shared::duration::HumanDuration;
use reveille_shared::fan_out::FailPolicy;
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{MOST_AHEAD, Wait};
use reveille_shared::work_request::{Asker, Children, Happening, HistoryEvent, LogLine, RunError, WorkRequest};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::dialects::oci;
use crate::api::known::Known;
use crate::api::time::Instant;

/// One run of one job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WorkRequest)]
pub(crate) struct View {
    /// Its name; opaque.
    pub(crate) id: String,
    /// The tenant.
    pub(crate) namespace: String,
    /// The job that runs.
    pub(crate) job: String,
    /// The version of the job that runs.
    pub(crate) job_version: i64,
    /// The work queue.
    pub(crate) queue: String,
    /// The schedule that called for it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// The due time that called for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled_for: Option<Instant>,
    /// Who decided the fire that called for it: `schedule`, `manual` or `backfill:ID`.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// The work request whose end called for it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    chained_from: Option<String>,
    /// The work request whose child it is, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// The work request of which it does again what did not succeed, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<String>,
    /// Its children, if it has called for any.
    #[serde(skip_serializing_if = "Option::is_none")]
    children: Option<ChildrenView>,
    /// Where it stands.
    #[schema(value_type = StatusName)]
    pub(crate) status: &'static str,
    /// 0 to 100; 100 when SUCCEEDED.
    #[schema(minimum = 0, maximum = 100)]
    percent_complete: f32,
    /// The run's own words about its progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Attempts opened so far.
    attempt: u32,
    /// What it waits for, in words, while it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<String>,
    /// What the run was given.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(required = false)]
    input: Value,
    /// What the run creates or changes, as the caller named it.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Value>,
    /// Why it FAILED or was CANCELED.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
    /// Why the last attempt failed, of a run that has not FAILED.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<ErrorView>,
    /// Not started by then, it FAILS; absent once it has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Instant>,
    /// When it was accepted.
    time_accepted: Instant,
    /// When the first attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_started: Option<Instant>,
    /// When it reached its terminal state.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_finished: Option<Instant>,
    /// The same as `job`, for OCI's clients.
    operation_type: String,
    /// The same as `namespace`, for OCI's clients.
    compartment_id: String,
    /// `resource` as OCI's clients read it, if it has a `type` and a `name`.
    resources: Vec<oci::Resource>,
    /// Where to read more.
    links: Links,
}

/// How far the children of a work request are.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Children)]
struct ChildrenView {
    /// The job that they run.
    job: String,
    /// What failed ones mean: `fast`, `at_end`, or `{"tolerate": 3}` or `{"tolerate": "5%"}`.
    #[schema(value_type = Value)]
    fail: FailPolicy,
    /// How many there are in all.
    total: u32,
    /// Of these, how many are not made yet.
    waiting: u32,
    /// How many are in a queue, or run.
    under_way: u32,
    /// How many have SUCCEEDED.
    succeeded: u32,
    /// How many FAILED.
    failed: u32,
    /// How many were CANCELED, or will not be made any more.
    canceled: u32,
}

impl ChildrenView {
    fn new(Children { job, counts, policy, is_stopped }: Children, status: Status) -> Self {
        let never = if is_stopped || status.is_terminal() { counts.unborn() } else { 0 };
        Self {
            job,
            fail: policy,
            total: counts.total,
            waiting: counts.unborn() - never,
            under_way: counts.under_way(),
            succeeded: counts.succeeded,
            failed: counts.failed,
            canceled: counts.canceled + never,
        }
    }
}

/// Where a work request stands.
#[derive(ToSchema)]
#[schema(as = Status, rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(dead_code, reason = "declares the texts of the shared state machine to the OpenAPI document")]
pub(crate) enum StatusName {
    Accepted,
    InProgress,
    Canceling,
    Succeeded,
    Failed,
    Canceled,
}

/// Why a run or an attempt failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunError)]
pub(crate) struct ErrorView {
    /// A stable word for programs.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
}

/// Paths of what belongs to a work request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkRequestLinks)]
struct Links {
    #[serde(rename = "self")]
    own: String,
    result: String,
    events: String,
    logs: String,
    errors: String,
    stream: String,
}

impl From<RunError> for ErrorView {
    fn from(error: RunError) -> Self {
        Self { code: error.code, message: error.message }
    }
}

impl From<Known> for View {
    fn from(known: Known) -> Self {
        let failure = known.failure();
        let Known { request, wait, ahead, now, .. } = known;
        let at = format!("/v1/workRequests/{}", request.id);
        let origin = request.fire.as_ref().map(|fire| fire.origin.to_string());
        let waiting_for = wait.map(|wait| limit(&wait)).or_else(|| waiting_for(&request, ahead, now));
        let resources = oci::resources(&request);
        let last_error = request.error.filter(|_| request.status != Status::Failed);
        let (schedule, scheduled_for) = request.fire.map(|fire| (fire.schedule, Instant(fire.due_at))).unzip();
        Self {
            id: request.id.to_string(),
            namespace: request.namespace.clone(),
            job: request.job.clone(),
            job_version: request.job_version,
            queue: request.queue,
            schedule,
            scheduled_for,
            origin,
            chained_from: request.chained_from.map(|id| id.to_string()),
            parent: request.parent.map(|id| id.to_string()),
            retry_of: request.retry_of.map(|id| id.to_string()),
            children: request.children.map(|children| ChildrenView::new(children, request.status)),
            status: request.status.as_str(),
            percent_complete: request.percent,
            message: request.message,
            attempt: request.attempt,
            waiting_for,
            input: request.input,
            resource: request.resource,
            error: failure.map(ErrorView::from),
            last_error: last_error.map(ErrorView::from),
            expires_at: request.expires_at.map(Instant),
            operation_type: request.job,
            compartment_id: request.namespace,
            resources,
            time_accepted: request.accepted_at.into(),
            time_started: request.started_at.map(Instant),
            time_finished: request.finished_at.map(Instant),
            links: Links {
                result: format!("{at}/result"),
                events: format!("{at}/events"),
                logs: format!("{at}/logs"),
                errors: format!("{at}/errors"),
                stream: format!("{at}/stream"),
                own: at,
            },
        }
    }
}

/// `limit concurrency:billing/invoice-run/eu: 3 of 3, 2 runs go first, about 40s more`
fn limit(wait: &Wait) -> String {
    let Wait { key, most, taken, ahead, estimate } = wait;
    let ahead = match ahead {
        0 => "it is the next".to_owned(),
        1 => "1 run goes first".to_owned(),
        count => format!("{count} runs go first"),
    };
    // A part of a second says more than is known.
    let about = |estimate: &SignedDuration| HumanDuration::from_secs(estimate.as_secs().unsigned_abs().max(1));
    let estimate = estimate.as_ref().map(|estimate| format!(", about {} more", about(estimate))).unwrap_or_default();
    format!("limit {key}: {taken} of {most}; {ahead}{estimate}")
}

fn waiting_for(request: &WorkRequest, ahead: Option<i64>, now: Timestamp) -> Option<String> {
    let attempt = request.attempt;
    match &request.phase {
        Phase::Held { since, hold } => Some(format!("held since {}: {}", Instant(*since), hold.words())),
        Phase::Due { at } if *at <= now => {
            let turn = match ahead {
                None => String::new(),
                Some(0) => ": its queue is full, and of its namespace it is the next".to_owned(),
                Some(1) => ": its queue is full, and 1 run of its namespace goes first".to_owned(),
                Some(MOST_AHEAD) => format!(": its queue is full, and {MOST_AHEAD} or more of its namespace go first"),
                Some(count) => format!(": its queue is full, and {count} runs of its namespace go first"),
            };
            Some(format!("to be sent since {}{turn}", Instant(*at)))
        }
        Phase::Due { at } if attempt > 0 => Some(format!("attempt {} due at {}", attempt + 1, Instant(*at))),
        Phase::Due { at } => Some(format!("due at {}", Instant(*at))),
        Phase::Sent { at } => Some(format!("in the queue since {}", Instant(*at))),
        Phase::Parked { at } => Some(format!("goes on elsewhere; to be asked after at {}", Instant(*at))),
        Phase::Children => Some(match &request.children {
            Some(Children { counts, .. }) => format!("its children: {} of {} have ended", counts.ended(), counts.total),
            None => "its children".to_owned(),
        }),
        Phase::Leased(_) | Phase::Done => None,
    }
}

/// One entry of a work request's history.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Event)]
pub(crate) struct EventView {
    /// Its place in the history; the first is 1.
    #[schema(minimum = 1)]
    seq: i32,
    /// When it was recorded.
    timestamp: String,
    /// What happened.
    #[schema(value_type = EventType)]
    r#type: &'static str,
    /// The same in words.
    pub(crate) message: String,
    /// Which attempt it is about; 0 if none was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// Which worker started the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<Uuid>,
    /// Why the attempt or the run failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorView>,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Instant>,
    /// Who asked for it; with a key, its name and prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Why, in their words.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl EventView {
    fn asked_for(self, Asker { by, reason }: Asker) -> Self {
        Self { by: Some(by), reason, ..self }
    }

    /// What happened, as a word.
    pub(crate) const fn what(&self) -> &'static str {
        self.r#type
    }
}

/// What can happen to a work request.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code, reason = "declares the texts of the shared history to the OpenAPI document")]
pub(crate) enum EventType {
    Accepted,
    Held,
    Admitted,
    Started,
    AttemptFailed,
    Released,
    Deferred,
    Parked,
    Split,
    Resent,
    CancelRequested,
    Returned,
    Succeeded,
    Failed,
    Canceled,
}

impl From<HistoryEvent> for EventView {
    fn from(HistoryEvent { seq, at, what }: HistoryEvent) -> Self {
        let view = |r#type, message: String| Self {
            seq,
            timestamp: Instant(at).to_string(),
            r#type,
            message,
            ..Self::default()
        };
        match what {
            Happening::Accepted { by } => view("accepted", format!("accepted; asked for by {by}")).asked_for(by),
            Happening::Held { reason } => view("held", format!("held {reason}")),
            Happening::Admitted => view("admitted", "let go: what it was held for is over".to_owned()),
            Happening::Started { attempt, worker } => Self {
                attempt: Some(attempt),
                worker: Some(worker),
                ..view("started", format!("attempt {attempt} started on worker {worker}"))
            },
            Happening::AttemptFailed { attempt, error, retry_at, .. } => Self {
                attempt: Some(attempt),
                retry_at: Some(retry_at.into()),
                error: Some(error.clone().into()),
                ..view(
                    "attemptFailed",
                    format!("attempt {attempt} failed, the next is due at {}: {error}", Instant(retry_at)),
                )
            },
            Happening::Released { attempt, doubt, token: _ } => {
                let told = if doubt {
                    format!("the worker broke attempt {attempt} off; another one asks whether it took effect")
                } else {
                    format!("the worker handed attempt {attempt} back; another one starts anew")
                };
                Self { attempt: Some(attempt), ..view("released", told) }
            }
            Happening::Deferred { attempt, reason, retry_at, .. } => Self {
                attempt: Some(attempt),
                retry_at: Some(retry_at.into()),
                ..view(
                    "deferred",
                    format!("whether a lost attempt took effect is asked again at {}: {reason}", Instant(retry_at)),
                )
            },
            Happening::Parked { attempt, reason, poll_at, token: _ } => {
                let why = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
                let told = format!(
                    "what attempt {attempt} has begun goes on elsewhere{why}; asked after from {} on",
                    Instant(poll_at)
                );
                Self { attempt: Some(attempt), ..view("parked", told) }
            }
            Happening::Split { attempt, children, token: _ } => Self {
                attempt: Some(attempt),
                ..view("split", format!("called for {children} children, and ends as they do"))
            },
            Happening::Resent => view("resent", "its trigger was lost and was sent again".to_owned()),
            Happening::CancelRequested { by } => {
                view("cancelRequested", format!("asked to stop by {by}")).asked_for(by)
            }
            Happening::Returned { reason } => {
                view("returned", format!("could not be delivered, goes out again: {reason}"))
            }
            Happening::Succeeded { attempt, token: None, .. } => {
                Self { attempt: Some(attempt), ..view("succeeded", "succeeded with its children".to_owned()) }
            }
            Happening::Succeeded { attempt, verified, .. } => {
                let how = if verified { "found that a lost attempt had taken effect" } else { "succeeded" };
                Self { attempt: Some(attempt), ..view("succeeded", format!("attempt {attempt} {how}")) }
            }
            Happening::Failed { attempt, error, .. } => Self {
                attempt: Some(attempt),
                error: Some(error.clone().into()),
                ..view("failed", format!("failed: {error}"))
            },
            Happening::Canceled { attempt, by: None, .. } => {
                Self { attempt: Some(attempt), ..view("canceled", "canceled".to_owned()) }
            }
            Happening::Canceled { attempt, by: Some(by), .. } => {
                let told = view("canceled", format!("canceled; asked for by {by}"));
                Self { attempt: Some(attempt), ..told.asked_for(by) }
            }
        }
    }
}

/// One failure in a work request's history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Failure)]
pub(crate) struct FailureView {
    /// A stable word for programs.
    pub(crate) code: String,
    /// For people.
    pub(crate) message: String,
    /// When it was recorded.
    pub(crate) timestamp: Instant,
    /// Which attempt failed; 0 if none was opened.
    attempt: u32,
}

impl FailureView {
    /// The failure that an event tells of, if it does.
    pub(crate) fn of(HistoryEvent { at, what, .. }: HistoryEvent) -> Option<Self> {
        match what {
            Happening::AttemptFailed { attempt, error, .. } | Happening::Failed { attempt, error, .. } => {
                Some(Self { code: error.code, message: error.message, timestamp: at.into(), attempt })
            }
            _ => None,
        }
    }
}

/// One line that a run printed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LogLine)]
pub(crate) struct LogView {
    /// Which attempt printed it.
    attempt: u32,
    /// Orders the lines of an attempt.
    seq: i32,
    /// When the worker read it.
    timestamp: Instant,
    /// Where it was printed: `stdout`, `stderr`, or `system` for remarks about the run.
    #[schema(value_type = String)]
    stream: reveille_shared::work_request::Stream,
    /// The line.
    message: String,
}

impl From<LogLine> for LogView {
    fn from(line: LogLine) -> Self {
        Self {
            attempt: line.attempt,
            seq: line.seq,
            timestamp: line.at.into(),
            stream: line.stream,
            message: line.text,
        }
    }
}
