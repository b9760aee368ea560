//! `reveille explain SCHEDULE`

use jiff::Timestamp;
use jiff::tz::TimeZone;
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::store::CLOCK_TOLERANCE;
use serde::Deserialize;

use crate::client::{Client, ClientError};
use crate::failure::{Exit, Failure, say};
use crate::moment::{Moment, Pass, moment};
use crate::output::{Output, distance, printable, span, there};
use crate::view::{Fire, Schedule};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The schedule
    schedule: String,

    /// When: `now`, an instant with its offset like 2026-11-25T02:00:00+01:00, or a local time of the schedule's zone like
    /// '2026-11-25 02:00'. A local time that the clock skips is the end of the gap; one that it shows twice is the first
    #[arg(long, value_name = "TIME", default_value = "now", value_parser = moment)]
    at: Moment,
}

/// What happened, or will, and why.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    at: Timestamp,
    verdict: String,
    explanation: String,
    #[serde(default)]
    fire: Option<Fire>,
    #[serde(default)]
    also_fired: Vec<Fire>,
    #[serde(default)]
    next_due: Vec<Timestamp>,
    #[serde(default)]
    last_due: Option<Timestamp>,
}

/// Says in plain words what happened at an instant, or will happen, and why; then the facts.
pub(crate) async fn run(arguments: &Arguments, client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let name = arguments.schedule.as_str();
    let schedule: Schedule = match client.get(&["schedules", name], &[]).await {
        Ok(answer) => answer.read()?,
        // Of one that is not in force any more, this says who removed it.
        Err(ClientError::Refused(problem)) if problem.status == 404 => {
            client.get(&["schedules", name, "explain"], &[]).await?;
            return Err(ClientError::Refused(problem).into());
        }
        Err(error) => return Err(error.into()),
    };
    let zone = schedule.zone();
    let mut query = Vec::new();
    if arguments.at != Moment::Now {
        let (at, note) = arguments.at.resolve(SystemClock.now(), &zone, Pass::First);
        note.iter().for_each(|note| say(note));
        query.push(("at", at.to_string()));
    }
    let answer = client.get(&["schedules", name, "explain"], &query).await?;
    if output.json {
        output.document(&answer.body)?;
        return Ok(Exit::Done);
    }
    let explanation: Explanation = answer.read()?;
    explanation.explanation.lines().try_for_each(|line| output.line(&output.foreign(line)))?;
    // Who asks why nothing runs may have asked about an instant at which nothing is due.
    if let Some(paused) = &schedule.paused {
        output.line(&format!("It is paused now, since {} {}.", there(paused.since, &zone), paused.words()))?;
    }
    output.line("")?;
    let rows = facts(&explanation, &zone, SystemClock.now());
    let rows = rows.iter().map(|(name, fact)| vec![Output::cell(name), Output::cell(fact)]).collect();
    output.table(&["Schedule", &printable(name)], rows)?;
    Ok(Exit::Done)
}

fn facts(explanation: &Explanation, zone: &TimeZone, now: Timestamp) -> Vec<(&'static str, String)> {
    let reason = explanation.fire.as_ref().and_then(|fire| fire.reason.as_deref());
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let mut facts = vec![
        ("Asked about", there(explanation.at, zone)),
        ("Verdict", format!("{}{reason}", explanation.verdict.replace('_', " "))),
    ];
    if let Some(fire) = &explanation.fire {
        of_fire(fire, zone, &mut facts);
    }
    for fire in &explanation.also_fired {
        let origin = fire.origin.as_deref().unwrap_or("schedule");
        facts.push(("Also fired", format!("{}, {origin}: {}", there(fire.due_at, zone), fire.outcome)));
        facts.extend(fire.work_requests.iter().map(|id| ("", id.clone())));
    }
    facts
        .extend(explanation.last_due.map(|due| ("Last due", format!("{} ({})", there(due, zone), distance(due, now)))));
    if explanation.next_due.is_empty() {
        facts.push(("Next due", "never".to_owned()));
    }
    for (index, due) in explanation.next_due.iter().enumerate() {
        let name = if index == 0 { "Next due" } else { "" };
        facts.push((name, format!("{} ({})", there(*due, zone), distance(*due, now))));
    }
    facts
}

fn of_fire(fire: &Fire, zone: &TimeZone, facts: &mut Vec<(&'static str, String)>) {
    // What is skipped for the same reason joins the entry of what was skipped before it.
    let grown = |decided: Timestamp| fire.count > 1 && fire.last_due_at.duration_since(decided) > CLOCK_TOLERANCE;
    let one_by_one = fire.decided_at.is_some_and(grown);
    facts.push(match fire.count {
        1 => ("Due", there(fire.due_at, zone)),
        count => {
            let (first, last) = (there(fire.due_at, zone), there(fire.last_due_at, zone));
            let how = if one_by_one { "decided one after the other" } else { "decided together" };
            ("Due", format!("{first} to {last}: {count} due times, {how}"))
        }
    });
    if let Some(decided) = fire.decided_at {
        let (which, due) = if one_by_one { ("the first of them ", fire.due_at) } else { ("", fire.last_due_at) };
        let late = decided.duration_since(due);
        // Clocks of two machines.
        let side = if late.is_negative() { "before" } else { "after" };
        facts.push(("Decided", format!("{which}{}, {} {side} it was due", there(decided, zone), span(late))));
    }
    facts.extend(fire.origin.as_ref().filter(|origin| *origin != "schedule").map(|origin| ("Origin", origin.clone())));
    for (index, id) in fire.work_requests.iter().enumerate() {
        let name = if index == 0 { "Work requests" } else { "" };
        facts.push((name, format!("{id}  (reveille show {id})")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_of_a_stretch_of_skips_and_of_other_fires() {
        let text = r#"{"at": "2026-11-25T01:00:00.000Z", "verdict": "skipped", "explanation": "it was paused",
            "fire": {"dueAt": "2026-11-25T00:00:00.000Z", "lastDueAt": "2026-11-25T02:00:00.000Z", "count": 3,
                     "outcome": "skipped", "reason": "paused", "origin": "schedule", "workRequests": [],
                     "decidedAt": "2026-11-25T02:00:00.120Z"},
            "alsoFired": [{"dueAt": "2026-11-25T01:00:00.000Z", "lastDueAt": "2026-11-25T01:00:00.000Z", "count": 1,
                           "outcome": "triggered", "origin": "manual", "workRequests": ["a", "b"]}],
            "nextDue": []}"#;
        let joined = text.replace("02:00:00.120Z", "00:00:00.003Z");
        let joined: Explanation = serde_json::from_str(&joined).unwrap();
        let mut facts_of_it = Vec::new();
        of_fire(joined.fire.as_ref().unwrap(), &TimeZone::UTC, &mut facts_of_it);
        assert!(facts_of_it[0].1.ends_with("3 due times, decided one after the other"), "{facts_of_it:?}");
        let first = "the first of them Wed 2026-11-25 00:00:00 +00:00, 3 ms after it was due";
        assert_eq!(facts_of_it[1].1, first);
        let explanation: Explanation = serde_json::from_str(text).unwrap();
        let facts = facts(&explanation, &TimeZone::UTC, Timestamp::UNIX_EPOCH);
        let text: Vec<_> = facts.iter().map(|(name, fact)| format!("{name}: {fact}")).collect();
        assert_eq!(
            text,
            [
                "Asked about: Wed 2026-11-25 01:00:00 +00:00",
                "Verdict: skipped (paused)",
                "Due: Wed 2026-11-25 00:00:00 +00:00 to Wed 2026-11-25 02:00:00 +00:00: 3 due times, decided together",
                "Decided: Wed 2026-11-25 02:00:00 +00:00, 120 ms after it was due",
                "Also fired: Wed 2026-11-25 01:00:00 +00:00, manual: triggered",
                ": a",
                ": b",
                "Next due: never",
            ]
        );
    }
}
