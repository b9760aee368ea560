//! `reveille trigger JOB`, `reveille trigger --schedule SCHEDULE`

use std::io::Read as _;

use reveille_shared::duration::HumanDuration;
use reveille_shared::fan_out::FailPolicy;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::actor::Note;
use crate::client::{Answer, Client};
use crate::commands::wait;
use crate::failure::{EXIT_CODES, Exit, Failure};
use crate::output::Output;
use crate::view::Run;

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, group = clap::ArgGroup::new("what").required(true).args(["job", "schedule"]))]
pub(crate) struct Arguments {
    /// The job to run
    job: Option<String>,

    /// Run all jobs of this schedule now, with its input, as one fire by hand
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<String>,

    /// What the run is given: a JSON object, @FILE to read one, or - for standard input
    #[arg(long, value_name = "JSON", allow_hyphen_values = true, conflicts_with = "schedule")]
    input: Option<String>,

    /// Run the job for each line of a file of JSON objects (or - for standard input), as children of one run that ends with
    /// them
    #[arg(long, value_name = "FILE", conflicts_with_all = ["schedule", "input", "delay"])]
    inputs: Option<String>,

    /// What failed children mean: fast (the first one ends it all), at_end (all run; the default), tolerate:3 or
    /// tolerate:5% (as many may fail)
    #[arg(long, value_name = "POLICY", requires = "inputs")]
    fail: Option<FailPolicy>,

    /// How long to wait before it starts, like 30s or 1h30m
    #[arg(long, value_name = "DURATION", conflicts_with = "schedule")]
    delay: Option<HumanDuration>,

    /// Wait until the run has ended, and exit as it did; of several runs, as the worst
    #[arg(long)]
    wait: bool,

    /// A name for this request: repeated under the same name it gives the same run, not a second one
    #[arg(long, value_name = "KEY", value_parser = idempotency_key, conflicts_with = "schedule")]
    idempotency_key: Option<String>,

    #[command(flatten)]
    note: Note,
}

pub(super) fn idempotency_key(text: &str) -> Result<String, &'static str> {
    let good = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| text.to_owned()).ok_or("must have 1 to 255 visible ASCII characters")
}

/// Triggers the job, or those of the schedule, and, if asked to, waits for the end.
pub(crate) async fn run(arguments: Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    match (&arguments.schedule, &arguments.job) {
        (Some(schedule), _) => trigger_schedule(schedule, &arguments, client, output).await,
        (None, job) => trigger_job(job.as_deref().unwrap_or_default(), &arguments, client, output).await,
    }
}

async fn trigger_job(job: &str, arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let mut body = arguments.note.body();
    if let Some(input) = &arguments.input {
        body["input"] = read_input(input)?;
    }
    if let Some(delay) = arguments.delay {
        body["delay"] = delay.to_string().into();
    }
    if let Some(inputs) = &arguments.inputs {
        body["inputs"] = read_inputs(inputs)?;
    }
    if let Some(fail) = arguments.fail {
        body["fail"] = fail.to_json();
    }
    let answer = client.post(&["jobs", job, "trigger"], &body, arguments.idempotency_key.as_deref()).await?;
    tell_accepted(&answer, arguments.wait, client, output).await
}

/// Tells of a run that was accepted, or of its end.
pub(super) async fn tell_accepted(
    answer: &Answer,
    wait: bool,
    client: &Client,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let accepted: Run = answer.read()?;
    if !wait {
        if output.json {
            output.document(&answer.body)?;
        } else {
            output.line(&format!("{}  {}", accepted.id, accepted.status))?;
        }
        return Ok(Exit::Done);
    }
    let (ended, exit) = wait::until_end(client, &[accepted], answer.retry_after, output).await?;
    if let (true, Some(run)) = (output.json, ended.first()) {
        output.document(run)?;
    }
    Ok(exit)
}

async fn trigger_schedule(
    schedule: &str,
    arguments: &Arguments,
    client: &Client,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let path = ["schedules", &format!("{schedule}:trigger")];
    let answer = client.post(&path, &arguments.note.body(), None).await?;
    let Fired { work_requests: accepted } = answer.read()?;
    if !arguments.wait {
        if output.json {
            output.document(&answer.body)?;
        } else {
            accepted.iter().try_for_each(|run| {
                output.line(&format!("{}  {}  {}", run.id, run.status, output.foreign(&run.job)))
            })?;
        }
        return Ok(Exit::Done);
    }
    let (ended, exit) = wait::until_end(client, &accepted, answer.retry_after, output).await?;
    if output.json && ended.len() == accepted.len() {
        output.document(&json!({"fire": answer.body["fire"], "workRequests": ended}))?;
    }
    Ok(exit)
}

/// What a fire by hand has begun.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fired {
    work_requests: Vec<Run>,
}

/// Standard input or a file, and what to call it.
fn read_file(file: &str) -> Result<(String, &str), Failure> {
    if file == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| unreadable("standard input", &error))?;
        return Ok((text, "standard input"));
    }
    Ok((std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?, file))
}

/// A JSON value in each line that is not empty.
fn read_inputs(file: &str) -> Result<Value, Failure> {
    let (text, place) = read_file(file)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = lines.map(|(at, line)| {
        let wrong = |error| Failure::Usage(format!("line {} of {place} is not valid JSON: {error}", at + 1));
        serde_json::from_str::<Value>(line).map_err(wrong)
    });
    read.collect()
}

fn read_input(input: &str) -> Result<Value, Failure> {
    let (text, place) = match input {
        "-" => read_file(input)?,
        _ => match input.strip_prefix('@') {
            Some(file) => read_file(file)?,
            None => (input.to_owned(), "--input"),
        },
    };
    serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("{place} is not valid JSON: {error}")))
}

fn unreadable(place: &str, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("can't read {place}: {error}"))
}
