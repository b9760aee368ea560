//! `reveille retry ID`

use serde_json::Value;

use crate::actor::Note;
use crate::client::Client;
use crate::commands::trigger::{idempotency_key, tell_accepted};
use crate::failure::{EXIT_CODES, Exit, Failure};
use crate::output::Output;
use crate::view::Run;

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// The run's id, as `reveille runs` prints it
    id: String,

    /// Of a run with children: run again only those that did not succeed
    #[arg(long)]
    failed: bool,

    /// Wait until the new run has ended, and exit as it did
    #[arg(long)]
    wait: bool,

    /// A name for this request: repeated under the same name it gives the same run, not a second one
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,

    #[command(flatten)]
    note: Note,
}

/// Runs a job again with the input of an earlier run, or those children of one that did not succeed.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let (id, key) = (arguments.id.as_str(), arguments.idempotency_key.as_deref());
    let mut body = arguments.note.body();
    let answer = if arguments.failed {
        client.post(&["workRequests", &format!("{id}:retryFailed")], &body, key).await?
    } else {
        let document = client.get(&["workRequests", id], &[]).await?;
        let old: Run = document.read()?;
        if old.children.is_some() && old.input.is_null() {
            let told = format!("{id} has nothing but children: run those again that did not succeed with --failed");
            return Err(Failure::Usage(told));
        }
        for member in ["input", "resource"] {
            body[member] = document.body.get(member).cloned().unwrap_or(Value::Null);
        }
        client.post(&["jobs", &old.job, "trigger"], &body, key).await?
    };
    tell_accepted(&answer, arguments.wait, client, output).await
}
