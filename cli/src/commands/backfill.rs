//! `reveille backfill SCHEDULE`: runs what was due in a range of the past.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reveille_shared::clock::{Clock as _, SystemClock};
use serde::Deserialize;
use serde_json::Value;

use super::wait::{self, Awaited};
use crate::actor::Note;
use crate::client::{Answer, Client};
use crate::failure::{EXIT_CODES, Exit, Failure, say};
use crate::moment::{Moment, Pass, moment};
use crate::output::{Output, plural, printable, span, there};
use crate::view::Schedule;

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES, group = clap::ArgGroup::new("what").required(true).args(["from", "list", "cancel"]))]
pub(crate) struct Arguments {
    /// The schedule
    schedule: String,

    /// The first instant of the range, with its offset like 2026-11-25T02:00:00+01:00, or a local time of the schedule's
    /// zone like '2026-11-25 02:00'
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "to")]
    from: Option<Moment>,

    /// The last instant of the range, written likewise; a local time that the clock shows twice is the second
    #[arg(long, value_name = "TIME", value_parser = moment, requires = "from")]
    to: Option<Moment>,

    /// How many of its fires may be under way at once
    #[arg(long, value_name = "N", requires = "from", value_parser = clap::value_parser!(u16).range(1..=1000))]
    max_parallel: Option<u16>,

    /// A name for this backfill: repeated under the same name it gives the same one, not a second [default: a fresh one]
    #[arg(long, value_name = "ID", requires = "from")]
    id: Option<String>,

    /// Only tell how many due times there are
    #[arg(long, requires = "from", conflicts_with = "wait")]
    dry_run: bool,

    /// Wait until all of its runs have ended, however they ended
    #[arg(long, requires = "from")]
    wait: bool,

    /// List the schedule's backfills
    #[arg(long)]
    list: bool,

    /// Cancel this backfill: nothing more is triggered, and runs of it that have not ended are canceled
    #[arg(long, value_name = "ID")]
    cancel: Option<String>,

    #[command(flatten)]
    note: Note,
}

/// How many backfills are listed at most.
const MOST_LISTED: usize = 1000;

/// A backfill.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Backfill {
    id: String,
    schedule: String,
    from: Timestamp,
    to: Timestamp,
    max_parallel: i64,
    status: String,
    percent_complete: f64,
    total: i64,
    triggered: i64,
    skipped: i64,
    unended: i64,
    time_created: Timestamp,
    by: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    time_ended: Option<Timestamp>,
}

impl Awaited for Backfill {
    fn progress(&self) -> (f64, String) {
        (self.percent_complete, format!("{}  {}", self.id, self.counts()))
    }

    fn is_over(&self) -> bool {
        self.status != "running"
    }
}

impl Backfill {
    fn counts(&self) -> String {
        let Self { total, triggered, skipped, unended, .. } = self;
        let skipped = if *skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        let unended = if *unended > 0 { format!(", {unended} under way") } else { String::new() };
        format!("{triggered} of {} triggered{skipped}{unended}", plural(*total, "due time"))
    }
}

/// Begins, lists or cancels backfills.
pub(crate) async fn run(arguments: Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    if arguments.list {
        return list(&arguments.schedule, client, output).await;
    }
    if let Some(id) = &arguments.cancel {
        return cancel(&arguments, id, client, output).await;
    }
    let schedule: Schedule = client.get(&["schedules", &arguments.schedule], &[]).await?.read()?;
    let zone = schedule.zone();
    let body = body(&arguments, &zone)?;
    let answer = client.post(&["schedules", &format!("{}:backfill", arguments.schedule)], &body, None).await?;
    if arguments.dry_run {
        return tell_dry_run(&answer, &zone, output);
    }
    if arguments.wait {
        return until_done(&answer, client, output).await;
    }
    if output.json {
        output.document(&answer.body)?;
        return Ok(Exit::Done);
    }
    let Backfill { id, status, from, to, .. } = &answer.read()?;
    output.line(&format!("{id}  {status}: {}", answer.read::<Backfill>()?.counts()))?;
    output.line(&format!("from {} to {}", there(*from, &zone), there(*to, &zone)))?;
    output.finish()?;
    say(&follow(&arguments.schedule, id));
    Ok(Exit::Done)
}

fn body(arguments: &Arguments, zone: &TimeZone) -> Result<Value, Failure> {
    let now = SystemClock.now();
    let instant = |moment: Option<Moment>, pass| {
        let (at, note) = moment.unwrap_or(Moment::Now).resolve(now, zone, pass);
        note.iter().for_each(|note| say(note));
        at
    };
    let (from, to) = (instant(arguments.from, Pass::First), instant(arguments.to, Pass::Second));
    if from > to {
        return Err(Failure::Usage(format!("--from {from} is after --to {to}")));
    }
    let mut body = arguments.note.body();
    body["from"] = from.to_string().into();
    body["to"] = to.to_string().into();
    if arguments.dry_run {
        body["dryRun"] = true.into();
    }
    if let Some(id) = &arguments.id {
        body["id"] = id.as_str().into();
    }
    if let Some(most) = arguments.max_parallel {
        body["maxParallel"] = most.into();
    }
    Ok(body)
}

fn follow(schedule: &str, id: &str) -> String {
    format!(
        "follow it with: reveille backfill {0} --list, or stop it with: reveille backfill {0} --cancel {1}",
        printable(schedule),
        printable(id)
    )
}

fn tell_dry_run(answer: &Answer, zone: &TimeZone, output: &mut Output) -> Result<Exit, Failure> {
    #[derive(Deserialize)]
    struct DryRun {
        total: i64,
        #[serde(default)]
        excluded: i64,
        #[serde(default)]
        first: Option<Timestamp>,
        #[serde(default)]
        last: Option<Timestamp>,
    }
    if output.json {
        output.document(&answer.body)?;
        return Ok(Exit::Done);
    }
    let DryRun { total, excluded, first, last } = answer.read()?;
    let skipped = if excluded > 0 { format!(", {excluded} of them excluded and to be skipped") } else { String::new() };
    output.line(&format!("nothing was done: there are {}{skipped}", plural(total, "due time")))?;
    if let (Some(first), Some(last)) = (first, last) {
        output.line(&format!("the first {}, the last {}", there(first, zone), there(last, zone)))?;
    }
    Ok(Exit::Done)
}

async fn until_done(answer: &Answer, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let begun: Backfill = answer.read()?;
    if !output.json {
        output.line(&format!("{}  {}", begun.id, begun.status))?;
        output.finish()?;
    }
    let path = ["schedules", &begun.schedule, "backfills", &begun.id];
    // One that was begun before, under the same id, may be over.
    let over = if begun.is_over() {
        Some(client.get(&path, &[]).await?)
    } else {
        wait::until_over(client, &path, &begun, answer.retry_after).await?
    };
    let Some(over) = over else {
        say(&format!("the backfill goes on; {}", follow(&begun.schedule, &begun.id)));
        return Ok(Exit::Interrupted);
    };
    let backfill: Backfill = over.read()?;
    if output.json {
        output.document(&over.body)?;
    } else {
        let took = backfill.time_ended.unwrap_or_else(|| SystemClock.now()).duration_since(backfill.time_created);
        output.line(&format!("{}  {} after {}: {}", backfill.id, backfill.status, span(took), backfill.counts()))?;
    }
    Ok(ended_as(&backfill))
}

fn ended_as(backfill: &Backfill) -> Exit {
    if backfill.status == "canceled" { Exit::Canceled } else { Exit::Done }
}

async fn list(schedule: &str, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let items = client.list(&["schedules", schedule, "backfills"], &[], MOST_LISTED).await?;
    if output.json {
        output.document(&items)?;
        return Ok(Exit::Done);
    }
    if items.is_empty() {
        output.line("No backfills.")?;
        return Ok(Exit::Done);
    }
    let mut rows = Vec::new();
    for item in &items {
        let backfill: Backfill = client.read(item)?;
        rows.push(vec![
            Output::cell(&backfill.id),
            Output::cell(&backfill.status),
            Output::cell(&format!("{:.0} %", backfill.percent_complete)),
            Output::cell(&backfill.counts()),
            Output::cell(&output.local(backfill.from)),
            Output::cell(&output.local(backfill.to)),
            Output::cell(&backfill.max_parallel.to_string()),
            Output::cell(&output.local(backfill.time_created)),
            Output::cell(&backfill.by),
            Output::cell(backfill.reason.as_deref().unwrap_or("-")),
        ]);
    }
    output.table(&["ID", "STATUS", "DONE", "", "FROM", "TO", "PARALLEL", "BEGUN", "BY", "WHY"], rows)?;
    Ok(Exit::Done)
}

async fn cancel(arguments: &Arguments, id: &str, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let path = ["schedules", &arguments.schedule, "backfills", id];
    let answer = client.delete(&path, &arguments.note.query()).await?;
    if output.json {
        output.document(&answer.body)?;
    } else {
        let backfill: Backfill = answer.read()?;
        output.line(&format!("{}  {}: {}", backfill.id, backfill.status, backfill.counts()))?;
    }
    Ok(Exit::Done)
}
