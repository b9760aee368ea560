//! What the doctor finds out about the server: its parts, its leader, its clock, its time zones.

use jiff::{SignedDuration, Timestamp};
use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::due;
use serde::Deserialize;
use serde_json::Value;

use super::finding::Finding;
use crate::client::{Client, Probed};
use crate::output::{distance, span};

/// Clocks of two machines that differ by more are wrong: schedulers that are so far off the database do not plan.
const MOST_SKEW: SignedDuration = SignedDuration::from_secs(2);

/// The answer of `/readyz`, whether it is 200 or 503.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    parts: Vec<Part>,
    #[serde(default)]
    faults: Vec<String>,
    #[serde(default)]
    leader: Option<Leader>,
    #[serde(default)]
    timezone_data: Value,
}

#[derive(Debug, Deserialize)]
struct Part {
    name: String,
    ready: bool,
    #[serde(default)]
    attention: bool,
    detail: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Leader {
    leading: bool,
    #[serde(default)]
    generation: Option<i64>,
    #[serde(default)]
    last_decision: Option<Timestamp>,
}

/// Asks the server for all that it tells of itself.
pub(super) async fn examine(client: &Client) -> Vec<Finding> {
    let server = client.name();
    let asked = SystemClock.now();
    let probed = match client.probe("readyz").await {
        Ok(probed) => probed,
        Err(error) => return vec![Finding::failed("server", &error)],
    };
    let answered = SystemClock.now();
    let Ok(readiness) = Readiness::deserialize(&probed.body) else {
        return vec![
            Finding::wrong("server", format!("{server} answers, but not as Reveille does"))
                .advise("is this a Reveille scheduler? name it with --server URL"),
        ];
    };
    let mut findings = vec![Finding::well("server", format!("{server} answers"))];
    findings.push(version(client.probe("openapi.json").await.ok()));
    let leader = leader(readiness.leader.as_ref(), answered);
    // What the part says of who leads is told better here.
    let is_told = |name: &str| match name {
        "leader" => leader.is_some(),
        // What is wrong with the folder the part `definitions` says.
        "folder" => readiness.parts.iter().any(|part| part.name == "definitions" && (part.attention || !part.ready)),
        _ => false,
    };
    let told = |part: &&Part| !(part.ready && is_told(&part.name));
    findings.extend(readiness.parts.iter().filter(told).map(part));
    findings.extend(leader);
    findings.extend(probed.date.map(|date| clock(date, asked, answered)));
    findings.push(timezones(&readiness.timezone_data));
    findings.push(match readiness.faults.as_slice() {
        [] => Finding::well("files", "no faults"),
        faults => Finding::wrong("files", faults.join("\n\n"))
            .advise("the last good ones stay in force; mend the files, and look with `reveille check PATH`"),
    });
    findings
}

fn version(openapi: Option<Probed>) -> Finding {
    const MINE: &str = env!("CARGO_PKG_VERSION");
    match openapi.as_ref().and_then(|openapi| openapi.body["info"]["version"].as_str()) {
        Some(MINE) => Finding::well("version", MINE),
        Some(other) => Finding::note("version", format!("the server is {other}, this is {MINE}"))
            .advise("use the same version of both, so that they know the same options"),
        None => Finding::note("version", format!("the server does not tell; this is {MINE}")),
    }
}

fn part(Part { name, ready, attention, detail }: &Part) -> Finding {
    if *attention {
        return Finding::note(name, detail);
    }
    if *ready {
        return Finding::well(name, detail);
    }
    Finding::wrong(name, detail).advise(match name.as_str() {
        "database" => "see that the database runs and answers at REVEILLE_DATABASE_URL; nothing is lost meanwhile",
        "broker" => {
            "see that RabbitMQ runs and answers at REVEILLE_BROKER_URL; triggers wait in the database meanwhile"
        }
        "clock" => "set the clocks of the scheduler and the database by NTP; nothing is planned meanwhile",
        "definitions" => {
            "look with `reveille check PATH` at the files that the scheduler reads, and at what is told below"
        }
        "leader" => "see the logs of all schedulers; the lease of one that died ends by itself within seconds",
        _ => "see the scheduler's log",
    })
}

fn leader(leader: Option<&Leader>, now: Timestamp) -> Option<Finding> {
    let leader = leader?;
    let decided = match leader.last_decision {
        Some(at) => format!("; the last decision was {}", distance(at.min(now), now)),
        None => "; nothing has been decided yet".to_owned(),
    };
    Some(match (leader.leading, leader.generation) {
        (true, generation) => {
            let generation = generation.map(|generation| format!(" (generation {generation})")).unwrap_or_default();
            Finding::well("leader", format!("this scheduler leads{generation}{decided}"))
        }
        (false, Some(generation)) => {
            Finding::well("leader", format!("another scheduler leads (generation {generation})"))
        }
        (false, None) => Finding::wrong("leader", "no scheduler leads")
            .advise("start a scheduler with the role `plan`; without one nothing is decided"),
    })
}

/// `date` is the whole second of some instant between `asked` and `answered`.
fn clock(date: Timestamp, asked: Timestamp, answered: Timestamp) -> Finding {
    let ahead = date.duration_since(answered);
    let behind = asked.duration_since(date) - SignedDuration::from_secs(1);
    let skew = ahead.max(behind).max(SignedDuration::ZERO);
    if skew <= MOST_SKEW {
        return Finding::well("clock here", "this machine and the server agree to within 2 s");
    }
    let which = if ahead > behind { "behind" } else { "ahead of" };
    Finding::wrong("clock here", format!("this machine is at least {} {which} the server", span(skew)))
        .advise("set both clocks by NTP")
}

fn timezones(server: &Value) -> Finding {
    let mine = due::timezone_data();
    let theirs = match server {
        Value::Null => return Finding::note("time zones", format!("{mine} here; the server does not tell")),
        Value::String(text) => text.clone(),
        other => other["version"].as_str().unwrap_or("unknown version").to_owned(),
    };
    let here = mine.version.as_deref().unwrap_or("unknown version");
    // Where the server tells a whole text, its version stands first.
    if theirs.split_whitespace().next() == here.split_whitespace().next() {
        return Finding::well("time zones", format!("{here} here and on the server"));
    }
    Finding::note("time zones", format!("{mine} here, {theirs} on the server")).advise(
        "update the package tzdata where it is older; until then `next` and `check` may differ from what the server does",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn the_date_of_an_answer_tells_the_skew() {
        let at = |text: &str| format!("2026-11-25T02:00:{text}Z").parse().unwrap();
        let clock = |date, asked, answered| {
            let Finding { state, detail, .. } = clock(at(date), at(asked), at(answered));
            (state, detail)
        };
        // The second that both are in, one that passes on the way, and the slowest that still agrees.
        for (date, asked, answered) in [("10", "10.2", "10.3"), ("11", "10.9", "11.1"), ("10", "12.9", "13.1")] {
            assert_eq!(clock(date, asked, answered).0, State::Well, "{date} {asked} {answered}");
        }
        let (state, detail) = clock("20", "10.2", "10.4");
        assert_eq!((state, detail.as_str()), (State::Wrong, "this machine is at least 9.6 s behind the server"));
        let (state, detail) = clock("10", "19", "20");
        assert_eq!((state, detail.as_str()), (State::Wrong, "this machine is at least 8.0 s ahead of the server"));
    }

    #[test]
    fn somebody_must_lead() {
        let leader = |text| leader(Some(&serde_json::from_str(text).unwrap()), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(leader(r#"{"leading": true, "generation": 3}"#).state, State::Well);
        assert_eq!(leader(r#"{"leading": false, "generation": 3}"#).state, State::Well);
        assert_eq!(leader(r#"{"leading": false}"#).state, State::Wrong);
    }

    #[test]
    fn time_zone_data_is_compared_by_its_version() {
        let mine = due::timezone_data();
        for same in [serde_json::json!(mine), mine.to_string().into()] {
            assert_eq!(timezones(&same).state, State::Well, "{same}");
        }
        assert_eq!(timezones(&serde_json::json!({"version": "1970a", "source": "x"})).state, State::Note);
        assert_eq!(timezones(&Value::Null).state, State::Note);
    }
}
