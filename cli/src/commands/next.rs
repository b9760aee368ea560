//! `reveille next`: asked of the server, or computed here from a timing or a file.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::definition::{self, Timing};
use reveille_shared::due::DueTimes;
use reveille_shared::duration::HumanDuration;
use serde::Deserialize;

use super::check;
use crate::client::{Client, ClientError};
use crate::failure::{Exit, Failure, say};
use crate::output::{Output, distance, plural, there};
use crate::upcoming::Upcoming;
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
    /// What people should know of them.
    note: Option<String>,
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
        (Some(timing), _) => {
            let schedule = definition::Schedule::new("default", "", timing, "");
            computed(&definition::Schedule { timezone: zone_name.to_owned(), ..schedule }, from, count)?
        }
        (None, Some(file)) => {
            let definitions = match definition::read_path(&file) {
                Ok(definitions) => definitions,
                Err(faults) => {
                    check::faulty(&faults, output)?;
                    return Ok(Exit::Faults);
                }
            };
            let schedule = find(&definitions.schedules, namespace, &schedule, &file)?;
            computed(schedule, from, count)?
        }
        (None, None) => asked(&client()?, &schedule, from, count, output).await?,
    };
    show(answer, now, output)?;
    Ok(Exit::Done)
}

fn computed(schedule: &definition::Schedule, from: Timestamp, count: usize) -> Result<Answer, Failure> {
    let due = DueTimes::of(schedule).map_err(|error| Failure::Other { message: error.to_string(), hint: None })?;
    let Upcoming { times, excluded } = Upcoming::of(schedule, &due, from, count);
    let note = (excluded > 0).then(|| format!("{} left out: {}", plural(excluded, "due time"), why(schedule)));
    Ok(Answer { times, zone: due.zone().clone(), note })
}

/// Which members of a schedule leave due times out.
fn why(schedule: &definition::Schedule) -> String {
    let members = [
        ("except", !schedule.except.is_empty()),
        ("only", !schedule.only.is_empty()),
        ("starts_at", schedule.starts_at.is_some()),
    ];
    members.into_iter().filter_map(|(name, set)| set.then_some(name)).collect::<Vec<_>>().join(", ")
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

async fn asked(client: &Client, name: &str, from: Timestamp, count: usize, output: &Output) -> Result<Answer, Failure> {
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
    let note = schedule.paused.as_ref().map(|paused| {
        let since = output.local(paused.since);
        format!("paused since {since} {}: skipped until `reveille resume {name}`", paused.words())
    });
    Ok(Answer { times, zone: schedule.zone(), note })
}

fn show(Answer { times, zone, note }: Answer, now: Timestamp, output: &mut Output) -> Result<(), Failure> {
    if output.json {
        return output.document(&times.iter().map(|at| format!("{at:.3}")).collect::<Vec<_>>());
    }
    if times.is_empty() {
        output.line("never")?;
    } else {
        table(&times, zone, now, output)?;
    }
    output.finish()?;
    note.iter().for_each(|note| say(note));
    Ok(())
}

fn table(times: &[Timestamp], zone: TimeZone, now: Timestamp, output: &mut Output) -> Result<(), Failure> {
    // Who reads a schedule in UTC is told what that is on his own clock.
    let local = if zone == TimeZone::UTC { output.zone() } else { zone };
    let differs = local.iana_name() != Some("UTC") && local != TimeZone::UTC;
    let mut rows = Vec::new();
    for at in times {
        let utc = Output::cell(&at.to_zoned(TimeZone::UTC).strftime("%a %Y-%m-%d %H:%M:%SZ").to_string());
        let away = Output::cell(&distance(*at, now));
        rows.push(if differs { vec![Output::cell(&there(*at, &local)), utc, away] } else { vec![utc, away] });
    }
    let name = local.iana_name().unwrap_or("LOCAL TIME").to_owned();
    let head: &[&str] = if differs { &[&name, "UTC", ""] } else { &["UTC", ""] };
    output.table(head, rows)
}
