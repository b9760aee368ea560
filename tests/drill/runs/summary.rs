//! What a drill came to, for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::check::{Breach, Findings, Together};
use crate::faults::What as Trouble;
use crate::ledger::What;
use crate::legal::{Event, backwards_us};
use crate::records::Story;
use crate::trouble::Suffered;

/// Of so many runs everything is printed.
const SHOWN: usize = 10;

/// Everything about one run, in the order of its time.
pub(crate) fn tell(story: &Story, suffered: &[Suffered]) -> String {
    let mut lines: Vec<(i64, String)> = Vec::new();
    for event in &story.history {
        lines.push((event.at_us, format!("history {} {}", event.seq, event.what)));
    }
    for entry in &story.ledger {
        lines.push((
            entry.at_us,
            format!("ledger  attempt {} {} in process {}", entry.attempt, entry.what.name(), entry.pid),
        ));
    }
    let (first, last) = (lines.iter().map(|line| line.0).min(), lines.iter().map(|line| line.0).max());
    let (first, last) = (first.unwrap_or_default(), last.unwrap_or_default());
    for Suffered { whom, what, from_us, to_us, .. } in suffered.iter().filter(|s| s.from_us < last && first < s.to_us) {
        lines.push((*from_us, format!("fault   {}: {} begins", whom.name(), what.name())));
        lines.push((*to_us, format!("fault   {}: {} ends", whom.name(), what.name())));
    }
    lines.sort();
    let mut text = format!("run {} of {}, workers by attempt {:?}\n", story.id, story.job, story.workers);
    for (at_us, line) in lines {
        // Writing to a string can't fail.
        let _ = writeln!(text, "  {:+11.4} s  {line}", seconds(at_us - first));
    }
    text
}

/// Everything about the first runs that something is wrong with.
pub(crate) fn breaches(found: &[(&Story, Findings)], suffered: &[Suffered]) -> String {
    let faulty: Vec<_> = found.iter().filter(|(_, findings)| !findings.breaches.is_empty()).collect();
    let mut text = String::new();
    for (number, (story, findings)) in faulty.iter().enumerate() {
        for (breach, why) in &findings.breaches {
            let _ = writeln!(text, "{}: {} of {}: {why}", breach.name(), story.id, story.job);
        }
        if number < SHOWN {
            text += &tell(story, suffered);
        }
    }
    text
}

/// The tables.
pub(crate) fn tables(found: &[(&Story, Findings)], together: &Together, suffered: &[Suffered]) -> String {
    let mut text = String::new();
    let mut by_kind: BTreeMap<Trouble, Vec<&Suffered>> = BTreeMap::new();
    for one in suffered {
        by_kind.entry(one.what).or_default().push(one);
    }
    let _ = writeln!(text, "\nfaults                       times   longest   until ready again, at most");
    for (what, all) in &by_kind {
        let longest = all.iter().map(|one| one.to_us - one.from_us).max().unwrap_or_default();
        let healed = all.iter().map(|one| one.healed).max().unwrap_or_default();
        let _ = writeln!(
            text,
            "{:26} {:7} {:7.1} s {:7.1} s",
            what.name(),
            all.len(),
            seconds(longest),
            healed.as_secs_f64()
        );
    }
    let _ = writeln!(text, "{:26} {:7}", "all", suffered.len());

    let mut outcomes: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (story, _) in found {
        *outcomes.entry((&story.job, &story.status)).or_default() += 1;
        *outcomes.entry(("~ all", &story.status)).or_default() += 1;
    }
    let _ = writeln!(text, "\nruns                     SUCCEEDED    FAILED  CANCELED     other");
    let jobs: std::collections::BTreeSet<_> = outcomes.keys().map(|(job, _)| *job).collect();
    for job in jobs {
        let ended =
            ["SUCCEEDED", "FAILED", "CANCELED"].map(|status| outcomes.get(&(job, status)).copied().unwrap_or(0));
        let all: usize = outcomes.iter().filter(|((of, _), _)| *of == job).map(|(_, count)| count).sum();
        let other = all - ended.iter().sum::<usize>();
        let _ = writeln!(text, "{job:23} {:10} {:9} {:9} {other:9}", ended[0], ended[1], ended[2]);
    }
    let (table, slowest) = recoveries(found, suffered);
    text += &table;
    if let Some(story) = slowest {
        let _ = write!(text, "\nthe slowest of those that were lost: {}", tell(story, suffered));
    }
    text += &answers(found);
    let _ = writeln!(text, "\nlimits, and how near they were reached");
    for peak in &together.peaks {
        let _ = writeln!(text, "{peak}");
    }
    let _ = writeln!(text, "\nbreaches");
    let breaches = || found.iter().flat_map(|(_, findings)| &findings.breaches).chain(&together.breaches);
    for breach in Breach::ALL {
        let _ = writeln!(text, "{:30} {:7}", breach.name(), breaches().filter(|(is, _)| *is == breach).count());
    }
    let thawed: usize = found.iter().map(|(_, findings)| findings.after_thaw).sum();
    let longest = found.iter().map(|(_, findings)| findings.longest_after_thaw_us).max().unwrap_or_default();
    let calls: usize = found.iter().map(|(_, findings)| findings.calls_of_the_frozen).sum();
    let _ = writeln!(text, "\nwithin the documented limits");
    let _ = writeln!(text, "{:30} {thawed:7}, for {} ms at most", "at work after a thaw", longest / 1_000);
    let _ = writeln!(text, "{:30} {calls:7}", "calls of a frozen worker");
    let left_going: usize = found.iter().map(|(_, findings)| findings.left_going).sum();
    let _ = writeln!(text, "{:30} {left_going:7}", "operations left by a cancel");
    let backwards = || found.iter().map(|(story, _)| backwards_us(&story.history)).filter(|us| *us > 0);
    let (times, ms) = (backwards().count(), backwards().max().unwrap_or_default() / 1_000);
    let _ = writeln!(text, "{:30} {times:7}, by {ms} ms at most", "histories out of time's order");
    text
}

/// What became of runs that were asked after, or waited for too long.
fn answers(found: &[(&Story, Findings)]) -> String {
    let count = |fits: &dyn Fn(&Story) -> bool| found.iter().filter(|(story, _)| fits(story)).count();
    let has = |story: &Story, fits: &dyn Fn(&Event) -> bool| story.history.iter().any(fits);
    let verified = count(&|story| has(story, &|event| event.kind() == "succeeded" && event.what["verified"] == true));
    let deferred = count(&|story| has(story, &|event| event.kind() == "deferred"));
    let expired = count(&|story| story.error_code.as_deref() == Some("Expired"));
    let parked = count(&|story| has(story, &|event| event.kind() == "parked"));
    let parked_again = count(&|story| has(story, &|event| event.kind() == "parked" && event.what["token"].is_null()));
    let families = || found.iter().filter_map(|(story, _)| story.children.as_ref());
    let (parents, children) = (families().count(), families().map(|counts| counts.born).sum::<i32>());
    let stopped = families().filter(|counts| counts.stopped.is_some()).count();
    format!(
        "\noperations followed: {parked}, of which whoever asked was lost meanwhile: {parked_again}\n\
         parents: {parents}, stopped before their end: {stopped}; children: {children}\n\
         asked after when lost, and found to have taken effect: {verified}; asked after again: {deferred}; \
         expired: {expired}\n"
    )
}

/// How long runs waited: for their first attempt, and for another one after a worker was lost; which lost one waited
/// longest.
fn recoveries<'a>(found: &[(&'a Story, Findings)], suffered: &[Suffered]) -> (String, Option<&'a Story>) {
    let mut slowest: Option<(i64, &Story)> = None;
    let (mut waits, mut recoveries) = (Vec::new(), BTreeMap::<&str, Vec<i64>>::new());
    for (story, _) in found {
        let mut lost: Option<(&str, i64)> = None;
        let mut accepted = None;
        for event in &story.history {
            match event.kind() {
                "accepted" => accepted = Some(event.at_us),
                "attemptFailed" if event.what["error"]["code"] == "Lost" => {
                    lost = Some(("lost", trouble_before(story, event.attempt(), event.at_us, suffered)));
                }
                "released" => lost = Some(("given back", event.at_us)),
                "started" => {
                    if let Some((why, since)) = lost.take() {
                        let waited = event.at_us - since;
                        if why == "lost" && slowest.is_none_or(|(longest, _)| waited > longest) {
                            slowest = Some((waited, story));
                        }
                        recoveries.entry(why).or_default().push(waited);
                    } else if let Some(since) = accepted.take() {
                        waits.push(event.at_us - since);
                    }
                }
                _ => {}
            }
        }
    }
    let mut text = "\n                                      count   median  longest\n".to_owned();
    let all = recoveries.into_iter().map(|(why, all)| (format!("{why}, until the next attempt"), all));
    for (name, mut all) in all.chain([("accepted, until the first attempt".to_owned(), waits)]) {
        all.sort_unstable();
        let (median, longest) = (all.get(all.len() / 2).copied(), all.last().copied());
        let (median, longest) = (seconds(median.unwrap_or_default()), seconds(longest.unwrap_or_default()));
        let _ = writeln!(text, "{name:34} {:8} {median:6.2} s {longest:6.2} s", all.len());
    }
    (text, slowest.map(|(_, story)| story))
}

/// When the trouble of the attempt's worker began that cost it its lease; without any, when the attempt last gave a
/// sign of life.
fn trouble_before(story: &Story, attempt: Option<u32>, lost_us: i64, suffered: &[Suffered]) -> i64 {
    let worker = attempt.and_then(|attempt| story.workers.get(&attempt));
    let trouble = suffered.iter().filter(|one| worker.is_some_and(|worker| one.whom.name() == *worker));
    let began = trouble.map(|one| one.from_us).filter(|from_us| *from_us <= lost_us).max();
    let signs = story.ledger.iter().filter(|entry| Some(entry.attempt) == attempt && entry.what != What::Done);
    began.or_else(|| signs.map(|entry| entry.at_us).filter(|at_us| *at_us <= lost_us).max()).unwrap_or(lost_us)
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}
