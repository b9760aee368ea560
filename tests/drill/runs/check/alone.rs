//! Whether attempts of one run have worked beside each other, or beyond its end. Pure.

use super::{Breach, Findings, followed};
use crate::faults::What as Trouble;
use crate::jobs::{self, Handler};
use crate::ledger::What;
use crate::records::Story;
use crate::trouble::Suffered;

/// For so long after the thaw of a frozen process, what runs in it may go on until it learns that it has lost its lease.
const AFTERGLOW_US: i64 = 1_000_000;

/// No attempt works on once the next one has begun, or the run has ended.
pub(super) fn one_at_a_time(story: &Story, suffered: &[Suffered], findings: &mut Findings) {
    // What calls for children has nothing more to do itself.
    let last = ["succeeded", "failed", "canceled", "split"];
    let end = story.history.iter().find(|event| last.contains(&event.kind())).map(|event| event.at_us);
    let attempts: Vec<u32> = story.workers.keys().copied().collect();
    for attempt in attempts {
        let of = |wanted: u32| story.ledger.iter().filter(move |entry| entry.attempt == wanted);
        let next = story.ledger.iter().find(|entry| entry.attempt > attempt).map(|entry| entry.at_us);
        let beyond = |limit: Option<i64>| -> Vec<i64> {
            // That it gives up is no work: what there was before it has told of itself every tenth of a second.
            let works = of(attempt).filter(|entry| entry.what != What::Failed);
            let late = works.filter(|entry| limit.is_some_and(|limit| entry.at_us > limit));
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
                None if breach == Breach::Orphan && followed::may_go_on(story) => findings.left_going += 1,
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

pub(super) enum Excuse {
    AfterThaw(i64),
    CallOfTheFrozen,
}

/// Whether a freeze of the worker explains all of what an attempt did after it had lost its lease.
pub(super) fn excuse(story: &Story, attempt: u32, limit: i64, late: &[i64], suffered: &[Suffered]) -> Option<Excuse> {
    let worker = story.workers.get(&attempt)?;
    let handler = jobs::find(&story.job)?.handler;
    let freezes = suffered.iter().filter(|freeze| {
        let within = match handler {
            Handler::Command => freeze.what == Trouble::FreezeAll,
            Handler::Function | Handler::Http | Handler::External => {
                matches!(freeze.what, Trouble::Freeze | Trouble::FreezeAll)
            }
            // What works on another host is ended there, whatever befalls its worker.
            Handler::Ssh => false,
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

#[cfg(test)]
mod tests {
    use super::super::run;
    use super::super::samples::{breaches, entry, froze, story};
    use super::*;
    use crate::ledger::What;

    #[test]
    fn whoever_only_gives_up_works_no_more() {
        let gives_up = |story: &mut Story| story.ledger.push(entry(6_500_000, 1, What::Failed));
        assert_eq!(breaches("short", &[], gives_up), []);
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
        for what in [Trouble::Freeze, Trouble::FreezeAll] {
            assert_eq!(breaches("remote", &[froze(what, 2, 6)], late), [Breach::Twice], "its host is not frozen");
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
}
