//! `reveille pause SCHEDULE`, `reveille resume SCHEDULE`

use reveille_shared::clock::{Clock as _, SystemClock};

use crate::actor::Note;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Output, distance};
use crate::view::Schedule;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The schedule
    schedule: String,

    #[command(flatten)]
    note: Note,
}

/// Pauses: due times are skipped until it is resumed.
pub(crate) async fn pause(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let Some(schedule) = change("pause", arguments, client, output).await? else { return Ok(Exit::Done) };
    let paused = schedule.paused.as_ref();
    let words = paused.map(|paused| format!(" since {} {}", output.local(paused.since), paused.words()));
    output.line(&format!("{} is paused{}", schedule.name, words.unwrap_or_default()))?;
    let resume = format!("reveille resume {}", schedule.name);
    output.line(&format!("its due times are skipped until `{resume}`; runs that have begun go on"))?;
    Ok(Exit::Done)
}

/// Ends a pause. What was due meanwhile stays skipped.
pub(crate) async fn resume(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let Some(schedule) = change("resume", arguments, client, output).await? else { return Ok(Exit::Done) };
    let next = match schedule.next_due {
        Some(due) => format!("next due {} ({})", output.local(due), away(due)),
        None => "it is never due again".to_owned(),
    };
    output.line(&format!("{} goes on: {next}", schedule.name))?;
    Ok(Exit::Done)
}

/// Asks for it. Answers what is so now, unless machines were told already.
async fn change(
    verb: &str,
    Arguments { schedule, note }: &Arguments,
    client: &Client,
    output: &mut Output,
) -> Result<Option<Schedule>, Failure> {
    let answer = client.post(&["schedules", &format!("{schedule}:{verb}")], &note.body(), None).await?;
    if output.json {
        output.document(&answer.body)?;
        return Ok(None);
    }
    Ok(Some(answer.read()?))
}

fn away(due: jiff::Timestamp) -> String {
    distance(due, SystemClock.now())
}
