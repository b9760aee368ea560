//! `reveille cancel ID`

use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::view::Run;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The run's id, as `reveille runs` prints it
    id: String,
}

/// Cancels a run that waits, and asks one that is under way to stop.
pub(crate) async fn run(Arguments { id }: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let answer = client.delete(&["workRequests", id]).await?;
    if output.json {
        output.document(&answer.body)?;
    } else {
        let run: Run = answer.read()?;
        output.line(&format!("{}  {}", run.id, run.status))?;
    }
    Ok(Exit::Done)
}
