//! What must be true of every run, judged by its history and by what its handlers wrote down themselves. Pure.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::jobs::{self, Job};
use crate::ledger::{Entry, What};
use crate::legal::{self, Event};
use crate::load::Asked;
use crate::records::{Fire, Story};
use crate::sends::Send;
use crate::trouble::Suffered;

mod again;
mod alone;
mod called;
mod families;
mod followed;
mod limits;
#[cfg(test)]
mod samples;

pub(crate) use self::limits::Peak;

/// How long an attempt may take, in microseconds.
const TIMEOUT_US: i64 = 60_000_000;

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
    /// It was run again although it was known to have taken effect.
    Again,
    /// More were under way, or were sent within a time, than may be.
    Limit,
    /// A success has not called for the next job, or something else has.
    Chain,
    /// A run and its children contradict each other.
    Family,
    /// What may only grow has become less.
    Backward,
}

impl Breach {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Lost,
        Self::Stuck,
        Self::Twice,
        Self::Orphan,
        Self::Disagreement,
        Self::Illegal,
        Self::Outcome,
        Self::Again,
        Self::Limit,
        Self::Chain,
        Self::Family,
        Self::Backward,
    ];

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
            Self::Again => "run again after its effect",
            Self::Limit => "beyond a limit",
            Self::Chain => "chains",
            Self::Family => "runs and their children",
            Self::Backward => "went backward",
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
    /// Operations that went on after the cancel of a run whose worker did not get to know of them, or to tell them.
    pub(crate) left_going: usize,
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
    if let Some(job) = jobs::find(&story.job) {
        outcome(story, job, asked, &mut findings);
        in_time(story, job, &mut findings);
        again::once_effective(story, job, &mut findings);
        followed::to_its_end(story, job, suffered, &mut findings);
    }
    alone::one_at_a_time(story, suffered, &mut findings);
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
    let follows = jobs::find(&story.job).is_some_and(|job| job.follows);
    let is_split = story.history.iter().any(|event| event.kind() == "split");
    let says_done = |event: &&Event| match event.kind() {
        // What ends with its children had ended well itself before it called for them.
        "succeeded" => !is_split,
        "split" => event.attempt() != Some(0),
        _ => false,
    };
    for event in story.history.iter().filter(says_done) {
        // An attempt that has only asked speaks for one before, and so does one that has found an operation.
        let verified = event.what["verified"] == true || follows;
        let done = |entry: &Entry| (verified || Some(entry.attempt) == event.attempt()) && entry.what == What::Done;
        if !story.ledger.iter().any(|entry| done(entry) && entry.at_us <= event.at_us) {
            findings.add(Breach::Disagreement, format!("attempt {:?} had not ended well", event.attempt()));
        }
    }
}

fn outcome(story: &Story, job: &Job, asked: Option<&Asked>, findings: &mut Findings) {
    let code = story.error_code.as_deref();
    // What becomes of children and why is judged with their parent.
    let has_been = |kind: &str| story.history.iter().any(|event| event.kind() == kind);
    let canceled = asked.is_some_and(|asked| asked.canceled)
        || (story.parent.is_some() && (has_been("cancelRequested") || has_been("canceled")));
    let is_doomed = job.is_doomed || story.doomed;
    let fits = match story.status.as_str() {
        "SUCCEEDED" => !is_doomed && !job.is_refused,
        // What fails after it was asked to stop is not repeated.
        "FAILED" if canceled => true,
        "FAILED" if job.expires.is_some() && code == Some("Expired") => true,
        "FAILED" if job.is_refused => code == Some("Refused"),
        "FAILED" if story.children.is_some() => true,
        // A lost attempt of which the reconciler learns late, on a busy machine, is past its time first.
        "FAILED" if job.fails_when_lost && code == Some("Timeout") => was_past_its_time(story),
        "FAILED" => is_doomed || (job.fails_when_lost && code.is_some_and(is_loss)),
        "CANCELED" => canceled,
        _ => true,
    };
    if !fits {
        let (status, code) = (&story.status, code.unwrap_or("no error"));
        findings.add(Breach::Outcome, format!("a run of {} ended {status} with {code}", story.job));
    }
    if job.is_refused && !story.ledger.is_empty() {
        findings.add(Breach::Outcome, "no worker may run it, and it was begun".to_owned());
    }
}

/// Whether the last attempt was open for longer than its time-out.
fn was_past_its_time(story: &Story) -> bool {
    let last = |kind: &str| story.history.iter().rev().find(|event| event.kind() == kind).map(|event| event.at_us);
    let open = last("failed").zip(last("started")).map(|(ended, began)| ended - began);
    open.is_some_and(|open| open >= TIMEOUT_US)
}

/// Whether this is the code of an attempt that was broken off, so that nobody knows what became of it.
fn is_loss(code: &str) -> bool {
    matches!(code, "Lost" | "Stalled" | "GuardLost")
}

/// What expires has not been started, nor too early; what was started had not expired.
fn in_time(story: &Story, job: &Job, findings: &mut Findings) {
    let Some(expires) = job.expires else { return };
    let at = |kind: &str| story.history.iter().find(|event| event.kind() == kind).map(|event| event.at_us);
    let after_ms = |kind| Some((at(kind)? - at("accepted")?) / 1_000);
    if let Some(waited) = after_ms("started").filter(|waited| *waited >= expires * 1_000) {
        findings.add(Breach::Outcome, format!("it expires after {expires} s and was started after {waited} ms"));
    }
    if story.error_code.as_deref() == Some("Expired") {
        let waited = after_ms("failed").unwrap_or_default();
        if at("started").is_some() || !story.ledger.is_empty() || waited < expires * 1_000 {
            findings.add(
                Breach::Outcome,
                format!("it was started, or had {waited} ms of {expires} s, and is called expired"),
            );
        }
    }
}

/// What was found of all of them together.
#[derive(Debug, Default)]
pub(crate) struct Together {
    pub(crate) breaches: Vec<(Breach, String)>,
    pub(crate) peaks: Vec<Peak>,
}

/// Everything that is wrong with all of them together: who is missing, or there without reason; which limits did not
/// hold.
pub(crate) fn all(
    stories: &[Story],
    asked: &HashMap<String, Asked>,
    fires: &[Fire],
    sends: &[Send],
    backward: &[(Uuid, String)],
    suffered: &[Suffered],
) -> Together {
    let mut together = Together::default();
    let mut add =
        |breach, faults: Vec<String>| together.breaches.extend(faults.into_iter().map(|fault| (breach, fault)));
    add(Breach::Lost, called::of_callers(stories, asked));
    add(Breach::Lost, called::of_fires(stories, fires));
    add(Breach::Chain, called::of_chains(stories));
    add(Breach::Limit, limits::uncounted(stories, sends));
    add(Breach::Family, families::faults(stories, asked));
    add(Breach::Backward, backward.iter().map(|(id, what)| format!("{id}: {what}")).collect());
    together.peaks = limits::peaks(stories, sends, suffered);
    let broken = together.peaks.iter().filter(|peak| peak.seen > peak.most);
    together.breaches.extend(broken.map(|peak| (Breach::Limit, peak.to_string())));
    together
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::samples::{breaches, entry};
    use super::*;

    #[test]
    fn a_run_that_was_lost_and_repeated_is_well() {
        assert_eq!(breaches("short", &[], |_| {}), []);
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
        assert_eq!(breaches("once", &[], failed("Timeout")), [Breach::Outcome], "after four seconds");
        let late = |story: &mut Story| {
            failed("Timeout")(story);
            story.history[2].at_us += TIMEOUT_US;
        };
        assert_eq!(breaches("once", &[], late), []);
        assert_eq!(breaches("short", &[], failed("Lost")), [Breach::Outcome]);
    }

    #[test]
    fn what_is_told_to_fail_and_what_no_worker_may_run_must_fail() {
        assert_eq!(breaches("part", &[], |story| story.doomed = true), [Breach::Outcome]);
        assert_eq!(breaches("forbidden", &[], |_| {}), [Breach::Outcome, Breach::Outcome]);
        let refused = |code: &'static str, traces: usize| {
            move |story: &mut Story| {
                story.history.truncate(2);
                story.history.push(samples::event(3, 2, json!({"type": "failed", "attempt": 1, "token": "t"})));
                story.ledger.truncate(traces);
                (story.status, story.error_code, story.attempts) = ("FAILED".to_owned(), Some(code.to_owned()), 1);
            }
        };
        assert_eq!(breaches("forbidden", &[], refused("Refused", 0)), []);
        assert_eq!(breaches("forbidden", &[], refused("Refused", 1)), [Breach::Outcome]);
        assert_eq!(breaches("forbidden", &[], refused("ExitCode", 0)), [Breach::Outcome]);
    }

    #[test]
    fn whoever_calls_for_children_has_done_its_own_part() {
        let split = |story: &mut Story| {
            story.history[4].what = json!({"type": "split", "attempt": 2, "token": "t", "children": 3});
            story.history.push(samples::event(6, 9, json!({"type": "succeeded", "attempt": 2})));
        };
        assert_eq!(breaches("album", &[], split), []);
        let undone = |story: &mut Story| {
            split(story);
            story.ledger.pop();
        };
        assert_eq!(breaches("album", &[], undone), [Breach::Disagreement]);
        let goes_on = |story: &mut Story| {
            split(story);
            story.ledger.push(entry(8_500_000, 2, What::Tick));
        };
        assert_eq!(breaches("album", &[], goes_on), [Breach::Orphan]);
    }

    #[test]
    fn what_has_become_less_is_found() {
        let backward = [(Uuid::from_u128(1), "from 5 to 4 percent".to_owned())];
        let found = |backward| all(&[], &HashMap::new(), &[], &[], backward, &[]).breaches;
        assert_eq!(found(&backward).iter().map(|(breach, _)| *breach).collect::<Vec<_>>(), [Breach::Backward]);
        assert_eq!(found(&[]), []);
    }

    #[test]
    fn what_expires_is_not_started() {
        let expired = |story: &mut Story| {
            story.history.truncate(1);
            story.history.push(samples::event(2, 3, json!({"type": "failed", "attempt": 0})));
            story.ledger.clear();
            (story.status, story.error_code, story.attempts) = ("FAILED".to_owned(), Some("Expired".to_owned()), 0);
        };
        assert_eq!(breaches("fleeting", &[], |_| {}), []);
        assert_eq!(breaches("fleeting", &[], expired), []);
        assert_eq!(breaches("short", &[], expired), [Breach::Outcome]);
        let early = |story: &mut Story| {
            expired(story);
            story.history[1].at_us -= 1_000;
        };
        assert_eq!(breaches("fleeting", &[], early), [Breach::Outcome]);
        let late = |story: &mut Story| story.history[0].at_us = -2_000_000;
        assert_eq!(breaches("fleeting", &[], late), [Breach::Outcome]);
    }
}
