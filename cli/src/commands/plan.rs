//! `reveille plan PATH`: what would change if these files were applied.

mod document;
mod summary;
mod texts;

use std::path::{Path, PathBuf};

use reveille_shared::definition::{self, Faults};
use serde_json::{Value, json};

pub(super) use self::document::{Change, Overrun, Plan};
pub(super) use self::summary::{overruns, summarize};
use super::check;
use crate::client::{Client, ClientError};
use crate::failure::{EXIT_CODES, Exit, Failure, say};
use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// A schedule file, or a folder of them
    path: PathBuf,

    /// Also remove what is in force in the files' namespaces and in none of the files
    #[arg(long)]
    prune: bool,
}

/// Shows what would change. Nothing is changed.
pub(crate) async fn run(
    arguments: &Arguments,
    client: impl FnOnce() -> Result<Client, ClientError>,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let Some(request) = request(&arguments.path, arguments.prune, output)? else { return Ok(Exit::Faults) };
    let client = client()?;
    let Some((document, plan)) = make(&request, &client, output).await? else { return Ok(Exit::Faults) };
    if output.json {
        output.document(&document)?;
    } else {
        summarize(&plan, output)?;
    }
    Ok(if plan.changes { Exit::Changes } else { Exit::Done })
}

/// The body of a request about the files of a path; none when they have faults, which are told.
pub(super) fn request(path: &Path, prune: bool, output: &mut Output) -> Result<Option<Value>, Failure> {
    let texts = match read(path, prune) {
        Ok(texts) => texts?,
        Err(faults) => {
            check::faulty(&faults, output)?;
            return Ok(None);
        }
    };
    let files: Vec<_> = texts.into_iter().map(|(name, text)| json!({"name": name, "text": text})).collect();
    Ok(Some(json!({"files": files, "prune": prune})))
}

/// Names and texts of files without faults. Unless all else is to go, they may call jobs that are in force and in none of
/// the files: whether there are such jobs is for the server to say.
fn read(path: &Path, prune: bool) -> Result<Result<Vec<(String, String)>, Failure>, Faults> {
    let Err(faults) = definition::read_path(path) else { return Ok(texts::read(path)) };
    match texts::read(path) {
        Ok(texts) if !prune && !texts.is_empty() => {
            definition::read_part(&texts)?;
            Ok(Ok(texts))
        }
        _ => Err(faults),
    }
}

/// The server's plan; none when it finds faults, which are told.
pub(super) async fn make(
    request: &Value,
    client: &Client,
    output: &mut Output,
) -> Result<Option<(Value, Plan)>, Failure> {
    let made = client.post(&["definitions:plan"], request, None).await;
    let Some(answer) = unless_faulty(made, output)? else { return Ok(None) };
    let plan = answer.read()?;
    Ok(Some((answer.body, plan)))
}

/// A server of another version may refuse what this build accepts: its faults are told as ours are.
pub(super) fn unless_faulty<T>(answer: Result<T, ClientError>, output: &mut Output) -> Result<Option<T>, Failure> {
    let problem = match answer {
        Ok(answer) => return Ok(Some(answer)),
        Err(ClientError::Refused(problem)) if problem.code == "FaultyDefinitions" => problem,
        Err(error) => return Err(error.into()),
    };
    let faults = problem.members.get("faults").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if output.json {
        output.document(&json!({"ok": false, "faultCount": faults.len(), "faults": faults}))?;
        return Ok(None);
    }
    for (index, fault) in faults.iter().enumerate() {
        if index > 0 {
            output.line("")?;
        }
        let text = fault["text"].as_str().or_else(|| fault["message"].as_str()).unwrap_or_default();
        text.lines().try_for_each(|line| output.line(&output.foreign(line)))?;
    }
    output.finish()?;
    say("reveille: the server finds faults; nothing of this would be applied");
    Ok(None)
}
