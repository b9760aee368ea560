//! What is read from the server's answers: no more than the commands show.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reveille_shared::due;
use reveille_shared::state::Status;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::output::printable;

/// A work request: one run of one job.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) job: String,
    pub(crate) queue: String,
    #[serde(default)]
    pub(crate) schedule: Option<String>,
    #[serde(default)]
    pub(crate) scheduled_for: Option<Timestamp>,
    #[serde(deserialize_with = "status")]
    pub(crate) status: Status,
    #[serde(default)]
    pub(crate) percent_complete: f64,
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) attempt: u32,
    #[serde(default)]
    pub(crate) waiting_for: Option<String>,
    #[serde(default)]
    pub(crate) input: Value,
    #[serde(default)]
    pub(crate) parent: Option<String>,
    #[serde(default)]
    pub(crate) retry_of: Option<String>,
    #[serde(default)]
    pub(crate) children: Option<Children>,
    #[serde(default)]
    pub(crate) error: Option<RunError>,
    #[serde(default)]
    pub(crate) last_error: Option<RunError>,
    pub(crate) time_accepted: Timestamp,
    #[serde(default)]
    pub(crate) time_started: Option<Timestamp>,
    #[serde(default)]
    pub(crate) time_finished: Option<Timestamp>,
}

/// How far the children of a run are.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Children {
    total: u32,
    waiting: u32,
    under_way: u32,
    succeeded: u32,
    failed: u32,
    canceled: u32,
}

impl Children {
    /// `10: 7 succeeded, 1 failed, 2 waiting`, without those that there are none of.
    pub(crate) fn words(&self) -> String {
        let counts = [
            (self.succeeded, "succeeded"),
            (self.failed, "failed"),
            (self.canceled, "canceled"),
            (self.under_way, "under way"),
            (self.waiting, "waiting"),
        ];
        let counts: Vec<_> =
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        format!("{}: {}", self.total, counts.join(", "))
    }
}

/// Why a run failed.
#[derive(Debug, Deserialize)]
pub(crate) struct RunError {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// An entry of a run's history.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    pub(crate) timestamp: Timestamp,
    pub(crate) message: String,
}

/// What a worker reported under a lease that it had lost.
#[derive(Debug, Deserialize)]
pub(crate) struct LateReport {
    pub(crate) timestamp: Timestamp,
    pub(crate) outcome: String,
    pub(crate) error: Option<RunError>,
}

/// A line that a run printed.
#[derive(Debug, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) attempt: u32,
    pub(crate) seq: i32,
    pub(crate) timestamp: Timestamp,
    pub(crate) stream: String,
    pub(crate) message: String,
}

/// A job in force.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) version: i64,
    #[serde(default)]
    pub(crate) description: Option<String>,
    pub(crate) queue: String,
    pub(crate) handler: Handler,
}

/// What a job runs.
#[derive(Debug, Deserialize)]
pub(crate) struct Handler {
    /// `command`, `http`, …
    pub(crate) r#type: String,
}

/// A schedule in force.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Schedule {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) cron: Option<String>,
    #[serde(default)]
    pub(crate) every: Option<String>,
    #[serde(default)]
    pub(crate) at: Option<Timestamp>,
    pub(crate) timezone: String,
    pub(crate) trigger: Vec<String>,
    #[serde(default)]
    pub(crate) next_due: Option<Timestamp>,
    #[serde(default)]
    pub(crate) paused: Option<Paused>,
}

/// Who paused a schedule.
#[derive(Debug, Deserialize)]
pub(crate) struct Paused {
    pub(crate) since: Timestamp,
    pub(crate) by: String,
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

/// What was decided for a due time.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fire {
    pub(crate) due_at: Timestamp,
    pub(crate) last_due_at: Timestamp,
    #[serde(default = "one")]
    pub(crate) count: i64,
    pub(crate) outcome: String,
    #[serde(default)]
    pub(crate) origin: Option<String>,
    #[serde(default)]
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) work_requests: Vec<String>,
    #[serde(default)]
    pub(crate) decided_at: Option<Timestamp>,
}

const fn one() -> i64 {
    1
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Status, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl Run {
    /// How long it ran, or has been running at `now`.
    pub(crate) fn took(&self, now: Timestamp) -> Option<jiff::SignedDuration> {
        self.time_started.map(|started| self.time_finished.unwrap_or(now).duration_since(started))
    }
}

impl Paused {
    /// By whom and why, printable.
    pub(crate) fn words(&self) -> String {
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        printable(&format!("by {}{reason}", self.by))
    }
}

impl Schedule {
    /// The zone on whose calendar it is read; UTC if this machine does not know it.
    pub(crate) fn zone(&self) -> TimeZone {
        due::timezone(&self.timezone).unwrap_or(TimeZone::UTC)
    }

    /// When it is due, as the file says it.
    pub(crate) fn timing(&self) -> String {
        match (&self.cron, &self.every, &self.at) {
            (Some(cron), ..) if self.timezone == "UTC" => format!("cron {cron}"),
            (Some(cron), ..) => format!("cron {cron} ({})", self.timezone),
            (_, Some(every), _) => format!("every {every}"),
            (_, _, Some(at)) => format!("at {at}"),
            (None, None, None) => "-".to_owned(),
        }
    }
}
