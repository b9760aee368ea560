//! `reveille doctor`: looks for what may be wrong, and says what to do.

mod finding;
mod server;

use jiff::Timestamp;
use reveille_shared::clock::{Clock as _, SystemClock};
use serde::Deserialize;
use serde_json::json;

use self::finding::{Finding, State};
use crate::client::{Client, ClientError};
use crate::failure::{EXIT_CODES, Exit, Failure};
use crate::output::{Output, plural, printable};
use crate::view::Schedule;

/// Queues that are looked at.
const MOST_QUEUES: usize = 1_000;
/// Schedules that are looked at.
const MOST_SCHEDULES: usize = 10_000;
/// Names that a finding shows.
const SHOWN: usize = 10;

/// What waits in a queue, and who takes from it.
#[derive(Debug, Deserialize)]
struct Queue {
    name: String,
    due: u64,
    sent: u64,
    workers: u64,
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {}

/// Checks the server, its parts, the clocks and the schedules of the namespace.
pub(crate) async fn run(client: &Client, output: &mut Output) -> Result<Exit, Failure> {
    let mut findings = server::examine(client).await;
    // A server that does not answer has nothing to say about schedules either.
    if !findings.iter().any(|finding| finding.name == "server" && finding.state == State::Wrong) {
        findings.extend(queues(client).await);
        findings.extend(schedules(client).await);
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (wrong, notes) = (count(State::Wrong), count(State::Note));
    if output.json {
        output.document(&json!({"ok": wrong == 0, "checks": findings}))?;
    } else {
        findings.iter().try_for_each(|finding| finding.show(output))?;
        output.line("")?;
        output.line(&match wrong {
            0 if notes == 0 => "All is well.".to_owned(),
            0 => format!("Nothing is wrong; {} marked with ! may be worth a look.", plural(notes, "line")),
            1 => "1 thing is wrong.".to_owned(),
            wrong => format!("{wrong} things are wrong."),
        })?;
    }
    Ok(if wrong == 0 { Exit::Done } else { Exit::Faults })
}

/// Queues in which runs wait for a worker that is not there. Who may not see queues is told nothing of them.
async fn queues(client: &Client) -> Vec<Finding> {
    let listed = match client.list(&["queues"], &[], MOST_QUEUES).await {
        Ok(items) => items.iter().map(|item| client.read(item)).collect::<Result<Vec<Queue>, ClientError>>(),
        Err(ClientError::Refused(problem)) if [403, 404].contains(&problem.status) => return Vec::new(),
        Err(error) => Err(error),
    };
    match listed {
        Ok(queues) => queues.iter().filter_map(of_queue).collect(),
        Err(error) => vec![Finding::failed("queues", &error)],
    }
}

fn of_queue(Queue { name, due, sent, workers }: &Queue) -> Option<Finding> {
    let waiting = due + sent;
    let found = || {
        Finding::note(format!("queue {name}"), format!("{} in it, and no worker takes from it", plural(waiting, "run")))
            .advise(format!("start a worker for it: `reveille-worker --queues {name}`, or one in another language"))
    };
    (*workers == 0 && waiting > 0).then(found)
}

/// Schedules that do nothing, on purpose or not.
async fn schedules(client: &Client) -> Vec<Finding> {
    let listed = match client.list(&["schedules"], &[], MOST_SCHEDULES).await {
        Ok(items) => items.iter().map(|item| client.read(item)).collect::<Result<Vec<Schedule>, ClientError>>(),
        Err(error) => Err(error),
    };
    match listed {
        Ok(schedules) => of_schedules(&schedules, SystemClock.now()),
        Err(error) => vec![Finding::failed("schedules", &error)],
    }
}

fn of_schedules(schedules: &[Schedule], now: Timestamp) -> Vec<Finding> {
    let mut findings = vec![match schedules.len() {
        0 => Finding::note("schedules", "none are in force in this namespace")
            .advise("apply some with `reveille apply PATH`, or name another namespace with --namespace"),
        MOST_SCHEDULES => Finding::note("schedules", format!("only the first {MOST_SCHEDULES} were looked at")),
        count => Finding::well("schedules", format!("{} in force", plural(count, "schedule"))),
    }];
    let paused: Vec<_> = schedules.iter().filter(|schedule| schedule.paused.is_some()).collect();
    if !paused.is_empty() {
        let words = |schedule: &&Schedule| {
            schedule.paused.as_ref().map(|paused| format!(" ({})", paused.words())).unwrap_or_default()
        };
        findings
            .push(Finding::note("paused", names(&paused, words)).advise("if that is over: `reveille resume SCHEDULE`"));
    }
    // One that is paused has no next due time until it is resumed.
    let over = |schedule: &&Schedule| schedule.next_due.is_none() && schedule.paused.is_none();
    let over: Vec<_> = schedules.iter().filter(over).collect();
    if !over.is_empty() {
        findings.push(
            Finding::note("never due again", names(&over, |_| String::new()))
                .advise("remove them from their files, or see why with `reveille explain SCHEDULE`"),
        );
    }
    // A minute is far longer than a scheduler that plans needs.
    let late = |schedule: &&Schedule| schedule.next_due.is_some_and(|due| now.duration_since(due).as_secs() > 60);
    let late: Vec<_> = schedules.iter().filter(late).collect();
    if !late.is_empty() {
        findings.push(
            Finding::wrong("not decided", format!("due for more than a minute: {}", names(&late, |_| String::new())))
                .advise("no scheduler plans: see `leader` and the parts above, and the scheduler's log"),
        );
    }
    findings
}

fn names(schedules: &[&Schedule], words: impl Fn(&&Schedule) -> String) -> String {
    let shown: Vec<_> = schedules
        .iter()
        .take(SHOWN)
        .map(|schedule| format!("{}{}", printable(&schedule.name), words(schedule)))
        .collect();
    match schedules.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(name: &str, next_due: Option<&str>) -> Schedule {
        serde_json::from_value(json!({"name": name, "timezone": "UTC", "trigger": ["j"], "nextDue": next_due})).unwrap()
    }

    fn told(schedules: &[Schedule]) -> Vec<(String, State)> {
        let now = "2026-11-25T02:00:00Z".parse().unwrap();
        of_schedules(schedules, now).iter().map(|finding| (finding.name.clone(), finding.state)).collect()
    }

    #[test]
    fn runs_in_a_queue_without_workers_are_noted() {
        let queue = |due, sent, workers| of_queue(&Queue { name: "gpu".into(), due, sent, workers });
        assert!(queue(0, 0, 0).is_none() && queue(5, 5, 1).is_none());
        let found = queue(1, 2, 0).unwrap();
        assert_eq!((found.state, found.detail.as_str()), (State::Note, "3 runs in it, and no worker takes from it"));
    }

    #[test]
    fn what_is_never_due_is_noted_and_what_is_overdue_is_wrong() {
        let well = schedule("a", Some("2026-11-25T02:00:10Z"));
        assert_eq!(told(&[]), [("schedules".to_owned(), State::Note)]);
        assert_eq!(told(&[well]), [("schedules".to_owned(), State::Well)]);
        assert_eq!(told(&[schedule("b", None)])[1], ("never due again".to_owned(), State::Note));
        assert_eq!(told(&[schedule("c", Some("2026-11-25T01:58:00Z"))])[1], ("not decided".to_owned(), State::Wrong));
    }
}
