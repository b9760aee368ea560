//! `reveille jobs`

use serde_json::Value;

use crate::client::Client;
use crate::commands::search::Search;
use crate::failure::{Exit, Failure, say};
use crate::output::Output;
use crate::view::Job;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Search,
}

/// Lists jobs by name.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let (items, more) = arguments.which.list(client, "jobs").await?;
    if output.json {
        output.document(&items)?;
    } else if items.is_empty() {
        output.line("No jobs.")?;
    } else {
        let row = |item: &Value| client.read::<Job>(item).map(|job| row(&job));
        let rows = items.iter().map(row).collect::<Result<Vec<_>, _>>()?;
        output.table(&["JOB", "QUEUE", "RUNS", "VERSION", "ABOUT"], rows)?;
    }
    output.finish()?;
    if more {
        say("there are more: see --limit");
    }
    Ok(Exit::Done)
}

fn row(job: &Job) -> Vec<comfy_table::Cell> {
    vec![
        Output::cell(&job.name),
        Output::cell(&job.queue),
        Output::cell(&job.handler.r#type),
        Output::cell(&job.version.to_string()),
        Output::cell(job.description.as_deref().unwrap_or("-")),
    ]
}
