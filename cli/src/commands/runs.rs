//! `reveille runs`

use jiff::Timestamp;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::state::{Status, UnknownStatus};

use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Output, beginning, span};
use crate::view::Run;

/// Characters of what a run says that are shown.
const SHOWN: usize = 80;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only runs of this job
    #[arg(long, value_name = "JOB")]
    job: Option<String>,

    /// Only runs that this schedule called for
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<String>,

    /// Only children of this run
    #[arg(long, value_name = "ID")]
    parent: Option<String>,

    /// Only runs in one of these states, separated by commas: accepted, in_progress, canceling, succeeded, failed, canceled
    #[arg(long, value_name = "STATUS", value_delimiter = ',', value_parser = status)]
    status: Vec<Status>,

    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// Reads a state as people write it.
pub(crate) fn status(text: &str) -> Result<Status, UnknownStatus> {
    text.to_uppercase().replace('-', "_").parse()
}

/// Lists runs, newest first.
pub(crate) async fn run(arguments: Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let Arguments { job, schedule, parent, status, limit } = arguments;
    let mut query = Vec::new();
    query.extend(job.map(|job| ("job", job)));
    query.extend(schedule.map(|schedule| ("schedule", schedule)));
    query.extend(parent.map(|parent| ("parent", parent)));
    query.extend(status.iter().map(|status| ("status", status.to_string())));
    let items = client.list(&["workRequests"], &query, usize::try_from(limit).unwrap_or(usize::MAX)).await?;
    if output.json {
        output.document(&items)?;
        return Ok(Exit::Done);
    }
    if items.is_empty() {
        output.line("No runs.")?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    let rows = items
        .iter()
        .map(|item| Ok(row(&client.read::<Run>(item)?, now, output)))
        .collect::<Result<Vec<_>, Failure>>()?;
    output.table(&["ID", "JOB", "SCHEDULE", "STATUS", "ATTEMPT", "ACCEPTED", "TOOK", ""], rows)?;
    Ok(Exit::Done)
}

fn row(run: &Run, now: Timestamp, output: &Output) -> Vec<comfy_table::Cell> {
    let children = run.children.as_ref().map(|children| format!("children {}", children.words()));
    let running = match (run.status, &run.error) {
        (Status::InProgress, _) => {
            format!("{:.0} % {}", run.percent_complete, run.message.as_deref().or(children.as_deref()).unwrap_or(""))
        }
        (Status::Failed, Some(error)) => error.message.clone(),
        _ => run.waiting_for.clone().or(children).unwrap_or_default(),
    };
    vec![
        Output::cell(&run.id),
        Output::cell(&run.job),
        Output::cell(run.schedule.as_deref().unwrap_or("-")),
        output.status_cell(run.status),
        Output::cell(&run.attempt.to_string()),
        Output::cell(&output.local(run.time_accepted)),
        Output::cell(&run.took(now).map(span).unwrap_or_else(|| "-".to_owned())),
        Output::cell(&beginning(&running, SHOWN)),
    ]
}
