//! The one loop of all background passes: timer, nudge or shutdown → `run_once`.
//!
//! A pass is an idempotent function without input, so that there is exactly one code path. It does not
//! retry inside: the next pass is the retry. An error is logged once, and the loop waits and goes on.

use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// A background pass. Its documentation says what it reads, what it writes, why repeating it is safe and
/// what a crash in it leaves behind.
#[async_trait]
pub trait Pass: Send + 'static {
    /// For logs, metrics and `/readyz`.
    const NAME: &'static str;
    /// What one pass did, for operators.
    type Report: Display + Send;
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Does what there is to do now. Says when to be called again at the latest, if sooner than the period.
    async fn run_once(&mut self) -> Result<(Self::Report, Option<Duration>), Self::Error>;

    /// Ends what it has begun, within a few seconds: it is not called again.
    async fn finish(&mut self) {}
}

/// The last thing that a pass reported.
#[derive(Debug, Clone, Default)]
pub struct Vitals(Arc<Mutex<Option<Vital>>>);

/// One report of a pass.
#[derive(Debug, Clone)]
pub struct Vital {
    /// When it was made.
    pub at: Timestamp,
    /// The same on the monotonic clock.
    pub finished: Instant,
    /// What it said, or the error.
    pub outcome: Result<String, String>,
}

impl Vitals {
    /// The last report, if there was one.
    #[must_use]
    pub fn last(&self) -> Option<Vital> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn record(&self, vital: Vital) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(vital);
    }
}

/// Runs `pass` every `period`, and at once when nudged, until `stop`.
pub async fn run<P: Pass>(
    mut pass: P,
    period: Duration,
    nudge: Arc<Notify>,
    vitals: Vitals,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut failing = false;
    while !stop.is_cancelled() {
        let outcome = pass.run_once().await;
        let (outcome, wait) = match outcome {
            Ok((report, sooner)) => {
                if std::mem::take(&mut failing) {
                    tracing::info!(pass = P::NAME, "works again");
                }
                tracing::trace!(pass = P::NAME, %report);
                (Ok(report.to_string()), sooner.map_or(period, |sooner| sooner.min(period)))
            }
            Err(error) => {
                let error = crate::telemetry::chain(&error);
                metrics::counter!("reveille_pass_errors_total", "pass" => P::NAME).increment(1);
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(pass = P::NAME, error, "failed; trying again");
                }
                // A nudge must not turn an error into a storm.
                tokio::select! {
                    () = tokio::time::sleep(period.min(Duration::from_millis(500))) => {}
                    () = stop.cancelled() => {}
                }
                (Err(error), Duration::ZERO)
            }
        };
        vitals.record(Vital { at: clock.now(), finished: Instant::now(), outcome });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = nudge.notified() => {}
            () = stop.cancelled() => {}
        }
    }
    pass.finish().await;
}
