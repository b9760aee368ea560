//! `POST /v1/jobs/{job}/trigger`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use reveille_shared::definition::Job;
use reveille_shared::duration::HumanDuration;
use reveille_shared::fan_out::FailPolicy;
use reveille_shared::store::{Acceptance, IdempotencyKey, NewWorkRequest, Staging, Versioned};
use reveille_shared::work_request::{Asker, MAX_INPUT, WorkRequestId};
use serde_json::Value;
use utoipa::ToSchema;

use super::{fan_out, find};
use crate::api::ApiState;
use crate::api::access::{Caller, Tenant};
use crate::api::body::{Body, BodyFields, FromBody};
use crate::api::error::{Fault, Problem};
use crate::api::extract::{Base, Segment, is_name};
use crate::api::idempotency::{self, Fields, Key, KeyHeaders};
use crate::api::note::{self, Note};
use crate::api::work_requests::started;
use crate::api::work_requests::view::View;
use crate::plan;

/// The largest JSON text of a resource, in bytes.
const MAX_RESOURCE: usize = 16 * 1024;

/// What to run a job with; everything may be left out.
#[derive(Debug, ToSchema)]
#[schema(as = TriggerRequest, examples(json!({"input": {"full": true}, "delay": "10m"})))]
pub(crate) struct Trigger {
    /// Given to the run: an object whose JSON text has at most 256 KiB.
    #[schema(value_type = Option<std::collections::HashMap<String, Value>>)]
    input: Option<Value>,
    /// How long to wait before it starts, like `500ms`, `30s`, `10m`, `1h30m` or `2d`.
    #[schema(value_type = Option<String>, pattern = "^(?=.)([0-9]{1,4}d)?([0-9]{1,4}h)?([0-9]{1,4}m)?([0-9]{1,4}s)?([0-9]{1,4}ms)?$")]
    delay: Option<HumanDuration>,
    /// What the run is to create or change: an object whose JSON text has at most 16 KiB.
    #[schema(value_type = Option<std::collections::HashMap<String, Value>>)]
    resource: Option<Value>,
    /// A run for each of these objects, up to 100,000 of together 32 MiB, as the children of one that ends with them: not
    /// together with `input` or `delay`.
    #[schema(value_type = Option<Vec<std::collections::HashMap<String, Value>>>, min_items = 1, max_items = 100_000)]
    inputs: Option<Vec<fan_out::Sized>>,
    /// What failed children mean: `fast` (the first one ends it), `at_end` (all run; the default), or `{"tolerate": 3}` or
    /// `{"tolerate": "5%"}` (as many may fail). Only with `inputs`.
    #[schema(value_type = Option<Value>)]
    fail: Option<FailPolicy>,
    /// Who asks; default is `api`. The name and prefix of the key stand beside it.
    #[schema(min_length = 1, max_length = 100, examples("alice"))]
    by: Option<String>,
    /// Why, in your words: one line.
    #[schema(min_length = 1, max_length = 500, examples("the file of May came late"))]
    reason: Option<String>,
}

impl FromBody for Trigger {
    const MOST_BYTES: usize = fan_out::MOST_BYTES;

    fn read(body: &mut BodyFields) -> Self {
        let read = Self {
            input: body.object("input", MAX_INPUT),
            delay: body.parsed("delay"),
            resource: body.object("resource", MAX_RESOURCE),
            inputs: fan_out::inputs(body),
            fail: fan_out::fail(body),
            by: note::by(body),
            reason: note::reason(body),
        };
        let has_inputs = read.inputs.is_some();
        for (name, is_given) in [("input", read.input.is_some()), ("delay", read.delay.is_some())] {
            if has_inputs && is_given {
                body.fault(name, "does not go together with inputs");
            }
        }
        if read.fail.is_some() && !has_inputs {
            body.fault("fail", "says what failed children mean: it needs inputs");
        }
        read
    }
}

/// Runs a job
///
/// The answer comes as soon as the run is durably recorded; it says where to follow it.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/trigger", tag = "jobs", operation_id = "triggerJob",
    params(("job" = String, Path, description = "The job's name"), KeyHeaders),
    request_body(content = Option<Trigger>, content_type = "application/json"),
    responses(
        (status = 202, body = View, description = "Accepted: it will reach an end",
            headers(
                ("Location" = String, description = "URL of the result"),
                ("Operation-Location" = String, description = "URL of the work request"),
                ("Azure-AsyncOperation" = String, description = "The same"),
                ("opc-work-request-id" = String, description = "The work request's id"),
                ("Retry-After" = i32, description = "Seconds until the first useful poll"),
            )),
        (status = 404, description = "No such job is in force"),
        (status = 413, description = "The body has more than 33 MiB"),
        (status = 415, description = "The body is not application/json"),
        (status = 422, description = "A member of the body is wrong, or the key was used for another request"),
    )
)]
pub(crate) async fn trigger_job(
    State(state): State<ApiState>,
    tenant: Tenant,
    caller: Caller,
    Segment(name): Segment,
    key: Key,
    base: Base,
    Body(body): Body<Trigger>,
) -> Result<Response, Problem> {
    if !is_name(&name) {
        return Err(Problem::not_found("job", &name));
    }
    let key = key.of(&tenant.namespace, format!("POST /v1/jobs/{name}/trigger"), || fields(&body));
    // What was accepted before is answered before all checks: the job may have changed since.
    if let Some(id) = idempotency::earlier(&state, key.as_ref()).await? {
        return started(&state, &tenant, &id, &base).await;
    }
    let job = find(&state, &tenant, &name).await?;
    let by = caller.asker(Note { by: body.by.clone(), reason: body.reason.clone() });
    let id = match body.inputs {
        Some(inputs) => {
            let request = NewWorkRequest { resource: body.resource, ..plan::parent(&job, by, state.clock.now()) };
            state.queued.admit(&tenant.namespace, u32::try_from(inputs.len()).unwrap_or(u32::MAX))?;
            let mut staging = Staging::new(state.store.clone(), request.id.0);
            for (input, bytes) in inputs {
                staging.put(input, bytes).await?;
            }
            let children = (job.item.name.clone(), job.version, body.fail.unwrap_or_default());
            fan_out::accept(&state, request, staging, children, key.as_ref()).await?
        }
        None => accept(&state, &job, by, body, key.as_ref()).await?,
    };
    started(&state, &tenant, &id.to_string(), &base).await
}

/// Accepts one run.
async fn accept(
    state: &ApiState,
    job: &Versioned<Job>,
    by: Asker,
    body: Trigger,
    key: Option<&IdempotencyKey>,
) -> Result<WorkRequestId, Problem> {
    let ask = plan::Ask {
        input: body.input.unwrap_or(Value::Null),
        resource: body.resource,
        delay: body.delay.unwrap_or_default(),
        by,
        ..plan::Ask::default()
    };
    let request = plan::request(job, ask, state.clock.now());
    if let Some(refused) = request.refused {
        let fault = Fault { field: "input".to_owned(), message: refused.message };
        return Err(Problem::invalid(StatusCode::UNPROCESSABLE_ENTITY, vec![fault]));
    }
    state.queued.admit(&request.namespace, 1)?;
    let dispatcher = state.handover.as_ref().filter(|_| request.goes_out_at_once());
    let acceptance = match dispatcher.and_then(|handover| handover.place_on(&request.route())) {
        None => state.store.accept(request, key).await?,
        Some(place) => {
            let (acceptance, sent) = state.store.accept_and_send(request, key).await?;
            place.hand_over(sent.into_iter().collect());
            acceptance
        }
    };
    match acceptance {
        Acceptance::New(id) | Acceptance::Repeated(id) | Acceptance::Same(id) => Ok(id),
        Acceptance::KeyReused(fields) => Err(idempotency::reused(fields)),
    }
}

/// Tells this request from another one: who asks and why make no other run of it.
fn fields(body: &Trigger) -> Fields {
    let inputs = body.inputs.as_ref();
    let fail = inputs.map(|_| body.fail.unwrap_or_default().to_json());
    Fields::default()
        .with_input(body.input.as_ref())
        .with("delay", body.delay.map(|delay| delay.as_millis().into()))
        .with("resource", body.resource.clone())
        .with_list("inputs", inputs.map(|inputs| inputs.iter().map(|(input, _)| input)))
        .with("fail", fail)
}
