//! `reveille history NAME`: who changed a job or schedule, when and why.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::plan::Change;
use crate::client::{Client, ClientError};
use crate::failure::{Exit, Failure, say};
use crate::output::{Output, printable};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A job or a schedule, also one that is no longer in force
    name: String,

    /// The job of this name
    #[arg(long, conflicts_with = "schedule")]
    job: bool,

    /// The schedule of this name
    #[arg(long)]
    schedule: bool,

    /// How many entries at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// An entry.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    version: Option<i64>,
    action: String,
    timestamp: Timestamp,
    by: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    changes: Vec<Change>,
}

/// Lists what was done to it, newest first.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let (kind, mut items) = find(arguments, client, limit.saturating_add(1)).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    if output.json {
        output.document(&items)?;
    } else {
        output.line(&format!("{kind} {}, newest first\n", printable(&arguments.name)))?;
        for item in &items {
            show(&client.read(item)?, output)?;
        }
        if items.is_empty() {
            output.line("Nothing is recorded.")?;
        }
    }
    if more {
        output.finish()?;
        say("there is more: see --limit");
    }
    Ok(Exit::Done)
}

/// What the name stands for, and its history.
async fn find(arguments: &Arguments, client: &Client, most: usize) -> Result<(&'static str, Vec<Value>), Failure> {
    let Arguments { name, job, schedule, .. } = arguments;
    let of = async |kind: &'static str| match client.list(&[kind, name, "history"], &[], most).await {
        Ok(items) => Ok(Some(items)),
        Err(ClientError::Refused(problem)) if problem.status == 404 => Ok(None),
        Err(error) => Err(error),
    };
    let schedules = if *job { None } else { of("schedules").await? };
    let jobs = if *schedule { None } else { of("jobs").await? };
    match (schedules, jobs) {
        (Some(items), None) => Ok(("schedule", items)),
        (None, Some(items)) => Ok(("job", items)),
        (Some(_), Some(_)) => Err(Failure::Usage(format!(
            "{name} is the name of a job and of a schedule: say which with --job or --schedule"
        ))),
        (None, None) => {
            let what = match (job, schedule) {
                (true, _) => "job",
                (_, true) => "schedule",
                _ => "job and no schedule",
            };
            let hint =
                "names are needed in full: see `reveille schedules`; another namespace is named with --namespace";
            Err(Failure::with_hint(format!("no {what} was ever called {name}"), hint))
        }
    }
}

fn show(entry: &Entry, output: &mut Output) -> Result<(), Failure> {
    let version = entry.version.map(|version| format!(" (version {version})")).unwrap_or_default();
    let reason = entry.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let action = output.paint("1", &printable(&entry.action));
    let words = printable(&format!(" by {}{reason}", entry.by));
    output.line(&format!("{}  {action}{version}{words}", output.local(entry.timestamp)))?;
    entry.changes.iter().try_for_each(|change| output.line(&format!("    {}", change.words())))
}
