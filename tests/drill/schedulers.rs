//! A drill of the replicas: three schedulers, real processes on a private PostgreSQL and RabbitMQ, are killed, frozen,
//! cut off and given wrong clocks, round after round, under schedules that are due every second. At the end the
//! ledger must hold every due time exactly once, and every run must have ended well exactly once.
//!
//! `cargo build --workspace --bins && target/debug/drill-schedulers --rounds 200`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod folder;
mod ledger;
mod rounds;
mod stand;
mod trouble;
mod witness;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Parser as _, ValueEnum as _};
use harness::wait::eventually;

use crate::rounds::{Round, What, Whom};
use crate::stand::Stand;

/// By how much a fire may be early: a clock may be ahead by that much without being refused.
const EARLY: f64 = 2.0;
/// Another scheduler should be planning this soon after a leader was lost, in seconds.
const AIM: f64 = 5.0;
/// How many faults of the ledger are printed.
const SHOWN: usize = 30;

/// Drills three schedulers
#[derive(Debug, clap::Parser)]
#[command(name = "drill-schedulers")]
struct Arguments {
    /// How often trouble comes
    #[arg(long, default_value_t = 20)]
    rounds: usize,

    /// The same seed brings the same trouble [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,

    /// Only this trouble, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<What>,

    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,

    /// Keep the logs of all processes in this new folder
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
}

/// What a round came to.
struct Outcome {
    name: String,
    /// Longest time from due to decided, in seconds.
    latest: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let kinds = if arguments.only.is_empty() { What::value_variants() } else { &arguments.only };
    let rounds = rounds::draw(seed, arguments.rounds, kinds);
    println!("{} rounds of seed {seed}", arguments.rounds);
    if arguments.dry_run {
        rounds.iter().for_each(|round| println!("{round}"));
        return Ok(());
    }
    let (folder, _temporary) = folder::open(arguments.logs.as_deref())?;
    let mut stand = Stand::start(&folder).await?;
    let drilled = drill(&mut stand, &rounds).await;
    if drilled.is_err() {
        eprintln!("{}", stand.logs());
    }
    drilled
}

async fn drill(stand: &mut Stand, rounds: &[Round]) -> Result<()> {
    let mut leader = stand.healthy().await?;
    let from_ms: i64 =
        sqlx::query_scalar("SELECT floor(extract(epoch FROM min(applied_at)) * 1000)::bigint FROM definition_sets")
            .fetch_one(&mut stand.watch)
            .await?;
    let mut outcomes = Vec::new();
    for (number, round) in rounds.iter().enumerate() {
        let began_ms = stand.now_ms().await?;
        println!("round {}: {round}", number + 1);
        stand.suffer(round, leader).await?;
        leader = stand.healthy().await?;
        let (latest, earliest) = lateness(stand, began_ms).await?;
        println!("    longest lateness {latest:.2} s; {} leads as generation {}", leader.index, leader.generation);
        ensure!(earliest >= -EARLY, "a fire was decided {:.1} s before it was due", -earliest);
        outcomes.push(Outcome { name: name_of(round), latest });
    }
    let until_ms = stand.now_ms().await? / 1000 * 1000;
    all_ended(stand, until_ms).await?;
    verify(stand, from_ms, until_ms).await?;
    print_lateness(&outcomes);
    Ok(())
}

/// From due to decided: the longest and the shortest time of what was due since then.
async fn lateness(stand: &mut Stand, since_ms: i64) -> Result<(f64, f64)> {
    let found: (Option<f64>, Option<f64>) = sqlx::query_as(
        "SELECT max(lateness_seconds), min(lateness_seconds) FROM fire_history
         WHERE due_at >= to_timestamp($1::bigint / 1000.0)",
    )
    .bind(since_ms)
    .fetch_one(&mut stand.watch)
    .await?;
    Ok((found.0.unwrap_or(0.0), found.1.unwrap_or(0.0)))
}

async fn all_ended(stand: &mut Stand, until_ms: i64) -> Result<()> {
    eventually("every decision and the end of every run", Duration::from_secs(120), async || {
        let (undecided, going): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM schedules WHERE cursor < to_timestamp($1::bigint / 1000.0) - interval '3 s'
                                                       OR next_due_at <= to_timestamp($1::bigint / 1000.0)),
                    (SELECT count(*) FROM deliveries d JOIN work_requests w USING (id)
                     WHERE w.due_at <= to_timestamp($1::bigint / 1000.0))",
        )
        .bind(until_ms)
        .fetch_one(&mut stand.watch)
        .await
        .map_err(|error| error.to_string())?;
        let left = format!("{undecided} schedules are not decided up to there, {going} runs go on");
        if (undecided, going) == (0, 0) { Ok(()) } else { Err(left) }
    })
    .await
}

async fn verify(stand: &mut Stand, from_ms: i64, until_ms: i64) -> Result<()> {
    let fires = ledger::fires(&mut stand.watch, until_ms).await?;
    let runs = ledger::runs(&mut stand.watch, until_ms).await?;
    match ledger::check(from_ms, until_ms, &fires, &runs) {
        Ok(sums) => println!(
            "\n{} due times from {from_ms} to {until_ms}, each decided exactly once: {} triggered, {} skipped; {} runs, \
             each succeeded exactly once",
            sums.due_times, sums.triggered, sums.skipped, sums.runs
        ),
        Err(faults) => {
            for fault in faults.iter().take(SHOWN) {
                eprintln!("{fault}");
            }
            bail!("{} faults in the ledger from {from_ms} to {until_ms}", faults.len());
        }
    }
    let seen = witness::check(&mut stand.watch).await?;
    println!(
        "{} writes under {} generations, none under an old one or by who did not lead",
        seen.writes, seen.generations
    );
    Ok(())
}

fn name_of(round: &Round) -> String {
    let Some(first) = round.0.first() else { return String::new() };
    let whom = if first.whom == Whom::Leader { "leader" } else { "other" };
    let more = if round.0.len() > 1 { " and more" } else { "" };
    format!("{whom}: {}{more}", first.what.name())
}

fn print_lateness(outcomes: &[Outcome]) {
    let mut by_name: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for outcome in outcomes {
        by_name.entry(&outcome.name).or_default().push(outcome.latest);
        by_name.entry("~ all").or_default().push(outcome.latest);
    }
    println!("\nlongest lateness of a round, due to decided          rounds  median     max  above {AIM} s");
    for (name, mut latest) in by_name {
        latest.sort_by(f64::total_cmp);
        let (median, max) = (latest[latest.len() / 2], latest[latest.len() - 1]);
        let missed = latest.iter().filter(|latest| **latest > AIM).count();
        println!("{name:50} {:8} {median:5.2} s {max:5.2} s {missed:8}", latest.len());
    }
}
