//! What must be true of every run, judged by its history and by what its handlers wrote down themselves. Pure.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::faults::What as Trouble;
use crate::ledger::{Entry, What};
use crate::legal;
use crate::load::{self, Asked, Handler, SCHEDULES};
use crate::records::{Fire, Story};
use crate::trouble::Suffered;

/// For so long after the thaw of a frozen process, what runs in it may go on until it learns that it has lost its lease.
pub(crate) const AFTERGLOW_US: i64 = 1_000_000;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breach {
    /// Accepted or fired, and not there.
    Lost,
    /// It has not ended.
    Stuck,
    /// Two attempts work at the same time.
    Twice,
    /// It works on after the run's end.
    Orphan,
    /// History and ledger contradict each other.
    Disagreement,
    /// The history is one that can't be.
    Illegal,
    /// It ended as it should not.
    Outcome,
}

impl Breach {
    /// All of them.
    pub(crate) const ALL: [Self; 7] =
        [Self::Lost, Self::Stuck, Self::Twice, Self::Orphan, Self::Disagreement, Self::Illegal, Self::Outcome];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Stuck => "stuck",
            Self::Twice => "executed by two at once",
            Self::Orphan => "working after the run's end",
            Self::Disagreement => "history and ledger disagree",
            Self::Illegal => "illegal history",
            Self::Outcome => "wrong outcome",
        }
    }
}

/// What was found of one run.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) breaches: Vec<(Breach, String)>,
    /// Attempts that went on for a while within the documented limit: a Rust function, or a program that was frozen
    /// with its worker, right after the thaw.
    pub(crate) after_thaw: usize,
    /// How long at most, in microseconds.
    pub(crate) longest_after_thaw_us: i64,
    /// Calls that the other side went on with while the caller was frozen, which nobody could tell it.
    pub(crate) calls_of_the_frozen: usize,
}

impl Findings {
    fn add(&mut self, breach: Breach, text: String) {
        self.breaches.push((breach, text));
    }
}

/// Everything that is wrong with one run.
pub(crate) fn run(story: &Story, asked: Option<&Asked>, suffered: &[Suffered]) -> Findings {
    let mut findings = Findings::default();
    if !matches!(story.status.as_str(), "SUCCEEDED" | "FAILED" | "CANCELED") {
        findings.add(Breach::Stuck, format!("its status is {}", story.status));
    }
    for fault in legal::faults(&story.history, &story.status) {
        findings.add(Breach::Illegal, fault);
    }
    agreement(story, &mut findings);
    outcome(story, asked, &mut findings);
    one_at_a_time(story, suffered, &mut findings);
    findings
}

fn agreement(story: &Story, findings: &mut Findings) {
    let started: BTreeMap<u32, i64> = story
        .history
        .iter()
        .filter(|event| event.kind() == "started")
        .filter_map(|event| Some((event.attempt()?, event.at_us)))
        .collect();
    if usize::try_from(story.attempts).ok() != Some(started.len()) {
        let text = format!("{} attempts are counted, {} were started", story.attempts, started.len());
        findings.add(Breach::Disagreement, text);
    }
    let mut begun: BTreeMap<u32, usize> = BTreeMap::new();
    for entry in story.ledger.iter().filter(|entry| entry.what == What::Start) {
        *begun.entry(entry.attempt).or_default() += 1;
        match started.get(&entry.attempt) {
            Some(at_us) if *at_us <= entry.at_us => {}
            Some(_) => {
                let text = format!("attempt {} began before its lease was opened", entry.attempt);
                findings.add(Breach::Disagreement, text);
            }
            None => findings.add(Breach::Disagreement, format!("attempt {} began without a lease", entry.attempt)),
        }
    }
    for (attempt, times) in begun.into_iter().filter(|(_, times)| *times > 1) {
        findings.add(Breach::Disagreement, format!("attempt {attempt} began {times} times"));
    }
    for event in story.history.iter().filter(|event| event.kind() == "succeeded") {
        // An attempt that has only asked speaks for one before.
        let verified = event.what["verified"] == true;
        let done = |entry: &Entry| (verified || Some(entry.attempt) == event.attempt()) && entry.what == What::Done;
        if !story.ledger.iter().any(|entry| done(entry) && entry.at_us <= event.at_us) {
            findings.add(Breach::Disagreement, format!("attempt {:?} had not ended well", event.attempt()));
        }
    }
}

fn outcome(story: &Story, asked: Option<&Asked>, findings: &mut Findings) {
    let Some(job) = load::find(&story.job) else { return };
    let canceled = asked.is_some_and(|asked| asked.canceled);
    let fits = match story.status.as_str() {
        "SUCCEEDED" => !job.is_doomed,
        // What fails after it was asked to stop is not repeated.
        "FAILED" if canceled => true,
        "FAILED" => job.is_doomed || (job.fails_when_lost && story.error_code.as_deref() == Some("Lost")),
        "CANCELED" => canceled,
        _ => true,
    };
    if !fits {
        let (status, code) = (&story.status, story.error_code.as_deref().unwrap_or("no error"));
        findings.add(Breach::Outcome, format!("a run of {} ended {status} with {code}", story.job));
    }
}

/// No attempt works on once the next one has begun, or the run has ended.
fn one_at_a_time(story: &Story, suffered: &[Suffered], findings: &mut Findings) {
    let terminal = ["succeeded", "failed", "canceled"];
    let end = story.history.iter().find(|event| terminal.contains(&event.kind())).map(|event| event.at_us);
    let attempts: Vec<u32> = story.workers.keys().copied().collect();
    for attempt in attempts {
        let of = |wanted: u32| story.ledger.iter().filter(move |entry| entry.attempt == wanted);
        let next = story.ledger.iter().find(|entry| entry.attempt > attempt).map(|entry| entry.at_us);
        let beyond = |limit: Option<i64>| -> Vec<i64> {
            let late = of(attempt).filter(|entry| limit.is_some_and(|limit| entry.at_us > limit));
            late.map(|entry| entry.at_us).collect()
        };
        for (limit, breach) in [(next, Breach::Twice), (end, Breach::Orphan)] {
            let late = beyond(limit);
            let (Some(limit), Some(last)) = (limit, late.last()) else { continue };
            match excuse(story, attempt, limit, &late, suffered) {
                Some(Excuse::AfterThaw(longest_us)) => {
                    findings.after_thaw += 1;
                    findings.longest_after_thaw_us = findings.longest_after_thaw_us.max(longest_us);
                }
                Some(Excuse::CallOfTheFrozen) => findings.calls_of_the_frozen += 1,
                None => {
                    let ms = (last - limit) / 1_000;
                    findings.add(breach, format!("attempt {attempt} worked for {ms} ms more"));
                }
            }
            // What is within the limit of one is of the other.
            break;
        }
    }
}

enum Excuse {
    AfterThaw(i64),
    CallOfTheFrozen,
}

/// Whether a freeze of the worker explains all of what an attempt did after it had lost its lease.
fn excuse(story: &Story, attempt: u32, limit: i64, late: &[i64], suffered: &[Suffered]) -> Option<Excuse> {
    let worker = story.workers.get(&attempt)?;
    let handler = load::find(&story.job)?.handler;
    let freezes = suffered.iter().filter(|freeze| {
        let within = match handler {
            Handler::Command => freeze.what == Trouble::FreezeAll,
            Handler::Function | Handler::Http => matches!(freeze.what, Trouble::Freeze | Trouble::FreezeAll),
        };
        within && freeze.whom.name() == *worker && freeze.from_us <= limit && limit <= freeze.to_us + AFTERGLOW_US
    });
    for freeze in freezes {
        if late.iter().all(|at_us| (freeze.to_us..=freeze.to_us + AFTERGLOW_US).contains(at_us)) {
            return Some(Excuse::AfterThaw(late.iter().max()? - freeze.to_us));
        }
        if handler == Handler::Http && late.iter().all(|at_us| *at_us <= freeze.to_us + AFTERGLOW_US) {
            return Some(Excuse::CallOfTheFrozen);
        }
    }
    None
}

/// Everything that is wrong with all of them together: who was accepted and is not there, or is there twice; whose fire
/// is missing.
pub(crate) fn all(stories: &[Story], asked: &HashMap<String, Asked>, fires: &[Fire]) -> Vec<(Breach, String)> {
    let mut breaches = Vec::new();
    let mut by_key: HashMap<&str, Vec<Uuid>> = HashMap::new();
    for story in stories {
        if let Some(key) = &story.key {
            by_key.entry(key).or_default().push(story.id);
        }
    }
    for (key, asked) in asked {
        match by_key.remove(key.as_str()).as_deref() {
            Some([id]) if *id == asked.id => {}
            found => breaches.push((Breach::Lost, format!("accepted as {} under {key}, there is {found:?}", asked.id))),
        }
    }
    // A caller that gave up is told of elsewhere; here is nobody who asked.
    breaches.extend(by_key.into_iter().map(|(key, ids)| (Breach::Lost, format!("{ids:?} under {key}: nobody knows"))));
    breaches.extend(of_fires(stories, fires).into_iter().map(|fault| (Breach::Lost, fault)));
    breaches
}

fn of_fires(stories: &[Story], fires: &[Fire]) -> Vec<String> {
    let mut faults = Vec::new();
    let jobs: HashMap<Uuid, &str> = stories.iter().map(|story| (story.id, story.job.as_str())).collect();
    let mut named: HashMap<Uuid, usize> = HashMap::new();
    for schedule in &SCHEDULES {
        let mut expected = None;
        for fire in fires.iter().filter(|fire| fire.schedule == schedule.name) {
            let (name, due_us) = (schedule.name, fire.due_us);
            if expected.is_some_and(|expected| expected != due_us) {
                faults.push(format!("{name}: {expected:?} was due, {due_us} is what follows"));
            }
            expected = Some(due_us + schedule.every * 1_000_000 * fire.due_times);
            let called: Vec<_> = fire.work_requests.iter().map(|id| jobs.get(id).copied()).collect();
            if !fire.triggered || called != schedule.jobs.iter().copied().map(Some).collect::<Vec<_>>() {
                faults.push(format!("{name} at {due_us}: triggered {}, called for {called:?}", fire.triggered));
            }
            for id in fire.work_requests.iter() {
                *named.entry(*id).or_default() += 1;
            }
        }
    }
    let of_fires = stories.iter().filter(|story| story.schedule.is_some());
    faults.extend(of_fires.filter(|story| named.get(&story.id) != Some(&1)).map(|story| {
        let times = named.get(&story.id).copied().unwrap_or(0);
        format!("{times} fires name {}, a run of {}", story.id, story.job)
    }));
    faults
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use sqlx::types::Json;

    use super::*;
    use crate::faults::Whom;
    use crate::legal::Event;

    /// A run of `job` that lost its first worker at 5 s and ended well under the second one, from 6 s to 7 s.
    fn story(job: &str) -> Story {
        let history = [
            (0, json!({"type": "accepted"})),
            (1, json!({"type": "started", "attempt": 1})),
            (5, json!({"type": "attemptFailed", "attempt": 1})),
            (6, json!({"type": "started", "attempt": 2})),
            (8, json!({"type": "succeeded", "attempt": 2, "token": "t"})),
        ];
        let ledger = [(1, 1, What::Start), (2, 1, What::Tick), (6, 2, What::Start), (7, 2, What::Done)];
        Story {
            id: Uuid::from_u128(1),
            job: job.to_owned(),
            status: "SUCCEEDED".to_owned(),
            attempts: 2,
            error_code: None,
            key: Some("key".to_owned()),
            schedule: None,
            history: (1..).zip(history).map(|(seq, (at, what))| event(seq, at, what)).collect(),
            ledger: ledger.map(|(at, attempt, what)| entry(at * 1_000_000, attempt, what)).to_vec(),
            workers: [(1, "worker-0".to_owned()), (2, "worker-1".to_owned())].into(),
        }
    }

    fn event(seq: i32, second: i64, what: Value) -> Event {
        Event { seq, at_us: second * 1_000_000, what }
    }

    fn entry(at_us: i64, attempt: u32, what: What) -> Entry {
        Entry { id: Uuid::from_u128(1), attempt, what, at_us, pid: 7 }
    }

    fn froze(what: Trouble, from_second: i64, to_second: i64) -> Suffered {
        let (from_us, to_us) = (from_second * 1_000_000, to_second * 1_000_000);
        Suffered { whom: Whom::Worker(0), what, from_us, to_us, healed: Duration::ZERO }
    }

    /// The breaches of a story that was changed.
    fn breaches(job: &str, suffered: &[Suffered], change: impl FnOnce(&mut Story)) -> Vec<Breach> {
        let mut story = story(job);
        change(&mut story);
        story.ledger.sort_by_key(|entry| entry.at_us);
        run(&story, None, suffered).breaches.into_iter().map(|(breach, _)| breach).collect()
    }

    #[test]
    fn a_run_that_was_lost_and_repeated_is_well() {
        assert_eq!(breaches("short", &[], |_| {}), []);
    }

    #[test]
    fn whoever_works_beside_the_next_attempt_is_found() {
        let late = |story: &mut Story| story.ledger.push(entry(6_500_000, 1, What::Tick));
        assert_eq!(breaches("short", &[], late), [Breach::Twice]);
        // A program has no part in its worker's freeze …
        assert_eq!(breaches("short", &[froze(Trouble::Freeze, 2, 6)], late), [Breach::Twice]);
        // … unless both were frozen, and a function always has. A second later it must know.
        for (job, what) in [("short", Trouble::FreezeAll), ("function", Trouble::Freeze)] {
            let mut story = story(job);
            late(&mut story);
            story.ledger.sort_by_key(|entry| entry.at_us);
            let findings = run(&story, None, &[froze(what, 2, 6)]);
            assert_eq!((findings.breaches.len(), findings.after_thaw, findings.longest_after_thaw_us), (0, 1, 500_000));
            let later = |story: &mut Story| story.ledger.push(entry(7_100_000, 1, What::Tick));
            assert_eq!(breaches(job, &[froze(what, 2, 6)], later), [Breach::Twice]);
            assert_eq!(breaches(job, &[froze(what, 2, 5)], late), [Breach::Twice], "thawed before");
        }
        // A call goes on at the other side while the caller is frozen.
        let mut story = story("call");
        late(&mut story);
        story.ledger.sort_by_key(|entry| entry.at_us);
        let findings = run(&story, None, &[froze(Trouble::Freeze, 2, 9)]);
        assert_eq!((findings.breaches.len(), findings.calls_of_the_frozen), (0, 1));
    }

    #[test]
    fn whoever_works_after_the_end_is_found() {
        assert_eq!(
            breaches("short", &[], |story| story.ledger.push(entry(9_000_000, 2, What::Tick))),
            [Breach::Orphan]
        );
    }

    #[test]
    fn contradictions_are_found() {
        let disagreement = [Breach::Disagreement];
        assert_eq!(breaches("short", &[], |story| story.attempts = 3), disagreement);
        assert_eq!(breaches("short", &[], |story| story.ledger[3].what = What::Failed), disagreement);
        assert_eq!(breaches("short", &[], |story| story.ledger[2].at_us -= 1), disagreement);
        let again = entry(6_100_000, 2, What::Start);
        assert_eq!(breaches("short", &[], |story| story.ledger.push(again)), disagreement);
        let unknown = entry(6_100_000, 3, What::Start);
        assert!(breaches("short", &[], |story| story.ledger.push(unknown)).contains(&Breach::Disagreement));
    }

    #[test]
    fn what_ended_as_it_should_not_is_found() {
        assert_eq!(breaches("doomed", &[], |_| {}), [Breach::Outcome]);
        let going = |story: &mut Story| {
            story.history.truncate(4);
            story.status = "IN_PROGRESS".to_owned();
        };
        assert_eq!(breaches("short", &[], going), [Breach::Stuck, Breach::Illegal]);
        let failed = |code: &'static str| {
            move |story: &mut Story| {
                story.history.truncate(3);
                story.history[2].what = json!({"type": "failed", "attempt": 1});
                story.ledger.truncate(2);
                (story.status, story.error_code, story.attempts) = ("FAILED".to_owned(), Some(code.to_owned()), 1);
            }
        };
        assert_eq!(breaches("once", &[], failed("Lost")), []);
        assert_eq!(breaches("once", &[], failed("ExitCode")), [Breach::Outcome]);
        assert_eq!(breaches("short", &[], failed("Lost")), [Breach::Outcome]);
    }

    #[test]
    fn who_was_accepted_must_be_there_once() {
        let asked = |id| HashMap::from([("key".to_owned(), Asked { id: Uuid::from_u128(id), canceled: false })]);
        assert_eq!(all(&[story("short")], &asked(1), &[]), []);
        for faults in [
            all(&[], &asked(1), &[]),
            all(&[story("short"), story("short")], &asked(1), &[]),
            all(&[story("short")], &HashMap::new(), &[]),
        ] {
            assert!(matches!(faults[..], [(Breach::Lost, _)]), "{faults:?}");
        }
    }

    #[test]
    fn every_fire_has_its_runs_and_every_due_time_its_fire() {
        let stories: Vec<_> = (1..=3)
            .map(|id| Story {
                id: Uuid::from_u128(id),
                key: None,
                schedule: Some("second".to_owned()),
                ..story("short")
            })
            .collect();
        let fires: Vec<_> = (1..=3)
            .map(|second| Fire {
                schedule: "second".to_owned(),
                due_us: second * 1_000_000,
                triggered: true,
                due_times: 1,
                work_requests: Json(vec![Uuid::from_u128(u128::try_from(second).unwrap())]),
            })
            .collect();
        assert_eq!(of_fires(&stories, &fires), Vec::<String>::new());
        let missing = of_fires(&stories, &[fires[0].clone(), fires[2].clone()]).join("; ");
        assert!(missing.contains("was due") && missing.contains("0 fires name"), "{missing}");
        let lost = of_fires(&stories[1..], &fires).join("; ");
        assert!(lost.contains("called for [None]"), "{lost}");
    }
}
