//! `reveille next`: asked of the server, or computed here from a timing or a file.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::definition::{self, Dst, Timing};
use reveille_shared::due::{self, DueTimes};
use reveille_shared::duration::HumanDuration;
use serde::Deserialize;

use super::check;
use crate::client::{Client, ClientError};
use crate::failure::{Exit, Failure};
use crate::output::{Output, distance};
use crate::view::Schedule;

/// Due times that the server tells at once.
const AT_ONCE: usize = 1000;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["schedule", "cron", "every", "at"]))]
pub(crate) struct Arguments {
    /// A schedule that is in force on the server, or with --file one of that file or folder
    schedule: Option<String>,

    /// A cron text of 5, 6 (seconds first) or 7 (year last) fields, or @daily and kin
    #[arg(long, value_name = "EXPR")]
    cron: Option<String>,

    /// An interval, like 30s or 1h30m, counted from 1970
    #[arg(long, value_name = "DURATION")]
    every: Option<HumanDuration>,

    /// A single instant, like 2026-12-31T23:59:00+01:00
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Timestamp>,

    /// The time zone in which --cron is read, and times are shown: an IANA name [default: UTC]
    #[arg(long, value_name = "TZ", conflicts_with = "schedule")]
    timezone: Option<String>,

    /// Read SCHEDULE from this file or folder instead of asking the server
    #[arg(long, value_name = "PATH", requires = "schedule")]
    file: Option<PathBuf>,

    /// Only what is due after this instant, like 2026-03-29T00:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    from: Option<Timestamp>,

    /// How many due times
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
}

fn instant(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "write an instant with its offset, like 2026-03-29T00:00:00Z or …+01:00".to_owned())
}

/// Due times and the zone in which people read them.
struct Answer {
    times: Vec<Timestamp>,
    zone: TimeZone,
}

/// Prints due times.
pub(crate) async fn run(
    arguments: Arguments,
    client: impl FnOnce() -> Result<Client, ClientError>,
    namespace: Option<&str>,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let now = SystemClock.now();
    let count = usize::try_from(arguments.count).unwrap_or(usize::MAX);
    let from = arguments.from.unwrap_or(now);
    let zone_name = arguments.timezone.as_deref().unwrap_or("UTC");
    let timing = match (arguments.cron, arguments.every, arguments.at) {
        (Some(cron), ..) => Some(Timing::Cron(cron)),
        (_, Some(every), _) => Some(Timing::Every(every)),
        (_, _, Some(at)) => Some(Timing::At(at)),
        (None, None, None) => None,
    };
    let schedule = arguments.schedule.unwrap_or_default();
    let answer = match (timing, arguments.file) {
        (Some(timing), _) => computed(&timing, zone_name, Dst::default(), from, count)?,
        (None, Some(file)) => {
            let definitions = match definition::read_path(&file) {
                Ok(definitions) => definitions,
                Err(faults) => {
                    check::faulty(&faults, output)?;
                    return Ok(Exit::Faults);
                }
            };
            let schedule = find(&definitions.schedules, namespace, &schedule, &file)?;
            computed(&schedule.timing, &schedule.timezone, schedule.dst, from, count)?
        }
        (None, None) => asked(&client()?, &schedule, from, count).await?,
    };
    show(answer, now, output)?;
    Ok(Exit::Done)
}

fn computed(timing: &Timing, zone: &str, dst: Dst, from: Timestamp, count: usize) -> Result<Answer, Failure> {
    let due =
        DueTimes::new(timing, zone, dst).map_err(|error| Failure::Other { message: error.to_string(), hint: None })?;
    let times = std::iter::successors(due.next_after(from), |last| due.next_after(*last)).take(count).collect();
    Ok(Answer { times, zone: due::timezone(zone).unwrap_or(TimeZone::UTC) })
}

fn find<'a>(
    schedules: &'a [definition::Schedule],
    namespace: Option<&str>,
    name: &str,
    file: &Path,
) -> Result<&'a definition::Schedule, Failure> {
    let known: Vec<_> =
        schedules.iter().filter(|s| s.namespace == namespace.unwrap_or("default")).map(|s| s.name.as_str()).collect();
    let found = schedules.iter().find(|s| s.name == name && s.namespace == namespace.unwrap_or("default"));
    found.ok_or_else(|| {
        let hint = match known.as_slice() {
            [] => "it has none in this namespace: choose another with --namespace".to_owned(),
            known => format!("it has {}", known.join(", ")),
        };
        Failure::with_hint(format!("{} has no schedule {name}", file.display()), hint)
    })
}

async fn asked(client: &Client, name: &str, from: Timestamp, count: usize) -> Result<Answer, Failure> {
    #[derive(Deserialize)]
    struct Next {
        items: Vec<Timestamp>,
    }
    let schedule: Schedule = client.get(&["schedules", name], &[]).await?.read()?;
    let mut times: Vec<Timestamp> = Vec::new();
    while times.len() < count {
        let after = times.last().copied().unwrap_or(from);
        let wanted = (count - times.len()).min(AT_ONCE);
        let query = [("from", after.to_string()), ("count", wanted.to_string())];
        let next: Next = client.get(&["schedules", name, "next"], &query).await?.read()?;
        let ended = next.items.len() < wanted;
        times.extend(next.items);
        if ended {
            break;
        }
    }
    Ok(Answer { times, zone: due::timezone(&schedule.timezone).unwrap_or(TimeZone::UTC) })
}

fn show(Answer { times, zone }: Answer, now: Timestamp, output: &mut Output) -> Result<(), Failure> {
    if output.json {
        return output.document(&times.iter().map(|at| format!("{at:.3}")).collect::<Vec<_>>());
    }
    if times.is_empty() {
        return output.line("never");
    }
    // Who reads a schedule in UTC is told what that is on his own clock.
    let local = if zone == TimeZone::UTC { output.zone() } else { zone };
    let differs = local.iana_name() != Some("UTC") && local != TimeZone::UTC;
    let mut rows = Vec::new();
    for at in times {
        let utc = Output::cell(&at.to_zoned(TimeZone::UTC).strftime("%a %Y-%m-%d %H:%M:%SZ").to_string());
        let there = Output::cell(&at.to_zoned(local.clone()).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string());
        let away = Output::cell(&distance(at, now));
        rows.push(if differs { vec![there, utc, away] } else { vec![utc, away] });
    }
    let name = local.iana_name().unwrap_or("LOCAL TIME").to_owned();
    let head: &[&str] = if differs { &[&name, "UTC", ""] } else { &["UTC", ""] };
    output.table(head, rows)
}
