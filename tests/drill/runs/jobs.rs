//! What is to run meanwhile: jobs of every kind and with every limit, and the schedules that call for some of them.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use harness::process::workspace_binary;
use serde_json::{Value, json};

/// What works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    Command,
    Function,
    Http,
}

/// How many runs of a job may be under way at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtOnce {
    pub(crate) most: usize,
    /// For each tenant, not for all together.
    pub(crate) each_tenant: bool,
}

/// How many of them may be sent within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) most: usize,
    pub(crate) seconds: i64,
}

/// A job of the drill.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) handler: Handler,
    /// How many of a hundred or so runs that callers start; without a weight it is only chained.
    pub(crate) weight: u32,
    /// How long it works at least and at most, in milliseconds.
    pub(crate) works: (u64, u64),
    /// It fails for good whatever happens.
    pub(crate) is_doomed: bool,
    /// It is not repeated when it is lost.
    pub(crate) fails_when_lost: bool,
    pub(crate) at_once: Option<AtOnce>,
    pub(crate) rate: Option<Rate>,
    /// It is not started later than so many seconds after its acceptance.
    pub(crate) expires: Option<i64>,
    /// What was lost is asked after before it is run again.
    pub(crate) asks: bool,
    /// Which job its success calls for.
    pub(crate) then: Option<&'static str>,
    priority: &'static str,
}

const fn job(name: &'static str, handler: Handler, weight: u32, works: (u64, u64)) -> Job {
    Job {
        name,
        handler,
        weight,
        works,
        is_doomed: false,
        fails_when_lost: false,
        at_once: None,
        rate: None,
        expires: None,
        asks: false,
        then: None,
        priority: "normal",
    }
}

const fn at_once(most: usize, each_tenant: bool) -> Option<AtOnce> {
    Some(AtOnce { most, each_tenant })
}

/// All of them. `stubborn` runs under a shell that ignores SIGTERM, as does what it starts. What is asked after goes on for a
/// while when it has taken effect, so that it can be lost between the two, and a call may still be at work when it is asked
/// after.
pub(crate) const JOBS: [Job; 23] = [
    job("short", Handler::Command, 26, (20, 200)),
    job("long", Handler::Command, 8, (2_000, 12_000)),
    job("flaky", Handler::Command, 7, (50, 400)),
    job("stubborn", Handler::Command, 4, (1_000, 4_000)),
    Job { priority: "low", ..job("chatty", Handler::Command, 5, (100, 1_000)) },
    Job { is_doomed: true, ..job("doomed", Handler::Command, 3, (20, 200)) },
    Job { fails_when_lost: true, ..job("once", Handler::Command, 6, (500, 3_000)) },
    Job { priority: "high", ..job("call", Handler::Http, 12, (20, 300)) },
    job("slow-call", Handler::Http, 5, (1_000, 10_000)),
    job("broken-call", Handler::Http, 4, (50, 500)),
    job("function", Handler::Function, 12, (20, 200)),
    Job { priority: "low", ..job("long-function", Handler::Function, 4, (1_000, 10_000)) },
    job("deaf-function", Handler::Function, 3, (500, 3_000)),
    Job { fails_when_lost: true, ..job("function-once", Handler::Function, 3, (500, 2_000)) },
    Job { at_once: at_once(2, false), priority: "high", ..job("two-at-once", Handler::Command, 12, (1_000, 4_000)) },
    Job { at_once: at_once(1, true), ..job("one-of-each", Handler::Function, 12, (500, 3_000)) },
    Job { rate: Some(Rate { most: 2, seconds: 4 }), ..job("rare", Handler::Command, 5, (20, 200)) },
    Job { expires: Some(3), at_once: at_once(1, false), ..job("fleeting", Handler::Command, 6, (500, 2_500)) },
    Job { asks: true, ..job("asked", Handler::Command, 8, (200, 2_000)) },
    Job { asks: true, priority: "low", ..job("asked-call", Handler::Http, 8, (200, 12_000)) },
    Job { then: Some("second"), ..job("first", Handler::Command, 8, (20, 1_000)) },
    Job { then: Some("third"), ..job("second", Handler::Function, 0, (0, 0)) },
    Job { priority: "high", ..job("third", Handler::Http, 0, (0, 0)) },
];

/// A schedule of the drill, due at every instant whose Unix time is a multiple of so many seconds.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) name: &'static str,
    pub(crate) every: i64,
    pub(crate) jobs: &'static [&'static str],
}

/// All of them.
pub(crate) const SCHEDULES: [Schedule; 3] = [
    Schedule { name: "second", every: 1, jobs: &["short"] },
    Schedule { name: "pair", every: 3, jobs: &["function", "call"] },
    Schedule { name: "slow", every: 5, jobs: &["long"] },
];

/// The job of this name.
pub(crate) fn find(name: &str) -> Option<&'static Job> {
    JOBS.iter().find(|job| job.name == name)
}

/// The schedule file: the jobs, and the schedules if they are wanted.
pub(crate) fn definitions(ledger: &Path, callee: SocketAddr, with_schedules: bool) -> Result<String> {
    let program = workspace_binary("drill-handler")?;
    let hands =
        Hands { program: program.to_str().context("a path")?, ledger: ledger.to_str().context("a path")?, callee };
    let jobs: serde_json::Map<String, Value> =
        JOBS.iter().map(|job| (job.name.to_owned(), hands.definition(job))).collect();
    let schedules: serde_json::Map<String, Value> = SCHEDULES
        .iter()
        .filter(|_| with_schedules)
        .map(|Schedule { name, every, jobs }| {
            let works = jobs.iter().filter_map(|job| find(job)).map(|job| job.works.0).max().unwrap_or_default();
            let catch_up = json!({ "policy": "all", "window": "1h" });
            let spec = json!({
                "every": format!("{every}s"), "trigger": jobs, "input": { "ms": works }, "overlap": "allow",
                "catch_up": catch_up,
            });
            ((*name).to_owned(), spec)
        })
        .collect();
    // A run may be lost again and again under a thousand faults: that is no reason to give it up.
    let retry = json!({ "max_attempts": 200, "initial": "100ms", "max": "1s" });
    let defaults = json!({ "timeout": "60s", "retry": retry });
    // JSON is YAML.
    Ok(json!({ "version": 1, "defaults": defaults, "jobs": jobs, "schedules": schedules }).to_string())
}

/// Who does the work.
struct Hands<'a> {
    program: &'a str,
    ledger: &'a str,
    callee: SocketAddr,
}

impl Hands<'_> {
    fn definition(&self, job: &Job) -> Value {
        let mut spec = match job.handler {
            Handler::Command => json!({ "command": self.command(job.name) }),
            Handler::Http => {
                let manner = match job.name {
                    "broken-call" => "early",
                    "asked-call" => "linger",
                    _ => "well",
                };
                json!({ "http": { "url": format!("http://{}/{{{{ input.ms }}}}/{manner}", self.callee) } })
            }
            Handler::Function => json!({ "function": if job.name == "deaf-function" { "deaf" } else { "work" } }),
        };
        spec["priority"] = json!(job.priority);
        if job.is_doomed {
            spec["retry"] = json!({ "max_attempts": 2, "initial": "100ms", "max": "1s" });
        }
        if job.fails_when_lost {
            spec["on_lost"] = json!("fail");
        }
        match job.at_once {
            Some(AtOnce { most, each_tenant: true }) => {
                spec["concurrency"] = json!({ "limit": most, "key": "of {{ input.tenant }}" });
            }
            Some(AtOnce { most, each_tenant: false }) => spec["concurrency"] = json!(most),
            None => {}
        }
        if let Some(Rate { most, seconds }) = job.rate {
            spec["rate"] = json!(format!("{most}/{seconds}s"));
        }
        if let Some(seconds) = job.expires {
            spec["expires"] = json!(format!("{seconds}s"));
        }
        if job.asks {
            spec["verify"] = self.verify(job.handler);
        }
        if let Some(next) = job.then {
            spec["on_success"] = json!({ "job": next, "input": { "ms": "{{ input.ms }}" } });
        }
        spec
    }

    fn command(&self, job: &str) -> Value {
        let more: &[&str] = match job {
            "flaky" | "rare" => &["--fail-up-to", "1"],
            "chatty" => &["--lines", "3000"],
            "doomed" => &["--fail-up-to", "1000"],
            "asked" => &["--linger-ms", "1500"],
            _ => &[],
        };
        // A shell that starts what it is given as a child, and stays.
        let shell: &[&str] =
            if job == "stubborn" { &["sh", "-c", "trap '' TERM; \"$0\" \"$@\"; exit $?"] } else { &[] };
        let work = [self.program, "--ledger", self.ledger, "--work-ms", "{{ input.ms }}"];
        json!(shell.iter().chain(&work).chain(more).collect::<Vec<_>>())
    }

    /// A program looks into the ledger itself; the callee is asked by HTTP.
    fn verify(&self, handler: Handler) -> Value {
        if handler == Handler::Http {
            return json!({ "http": {
                "url": format!("http://{}/{{{{ work_request_id }}}}", self.callee),
                "succeeded": "status == 200 and body.state == 'done'",
                "failed": "status == 404",
                "running": "status == 200 and body.state == 'running'",
            }});
        }
        // grep exits with 0 if it finds the line, and with 1 if it does not.
        json!({ "command": ["grep", "-qE", "^{{ work_request_id }} [0-9]+ done ", self.ledger] })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_is_chained_and_called_for_is_there() {
        let chained = JOBS.iter().filter_map(|job| job.then);
        assert!(
            chained.chain(SCHEDULES.iter().flat_map(|schedule| schedule.jobs).copied()).all(|job| find(job).is_some())
        );
    }

    #[test]
    fn a_job_says_what_is_checked_of_it() {
        let hands = Hands { program: "handler", ledger: "ledger", callee: (Ipv4Addr::LOCALHOST, 1).into() };
        let of = |job: &str| hands.definition(find(job).unwrap());
        assert_eq!((of("two-at-once")["concurrency"].clone(), of("rare")["rate"].clone()), (json!(2), json!("2/4s")));
        assert_eq!(of("one-of-each")["concurrency"]["limit"], 1);
        assert_eq!(
            (of("fleeting")["expires"].clone(), of("first")["on_success"]["job"].clone()),
            (json!("3s"), json!("second"))
        );
        assert!(of("asked")["verify"]["command"].is_array() && of("asked-call")["verify"]["http"].is_object());
    }
}
