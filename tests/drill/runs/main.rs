//! A drill of runs: schedulers and workers, real processes on a private PostgreSQL and RabbitMQ, are killed, frozen, cut off
//! and stalled, the two servers are restarted and the queue is emptied, while jobs of every kind run. Handlers
//! write down themselves what they do. At the end every run that was accepted or that a fire called for must have
//! ended exactly once, with a history that the design allows and that agrees with what the handlers
//! wrote, and no two attempts of one run must ever have worked at the same time. Limits must have held, what had taken
//! effect when it was lost must not have been run again, and each success must have called for the next job once. What is
//! followed must have been begun once, parents must have ended as their children have, and what no worker may run must
//! have left no trace.
//!
//! `cargo build --workspace --bins && target/debug/drill-runs --faults 1000`, which takes about three quarters of an hour;
//! Ctrl-C ends it before, with a verdict on what has happened so far.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod backward;
mod callee;
mod check;
mod definitions;
mod faults;
#[path = "../folder.rs"]
mod folder;
mod host;
mod jobs;
mod ledger;
mod legal;
mod load;
mod records;
mod sends;
mod stand;
mod summary;
mod trouble;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser as _, ValueEnum as _};
use harness::wait::eventually;
use reveille_shared::clock::{Clock as _, SystemClock};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::callee::Callee;
use crate::definitions::Hands;
use crate::faults::{Wanted, What};
use crate::host::Host;
use crate::load::{Asked, Callers};
use crate::stand::Stand;
use crate::trouble::Diary;

/// How long all that is under way may take to end once everything is well. A trigger that the broker has lost is sent
/// again after half a minute, and again after a longer time if that one was lost too.
const ENDING: Duration = Duration::from_secs(300);
/// How many breaches of all runs together are printed.
const SHOWN: usize = 30;

/// Drills schedulers and workers
#[derive(Debug, clap::Parser)]
#[command(name = "drill-runs")]
struct Arguments {
    /// How many things go wrong
    #[arg(long, default_value_t = 100)]
    faults: usize,

    /// The same seed brings the same faults [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,

    /// Only these faults, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<What>,

    /// From the beginning of one fault to the next one, on average; they overlap
    #[arg(long, default_value_t = 2_000, value_name = "MILLISECONDS")]
    gap: u64,

    /// No fault lasts longer
    #[arg(long, default_value_t = 30_000, value_name = "MILLISECONDS")]
    longest: u64,

    /// How long a worker may be silent until its runs go to others
    #[arg(long, default_value_t = 6, value_name = "SECONDS")]
    ttl: u64,

    /// How many runs callers start in a second
    #[arg(long, default_value_t = 6.0)]
    rate: f64,

    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,

    /// Keep the logs and the handlers' ledger in this new folder
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let kinds = if arguments.only.is_empty() { What::value_variants() } else { &arguments.only };
    let (gap, longest) = (Duration::from_millis(arguments.gap), Duration::from_millis(arguments.longest));
    let faults = faults::draw(seed, &Wanted { count: arguments.faults, kinds, gap, longest });
    println!("{} faults of seed {seed}", arguments.faults);
    if arguments.dry_run {
        faults.iter().for_each(|fault| println!("{:6.2} s later, {fault}", fault.after.as_secs_f64()));
        return Ok(());
    }
    let (folder, _temporary) = folder::open(arguments.logs.as_deref())?;
    drill(&folder, seed, &arguments, &faults).await
}

async fn drill(folder: &Path, seed: u64, arguments: &Arguments, faults: &[faults::Fault]) -> Result<()> {
    let ledger = folder.join("ledger");
    std::fs::write(&ledger, "")?;
    let (callee, host) = tokio::try_join!(Callee::start(), Host::start())?;
    let hands = Hands::new(&ledger, callee.address(), &host)?;
    let environment = [
        ("DRILL_LEDGER", ledger.to_string_lossy().into_owned()),
        ("REVEILLE_LEASE_TTL", format!("{}s", arguments.ttl)),
        ("REVEILLE_GRACE", "3s".to_owned()),
    ];
    let stand = Stand::start(folder, &hands, host, &environment).await?;
    let mut watch = stand.watch().await?;
    sends::watch(&mut watch).await?;
    backward::watch(&mut watch).await?;
    let (diary, began) = (Arc::new(Diary::default()), Instant::now());
    let since = || began.elapsed().as_secs_f64();

    let (stop, mut callers) = (CancellationToken::new(), JoinSet::new());
    let all = Callers { apis: stand.apis(), diary: Arc::clone(&diary), rate: arguments.rate, seed };
    callers.spawn(all.call(stop.clone()));
    println!("{:8.1} s  all is well, and runs are started", since());
    let said = |number: usize, fault: &faults::Fault| println!("{:8.1} s  {:4}: {fault}", since(), number + 1);
    let (enough, mut interrupt) = (CancellationToken::new(), JoinSet::new());
    let by_hand = enough.clone();
    interrupt.spawn(async move {
        // Without this it just takes as long as it takes.
        if tokio::signal::ctrl_c().await.is_ok() {
            by_hand.cancel();
        }
    });
    trouble::bring(&stand, faults, &diary, &enough, said).await;
    stop.cancel();
    let asked = callers.join_next().await.context("the callers")???;
    println!(
        "{:8.1} s  all is well again; waiting for {} runs of callers and for those of fires",
        since(),
        asked.len()
    );
    stand.define(&hands.definitions(false))?;
    if let Err(error) = all_ended(&stand).await {
        diary.violation(format!("{error:#}"));
    }
    println!("{:8.1} s  all has ended", since());
    let mut entries = records::ledger(&ledger)?;
    entries.extend(callee.entries());
    let judged = judge(&stand, &diary, &asked, entries).await;
    if judged.is_err() {
        eprintln!("{}", stand.logs());
    }
    judged
}

/// Nothing is under way any more, and no schedule is in force that could start something.
async fn all_ended(stand: &Stand) -> Result<()> {
    let mut watch = stand.watch().await?;
    eventually("the end of every run", ENDING, async || {
        let (going, ends, schedules): (i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM follow_ups), (SELECT count(*) FROM schedules)",
        )
        .fetch_one(&mut watch)
        .await
        .map_err(|error| error.to_string())?;
        if (going, ends, schedules) == (0, 0, 0) {
            Ok(())
        } else {
            Err(format!("{going} runs and {schedules} schedules go on, {ends} ends are not followed up"))
        }
    })
    .await
}

async fn judge(
    stand: &Stand,
    diary: &Diary,
    asked: &HashMap<String, Asked>,
    entries: Vec<ledger::Entry>,
) -> Result<()> {
    let mut watch = stand.watch().await?;
    let (stories, unknown) = records::stories(&mut watch, entries).await?;
    let (fires, sends) = (records::fires(&mut watch).await?, sends::all(&mut watch).await?);
    let backward = backward::all(&mut watch).await?;
    let (suffered, mut violations) = (diary.suffered(), diary.violations());
    let found: Vec<_> = stories
        .iter()
        .map(|story| {
            let asked = story.key.as_ref().and_then(|key| asked.get(key));
            (story, check::run(story, asked, &suffered))
        })
        .collect();
    let together = check::all(&stories, asked, &fires, &sends, &backward, &suffered);
    violations.extend(together.breaches.iter().map(|(breach, text)| format!("{}: {text}", breach.name())));
    violations.extend(unknown.iter().map(|entry| format!("at work for a run that the store does not know: {entry}")));
    print!("{}", summary::breaches(&found, &suffered));
    for violation in violations.iter().take(SHOWN) {
        println!("{violation}");
    }
    println!("{}", summary::tables(&found, &together, &suffered));
    let entries: usize = stories.iter().map(|story| story.ledger.len()).sum();
    println!(
        "{} runs, {} fires, {entries} lines of the ledger, until {}",
        stories.len(),
        fires.len(),
        SystemClock.now()
    );
    let faulty = found.iter().filter(|(_, findings)| !findings.breaches.is_empty()).count();
    if faulty > 0 || !violations.is_empty() {
        // Again, as the logs come in between.
        let first = violations.first().map_or("see above", String::as_str);
        bail!("{faulty} runs and {} other things are not as they must be: {first}", violations.len());
    }
    println!(
        "0 lost, 0 stuck, 0 executed by two at once, 0 beyond a limit, 0 run again after their effect, \
         every success chained once, every parent as its children, every history legal and as the ledger has it"
    );
    Ok(())
}
