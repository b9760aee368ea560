//! Whether runs that may not be begun anew blindly have been. Pure.

use super::{Breach, Findings, is_loss};
use crate::jobs::Job;
use crate::ledger::What;
use crate::legal::Event;
use crate::records::Story;

/// What asks is not begun anew after an attempt that was broken off when it had taken effect; what fails when it is lost is
/// not begun anew after one that was broken off when it had begun.
pub(super) fn once_effective(story: &Story, job: &Job, findings: &mut Findings) {
    if !job.asks && !job.fails_when_lost {
        return;
    }
    let telling = if job.asks { What::Done } else { What::Start };
    let has_written = |attempt: u32, what: What, before_us: i64| {
        story.ledger.iter().any(|entry| (entry.attempt, entry.what) == (attempt, what) && entry.at_us < before_us)
    };
    for started in story.history.iter().filter(|event| event.kind() == "started") {
        let Some(attempt) = started.attempt().filter(|attempt| has_written(*attempt, What::Start, i64::MAX)) else {
            continue;
        };
        let before = story.history.iter().filter(|event| was_broken_off(event)).find_map(|event| {
            event.attempt().filter(|before| *before < attempt && has_written(*before, telling, started.at_us))
        });
        if let Some(before) = before {
            let text = format!("attempt {attempt} began, and attempt {before} had written {}", telling.name());
            findings.add(Breach::Again, text);
        }
    }
}

/// Whether an attempt ends here that was not to end by itself, also if its worker was told to end.
fn was_broken_off(event: &Event) -> bool {
    match event.kind() {
        "attemptFailed" => event.what["error"]["code"].as_str().is_some_and(is_loss),
        "released" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::samples::{breaches, entry, froze};
    use super::*;
    use crate::faults::What as Trouble;

    #[test]
    fn what_had_taken_effect_when_it_was_lost_is_not_run_again() {
        let lost = |story: &mut Story| {
            story.history[2].what = json!({"type": "attemptFailed", "attempt": 1, "error": {"code": "Lost"}});
            story.ledger[1].what = What::Done;
        };
        assert_eq!(breaches("asked", &[], lost), [Breach::Again]);
        assert_eq!(breaches("short", &[], lost), [], "nobody asks");
        let asked = |story: &mut Story| {
            lost(story);
            story.ledger.truncate(2);
            story.history[4].what["verified"] = json!(true);
        };
        assert_eq!(breaches("asked", &[], asked), []);
        let without_effect = |story: &mut Story| {
            lost(story);
            story.ledger[1].what = What::Tick;
        };
        assert_eq!(breaches("asked", &[], without_effect), []);
        assert_eq!(breaches("asked", &[], |story| story.ledger.truncate(2)), [Breach::Disagreement], "who says so?");
        assert_eq!(
            breaches("asked", &[], |story| story.ledger.push(entry(4, 1, What::Done))),
            [],
            "it failed by itself"
        );
    }

    #[test]
    fn what_was_broken_off_and_given_back_counts_as_lost() {
        let released = |story: &mut Story| story.history[2].what = json!({"type": "released", "attempt": 1});
        assert_eq!(breaches("once", &[], released), [Breach::Again]);
        for trouble in [Trouble::Freeze, Trouble::Stop] {
            assert_eq!(breaches("once", &[froze(trouble, 2, 6)], released), [Breach::Again]);
        }
        assert_eq!(breaches("asked", &[], released), [], "it had not taken effect");
        let not_begun = |story: &mut Story| {
            released(story);
            story.ledger.drain(..2);
        };
        assert_eq!(breaches("once", &[], not_begun), []);
    }
}
