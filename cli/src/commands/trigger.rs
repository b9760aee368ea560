//! `reveille trigger JOB`

use std::io::Read as _;

use reveille_shared::duration::HumanDuration;
use serde_json::{Value, json};

use crate::client::Client;
use crate::commands::wait;
use crate::failure::{EXIT_CODES, Exit, Failure};
use crate::output::Output;
use crate::view::Run;

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The job to run
    job: String,

    /// What the run is given: a JSON object, @FILE to read one, or - for standard input
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    input: Option<String>,

    /// How long to wait before it starts, like 30s or 1h30m
    #[arg(long, value_name = "DURATION")]
    delay: Option<HumanDuration>,

    /// Wait until the run has ended, and exit as it did
    #[arg(long)]
    wait: bool,

    /// A name for this request: repeated under the same name it gives the same run, not a second one
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,
}

fn idempotency_key(text: &str) -> Result<String, &'static str> {
    let good = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| text.to_owned()).ok_or("must have 1 to 255 visible ASCII characters")
}

/// Triggers the job and, if asked to, waits for its end.
pub(crate) async fn run(arguments: Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let mut body = json!({});
    if let Some(input) = arguments.input {
        body["input"] = read_input(&input)?;
    }
    if let Some(delay) = arguments.delay {
        body["delay"] = delay.to_string().into();
    }
    let path = ["jobs", &arguments.job, "trigger"];
    let answer = client.post(&path, &body, arguments.idempotency_key.as_deref()).await?;
    let accepted: Run = answer.read()?;
    if arguments.wait {
        return wait::until_end(client, &accepted, answer.retry_after, output).await;
    }
    if output.json {
        output.document(&answer.body)?;
    } else {
        output.line(&format!("{}  {}", accepted.id, accepted.status))?;
    }
    Ok(Exit::Done)
}

fn read_input(input: &str) -> Result<Value, Failure> {
    let (text, place) = match input {
        "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| unreadable("standard input", &error))?;
            (text, "standard input")
        }
        _ => match input.strip_prefix('@') {
            Some(file) => (std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?, file),
            None => (input.to_owned(), "--input"),
        },
    };
    serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("{place} is not valid JSON: {error}")))
}

fn unreadable(place: &str, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("can't read {place}: {error}"))
}
