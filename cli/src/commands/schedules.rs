//! `reveille schedules`

use jiff::Timestamp;
use reveille_shared::clock::{Clock as _, SystemClock};
use serde_json::Value;

use crate::client::Client;
use crate::commands::search::Search;
use crate::failure::{Exit, Failure, say};
use crate::output::{Output, distance};
use crate::view::{Fire, Schedule};

/// Each last fire is a request of its own: of more schedules than these they are left out unless asked for.
const WITH_LAST: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Search,

    /// Show the last fire of each, also of more than 20 schedules: a request for each
    #[arg(long)]
    last: bool,
}

/// Lists schedules by name, few of them with their last fires.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let (mut items, more) = arguments.which.list(client, "schedules").await?;
    let with_last = arguments.last || items.len() <= WITH_LAST;
    let now = SystemClock.now();
    let mut rows = Vec::new();
    for item in &mut items {
        let schedule: Schedule = client.read(item)?;
        let mut row = row(&schedule, now, output);
        if with_last {
            let last = client.list(&["schedules", &schedule.name, "fires"], &[], 1).await?.pop().unwrap_or(Value::Null);
            row.push(last_cell(client.read(&last)?, output));
            item["lastFire"] = last;
        }
        rows.push(row);
    }
    let listed = rows.len();
    if output.json {
        output.document(&items)?;
    } else if rows.is_empty() {
        output.line("No schedules.")?;
    } else {
        let head = ["SCHEDULE", "TIMING", "TRIGGERS", "NEXT", "LAST"];
        output.table(if with_last { &head } else { &head[..4] }, rows)?;
    }
    output.finish()?;
    if !with_last && !output.json {
        say(&format!("last fires are left out, as these are {listed} schedules: see --last, or --search PART"));
    }
    if more {
        say("there are more: see --limit");
    }
    Ok(Exit::Done)
}

fn row(schedule: &Schedule, now: Timestamp, output: &Output) -> Vec<comfy_table::Cell> {
    let next = schedule.next_due.map_or_else(|| "never".to_owned(), |due| distance(due, now));
    vec![
        Output::cell(&schedule.name),
        Output::cell(&schedule.timing()),
        Output::cell(&schedule.trigger.join(", ")),
        match &schedule.paused {
            Some(paused) => output.alert_cell(&format!("PAUSED {}", paused.words())),
            None => Output::cell(&next),
        },
    ]
}

fn last_cell(fire: Option<Fire>, output: &Output) -> comfy_table::Cell {
    let last = fire.map(|fire| {
        let what = fire.reason.unwrap_or(fire.outcome);
        format!("{} ({what})", output.local(fire.last_due_at))
    });
    Output::cell(last.as_deref().unwrap_or("-"))
}
