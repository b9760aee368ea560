//! `reveille schedules`

use reveille_shared::clock::{Clock as _, SystemClock};
use serde_json::Value;

use crate::client::Client;
use crate::failure::{Exit, Failure, say};
use crate::output::{Output, distance};
use crate::view::{Fire, Schedule};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
}

/// Lists schedules by name, each with its last fire.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let mut items = client.list(&["schedules"], &[], limit.saturating_add(1)).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    let now = SystemClock.now();
    let mut rows = Vec::new();
    for item in &mut items {
        let schedule: Schedule = client.read(item)?;
        let last = client.list(&["schedules", &schedule.name, "fires"], &[], 1).await?.pop().unwrap_or(Value::Null);
        let fire: Option<Fire> = client.read(&last)?;
        item["lastFire"] = last;
        let next = schedule.next_due.map(|due| distance(due, now)).unwrap_or_else(|| "never".to_owned());
        let last = fire.map(|fire| {
            let what = fire.reason.unwrap_or(fire.outcome);
            format!("{} ({what})", output.local(fire.last_due_at))
        });
        rows.push(vec![
            Output::cell(&schedule.name),
            Output::cell(&schedule.timing()),
            Output::cell(&schedule.trigger.join(", ")),
            Output::cell(&next),
            Output::cell(last.as_deref().unwrap_or("-")),
        ]);
    }
    if output.json {
        output.document(&items)?;
    } else if rows.is_empty() {
        output.line("No schedules.")?;
    } else {
        output.table(&["SCHEDULE", "TIMING", "TRIGGERS", "NEXT", "LAST"], rows)?;
    }
    if more {
        output.finish()?;
        say("there are more: see --limit");
    }
    Ok(Exit::Done)
}
