//! `reveille check PATH`

use std::path::PathBuf;

use jiff::Timestamp;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::definition::{self, Definitions, Faults};
use reveille_shared::due::DueTimes;
use serde_json::{Value, json};

use crate::failure::{Exit, Failure, say};
use crate::output::{Output, distance};

/// Schedules whose next due time the summary shows.
const SHOWN: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A schedule file, or a folder of them
    path: PathBuf,
}

/// Prints every fault of the files, or a summary when there are none.
pub(crate) fn run(Arguments { path }: &Arguments, output: &mut Output) -> Result<Exit, Failure> {
    match definition::read_path(path) {
        Ok(definitions) => {
            let next = next_due_times(&definitions, SystemClock.now());
            good(&definitions, &next, output)?;
            Ok(Exit::Done)
        }
        Err(faults) => {
            faulty(&faults, output)?;
            Ok(Exit::Faults)
        }
    }
}

/// Tells of faults on standard output; how many they are, on standard error.
pub(crate) fn faulty(faults: &Faults, output: &mut Output) -> Result<(), Failure> {
    if output.json {
        return output.document(&json!({"ok": false, "faultCount": faults.len(), "faults": faults}));
    }
    output.text(&faults.render(output.colour))?;
    output.finish()?;
    let count = match faults.len() {
        1 => "1 fault".to_owned(),
        count => format!("{count} faults"),
    };
    say(&format!("reveille: {count}; nothing of this would be applied"));
    Ok(())
}

/// Namespace and name of each schedule, and its next due time if there is one.
fn next_due_times(definitions: &Definitions, now: Timestamp) -> Vec<(String, String, Option<Timestamp>)> {
    let schedules = definitions.schedules.iter();
    let mut next: Vec<_> = schedules
        .map(|schedule| {
            // The reader has built the same due times before: it accepts no timing that this would refuse.
            let due = DueTimes::of(schedule).ok();
            (schedule.namespace.clone(), schedule.name.clone(), due.and_then(|due| due.next_after(now)))
        })
        .collect();
    next.sort_by_key(|(_, _, due)| due.unwrap_or(Timestamp::MAX));
    next
}

fn good(
    definitions: &Definitions,
    next: &[(String, String, Option<Timestamp>)],
    output: &mut Output,
) -> Result<(), Failure> {
    let (jobs, schedules) = (definitions.jobs.len(), definitions.schedules.len());
    if output.json {
        let next: Vec<Value> = next
            .iter()
            .map(|(namespace, name, due)| {
                json!({"namespace": namespace, "schedule": name, "nextDue": due.map(|due| format!("{due:.3}"))})
            })
            .collect();
        return output.document(&json!({
            "ok": true, "faultCount": 0, "faults": [], "jobs": jobs, "schedules": schedules, "next": next,
        }));
    }
    let plural = |count, word| if count == 1 { format!("{count} {word}") } else { format!("{count} {word}s") };
    output.line(&format!("No faults: {}, {}", plural(jobs, "job"), plural(schedules, "schedule")))?;
    if next.is_empty() {
        return Ok(());
    }
    output.line("")?;
    let now = SystemClock.now();
    let mut rows = Vec::new();
    for (namespace, name, due) in next.iter().take(SHOWN) {
        let name = if namespace == "default" { name.clone() } else { format!("{namespace}/{name}") };
        let (at, away) = match due {
            Some(due) => (output.local(*due), distance(*due, now)),
            None => ("never again".to_owned(), String::new()),
        };
        rows.push(vec![Output::cell(&name), Output::cell(&at), Output::cell(&away)]);
    }
    output.table(&["SCHEDULE", "NEXT DUE", ""], rows)?;
    match next.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => output.line(&format!("and {more} more")),
    }
}
