//! `reveille show ID`

use jiff::Timestamp;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::state::Status;
use serde_json::Value;

use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Output, span};
use crate::view::{Children, Event, LateReport, Run, RunError};

/// Events that are shown: more than any run of a sane job has.
const MOST_EVENTS: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run's id, as `reveille runs` prints it
    id: String,
}

/// Shows a run's facts, history, error and output.
pub(crate) async fn run(Arguments { id }: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let answer = client.get(&["workRequests", id], &[]).await?;
    let events = client.list(&["workRequests", id, "events"], &[], MOST_EVENTS).await?;
    let run: Run = answer.read()?;
    // Only a run whose lease was lost can have them.
    let late = match run.attempt {
        0 => Vec::new(),
        _ => client.list(&["workRequests", id, "lateReports"], &[], MOST_EVENTS).await?,
    };
    let result = match run.status {
        Status::Succeeded => client.get(&["workRequests", id, "result"], &[]).await?.body,
        _ => Value::Null,
    };
    if output.json {
        let mut document = answer.body;
        document["events"] = events.into();
        document["lateReports"] = late.into();
        document["output"] = result;
        output.document(&document)?;
        return Ok(Exit::Done);
    }
    facts(&run, SystemClock.now(), output)?;
    output.line("\nHistory")?;
    for event in &events {
        let event: Event = client.read(event)?;
        output.line(&format!("  {}  {}", output.time_of_day(event.timestamp), output.foreign(&event.message)))?;
    }
    if !late.is_empty() {
        output.line("\nReported too late, by workers that had lost their leases")?;
    }
    for report in &late {
        let report: LateReport = client.read(report)?;
        let what = report.error.map(|error| format!(": {}: {}", error.code, error.message));
        let line = format!("{}{}", report.outcome, what.unwrap_or_default());
        output.line(&format!("  {}  {}", output.time_of_day(report.timestamp), output.foreign(&line)))?;
    }
    if !result.is_null() {
        output.line("\nOutput")?;
        let text = match result {
            Value::String(text) => text,
            other => serde_json::to_string_pretty(&other).unwrap_or_default(),
        };
        for line in text.lines() {
            output.line(&format!("  {}", output.foreign(line)))?;
        }
    }
    Ok(Exit::Done)
}

fn facts(run: &Run, now: Timestamp, output: &mut Output) -> Result<(), Failure> {
    let time = |at: Option<Timestamp>| at.map(|at| output.local(at));
    let progress = (run.status == Status::InProgress).then(|| format!("{:.0} %", run.percent_complete));
    let words = |error: &RunError| format!("{}: {}", error.code, error.message);
    let facts = [
        ("Job", Some(format!("{} (namespace {}, queue {})", run.job, run.namespace, run.queue))),
        ("Schedule", run.schedule.clone()),
        ("Due", time(run.scheduled_for)),
        ("Child of", run.parent.clone()),
        ("Retry of", run.retry_of.clone()),
        ("Children", run.children.as_ref().map(Children::words)),
        ("Attempt", (run.attempt > 0 || run.children.is_none()).then(|| run.attempt.to_string())),
        ("Accepted", time(Some(run.time_accepted))),
        ("Started", time(run.time_started)),
        ("Finished", time(run.time_finished)),
        ("Took", run.took(now).map(span)),
        ("Progress", progress),
        ("Message", run.message.clone()),
        ("Waits", run.waiting_for.clone()),
        ("Input", (!run.input.is_null()).then(|| run.input.to_string())),
        ("Error", run.error.as_ref().map(words)),
        // A run that was tried again keeps what went wrong before.
        ("Last error", run.last_error.as_ref().map(words)),
    ];
    let mut rows = vec![vec![Output::cell("Status"), output.status_cell(run.status)]];
    rows.extend(
        facts.into_iter().filter_map(|(name, fact)| fact.map(|fact| vec![Output::cell(name), Output::cell(&fact)])),
    );
    output.table(&["Run", &run.id], rows)
}
