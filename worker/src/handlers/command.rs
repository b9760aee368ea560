//! Runs a program in a process group of its own, never through a shell.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use reveille_shared::definition::CommandCall;
use reveille_shared::work_request::Stream;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::json;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, sleep_until};

use super::env::Variables;
use super::lines::Lines;
use super::template::Renderer;
use super::{Run, RunFailure, RunResult};

/// How long a program may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long output is read on after the program's end: a process that left its group may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What the program sees of the worker's environment.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];
/// Linux takes no longer text in an environment.
const MAX_VARIABLE: usize = 128 * 1024 - 64;

/// Runs the program to its end, and answers with `{"exitCode": …}`. After a stop the group is sent SIGTERM, then
/// SIGKILL; when the returned future is dropped, SIGKILL at once.
pub(crate) async fn run(call: &CommandCall, run: &Run, variables: &Variables) -> RunResult {
    let mut child = spawn(command(call, run, variables)?, call)?;
    // Declared after the child, hence dropped before it: while the leader is not reaped its number can't be another's.
    let mut group = Group::of(&child);
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(RunFailure::retry("the program has no output pipes").code("Spawn"));
    };
    let (status, stopped) = watch(&mut child, &mut group, Lines::new(stdout), Lines::new(stderr), run).await?;
    if stopped { Err(RunFailure::stopped()) } else { judge(call, status) }
}

/// Everything but starting it.
fn command(call: &CommandCall, run: &Run, variables: &Variables) -> Result<Command, RunFailure> {
    let renderer = Renderer::new(run, variables);
    let Some((program, arguments)) = call.argv.split_first() else {
        return Err(RunFailure::fatal("command is empty").code("InvalidCommand"));
    };
    let mut command = Command::new(program);
    for (index, argument) in arguments.iter().enumerate() {
        command.arg(renderer.template(&format!("command[{}]", index + 1), argument)?);
    }
    command.env_clear();
    for name in INHERITED {
        if let Some(value) = variables.get(name) {
            command.env(name, value);
        }
    }
    let input = run.input.to_string();
    if input.len() > MAX_VARIABLE {
        let told = format!("an input of {} bytes is too large for a program's environment", input.len());
        return Err(RunFailure::fatal(told).code("InputTooLarge"));
    }
    command
        .env("REVEILLE_WORK_REQUEST_ID", run.id.to_string())
        .env("REVEILLE_ATTEMPT", run.attempt.to_string())
        .env("REVEILLE_JOB", &run.job)
        .env("REVEILLE_NAMESPACE", &run.namespace)
        .env("REVEILLE_SCHEDULED_FOR", run.scheduled_for.to_string())
        .env("REVEILLE_INPUT", input);
    for (name, value) in &call.env {
        command.env(name, renderer.text(&format!("env.{name}"), value)?);
    }
    if let Some(folder) = &call.working_dir {
        if !Path::new(folder).is_dir() {
            return Err(RunFailure::fatal(format!("there is no folder {folder:?} here")).code("WorkingDirNotFound"));
        }
        command.current_dir(folder);
    }
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

fn spawn(mut command: Command, call: &CommandCall) -> Result<Child, RunFailure> {
    let program = call.argv.first().map_or("", String::as_str);
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            RunFailure::fatal(format!("there is no program {program:?} here")).code("CommandNotFound")
        }
        io::ErrorKind::PermissionDenied => {
            RunFailure::fatal(format!("{program:?} may not be executed here")).code("CommandNotExecutable")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => {
            RunFailure::fatal(format!("{program:?} can't be given these arguments: {error}")).code("InvalidCommand")
        }
        _ => RunFailure::retry(format!("can't start {program:?}: {error}")).code("Spawn"),
    })
}

/// Reads the program's output until it has ended, and sees to it that it does. Answers also whether it was told to.
async fn watch(
    child: &mut Child,
    group: &mut Group,
    mut stdout: Lines<ChildStdout>,
    mut stderr: Lines<ChildStderr>,
    run: &Run,
) -> Result<(ExitStatus, bool), RunFailure> {
    let mut ended: Option<ExitStatus> = None;
    let mut stopped = false;
    // SIGKILL after a stop; after the end, the last moment to read.
    let mut deadline: Option<Instant> = None;
    loop {
        if let Some(status) = ended
            && !stdout.is_open()
            && !stderr.is_open()
        {
            return Ok((status, stopped));
        }
        let overdue = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // Endless output must not keep the other branches from their turn.
            biased;
            () = overdue => match ended {
                Some(status) => return Ok((status, stopped)),
                None => {
                    group.signal(Signal::KILL);
                    deadline = None;
                }
            },
            () = run.stop.cancelled(), if !stopped && ended.is_none() => {
                stopped = true;
                group.signal(Signal::TERM);
                deadline = Some(Instant::now() + TERM_GRACE);
            }
            status = child.wait(), if ended.is_none() => {
                ended = Some(status.map_err(|error| RunFailure::retry(format!("lost sight of the program: {error}")).code("Spawn"))?);
                // What the program left behind in its group ends with it.
                group.finish();
                deadline = Some(Instant::now() + LAST_WORDS);
            }
            lines = stderr.more(), if stderr.is_open() => {
                for line in lines.unwrap_or_default() {
                    run.sink.log(Stream::Stderr, &line).await;
                }
            }
            lines = stdout.more(), if stdout.is_open() => {
                for line in lines.unwrap_or_default() {
                    match progress(&line) {
                        Some((percent, message)) => run.sink.progress(percent, message),
                        None => run.sink.log(Stream::Stdout, &line).await,
                    }
                }
            }
        }
    }
}

/// Reads `::progress 40 copying`.
fn progress(line: &str) -> Option<(f32, Option<&str>)> {
    let rest = line.strip_prefix("::progress ")?.trim();
    let (number, message) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let percent: f32 = number.strip_suffix('%').unwrap_or(number).parse().ok()?;
    let message = Some(message.trim()).filter(|message| !message.is_empty());
    (0.0..=100.0).contains(&percent).then_some((percent, message))
}

fn judge(call: &CommandCall, status: ExitStatus) -> RunResult {
    use std::os::unix::process::ExitStatusExt as _;
    let Some(code) = status.code() else {
        let signal = status.signal().unwrap_or_default();
        return Err(RunFailure::retry(format!("ended by signal {signal}")).code("Signal"));
    };
    let is_success = if call.success.is_empty() { code == 0 } else { call.success.contains(&code) };
    if is_success {
        return Ok(json!({ "exitCode": code }));
    }
    let failure = RunFailure::retry(format!("exited with code {code}")).code("ExitCode");
    Err(RunFailure { retryable: !call.no_retry.contains(&code), ..failure })
}

/// The program's process group; it is killed when this is dropped, whatever the reason.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// Kills what is left. To be called once, right after the leader's end: later its number may be another's.
    fn finish(&mut self) {
        self.signal(Signal::KILL);
        self.0 = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // An error says that the group is gone, which is what the signal was for.
            let _gone = kill_process_group(leader, signal).is_err();
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.finish();
    }
}
