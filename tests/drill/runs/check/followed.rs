//! Whether what a call has begun elsewhere was begun once, and followed to its end or told to end. Pure.

use super::{Breach, Findings};
use crate::faults::What as Trouble;
use crate::jobs::{self, Job};
use crate::ledger::What;
use crate::records::Story;
use crate::trouble::Suffered;

/// Once it is known where to ask, it is not begun again, whoever dies; it takes effect once; and it has ended, or was told
/// to, before a worker says that its run is canceled.
pub(super) fn to_its_end(story: &Story, job: &Job, suffered: &[Suffered], findings: &mut Findings) {
    if !job.follows {
        return;
    }
    let parked = story.history.iter().find(|event| event.kind() == "parked");
    let known = parked.and_then(|event| event.attempt());
    let wrote = |what: What| story.ledger.iter().filter(move |entry| entry.what == what);
    if let Some(again) = wrote(What::Start).find(|entry| known.is_some_and(|known| entry.attempt > known)) {
        let text = format!("attempt {} began it again, and it was known where to ask after it", again.attempt);
        findings.add(Breach::Again, text);
    }
    let done = wrote(What::Done).count();
    if done > 1 {
        findings.add(Breach::Again, format!("it took effect {done} times"));
    }
    let canceled = story.history.iter().find(|event| event.kind() == "canceled" && !event.what["token"].is_null());
    let (Some(_), Some(canceled)) = (parked, canceled) else { return };
    let told = wrote(What::Done).chain(wrote(What::Failed)).any(|entry| entry.at_us <= canceled.at_us);
    if !told && !froze_meanwhile(story, canceled.at_us, suffered) {
        findings
            .add(Breach::Disagreement, "its worker says that it was canceled, and it was not told to end".to_owned());
    }
}

/// Whoever is frozen as it tells may find that the time for that is over.
fn froze_meanwhile(story: &Story, until_us: i64, suffered: &[Suffered]) -> bool {
    let asked = story.history.iter().find(|event| event.kind() == "cancelRequested").map(|event| event.at_us);
    suffered.iter().any(|one| {
        let is_freeze = matches!(one.what, Trouble::Freeze | Trouble::FreezeAll);
        is_freeze && one.from_us <= until_us && asked.is_some_and(|asked_us| asked_us <= one.to_us)
    })
}

/// Whether something that was begun may go on when its run has ended: when the run was canceled. It is told to end if it is
/// known where, and by a worker that lives to say so; in all other cases nobody tells it, as is documented. That it must
/// have been told is checked apart from this.
pub(super) fn may_go_on(story: &Story) -> bool {
    let was_canceled = story.history.iter().any(|event| matches!(event.kind(), "cancelRequested" | "canceled"));
    jobs::find(&story.job).is_some_and(|job| job.follows) && was_canceled && story.status != "SUCCEEDED"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples::{breaches, entry, event, froze};
    use super::*;

    /// Begun by the first attempt, which is known to its end at 8 s.
    fn known(story: &mut Story) {
        story.history[2].what = json!({"type": "parked", "attempt": 1, "token": "t"});
        story.history.remove(3);
        story.history[3] = event(4, 8, json!({"type": "succeeded", "attempt": 1, "token": "u"}));
        story.ledger.truncate(2);
        story.ledger.push(entry(7_000_000, 1, What::Done));
        story.attempts = 1;
    }

    fn canceled(story: &mut Story) {
        known(story);
        story.history[3] = event(4, 6, json!({"type": "cancelRequested"}));
        story.history.push(event(5, 8, json!({"type": "canceled", "attempt": 1, "token": "u"})));
        story.ledger[2].what = What::Failed;
        story.status = "CANCELED".to_owned();
    }

    /// As [`breaches`], of one whose caller has canceled it.
    fn of_canceled(suffered: &[Suffered], change: impl FnOnce(&mut Story)) -> (Vec<Breach>, usize) {
        let mut story = super::super::samples::story("operation");
        canceled(&mut story);
        change(&mut story);
        let asked = crate::load::Asked { id: story.id, canceled: true, children: None };
        let findings = super::super::run(&story, Some(&asked), suffered);
        (findings.breaches.into_iter().map(|(breach, _)| breach).collect(), findings.left_going)
    }

    #[test]
    fn what_is_known_is_begun_once() {
        assert_eq!(breaches("operation", &[], known), []);
        // Before it was known, the next attempt finds it.
        assert_eq!(breaches("operation", &[], |_| {}), []);
        let again = |story: &mut Story| {
            story.history[2].what = json!({"type": "parked", "attempt": 1, "token": "t"});
            story.history[3].what = json!({"type": "attemptFailed", "attempt": 1});
            story.history[4].what = json!({"type": "started", "attempt": 2});
            story.history.push(event(6, 9, json!({"type": "succeeded", "attempt": 2})));
            story.ledger[2].at_us = 8_100_000;
            story.ledger[3].at_us = 8_500_000;
        };
        assert_eq!(breaches("operation", &[], again), [Breach::Again]);
        let twice = |story: &mut Story| {
            known(story);
            story.ledger.push(entry(7_500_000, 1, What::Done));
        };
        assert_eq!(breaches("operation", &[], twice), [Breach::Again]);
    }

    #[test]
    fn a_cancel_reaches_what_is_known() {
        assert_eq!(of_canceled(&[], |_| {}), (vec![], 0));
        let untold = |story: &mut Story| story.ledger[2].what = What::Tick;
        assert_eq!(of_canceled(&[], untold), (vec![Breach::Disagreement], 0));
        assert_eq!(of_canceled(&[froze(Trouble::Freeze, 7, 9)], untold), (vec![], 0));
        // Whoever was to tell it is gone, and it goes on.
        let goes_on = |story: &mut Story| {
            story.history[4].what = json!({"type": "canceled", "attempt": 1});
            story.ledger[2].at_us = 9_000_000;
            story.ledger.push(entry(8_900_000, 1, What::Tick));
        };
        assert_eq!(of_canceled(&[], goes_on), (vec![], 1));
        let without_cancel = |story: &mut Story| {
            known(story);
            story.ledger.push(entry(9_000_000, 1, What::Tick));
        };
        assert_eq!(breaches("operation", &[], without_cancel), [Breach::Orphan]);
    }
}
