//! What a scheduler costs with 1,000, 10,000 and 100,000 schedules of which none is due: time to start from a fresh
//! database and again, time until a changed file is in force, memory, and processor time when idle.
//!
//! `cargo build --release --workspace --bins && target/release/bench-size [--sizes 1000,10000]`

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "figures for people")]

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser as _;
use harness::ports::Port;
use harness::process::Program;
use harness::services::{Broker, Database};
use harness::stack::Service;
use harness::usage::Usage;
use harness::wait::eventually;
use jiff::ToSpan as _;
use reqwest::Method;
use reveille_shared::clock::{Clock as _, SystemClock};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// Over which the schedules are spread, each with a job of its own.
const FILES: usize = 500;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(900);
/// How often a file is changed; the median counts.
const CHANGES: usize = 3;

/// Measures the cost of many schedules
#[derive(Debug, clap::Parser)]
#[command(name = "bench-size")]
struct Arguments {
    /// Numbers of schedules, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000")]
    sizes: Vec<usize>,

    /// Over how many seconds the idle scheduler is watched
    #[arg(long, default_value_t = 30)]
    idle: u64,

    /// Keep the scheduler's logs in this new folder
    #[arg(long, value_name = "FOLDER")]
    logs: Option<std::path::PathBuf>,
}

/// Of one size.
struct Figures {
    schedules: usize,
    first_start: Start,
    restart: Start,
    idle_percent: f64,
    change: Duration,
    /// After the changes.
    changed: Usage,
}

/// Of one start.
struct Start {
    /// Until it is ready, with all definitions in force.
    took: Duration,
    /// By then.
    usage: Usage,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut all = Vec::new();
    for &schedules in &arguments.sizes {
        let folder = TempDir::with_prefix("reveille-size-")?;
        let figures = measure(schedules, &arguments, folder.path()).await;
        if let Some(logs) = &arguments.logs {
            std::fs::create_dir_all(logs)?;
            std::fs::copy(folder.path().join("scheduler.log"), logs.join(format!("{schedules}.log")))?;
        }
        all.push(figures?);
        println!("measured with {schedules} schedules");
    }
    table(&all);
    Ok(())
}

async fn measure(schedules: usize, arguments: &Arguments, folder: &Path) -> Result<Figures> {
    let (database, broker) = tokio::try_join!(Database::private(), Broker::private())?;
    let definitions = folder.join("schedules");
    std::fs::create_dir(&definitions)?;
    for file in 0..FILES {
        write(&definitions, file, schedules, "as it began")?;
    }
    harness::key::give(database.url()).await?;
    let port = Port::claim()?;
    let program = Program::of_workspace("reveille-scheduler", "scheduler", folder)?
        .env("REVEILLE_DATABASE_URL", database.url())
        .env("REVEILLE_BROKER_URL", broker.url())
        .env("REVEILLE_LISTEN", port.address().to_string())
        .env("REVEILLE_SCHEDULES", definitions.to_string_lossy())
        .quiet();

    let begun = Instant::now();
    let mut scheduler = Service::start(program.clone(), port)?;
    let first_start = in_force(&mut scheduler, schedules, begun).await?;
    let before = Usage::of(scheduler.pid())?;
    let window = Instant::now();
    // Nothing is waited for: this is the time over which it is watched.
    tokio::time::sleep(Duration::from_secs(arguments.idle)).await;
    let idle_percent = Usage::of(scheduler.pid())?.cpu_percent(&before, window.elapsed());

    let mut changes = Vec::new();
    for number in 0..CHANGES {
        changes.push(change(&scheduler, &definitions, schedules, number).await?);
    }
    changes.sort();
    let changed = Usage::of(scheduler.pid())?;

    scheduler.signal(Signal::TERM)?;
    scheduler.wait_exit(Duration::from_secs(60)).await?;
    let begun = Instant::now();
    scheduler.start_again()?;
    let restart = in_force(&mut scheduler, schedules, begun).await?;
    Ok(Figures { schedules, first_start, restart, idle_percent, change: changes[CHANGES / 2], changed })
}

/// One of the files, with its share of the schedules, all due in half a year.
fn write(folder: &Path, file: usize, schedules: usize, description: &str) -> Result<()> {
    let month = SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).saturating_add(6.months()).month();
    let mut yaml = format!("version: 1\njobs:\n  job-{file}: {{ function: noop }}\nschedules:\n");
    for n in (file..schedules).step_by(FILES) {
        let (minute, hour, day) = (n % 60, n / 60 % 24, n / 1440 % 28 + 1);
        let cron = format!("{minute} {hour} {day} {month} *");
        writeln!(yaml, "  s{n}: {{ description: {description}, cron: \"{cron}\", trigger: job-{file} }}")?;
    }
    let path = folder.join(format!("{file}.yaml"));
    std::fs::write(path.with_extension("next"), yaml)?;
    Ok(std::fs::rename(path.with_extension("next"), path)?)
}

async fn in_force(scheduler: &mut Service, schedules: usize, begun: Instant) -> Result<Start> {
    let said = format!("{FILES} jobs and {schedules} schedules are in force");
    let waited = eventually(&said, LIMIT, async || {
        if let Ok(Some(status)) = scheduler.exit_status() {
            return Ok(Err(anyhow::anyhow!("it ended with {status}: {}", scheduler.log())));
        }
        let answer = scheduler.api.request(Method::GET, "/readyz").send().await.map_err(|error| error.to_string())?;
        let ready = answer.status().is_success();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if ready && text.contains(&said) { Ok(Ok(())) } else { Err(text) }
    });
    waited.await.flatten()?;
    Ok(Start { took: begun.elapsed(), usage: Usage::of(scheduler.pid())? })
}

/// From saving a file to its being in force.
async fn change(scheduler: &Service, folder: &Path, schedules: usize, number: usize) -> Result<Duration> {
    let description = format!("changed {number} times");
    write(folder, 0, schedules, &description)?;
    let saved = Instant::now();
    eventually("the changed file to be in force", LIMIT, async || {
        let schedule: Value = scheduler.api.get_path("/v1/schedules/s0").await.map_err(|error| format!("{error:#}"))?;
        if schedule["description"] == description { Ok(()) } else { Err(schedule.to_string()) }
    })
    .await?;
    Ok(saved.elapsed())
}

type Figure = (&'static str, fn(&Figures) -> f64);

/// A row for each figure, a column for each size with its ratio to the size before.
fn table(all: &[Figures]) {
    let rows: [Figure; 9] = [
        ("first start until all is in force, s", |f| f.first_start.took.as_secs_f64()),
        ("  processor time of that, s", |f| f.first_start.usage.cpu.as_secs_f64()),
        ("restart until all is in force, s", |f| f.restart.took.as_secs_f64()),
        ("  processor time of that, s", |f| f.restart.usage.cpu.as_secs_f64()),
        ("a saved file until it is in force, s", |f| f.change.as_secs_f64()),
        ("idle, percent of a core", |f| f.idle_percent),
        ("memory after a restart, MiB", |f| mebibytes(f.restart.usage.resident)),
        ("  its peak, MiB", |f| mebibytes(f.restart.usage.peak)),
        ("peak with a first start and changes, MiB", |f| mebibytes(f.changed.peak)),
    ];
    print!("\n{:42}", "schedules");
    all.iter().for_each(|figures| print!("{:>12}{:8}", figures.schedules, ""));
    println!();
    for (name, figure) in rows {
        print!("{name:42}");
        for (index, figures) in all.iter().enumerate() {
            print!("{:12.2}", figure(figures));
            match index.checked_sub(1).map(|before| figure(figures) / figure(&all[before])) {
                Some(ratio) => print!(" {:>7}", format!("x {ratio:.1}")),
                None => print!("{:8}", ""),
            }
        }
        println!();
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
