//! What must hold at the end, whoever died: the ledger has every due time once, every run its legal end.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use harness::client::Client;
use harness::wait::eventually;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::world::{LIMIT, World};

/// The schedules that fire all the time.
const SCHEDULES: [Fires; 2] = [
    Fires { schedule: "second", every: 2, jobs: &["work", "chain"], skips: &[] },
    // Paused now and then; a due time of shortly before that may have been missed by a dead scheduler.
    Fires { schedule: "pulse", every: 5, jobs: &["work"], skips: &["paused", "late"] },
];

/// What the ledger of a schedule is to hold.
struct Fires {
    schedule: &'static str,
    /// In seconds.
    every: i64,
    /// What each fire calls for.
    jobs: &'static [&'static str],
    /// Why one may call for nothing.
    skips: &'static [&'static str],
}

/// Lets no schedule fire any more, waits until nothing goes on, and checks everything that was recorded.
pub(super) async fn nothing_is_lost_or_doubled(world: &World) -> Result<()> {
    let api = &world.stack.api;
    let mut ledgers = Vec::new();
    for fires in &SCHEDULES {
        ledgers.push(up_to_date_ledger(api, fires).await.context(fires.schedule)?);
    }
    world.end_schedules()?;
    let runs = eventually("every run to end", LIMIT, async || {
        let gone = api.get_path("/v1/schedules/second").await.is_err();
        let runs = api.list("limit=1000").await.map_err(|error| format!("{error:#}"))?;
        let going: Vec<_> = runs.iter().filter(|run| run["timeFinished"].is_null()).collect();
        // Each run of `chain` that ended well has called for one more.
        let [calls, called] = ["chain", "link"].map(|job| of_job(&runs, job).filter(|run| ended_well(run)).count());
        if going.is_empty() && gone && calls == called {
            Ok(runs)
        } else {
            Err(format!("{} go on, such as {:?}; {calls} calls, {called} called", going.len(), going.first()))
        }
    })
    .await?;
    for (fires, ledger) in SCHEDULES.iter().zip(&ledgers) {
        each_fire_has_its_runs(fires, ledger, &runs)?;
        every_due_time_is_decided_once(fires, ledger).context(fires.schedule)?;
    }
    let callers: BTreeSet<_> = of_job(&runs, "link").map(|run| run["chainedFrom"].as_str().unwrap_or("")).collect();
    ensure!(callers.len() == of_job(&runs, "link").count(), "an end has called for two runs: {callers:?}");
    let mut all = runs.clone();
    for parent in runs.iter().filter(|run| !run["children"].is_null()) {
        all.extend(each_child_is_there_once(api, parent).await?);
    }
    all.sort_by_key(|run| run["id"].to_string());
    all.dedup_by_key(|run| run["id"].to_string());
    let mut ends = Vec::new();
    for run in &all {
        let last = history_is_legal(api, run).await?;
        ends.push((format!("{}/{last}", run["id"].as_str().context("an id")?), time(&run["timeFinished"])?));
    }
    world.ends_are_posted(&ends).await
}

fn of_job<'a>(runs: &'a [Value], job: &str) -> impl Iterator<Item = &'a Value> {
    runs.iter().filter(move |run| run["job"] == job)
}

fn ended_well(run: &Value) -> bool {
    run["status"] == "SUCCEEDED"
}

fn time(value: &Value) -> Result<Timestamp> {
    Ok(value.as_str().context("a time")?.parse()?)
}

/// The whole ledger, newest first, once it has reached the present.
async fn up_to_date_ledger(api: &Client, Fires { schedule, every, .. }: &Fires) -> Result<Vec<Value>> {
    let slack = SignedDuration::from_secs(every + 1);
    eventually("a ledger up to now", LIMIT, async || {
        let path = format!("/v1/schedules/{schedule}/fires?limit=1000");
        let ledger = api.get_path(&path).await.map_err(|error| format!("{error:#}"))?;
        let now = api.get_path(&format!("/v1/schedules/{schedule}")).await.map_err(|error| format!("{error:#}"))?;
        let fires = ledger["items"].as_array().cloned().unwrap_or_default();
        let newest = fires.iter().filter(|fire| fire["origin"] == "schedule").map(|fire| time(&fire["lastDueAt"]));
        let (newest, next) = (newest.flatten().max(), time(&now["nextDue"]));
        match (newest, next) {
            (Some(newest), Ok(next)) if next.duration_since(newest) <= slack => Ok(fires),
            seen => Err(format!("{seen:?} of {now}")),
        }
    })
    .await
}

/// The schedule's own entries follow one another without a gap and without overlap.
fn every_due_time_is_decided_once(Fires { every, skips, .. }: &Fires, ledger: &[Value]) -> Result<()> {
    let mut own = Vec::new();
    for fire in ledger.iter().filter(|fire| fire["origin"] == "schedule") {
        let skipped = fire["reason"].as_str().is_some_and(|reason| skips.contains(&reason));
        ensure!(fire["outcome"] == "triggered" || skipped, "not triggered: {fire}");
        own.push((time(&fire["dueAt"])?, time(&fire["lastDueAt"])?, fire["count"].as_i64().context("a count")?));
    }
    own.sort_unstable();
    ensure!(own.len() > 2, "too few fires to speak of: {own:?}");
    for (first, last, count) in &own {
        ensure!(last.duration_since(*first).as_secs() == every * (count - 1), "{count} from {first} to {last}");
    }
    for pair in own.windows(2) {
        let gap = pair[1].0.duration_since(pair[0].1);
        ensure!(gap == SignedDuration::from_secs(*every), "{gap:#} between {:?} and {:?}", pair[0], pair[1]);
    }
    Ok(())
}

/// Each fire that triggered, whoever decided it, has one run of each of its jobs, and no other run names it.
fn each_fire_has_its_runs(Fires { schedule, jobs, .. }: &Fires, ledger: &[Value], runs: &[Value]) -> Result<()> {
    let mut of_fires: BTreeMap<(&str, &str), Vec<&Value>> = BTreeMap::new();
    for run in runs.iter().filter(|run| run["schedule"] == *schedule) {
        let fire = (run["origin"].as_str().unwrap_or(""), run["scheduledFor"].as_str().unwrap_or(""));
        of_fires.entry(fire).or_default().push(run);
    }
    for fire in ledger.iter().filter(|fire| fire["outcome"] == "triggered") {
        let (origin, due) = (fire["origin"].as_str().context("origin")?, fire["dueAt"].as_str().context("dueAt")?);
        let runs = of_fires.remove(&(origin, due)).unwrap_or_default();
        let mut ran: Vec<_> = runs.iter().filter_map(|run| run["job"].as_str()).collect();
        let mut called = jobs.to_vec();
        ran.sort_unstable();
        called.sort_unstable();
        ensure!(ran == called, "the fire of {due} by {origin} called for {called:?}, and there are {runs:?}");
        // Only what was canceled with its backfill has another end.
        let bad = runs.iter().find(|run| !ended_well(run) && !origin.starts_with("backfill:"));
        ensure!(bad.is_none(), "did not succeed: {bad:?}");
    }
    // Those behind the end of the ledger's copy were decided after it was read.
    let newest = ledger.iter().map(|fire| time(&fire["dueAt"])).collect::<Result<Vec<_>>>()?.into_iter().max();
    for (_, due) in of_fires.keys() {
        ensure!(due.parse::<Timestamp>()? > newest.context("a ledger")?, "runs of {schedule} without a fire: {due}");
    }
    Ok(())
}

/// A run has as many children as it was to have, each with an input of its own, and has counted them right.
async fn each_child_is_there_once(api: &Client, parent: &Value) -> Result<Vec<Value>> {
    let id = parent["id"].as_str().context("an id")?;
    let children = api.list(&format!("parent={id}&limit=1000")).await?;
    let numbers: BTreeSet<_> = children.iter().map(|child| child["input"]["number"].as_u64()).collect();
    let total = parent["children"]["total"].as_u64().context("a total")?;
    let is_whole = children.len() as u64 == total && numbers == (0..total).map(Some).collect();
    ensure!(is_whole, "{id} was to have {total} children, and has {} with inputs {numbers:?}", children.len());
    for (member, status) in [("succeeded", "SUCCEEDED"), ("failed", "FAILED"), ("canceled", "CANCELED")] {
        let count = children.iter().filter(|child| child["status"] == status).count();
        ensure!(parent["children"][member] == count, "{count} children of {id} are {status}: {}", parent["children"]);
    }
    Ok(children)
}

/// A history is numbered without gaps, begins with the acceptance, and has one end: its last entry, whose number it answers.
async fn history_is_legal(api: &Client, run: &Value) -> Result<usize> {
    let id = run["id"].as_str().context("an id")?;
    let events = api.part(id, "events").await?;
    let seqs: Vec<_> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
    ensure!(seqs == (1..=events.len() as u64).collect::<Vec<_>>(), "gaps in the history of {id}: {seqs:?}");
    let types: Vec<_> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    let is_end = |r#type: &&&str| ["succeeded", "failed", "canceled"].contains(*r#type);
    let ends: Vec<_> = types.iter().filter(is_end).collect();
    let end = run["status"].as_str().unwrap_or("").to_lowercase();
    ensure!(types.first() == Some(&"accepted"), "the history of {id} begins with {types:?}");
    ensure!(
        ends == [&end.as_str()] && types.last() == Some(&end.as_str()),
        "{end}, but the history of {id} is {types:?}"
    );
    Ok(events.len())
}
