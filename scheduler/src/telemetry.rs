//! The metrics of the process, printed at `/metrics`.

use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the buckets of everything that is measured in seconds.
const SECONDS: [f64; 17] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 30.0, 120.0, 600.0, 3600.0];
/// The same for sizes of batches.
const COUNTS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The process's recorder; there can be but one in a process, however many schedulers a test starts in it.
static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// Installs the process's metrics recorder unless it is there, and answers what prints it.
///
/// # Errors
/// The process has a recorder of another kind.
pub fn metrics() -> Result<PrometheusHandle, BuildError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_batch_size".into()), &COUNTS)?
        .install_recorder()?;
    describe();
    Ok(installed.insert(handle).clone())
}

fn describe() {
    metrics::describe_counter!("reveille_fires_total", "Due times decided, by outcome");
    metrics::describe_counter!("reveille_dispatched_total", "Triggers confirmed by the broker");
    metrics::describe_counter!("reveille_dispatch_failures_total", "Triggers that the broker did not take, by reason");
    metrics::describe_counter!("reveille_dead_letters_total", "Messages given up by brokers and workers, by kind");
    metrics::describe_counter!("reveille_reconciled_total", "What was found lost or overdue, by what it was");
    metrics::describe_counter!("reveille_pass_errors_total", "Background passes that failed, by pass");
    metrics::describe_counter!("reveille_webhook_attempts_total", "Posts to webhooks, by what came of them");
    metrics::describe_histogram!("reveille_webhook_attempt_seconds", "How long posts to webhooks took");
    metrics::describe_histogram!("reveille_fire_lateness_seconds", "From a fire's due time to the broker's confirm");
    metrics::describe_histogram!("reveille_dispatch_seconds", "From a trigger's due time to the broker's confirm");
    metrics::describe_gauge!("reveille_clock_skew_seconds", "How far this clock is ahead of the database's");
}
