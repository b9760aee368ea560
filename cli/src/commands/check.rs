//! `reveille check PATH`

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::definition::{self, Definitions, ExternalJob, Faults, Schedule};
use reveille_shared::due::DueTimes;
use serde_json::{Value, json};

use super::plan::{self, Overrun};
use crate::client::{Client, ClientError};
use crate::failure::{Exit, Failure, say};
use crate::output::{Output, distance, plural};
use crate::upcoming::Upcoming;

/// For how long a server may think about how long jobs usually take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Schedules whose next due time the summary shows.
const SHOWN: usize = 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A schedule file, or a folder of them
    path: PathBuf,

    /// The broker that they are for: external jobs can't run without RabbitMQ
    #[arg(long, env = "REVEILLE_BROKER_URL", hide_env_values = true, value_name = "URL")]
    broker_url: Option<String>,
}

/// Prints every fault of the files, or a summary when there are none.
pub(crate) async fn run(
    Arguments { path, broker_url }: &Arguments,
    client: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output,
) -> Result<Exit, Failure> {
    match definition::read_path(path) {
        Ok(definitions) => {
            let next = coming(&definitions, SystemClock.now());
            let overruns = tokio::time::timeout(PATIENCE, overruns(path, client, output)).await;
            let is_embedded = broker_url.as_deref() == Some("embedded");
            let stranded = if is_embedded { stranded(path, &definitions) } else { Vec::new() };
            good(&definitions, &next, &overruns.ok().flatten().unwrap_or_default(), &stranded, output)?;
            Ok(Exit::Done)
        }
        Err(faults) => {
            faulty(&faults, output)?;
            Ok(Exit::Faults)
        }
    }
}

/// The external jobs among these: with the embedded broker, which no worker in another language can reach, their runs wait.
pub(crate) fn stranded(path: &Path, definitions: &Definitions) -> Vec<ExternalJob> {
    // Most folders have none, and need not be read again.
    let any = definitions.jobs.iter().any(|job| job.handler.is_external());
    if any { definition::external_jobs(path) } else { Vec::new() }
}

/// What a server knows of how long these jobs take, if there is one: offline, files are checked all the same.
async fn overruns(
    path: &Path,
    client: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output,
) -> Option<Vec<Value>> {
    let client = client().ok()?;
    // Whatever else listens there is not told what is in the files.
    client.probe("readyz").await.ok()?;
    let request = plan::request(path, false, output).ok()??;
    let mut plan = client.post(&["definitions:plan"], &request, None).await.ok()?.body;
    serde_json::from_value(plan["overruns"].take()).ok()
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

/// A schedule's next due time.
struct Next {
    namespace: String,
    name: String,
    due: Option<Timestamp>,
    /// Due times before it that the schedule leaves out.
    excluded: i64,
}

fn coming(definitions: &Definitions, now: Timestamp) -> Vec<Next> {
    let of = |schedule: &Schedule| {
        // The reader has built the same due times before: it accepts no timing that this would refuse.
        let upcoming = DueTimes::of(schedule).map(|due| Upcoming::of(schedule, &due, now, 1)).unwrap_or_default();
        let (namespace, name) = (schedule.namespace.clone(), schedule.name.clone());
        Next { namespace, name, due: upcoming.times.first().copied(), excluded: upcoming.excluded }
    };
    let mut next: Vec<_> = definitions.schedules.iter().map(of).collect();
    next.sort_by_key(|next| next.due.unwrap_or(Timestamp::MAX));
    next
}

fn good(
    definitions: &Definitions,
    next: &[Next],
    overruns: &[Value],
    stranded: &[ExternalJob],
    output: &mut Output,
) -> Result<(), Failure> {
    let (jobs, schedules) = (definitions.jobs.len(), definitions.schedules.len());
    if output.json {
        let next: Vec<Value> = next
            .iter()
            .map(|Next { namespace, name, due, excluded }| {
                let due = due.map(|due| format!("{due:.3}"));
                json!({"namespace": namespace, "schedule": name, "nextDue": due, "excluded": excluded})
            })
            .collect();
        return output.document(&json!({
            "ok": true, "faultCount": 0, "faults": [], "jobs": jobs, "schedules": schedules, "next": next,
            "overruns": overruns,
            "needRabbitmq": stranded.iter().map(|ExternalJob { namespace, job, place }| {
                json!({"namespace": namespace, "job": job, "place": place})
            }).collect::<Vec<_>>(),
        }));
    }
    output.line(&format!("No faults: {}, {}", plural(jobs, "job"), plural(schedules, "schedule")))?;
    if !next.is_empty() {
        coming_table(next, output)?;
    }
    for ExternalJob { namespace: _, job, place } in stranded {
        output.line(&format!(
            "{place}: the job {job} is external and needs RabbitMQ: with an embedded broker its runs wait"
        ))?;
    }
    // A server of another version may say it in another way.
    let overruns: Vec<Overrun> = overruns.iter().filter_map(|item| serde_json::from_value(item.clone()).ok()).collect();
    plan::overruns(&overruns, output)
}

fn coming_table(next: &[Next], output: &mut Output) -> Result<(), Failure> {
    output.line("")?;
    let now = SystemClock.now();
    let mut rows = Vec::new();
    for Next { namespace, name, due, excluded } in next.iter().take(SHOWN) {
        let name = if namespace == "default" { name.clone() } else { format!("{namespace}/{name}") };
        let (at, mut away) = match due {
            Some(due) => (output.local(*due), distance(*due, now)),
            None => ("never again".to_owned(), String::new()),
        };
        if *excluded > 0 {
            away += &format!(" ({} before it left out)", plural(*excluded, "due time"));
        }
        rows.push(vec![Output::cell(&name), Output::cell(&at), Output::cell(&away)]);
    }
    output.table(&["SCHEDULE", "NEXT DUE", ""], rows)?;
    match next.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => output.line(&format!("and {more} more")),
    }
}
