//! `GET /metrics`, and what is counted of the API itself.

use std::fmt::Write as _;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use reveille_shared::store::{Generation, WebhookCounts};
use reveille_shared::telemetry;

use crate::api::ApiState;
use crate::api::verbs::Pattern;
use crate::status::Leading;

/// Counts a request and how long it took, by the pattern of its path: names in paths would grow without bound.
pub(crate) async fn count(request: Request, next: Next) -> Response {
    let pattern = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PATCH" | "DELETE") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let begin = Instant::now();
    let response = next.run(request).await;
    let pattern = response.extensions().get::<Pattern>().map_or(pattern, |Pattern(own)| (*own).to_owned());
    let labels = [("method", method), ("path", pattern), ("status", response.status().as_str().to_owned())];
    metrics::counter!("reveille_http_requests_total", &labels).increment(1);
    metrics::histogram!("reveille_http_request_seconds", &labels).record(begin.elapsed());
    response
}

/// Figures for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "metrics",
    responses((status = 200, body = String, content_type = "text/plain", description = "In Prometheus' text format"))
)]
pub(crate) async fn print(State(state): State<ApiState>) -> Response {
    let mut text = state.metrics.render();
    print_process(&state, &mut text);
    // Read at each scrape and not kept: what is gone from the store is gone from the answer.
    if let Err(error) = print_store(&state, &mut text).await {
        tracing::warn!(error = telemetry::chain(&error), "the database's figures are missing from /metrics");
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// What this process knows of itself.
fn print_process(state: &ApiState, text: &mut String) {
    if let Some(Leading { generation, last_decision }) = state.status.leading() {
        text.push_str("# HELP reveille_leader Whether this process leads\n# TYPE reveille_leader gauge\n");
        let _ = writeln!(text, "reveille_leader {}", i32::from(generation.is_some()));
        if let Some(Generation(generation)) = generation {
            text.push_str(
                "# HELP reveille_leader_generation Counts the changes of leadership, while this process leads\n\
                 # TYPE reveille_leader_generation gauge\n",
            );
            let _ = writeln!(text, "reveille_leader_generation {generation}");
        }
        if let Some(at) = last_decision {
            text.push_str(
                "# HELP reveille_last_decision_timestamp_seconds When this process decided a due time last\n\
                 # TYPE reveille_last_decision_timestamp_seconds gauge\n",
            );
            let millis = at.as_millisecond();
            let _ = writeln!(
                text,
                "reveille_last_decision_timestamp_seconds {}.{:03}",
                millis.div_euclid(1000),
                millis.rem_euclid(1000)
            );
        }
    }
    let ages = state.status.ages(tokio::time::Instant::now());
    if !ages.is_empty() {
        text.push_str(
            "# HELP reveille_pass_age_seconds How long ago a background pass finished a round\n\
             # TYPE reveille_pass_age_seconds gauge\n",
        );
    }
    for (name, age) in ages {
        let _ = writeln!(text, "reveille_pass_age_seconds{{pass=\"{}\"}} {:.3}", label(name), age.as_secs_f64());
    }
}

async fn print_store(state: &ApiState, text: &mut String) -> reveille_shared::store::Result<()> {
    let workers = state.store.workers().await?;
    let depths = state.store.depths().await?;
    let live: Vec<_> = workers.iter().filter(|worker| worker.ended_at.is_none()).collect();
    let slots: u64 = live.iter().map(|worker| u64::from(worker.worker.slots)).sum();
    text.push_str("# HELP reveille_workers_live Workers that beat\n# TYPE reveille_workers_live gauge\n");
    let _ = writeln!(text, "reveille_workers_live {}", live.len());
    text.push_str(
        "# HELP reveille_worker_slots Runs that live workers can execute at once\n# TYPE reveille_worker_slots gauge\n",
    );
    let _ = writeln!(text, "reveille_worker_slots {slots}");
    text.push_str("# HELP reveille_queue_runs Runs that have not ended, by phase\n# TYPE reveille_queue_runs gauge\n");
    for depth in depths {
        let queue = label(&depth.queue);
        let _ = writeln!(text, "reveille_queue_runs{{queue=\"{queue}\",phase=\"{}\"}} {}", depth.phase, depth.count);
    }
    let WebhookCounts { pending, disabled } = state.store.webhook_counts().await?;
    text.push_str(
        "# HELP reveille_webhook_deliveries_pending Deliveries of webhooks that are to be sent\n\
         # TYPE reveille_webhook_deliveries_pending gauge\n",
    );
    let _ = writeln!(text, "reveille_webhook_deliveries_pending {pending}");
    text.push_str(
        "# HELP reveille_webhooks_disabled Webhooks that are sent nothing\n# TYPE reveille_webhooks_disabled gauge\n",
    );
    let _ = writeln!(text, "reveille_webhooks_disabled {disabled}");
    Ok(())
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
