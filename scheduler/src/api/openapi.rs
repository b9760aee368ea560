//! The routes of the API, and the OpenAPI document that is generated from them.
//!
//! Handlers declare what is their own. What holds for all of them (errors, the tenant's header, the request's id) is
//! added here, once. `scheduler/openapi.json` is a committed copy that a test keeps up to date.

mod allowed;
#[cfg(test)]
mod compatibility;
mod deprecated;

pub(crate) use self::allowed::allowed;

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use reveille_shared::fan_out::MAX_CHILDREN;
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::deprecated::DEPRECATED;
use super::access::{is_open, rule};
use super::extract::{NAME_PATTERN, NAMESPACE_HEADER};
use super::{
    ApiState, audit, definitions, error, google, jobs, keys, oci, operations, schedules, verbs, webhooks, work_requests,
};
use crate::transition::Transition;

/// Members of bodies, and parameters, that hold one line of text, and what such a line looks like.
const LINES: [&str; 4] = ["by", "description", "reason", "worker"];
const LINE_PATTERN: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$";

/// Refusals that any operation can answer with.
const COMMON: [(&str, &str); 7] = [
    ("400", "A parameter is wrong, or the request has no Host"),
    ("401", "There is no good key"),
    ("403", "The key may not do this; or, where none is needed, web pages of other origins may not call"),
    ("421", "The Host is not this service's loopback address"),
    ("429", "Too many requests, or too much is queued: try again after Retry-After"),
    ("500", "An internal error"),
    ("503", "Not now: try again after Retry-After"),
];

/// What answers say of the requests that are left, good ones too: declared where it matters.
const RATE_LIMIT: [(&str, &str); 3] = [
    ("RateLimit-Limit", "Requests of this kind in a second, and at once; no such header: any number"),
    ("RateLimit-Remaining", "Of which so many may be made now"),
    ("RateLimit-Reset", "Seconds until all of them may be again"),
];

#[derive(OpenApi)]
#[openapi(
    info(title = "Reveille", description = "A distributed job scheduler: trigger jobs, follow their work requests."),
    components(schemas(error::Body, definitions::files::FaultView, Transition)),
    // What `verbs` hands requests on to; all other paths come with their routes.
    paths(
        schedules::pause::pause_schedule,
        schedules::resume::resume_schedule,
        schedules::trigger::trigger_schedule,
        schedules::backfills::create::backfill,
        keys::rotate::rotate_key,
        keys::revoke::revoke_key,
        work_requests::claim::claim_work_request,
        work_requests::heartbeat::heartbeat,
        work_requests::retry_failed::retry_failed,
        webhooks::test::test_webhook,
        webhooks::rotate::rotate_secret,
        webhooks::redeliver::redeliver,
        oci::cancel::cancel_oci_work_request,
        google::cancel::cancel_operation,
        google::wait::wait_operation,
    ),
    tags(
        (name = "jobs", description = "Definitions of business logic, and how to start it"),
        (name = "schedules", description = "When jobs run by themselves"),
        (name = "definitions", description = "Jobs and schedules as a whole, as files hold them"),
        (name = "workRequests", description = "The durable record of each run"),
        (name = "keys", description = "Who may call, and who changed what"),
        (name = "webhooks", description = "Who has it posted what happens"),
        (name = "workers", description = "For workers in other languages"),
        (name = "operations", description = "For those who run the service"),
        (name = "oci", description = "Work requests as Oracle's clients read them"),
        (name = "google", description = "Work requests as Google's clients read them: long-running operations"),
    )
)]
struct Document;

fn api() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(jobs::list::list_jobs))
        .routes(routes!(jobs::get::get_job))
        .routes(routes!(jobs::trigger::trigger_job))
        .routes(routes!(jobs::history::list_history))
        .routes(routes!(schedules::list::list_schedules))
        .routes(routes!(schedules::get::get_schedule))
        .routes(routes!(schedules::next::next_due_times))
        .routes(routes!(schedules::fires::list_fires))
        .routes(routes!(schedules::explain::explain_schedule))
        .routes(routes!(schedules::history::list_history))
        .routes(routes!(schedules::backfills::list::list_backfills))
        .routes(routes!(schedules::backfills::get::get_backfill, schedules::backfills::cancel::cancel_backfill))
        .route("/v1/schedules/{schedule}", post(verbs::of_schedule))
        .routes(routes!(definitions::plan::plan_definitions))
        .routes(routes!(definitions::apply::apply_definitions))
        .routes(routes!(work_requests::list::list_work_requests))
        .routes(routes!(work_requests::get::get_work_request, work_requests::cancel::cancel_work_request))
        .route("/v1/workRequests/{id}", post(verbs::of_work_request))
        .routes(routes!(work_requests::cancel_all::cancel_work_requests))
        .routes(routes!(work_requests::late_reports::list_late_reports))
        .routes(routes!(work_requests::events::list_events, work_requests::tell::tell_events))
        .routes(routes!(work_requests::stream::stream_work_request))
        .routes(routes!(work_requests::stream_all::stream_work_requests))
        .routes(routes!(work_requests::logs::list_logs))
        .routes(routes!(work_requests::errors::list_errors))
        .routes(routes!(work_requests::result::get_result))
        .routes(routes!(webhooks::list::list_webhooks, webhooks::create::create_webhook))
        .routes(routes!(webhooks::get::get_webhook, webhooks::update::update_webhook, webhooks::delete::delete_webhook))
        .route("/v1/webhooks/{id}", post(verbs::of_webhook))
        .routes(routes!(webhooks::deliveries::list_deliveries))
        .routes(routes!(webhooks::deliveries::get_delivery))
        .route("/v1/webhooks/{id}/deliveries/{delivery}", post(verbs::of_delivery))
        .routes(routes!(oci::list::list_oci_work_requests))
        .routes(routes!(oci::get::get_oci_work_request))
        .routes(routes!(oci::entries::list_oci_errors))
        .routes(routes!(oci::entries::list_oci_logs))
        .routes(routes!(google::list::list_operations))
        .routes(routes!(google::get::get_operation))
        .route("/v1/operations/{id}", post(google::post))
        .routes(routes!(keys::list::list_keys, keys::create::create_key))
        .routes(routes!(keys::get::get_key))
        .route("/v1/keys/{prefix}", post(verbs::of_key))
        .routes(routes!(keys::whoami::whoami))
        .routes(routes!(audit::list_audit))
        .routes(routes!(operations::workers::list_workers))
        .routes(routes!(operations::queues::list_queues))
        .routes(routes!(operations::refused_events::list_refused_events))
        .routes(routes!(operations::live::live))
        .routes(routes!(operations::ready::ready))
        .routes(routes!(operations::metrics::print))
}

/// The API with its document.
pub(crate) fn routes() -> Router<ApiState> {
    let (router, document) = api().split_for_parts();
    let text = text(document);
    let routes = router
        .merge(oci::routes())
        .route("/errors/{code}", get(error::pages::page))
        .route("/openapi.json", get(async move || ([(CONTENT_TYPE, "application/json")], text.clone())))
        .fallback(google::of_any_parent);
    // A layer costs each request something.
    if DEPRECATED.is_empty() {
        return routes;
    }
    routes.layer(from_fn_with_state(Arc::clone(&DEPRECATED), deprecated::tell))
}

fn text(document: utoipa::openapi::OpenApi) -> String {
    let mut document = serde_json::to_value(document).expect("a document of strings and numbers has a JSON form");
    oci::complete(&mut document);
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object_mut().into_iter().flatten() {
            complete(method, path, operation);
        }
    }
    deprecated::complete(&mut document, &DEPRECATED);
    document["components"]["securitySchemes"] = json!({
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "googleApiKey": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    });
    document["security"] = json!([{"apiKey": []}, {"googleApiKey": []}, {"bearer": []}]);
    // What is read with `FromBody` refuses members that it does not know.
    let schemas = &mut document["components"]["schemas"];
    for body in [
        "TriggerRequest",
        "TriggerScheduleRequest",
        "CancelRequest",
        "Note",
        "BackfillRequest",
        "DefinitionPlanRequest",
        "DefinitionApplyRequest",
        "DefinitionFile",
        "ClaimRequest",
        "HeartbeatRequest",
        "WaitOperationRequest",
        "KeyRequest",
        "RotateRequest",
        "CreateWebhookRequest",
        "UpdateWebhookRequest",
        "RotateSecretRequest",
    ] {
        schemas[body]["additionalProperties"] = json!(false);
        for name in LINES {
            if let Some(line) = schemas[body]["properties"].get_mut(name) {
                line["pattern"] = json!(LINE_PATTERN);
                line["minLength"] = json!(1);
            }
        }
    }
    let description = schemas["TriggerRequest"]["properties"]["fail"]["description"].take();
    schemas["TriggerRequest"]["properties"]["fail"] = json!({
        "description": description,
        "oneOf": [
            {"type": "null"},
            {"type": "string", "enum": ["fast", "at_end"]},
            {"type": "object", "required": ["tolerate"], "additionalProperties": false, "properties": {"tolerate": {"oneOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_CHILDREN},
                {"type": "string", "pattern": r"^([0-9]{1,2}(\.[0-9]{1,2})?|100)%$"},
            ]}}},
        ],
    });
    let ask = &mut schemas["KeyRequest"]["properties"];
    ask["name"]["pattern"] = json!(LINE_PATTERN);
    ask["jobs"]["items"]["pattern"] = json!(NAME_PATTERN);
    ask["namespaces"]["items"]["pattern"] = json!(format!("{NAME_PATTERN}|^\\*$"));
    for name in ["id", "source"] {
        schemas["WorkerEvent"]["properties"][name]["pattern"] = json!(r"^[^\x00-\x1f\x7f-\x9f]+$");
    }
    for body in ["CreateWebhookRequest", "UpdateWebhookRequest"] {
        let ask = &mut schemas[body]["properties"];
        for list in ["jobs", "schedules", "statuses"] {
            ask[list]["uniqueItems"] = json!(true);
        }
        for names in ["jobs", "schedules"] {
            ask[names]["items"]["pattern"] = json!(NAME_PATTERN);
        }
    }
    format!("{document:#}\n")
}

/// Adds to an operation what holds for all of them.
fn complete(method: &str, path: &str, operation: &mut Value) {
    let is_open = is_open(path);
    if is_open {
        operation["security"] = json!([]);
    } else {
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("the router knows the method");
        operation["x-reveille-role"] = json!(rule(&method, path).role);
    }
    let is_of_keys = path.starts_with("/v1/keys/") || path == "/v1/keys" && method == "get";
    let knows_no_tenant = [
        "/v1/whoami",
        "/v1/workers",
        "/v1/queues",
        "/v1/refusedEvents",
        "/v1/definitions:plan",
        "/v1/definitions:apply",
    ];
    if (path.starts_with("/v1/") || path.starts_with("/20")) && !knows_no_tenant.contains(&path) && !is_of_keys {
        let header = json!({
            "name": NAMESPACE_HEADER, "in": "header", "description": "The tenant; default is `default`",
            "schema": {"type": "string", "pattern": NAME_PATTERN},
        });
        match operation["parameters"].as_array_mut() {
            Some(parameters) => parameters.push(header),
            None => operation["parameters"] = json!([header]),
        }
    }
    // Left out they may be; what they hold is a text, whatever it says.
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(kinds) = parameter["schema"].get_mut("type").and_then(Value::as_array_mut) {
            kinds.retain(|kind| kind != "null");
        }
        if parameter["in"] == "query" && LINES.iter().any(|line| parameter["name"] == *line) {
            parameter["schema"]["pattern"] = json!(LINE_PATTERN);
        }
    }
    for (status, description) in COMMON {
        if is_open && matches!(status, "401" | "429") {
            continue;
        }
        if operation["responses"].get(status).is_none() {
            operation["responses"][status] = json!({"description": description});
        }
    }
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        let id = json!({"description": "The request's own id, or a fresh one", "schema": {"type": "string"}});
        response["headers"]["opc-request-id"] = id;
        if status == "429" {
            for (name, description) in RATE_LIMIT {
                response["headers"][name] =
                    json!({"schema": {"type": "integer", "minimum": 0}, "description": description});
            }
        }
        if status.as_str() >= "400" && response.get("content").is_none() {
            let problem = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
            response["content"] = json!({ error::PROBLEM_JSON: problem });
        }
        // What is validated is each event of the stream.
        if let Some(stream) = response.get_mut("content").and_then(|content| content.get_mut("text/event-stream")) {
            stream["schema"] = json!({"type": "object", "required": ["id"], "properties": {
                "id": {"type": "string"}, "event": {"type": "string"}, "data": {"type": "string"},
            }});
        }
        if status == "401" {
            response["headers"]["WWW-Authenticate"] =
                json!({"schema": {"type": "string"}, "description": "How to show a key"});
        }
        if matches!(status.as_str(), "429" | "503") {
            let seconds = json!({"schema": {"type": "integer", "minimum": 1}, "description": "Seconds"});
            response["headers"]["Retry-After"] = seconds;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    pub(super) fn document() -> String {
        text(api().into_openapi())
    }

    #[test]
    fn the_committed_document_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        let now = document();
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == now,
            "scheduler/openapi.json is out of date: refresh it with\n    UPDATE_OPENAPI=1 cargo test -p reveille-scheduler openapi\nand look at the difference before you commit it"
        );
    }

    #[test]
    fn every_operation_has_an_id_of_its_own_and_every_reference_a_target() {
        let document: Value = serde_json::from_str(&document()).unwrap();
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(ids.insert(id), "{method} {path} shares the id {id}");
                assert!(operation["responses"]["503"]["headers"]["Retry-After"].is_object(), "{method} {path}");
            }
        }
        assert_eq!(ids.len(), 75);
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name} is not declared");
        }
    }
}
