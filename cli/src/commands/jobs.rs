//! `reveille jobs`

use serde_json::Value;

use crate::client::Client;
use crate::failure::{Exit, Failure, say};
use crate::output::Output;
use crate::view::Job;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only jobs with this in their names
    #[arg(long, value_name = "PART")]
    search: Option<String>,

    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// Lists jobs by name.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let query: Vec<_> = arguments.search.iter().map(|part| ("search", part.clone())).collect();
    let mut items = client.list(&["jobs"], &query, limit.saturating_add(1)).await?;
    let more = items.len() > limit;
    items.truncate(limit);
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
