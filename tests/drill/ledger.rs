//! What the ledger must say: for every schedule each due time exactly once, and for each one that triggered exactly its
//! runs, each of which ended well exactly once.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use sqlx::PgConnection;
use uuid::Uuid;

/// A schedule of the drill.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) name: &'static str,
    /// Due at every instant whose Unix time is a multiple of so many seconds.
    pub(crate) every: i64,
    pub(crate) jobs: &'static [&'static str],
}

/// What is drilled. All of it is due every second or nearly, and wants little of the worker.
pub(crate) const SCHEDULES: [Expected; 6] = [
    Expected { name: "all", every: 1, jobs: &["quick"] },
    Expected { name: "both", every: 1, jobs: &["quick", "brief"] },
    Expected { name: "latest", every: 1, jobs: &["quick"] },
    Expected { name: "none", every: 2, jobs: &["brief"] },
    Expected { name: "skip", every: 1, jobs: &["nap"] },
    Expected { name: "third", every: 3, jobs: &["quick"] },
];

/// The same for the schedulers.
pub(crate) const YAML: &str = r#"
version: 1
jobs:
  quick: { function: noop }
  brief: { command: ['true'] }
  nap: { command: [sleep, '1.2'] }
schedules:
  all: { cron: "* * * * * *", trigger: quick, overlap: allow, catch_up: { policy: all, window: 1h } }
  both: { every: 1s, trigger: [quick, brief], overlap: allow, catch_up: { policy: all, window: 1h } }
  latest: { cron: "* * * * * *", timezone: Europe/Berlin, trigger: quick, overlap: allow }
  none: { every: 2s, trigger: brief, overlap: allow, catch_up: none }
  skip: { every: 1s, trigger: nap }
  third: { cron: "*/3 * * * * *", trigger: quick, overlap: allow }
"#;

/// A row of the ledger. Instants are Unix milliseconds.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Fire {
    schedule: String,
    due_ms: i64,
    last_due_ms: i64,
    count: i64,
    triggered: bool,
    work_requests: sqlx::types::Json<Vec<Uuid>>,
}

/// A run that a fire called for.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Run {
    id: Uuid,
    schedule: String,
    due_ms: i64,
    job: String,
    status: String,
    /// How often its history says that it succeeded.
    successes: i64,
}

/// What was found, if nothing was wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) due_times: usize,
    pub(crate) triggered: usize,
    pub(crate) skipped: usize,
    pub(crate) runs: usize,
}

/// Every decision up to `until`.
pub(crate) async fn fires(database: &mut PgConnection, until_ms: i64) -> Result<Vec<Fire>> {
    let rows = sqlx::query_as(
        "SELECT schedule, (extract(epoch FROM due_at) * 1000)::bigint AS due_ms,
                (extract(epoch FROM last_due_at) * 1000)::bigint AS last_due_ms, due_times AS count,
                outcome = 'triggered' AS triggered, work_requests
         FROM fire_history WHERE due_at <= to_timestamp($1::bigint / 1000.0) ORDER BY schedule, due_at",
    );
    Ok(rows.bind(until_ms).fetch_all(database).await?)
}

/// Every run for a due time up to `until`.
pub(crate) async fn runs(database: &mut PgConnection, until_ms: i64) -> Result<Vec<Run>> {
    let rows = sqlx::query_as(
        "SELECT w.id, w.schedule, (extract(epoch FROM w.due_at) * 1000)::bigint AS due_ms, w.job, w.status,
                (SELECT count(*) FROM events e WHERE e.work_request_id = w.id AND e.what->>'type' = 'succeeded')
                    AS successes
         FROM work_requests w WHERE w.due_at <= to_timestamp($1::bigint / 1000.0) ORDER BY w.id",
    );
    Ok(rows.bind(until_ms).fetch_all(database).await?)
}

/// Compares the ledger and the runs with what they must be from the first due time after `from` up to `until`. Answers
/// everything that is wrong.
pub(crate) fn check(from_ms: i64, until_ms: i64, fires: &[Fire], runs: &[Run]) -> Result<Sums, Vec<String>> {
    let mut faults = Vec::new();
    let mut sums = Sums::default();
    let by_id: HashMap<Uuid, &Run> = runs.iter().map(|run| (run.id, run)).collect();
    let mut called_for = HashMap::new();
    for expected in &SCHEDULES {
        let fires: Vec<_> = fires.iter().filter(|fire| fire.schedule == expected.name).collect();
        due_times(expected, from_ms, until_ms, &fires, &mut faults);
        for fire in fires {
            sums.due_times += usize::try_from(fire.count).unwrap_or(0);
            if !fire.triggered {
                sums.skipped += usize::try_from(fire.count).unwrap_or(0);
                continue;
            }
            sums.triggered += 1;
            let jobs: Vec<_> = fire.work_requests.iter().map(|id| by_id.get(id).map(|run| run.job.as_str())).collect();
            if jobs != expected.jobs.iter().map(|job| Some(*job)).collect::<Vec<_>>() {
                faults.push(format!("{} at {} called for {jobs:?}", fire.schedule, fire.due_ms));
            }
            for id in fire.work_requests.iter() {
                *called_for.entry(*id).or_insert(0) += 1;
                if by_id.get(id).is_some_and(|run| (&run.schedule, run.due_ms) != (&fire.schedule, fire.due_ms)) {
                    faults.push(format!("{} at {} names {id}, of another fire", fire.schedule, fire.due_ms));
                }
            }
        }
    }
    let mut by_fire: BTreeMap<(&str, i64, &str), usize> = BTreeMap::new();
    for run in runs {
        sums.runs += 1;
        *by_fire.entry((&run.schedule, run.due_ms, &run.job)).or_default() += 1;
        if called_for.get(&run.id) != Some(&1) {
            let times = called_for.get(&run.id).copied().unwrap_or(0);
            faults.push(format!("{times} fires name the run {run:?}"));
        }
        if run.status != "SUCCEEDED" || run.successes != 1 {
            faults.push(format!("did not succeed exactly once: {run:?}"));
        }
    }
    let twice = by_fire.iter().filter(|(_, count)| **count > 1);
    faults.extend(twice.map(|(fire, count)| format!("{count} runs for one schedule, due time and job: {fire:?}")));
    if faults.is_empty() { Ok(sums) } else { Err(faults) }
}

/// Walks along the due times and the ledger side by side.
fn due_times(expected: &Expected, from_ms: i64, until_ms: i64, fires: &[&Fire], faults: &mut Vec<String>) {
    let step = expected.every * 1000;
    let mut due_ms = (from_ms.div_euclid(step) + 1) * step;
    let name = expected.name;
    for fire in fires {
        if fire.due_ms < due_ms {
            faults.push(format!("{name} at {} is decided twice, or was never due", fire.due_ms));
        } else if fire.due_ms > due_ms {
            faults.push(format!("{name} from {due_ms} up to before {} has no decision", fire.due_ms));
        }
        let stretch = (fire.last_due_ms - fire.due_ms) / step + 1;
        if fire.count != stretch || fire.due_ms % step != 0 || fire.last_due_ms % step != 0 {
            faults.push(format!(
                "{name} from {} to {} says it is {} due times",
                fire.due_ms, fire.last_due_ms, fire.count
            ));
        }
        if fire.triggered && fire.count != 1 {
            faults.push(format!("{name} at {} triggered for {} due times", fire.due_ms, fire.count));
        }
        due_ms = due_ms.max(fire.last_due_ms + step);
    }
    if due_ms <= until_ms {
        faults.push(format!("{name} from {due_ms} to {until_ms} has no decision"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ledger and the runs of one healthy minute.
    fn healthy() -> (Vec<Fire>, Vec<Run>) {
        let (mut fires, mut runs) = (Vec::new(), Vec::new());
        for expected in &SCHEDULES {
            for second in (1..=60).filter(|second| second % expected.every == 0) {
                let due_ms = second * 1000;
                let called: Vec<Run> = expected.jobs.iter().map(|job| run(expected.name, due_ms, job)).collect();
                let ids = called.iter().map(|run| run.id).collect();
                runs.extend(called);
                fires.push(fire(expected.name, due_ms, due_ms, 1, Some(ids)));
            }
        }
        (fires, runs)
    }

    fn run(schedule: &str, due_ms: i64, job: &str) -> Run {
        let (schedule, job, status) = (schedule.to_owned(), job.to_owned(), "SUCCEEDED".to_owned());
        Run { id: Uuid::new_v4(), schedule, due_ms, job, status, successes: 1 }
    }

    fn fire(schedule: &str, due_ms: i64, last_due_ms: i64, count: i64, called: Option<Vec<Uuid>>) -> Fire {
        let (triggered, work_requests) = (called.is_some(), sqlx::types::Json(called.unwrap_or_default()));
        Fire { schedule: schedule.to_owned(), due_ms, last_due_ms, count, triggered, work_requests }
    }

    fn faults(change: impl FnOnce(&mut Vec<Fire>, &mut Vec<Run>)) -> String {
        let (mut fires, mut runs) = healthy();
        change(&mut fires, &mut runs);
        check(0, 60_000, &fires, &runs).expect_err("nothing was found").join("\n")
    }

    #[test]
    fn a_healthy_ledger_has_no_fault() {
        let (fires, runs) = healthy();
        let sums = check(0, 60_000, &fires, &runs).unwrap();
        let due_times = 4 * 60 + 30 + 20;
        assert_eq!(sums, Sums { due_times, triggered: due_times, skipped: 0, runs: due_times + 60 });
    }

    #[test]
    fn a_stretch_of_skips_stands_for_its_due_times() {
        let (mut fires, mut runs) = healthy();
        fires.retain(|fire| fire.schedule != "latest" || !(10_000..=19_000).contains(&fire.due_ms));
        runs.retain(|run| run.schedule != "latest" || !(10_000..=19_000).contains(&run.due_ms));
        let at = fires.iter().position(|fire| fire.schedule == "latest" && fire.due_ms == 20_000).unwrap();
        fires.insert(at, fire("latest", 10_000, 19_000, 10, None));
        assert_eq!(check(0, 60_000, &fires, &runs).unwrap().skipped, 10);
        fires[at].count = 9;
        assert!(check(0, 60_000, &fires, &runs).unwrap_err()[0].contains("says it is 9"));
    }

    #[test]
    fn what_is_missing_is_found() {
        let missing = faults(|fires, runs| {
            let gone = fires.remove(30);
            runs.retain(|run| !gone.work_requests.contains(&run.id));
        });
        assert!(missing.contains("has no decision"), "{missing}");
        let end = faults(|fires, runs| {
            let gone = fires.remove(59);
            runs.retain(|run| !gone.work_requests.contains(&run.id));
        });
        assert!(end.contains("all from 60000 to 60000 has no decision"), "{end}");
        let run = faults(|_, runs| drop(runs.remove(3)));
        assert!(run.contains("called for [None]"), "{run}");
    }

    #[test]
    fn what_is_there_twice_is_found() {
        let fire = faults(|fires, _| fires.insert(5, fires[5].clone()));
        assert!(fire.contains("decided twice"), "{fire}");
        let run = faults(|_, runs| runs.push(run("all", 4_000, "quick")));
        assert!(run.contains("0 fires name") && run.contains("2 runs for one"), "{run}");
        let shared = faults(|fires, _| fires[5].work_requests = fires[6].work_requests.clone());
        assert!(shared.contains("of another fire"), "{shared}");
    }

    #[test]
    fn what_did_not_end_well_once_is_found() {
        let failed = faults(|_, runs| runs[3].status = "FAILED".to_owned());
        assert!(failed.contains("did not succeed exactly once"), "{failed}");
        let twice = faults(|_, runs| runs[3].successes = 2);
        assert!(twice.contains("did not succeed exactly once"), "{twice}");
    }
}
