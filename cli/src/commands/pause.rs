//! `reveille pause SCHEDULE`, `reveille resume SCHEDULE`

use reveille_shared::clock::{Clock as _, SystemClock};
use serde_json::json;

use crate::actor::Actor;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{Output, distance};
use crate::view::Schedule;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The schedule
    schedule: String,

    /// Why, for those who find it so
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    #[command(flatten)]
    actor: Actor,
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
    Arguments { schedule, reason, actor }: &Arguments,
    client: &Client,
    output: &mut Output,
) -> Result<Option<Schedule>, Failure> {
    let mut body = json!({"by": actor.name()});
    if let Some(reason) = reason {
        body["reason"] = reason.as_str().into();
    }
    let answer = client.post(&["schedules", &format!("{schedule}:{verb}")], &body, None).await?;
    if output.json {
        output.document(&answer.body)?;
        return Ok(None);
    }
    Ok(Some(answer.read()?))
}

fn away(due: jiff::Timestamp) -> String {
    distance(due, SystemClock.now())
}
