//! `reveille cancel ID`, or many at once by what they have in common

use reveille_shared::state::Status;
use serde::Deserialize;
use serde_json::Value;

use crate::actor::Note;
use crate::client::Client;
use crate::commands::runs::status;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::view::Run;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["id", "job", "schedule", "status", "all"]))]
pub(crate) struct Arguments {
    /// The run's id, as `reveille runs` prints it
    #[arg(conflicts_with_all = ["job", "schedule", "status", "all", "dry_run"])]
    id: Option<String>,

    /// All runs of this job that have not ended
    #[arg(long, value_name = "JOB")]
    job: Option<String>,

    /// All runs that this schedule called for and that have not ended
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<String>,

    /// Only those in one of these states, separated by commas: accepted, in_progress, canceling
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = status)]
    status: Vec<Status>,

    /// All runs of the namespace that have not ended
    #[arg(long)]
    all: bool,

    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    note: Note,
}

/// How many there were, and what became of them.
#[derive(Debug, Deserialize)]
struct Canceled {
    matched: u64,
    canceled: u64,
    canceling: u64,
    more: bool,
}

/// Cancels runs that wait, and asks those that are under way to stop.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    match &arguments.id {
        Some(id) => one(id, &arguments.note, client, output).await,
        None => many(arguments, client, output).await,
    }
}

async fn one(id: &str, note: &Note, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let answer = client.delete(&["workRequests", id], &note.query()).await?;
    if output.json {
        output.document(&answer.body)?;
    } else {
        let run: Run = answer.read()?;
        output.line(&format!("{}  {}", run.id, run.status))?;
    }
    Ok(Exit::Done)
}

async fn many(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let Arguments { job, schedule, status, all, dry_run, note, .. } = arguments;
    let mut body = note.body();
    body["dryRun"] = (*dry_run).into();
    if *all {
        body["all"] = true.into();
    }
    for (name, value) in [("job", job), ("schedule", schedule)] {
        if let Some(value) = value {
            body[name] = value.as_str().into();
        }
    }
    if !status.is_empty() {
        body["status"] = status.iter().map(|status| Value::from(status.as_str())).collect();
    }
    let answer = client.post(&["workRequests:cancel"], &body, None).await?;
    if output.json {
        output.document(&answer.body)?;
        return Ok(Exit::Done);
    }
    let Canceled { matched, canceled, canceling, more } = answer.read()?;
    if *dry_run {
        output.line(&format!("{}{} would be canceled", runs(matched), if more { " and more" } else { "" }))?;
    } else {
        output.line(&format!("{} canceled, {canceling} asked to stop", runs(canceled)))?;
    }
    if more {
        output.line("there are more than one call cancels: call again")?;
    }
    Ok(Exit::Done)
}

fn runs(count: u64) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}
