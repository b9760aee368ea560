//! The files that the drill's processes read: what its jobs and schedules say, and what its workers may run.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use harness::process::workspace_binary;
use rustix::process::geteuid;
use serde_json::{Value, json};

use crate::host::Host;
use crate::jobs::{AtOnce, CHILD, Children, Handler, JOBS, Job, Rate, SCHEDULES, Schedule, find};

/// The queue of the workers that are not Reveille's.
pub(crate) const FOREIGN_QUEUE: &str = "foreign";
/// A shell that ignores SIGTERM, starts what it is given as a child, and stays.
const STUBBORN: &str = "trap '' TERM; \"$0\" \"$@\"; exit $?";

/// Who does the work, and where.
#[derive(Debug)]
pub(crate) struct Hands {
    program: String,
    ledger: String,
    callee: SocketAddr,
    /// Where the remote host is, who is let in there, and by which files.
    ssh: Value,
}

impl Hands {
    /// The handlers write into this ledger, call this endpoint, and work on this host.
    pub(crate) fn new(ledger: &Path, callee: SocketAddr, host: &Host) -> Result<Self> {
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path");
        let program = text(&workspace_binary("drill-handler")?)?;
        Ok(Self { program, ledger: text(ledger)?, callee, ssh: host.keys() })
    }

    /// The schedule file: the jobs, and the schedules if they are wanted.
    pub(crate) fn definitions(&self, with_schedules: bool) -> String {
        let jobs: serde_json::Map<String, Value> =
            JOBS.iter().map(|job| (job.name.to_owned(), self.definition(job))).collect();
        let schedules: serde_json::Map<String, Value> =
            SCHEDULES.iter().filter(|_| with_schedules).map(|one| (one.name.to_owned(), schedule(one))).collect();
        // A run may be lost again and again under a thousand faults: that is no reason to give it up.
        let retry = json!({ "max_attempts": 200, "initial": "100ms", "max": "1s" });
        let defaults = json!({ "timeout": "60s", "retry": retry });
        // JSON is YAML.
        json!({ "version": 1, "defaults": defaults, "jobs": jobs, "schedules": schedules }).to_string()
    }

    /// The workers' policy: what the load needs, with a limit, so that programs are started over the step in between that
    /// limits need; nothing that `forbidden` asks for.
    pub(crate) fn policy(&self) -> String {
        let Self { program, ledger, callee, ssh } = self;
        let user = ssh["user"].as_str().unwrap_or_default();
        let (host, port) = (ssh["host"].as_str().unwrap_or_default(), &ssh["port"]);
        let mut policy = json!({
            "version": 1,
            "commands": [
                program,
                { "program": "sh", "arguments": ["-c", STUBBORN, program, "**"] },
                { "program": "grep", "arguments": ["-qE", "**", ledger] },
            ],
            "hosts": [callee.to_string()],
            "ssh": [format!("{user}@{host}:{port}")],
            "functions": ["work", "deaf", "gather"],
            "environment": [],
            "limits": { "open_files": 256 },
        });
        if geteuid().is_root() {
            // Another user could not write into the ledger.
            policy["run_as"] = json!("root");
        }
        policy.to_string()
    }

    fn definition(&self, job: &Job) -> Value {
        let mut spec = match job.handler {
            Handler::Command => json!({ "command": self.command(job.name) }),
            Handler::Http => json!({ "http": self.http(job) }),
            Handler::Function => {
                let function = match job.name {
                    "deaf-function" => "deaf",
                    "gather" => "gather",
                    _ => "work",
                };
                json!({ "function": function })
            }
            Handler::Ssh => {
                let mut ssh = self.ssh.clone();
                ssh["command"] = json!(self.command(job.name));
                json!({ "ssh": ssh })
            }
            Handler::External => json!({ "external": { "lease": "10s" }, "queue": FOREIGN_QUEUE }),
        };
        spec["priority"] = json!(job.priority);
        if job.is_doomed {
            spec["retry"] = json!({ "max_attempts": 2, "initial": "100ms", "max": "1s" });
        }
        if job.follows {
            // That its time is over is not drilled: nobody is there to ask while many are in trouble.
            spec["timeout"] = json!("15m");
        }
        if let Some(Children::OfHandler(fail)) = job.children {
            spec["fan_out"] = json!({ "job": CHILD, "fail": fail.json() });
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
        let by: &[&str] = match job {
            "stubborn" => &["sh", "-c", STUBBORN],
            "forbidden" => &["env"],
            _ => &[],
        };
        let work = [self.program.as_str(), "--ledger", &self.ledger, "--work-ms", "{{ input.ms }}"];
        json!(by.iter().chain(&work).chain(more).collect::<Vec<_>>())
    }

    fn http(&self, job: &Job) -> Value {
        let callee = self.callee;
        if job.follows {
            let follow = json!({ "poll": { "min": "300ms", "max": "2s" }, "cancel": "delete" });
            return json!({ "url": format!("http://{callee}/operations/{{{{ input.ms }}}}"), "follow": follow });
        }
        let manner = match job.name {
            "broken-call" => "early",
            "asked-call" => "linger",
            _ => "well",
        };
        let mut http = json!({ "url": format!("http://{callee}/{{{{ input.ms }}}}/{manner}") });
        if job.name == "notice" {
            http["one_way"] = json!(true);
        }
        http
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

fn schedule(Schedule { every, jobs, .. }: &Schedule) -> Value {
    let works = jobs.iter().filter_map(|job| find(job)).map(|job| job.works.0).max().unwrap_or_default();
    let catch_up = json!({ "policy": "all", "window": "1h" });
    json!({
        "every": format!("{every}s"), "trigger": jobs, "input": { "ms": works }, "overlap": "allow", "catch_up": catch_up,
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn hands() -> Hands {
        Hands {
            program: "/handler".to_owned(),
            ledger: "/ledger".to_owned(),
            callee: (Ipv4Addr::LOCALHOST, 1).into(),
            ssh: json!({ "host": "127.0.0.1", "port": 22, "user": "me" }),
        }
    }

    #[test]
    fn a_job_says_what_is_checked_of_it() {
        let hands = hands();
        let of = |job: &str| hands.definition(find(job).unwrap());
        assert_eq!((of("two-at-once")["concurrency"].clone(), of("rare")["rate"].clone()), (json!(2), json!("2/4s")));
        assert_eq!(of("one-of-each")["concurrency"]["limit"], 1);
        assert_eq!(
            (of("fleeting")["expires"].clone(), of("first")["on_success"]["job"].clone()),
            (json!("3s"), json!("second"))
        );
        assert!(of("asked")["verify"]["command"].is_array() && of("asked-call")["verify"]["http"].is_object());
        assert!(of("operation")["http"]["follow"].is_object() && of("notice")["http"]["one_way"] == true);
        assert_eq!(of("album")["fan_out"], json!({ "job": "part", "fail": { "tolerate": 2 } }));
        assert!(of("foreign")["external"].is_object() && of("remote")["ssh"]["command"].is_array());
    }

    #[test]
    fn the_policy_allows_all_programs_but_the_forbidden_one() {
        let hands = hands();
        let policy: Value = serde_json::from_str(&hands.policy()).unwrap();
        let named = |rule: &Value| rule.as_str().or(rule["program"].as_str()).unwrap().to_owned();
        let allowed: Vec<_> = policy["commands"].as_array().unwrap().iter().map(named).collect();
        for job in JOBS.iter().filter(|job| job.handler == Handler::Command) {
            let program = hands.definition(job)["command"][0].as_str().unwrap().to_owned();
            assert_eq!(allowed.contains(&program), !job.is_refused, "{}", job.name);
        }
    }
}
