//! Commands on another host, a real OpenSSH server.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::process_tree::is_living;
use harness::proxy::Proxy;
use harness::sshd::{Sshd, make_key};
use harness::stack::{Builder, Stack};
use harness::wait::eventually;
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

mod hosts;
mod trouble;

const LONG: Duration = Duration::from_secs(60);

/// Jobs of one attempt, each with its keys of `ssh`, which win over those that all have.
struct Jobs<'a> {
    sshd: &'a Sshd,
    port: u16,
    text: String,
}

impl<'a> Jobs<'a> {
    fn on(sshd: &'a Sshd) -> Self {
        Self::through(sshd, sshd.port().number())
    }

    /// By a proxy that listens on another port.
    fn through(sshd: &'a Sshd, port: u16) -> Self {
        let text = "version: 1\ndefaults: { retry: { max_attempts: 1 } }\njobs:\n".to_owned();
        Self { sshd, port, text }
    }

    fn job(mut self, name: &str, keys: Value) -> Result<Self> {
        let mut ssh = json!({
            "host": "127.0.0.1",
            "port": self.port,
            "user": self.sshd.user(),
            "identity_file": self.sshd.key(),
            "known_hosts": self.sshd.known_hosts(self.port)?,
        });
        let mut job = json!({});
        for (key, value) in keys.as_object().context("keys")? {
            let of = if ["timeout", "retry"].contains(&key.as_str()) { &mut job } else { &mut ssh };
            of[key] = value.clone();
            if value.is_null() {
                of.as_object_mut().context("keys")?.remove(key);
            }
        }
        job["ssh"] = ssh;
        self.text += &format!("  {name}: {job}\n");
        Ok(self)
    }

    /// On whatever machine.
    async fn start(&self, builder: Builder) -> Result<Stack> {
        builder.schedules(self.text.as_str()).slots(9).start().await
    }
}

/// How the run of a job ends.
async fn ended(stack: &Stack, job: &str, status: &str) -> Result<Value> {
    let id = stack.api.trigger(job, json!({})).await?;
    stack.api.wait_status(&id, status).await.with_context(|| job.to_owned())
}

/// That the run of a job fails with this code, and with a text that has all of these parts.
async fn fails(stack: &Stack, job: &str, code: &str, parts: &[&str]) -> Result<Value> {
    let run = ended(stack, job, "FAILED").await?;
    ensure!(run["error"]["code"] == code, "{job}: {run}");
    let message = run["error"]["message"].as_str().unwrap_or_default();
    for part in parts {
        ensure!(message.contains(part), "{job}: no {part:?} in {message:?}");
    }
    Ok(run)
}

/// The lines of a run, by stream, once there are so many.
async fn lines(stack: &Stack, id: &str, least: usize) -> Result<Vec<(String, String)>> {
    eventually("lines", LONG, async || {
        let logs = stack.api.part(id, "logs").await.map_err(|error| format!("{error:#}"))?;
        let text = |line: &Value, member: &str| line[member].as_str().unwrap_or_default().to_owned();
        let lines: Vec<_> = logs.iter().map(|line| (text(line, "stream"), text(line, "message"))).collect();
        if lines.len() >= least { Ok(lines) } else { Err(format!("{lines:?}")) }
    })
    .await
}

/// The process that has written its id to a file, once it has.
async fn pid(file: &Path) -> Result<Pid> {
    eventually(&format!("a process in {}", file.display()), LONG, async || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.trim().parse().ok().and_then(Pid::from_raw).ok_or_else(|| format!("{text:?}"))
    })
    .await
}

async fn is_gone(pid: Pid, limit: Duration) -> Result<()> {
    eventually(&format!("process {pid:?} to be gone"), limit, async || {
        if is_living(pid) { Err("it lives".to_owned()) } else { Ok(()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_what_it_is_given_and_nothing_else() -> Result<()> {
    let sshd = Sshd::start().await?;
    let script = r#"printf '%s|%s\n' "$0" "$1"; printf '%s|%s\n' "$A" "$B" >&2; printf '%s\n' "$REVEILLE_ATTEMPT $REVEILLE_INPUT"
        pwd; read -r x || echo no stdin; echo ::progress 40 copying files
        ps -ww -o args= -p $PPID,$$ | grep -c 'hunter[2]'; printf last; exit 3"#;
    let jobs = Jobs::on(&sshd)
        .job(
            "argv",
            json!({
                "command": ["sh", "-c", script, "{{ input.evil }}", "a'b\\c $(id) \"x\" \n*"],
                "env": { "A": "{{ input.evil }}", "B": "${env:TOKEN}'" },
                "working_dir": "/tmp", "success": [3],
            }),
        )?
        .job(
            "text",
            json!({ "command": "echo \"$A\" | tr a-z A-Z; exit 7", "env": { "A": "{{ job }}" }, "no_retry": [7] }),
        )?
        .job("signal", json!({ "command": "kill -SEGV $$" }))?
        .job("folder", json!({ "command": ["pwd"], "working_dir": "/no/such folder" }))?
        .job("program", json!({ "command": ["no-such-program", "x"] }))?
        .job("input", json!({ "command": ["echo", "{{ input.nope }}"] }))?;
    let stack = jobs.start(Stack::embedded().env("TOKEN", "hunter2")).await?;

    let evil = "'; touch /tmp/reveille-was-here; echo '\n$(id) `id` \\";
    let id = stack.api.trigger("argv", json!({ "evil": evil })).await?;
    let run = stack.api.wait_status(&id, "SUCCEEDED").await?;
    ensure!(run["message"] == "copying files", "{run}");
    let lines = lines(&stack, &id, 10).await?;
    let of = |stream: &str| {
        let lines = lines.iter().filter(|(of, _)| of == stream).map(|(_, text)| text.as_str());
        lines.collect::<Vec<_>>().join("\n")
    };
    let input = json!({ "evil": evil });
    let expected = format!("{evil}|a'b\\c $(id) \"x\" \n*\n1 {input}\n/tmp\nno stdin\n0\nlast");
    ensure!(of("stdout") == expected, "{lines:?}\nnot\n{expected:?}");
    ensure!(of("stderr") == format!("{evil}|hunter2'"), "{lines:?}");
    let result = stack.api.get_path(&format!("/v1/workRequests/{id}/result")).await?;
    ensure!(result.to_string().contains("\"exitCode\":3"), "{result}");

    let text = fails(&stack, "text", "ExitCode", &["exited with code 7"]).await?;
    ensure!(self::lines(&stack, text["id"].as_str().context("id")?, 1).await? == [("stdout".into(), "TEXT".into())]);
    fails(&stack, "signal", "Signal", &["ended by signal SEGV"]).await?;
    fails(&stack, "folder", "WorkingDirNotFound", &["\"/no/such folder\" on 127.0.0.1"]).await?;
    fails(&stack, "program", "CommandNotFound", &["\"no-such-program\" on 127.0.0.1"]).await?;
    fails(&stack, "input", "Template", &["command[1]"]).await?;
    let shown = stack.api.get_path("/v1/jobs/argv").await?;
    ensure!(shown["handler"]["user"] == sshd.user() && !shown.to_string().contains("TOKEN"), "{shown}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_drained_and_counted() -> Result<()> {
    let sshd = Sshd::start().await?;
    let flood = "head -c 200000000 /dev/urandom; yes | head -c 20000000 >&2; echo; echo ::progress 90 nearly";
    let stack = Jobs::on(&sshd).job("flood", json!({ "command": flood }))?.start(Stack::embedded()).await?;
    let run = ended(&stack, "flood", "SUCCEEDED").await?;
    ensure!(run["message"] == "nearly", "{run}");
    let pages = stack.api.get_path(&format!("/v1/workRequests/{}/logs", run["id"].as_str().context("id")?)).await?;
    ensure!(pages["items"].as_array().is_some_and(|items| !items.is_empty()), "{pages}");
    Ok(())
}
