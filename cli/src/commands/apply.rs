//! `reveille apply PATH`: plans, shows the plan, and applies it if nothing has changed meanwhile.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};

use super::plan::{self, Plan, summarize};
use crate::actor::Actor;
use crate::client::{Client, ClientError};
use crate::failure::{EXIT_CODES, Exit, Failure, say};
use crate::output::{Output, plural};

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// A schedule file, or a folder of them
    path: PathBuf,

    /// Also remove what is in force in the files' namespaces and in none of the files
    #[arg(long)]
    prune: bool,

    /// Only if this version is in force: the one of a plan that somebody has looked at
    #[arg(long, value_name = "N")]
    if_version: Option<i64>,

    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Don't ask first. Only people at a terminal are asked: not with --json, nor when standard input is something else
    #[arg(long, short)]
    yes: bool,

    #[command(flatten)]
    actor: Actor,
}

/// What was done.
#[derive(Debug, Deserialize)]
struct Applied {
    /// Of what is in force now.
    version: i64,
    /// New or changed.
    jobs: u64,
    /// New or changed.
    schedules: u64,
    /// Jobs and schedules.
    removed: u64,
}

/// Applies the files.
pub(crate) async fn run(
    arguments: &Arguments,
    client: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let Some(mut request) = plan::request(&arguments.path, arguments.prune, output)? else { return Ok(Exit::Faults) };
    let client = client()?;
    let Some((document, plan)) = plan::make(&request, &client, output).await? else { return Ok(Exit::Faults) };
    // What is so already was not moved away from: a pipeline that runs twice stays green.
    if plan.changes {
        expect_version(arguments.if_version, &plan)?;
    }
    if !output.json {
        summarize(&plan, output)?;
        output.finish()?;
    }
    if !plan.changes {
        if output.json {
            output.document(&json!({"plan": document, "applied": null}))?;
        } else {
            output.line("Nothing to do.")?;
        }
        return Ok(Exit::Done);
    }
    let asks = !arguments.yes && !output.json && io::stdin().is_terminal();
    if asks && !agrees()? {
        return Err(Failure::Other { message: "nothing was applied".to_owned(), hint: None });
    }
    request["ifVersion"] = plan.in_force_version.into();
    request["by"] = arguments.actor.name().into();
    if let Some(reason) = &arguments.reason {
        request["reason"] = reason.as_str().into();
    }
    let applied = client.post(&["definitions:apply"], &request, None).await;
    let Some(answer) = plan::unless_faulty(applied, output)? else { return Ok(Exit::Faults) };
    tell(document, &answer.body, &answer.read()?, output)
}

/// The server would refuse it as well, but only when it is asked to apply.
fn expect_version(expected: Option<i64>, plan: &Plan) -> Result<(), Failure> {
    let Some(expected) = expected.filter(|expected| plan.in_force_version != Some(*expected)) else { return Ok(()) };
    let what = match plan.in_force_version {
        Some(version) => format!("version {version} is in force, not {expected}"),
        None => format!("nothing is in force, not version {expected}"),
    };
    let hint = "the definitions were changed meanwhile: look at `reveille plan PATH`, then apply again";
    Err(Failure::with_hint(format!("{what}; nothing was applied"), hint))
}

/// Asks on standard error, as the plan may go into a file.
fn agrees() -> Result<bool, Failure> {
    let mut stderr = io::stderr();
    write!(stderr, "\nApply this? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer)? == 0 {
        say("");
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn tell(plan: Value, document: &Value, applied: &Applied, output: &mut Output) -> Result<Exit, Failure> {
    if output.json {
        output.document(&json!({"plan": plan, "applied": document}))?;
        return Ok(Exit::Done);
    }
    let Applied { version, jobs, schedules, removed } = applied;
    let (jobs, schedules) = (plural(*jobs, "job"), plural(*schedules, "schedule"));
    output.line(&format!(
        "\nApplied: version {version} is in force; {jobs} and {schedules} are new or changed, {removed} removed."
    ))?;
    Ok(Exit::Done)
}
