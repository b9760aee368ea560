//! The routes of the API, and the OpenAPI document that is generated from them.
//!
//! Handlers declare what is their own. What holds for all of them (errors, the tenant's header, the request's id) is
//! added here, once. `scheduler/openapi.json` is a committed copy that a test keeps up to date.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use serde_json::{Value, json};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{NAME_PATTERN, NAMESPACE_HEADER};
use super::{ApiState, definitions, error, google, jobs, oci, operations, schedules, verbs, work_requests};
use crate::transition::Transition;

/// Refusals that any operation can answer with.
const COMMON: [(&str, &str); 5] = [
    ("400", "A parameter is wrong, or the request has no Host"),
    ("403", "Web pages of other origins may not call"),
    ("421", "The Host is not this service's loopback address"),
    ("500", "An internal error"),
    ("503", "Not now: try again after Retry-After"),
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
        work_requests::claim::claim_work_request,
        work_requests::heartbeat::heartbeat,
        work_requests::retry_failed::retry_failed,
        oci::cancel::cancel_oci_work_request,
        google::cancel::cancel_operation,
        google::wait::wait_operation,
    ),
    tags(
        (name = "jobs", description = "Definitions of business logic, and how to start it"),
        (name = "schedules", description = "When jobs run by themselves"),
        (name = "definitions", description = "Jobs and schedules as a whole, as files hold them"),
        (name = "workRequests", description = "The durable record of each run"),
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
        .routes(routes!(oci::list::list_oci_work_requests))
        .routes(routes!(oci::get::get_oci_work_request))
        .routes(routes!(oci::entries::list_oci_errors))
        .routes(routes!(oci::entries::list_oci_logs))
        .routes(routes!(google::list::list_operations))
        .routes(routes!(google::get::get_operation))
        .route("/v1/operations/{id}", post(google::post))
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
    router
        .merge(oci::routes())
        .route("/openapi.json", get(async move || ([(CONTENT_TYPE, "application/json")], text.clone())))
        .fallback(google::of_any_parent)
}

fn text(document: utoipa::openapi::OpenApi) -> String {
    let mut document = serde_json::to_value(document).expect("a document of strings and numbers has a JSON form");
    oci::complete(&mut document);
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, methods) in paths {
        for operation in methods.as_object_mut().into_iter().flatten().map(|(_, operation)| operation) {
            complete(path, operation);
        }
    }
    // What is read with `FromBody` refuses members that it does not know.
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
    ] {
        document["components"]["schemas"][body]["additionalProperties"] = json!(false);
    }
    format!("{document:#}\n")
}

/// Adds to an operation what holds for all of them.
fn complete(path: &str, operation: &mut Value) {
    let knows_no_tenant =
        ["/v1/workers", "/v1/queues", "/v1/refusedEvents", "/v1/definitions:plan", "/v1/definitions:apply"];
    if (path.starts_with("/v1/") || path.starts_with("/20")) && !knows_no_tenant.contains(&path) {
        let header = json!({
            "name": NAMESPACE_HEADER, "in": "header", "description": "The tenant; default is `default`",
            "schema": {"type": "string", "pattern": NAME_PATTERN},
        });
        match operation["parameters"].as_array_mut() {
            Some(parameters) => parameters.push(header),
            None => operation["parameters"] = json!([header]),
        }
    }
    for (status, description) in COMMON {
        if operation["responses"].get(status).is_none() {
            operation["responses"][status] = json!({"description": description});
        }
    }
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        let id = json!({"description": "The request's own id, or a fresh one", "schema": {"type": "string"}});
        response["headers"]["opc-request-id"] = id;
        if status.as_str() >= "400" && response.get("content").is_none() {
            let problem = json!({"schema": {"$ref": "#/components/schemas/Problem"}});
            response["content"] = json!({ error::PROBLEM_JSON: problem });
        }
        if status == "503" {
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

    fn document() -> String {
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
        assert_eq!(ids.len(), 58);
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name} is not declared");
        }
    }
}
