//! Runs a program under a guard, in a process group of its own, never through a shell.

use std::io;
use std::path::Path;
use std::time::Duration;

use reveille_shared::definition::CommandCall;
use reveille_shared::work_request::Stream;
use rustix::io::Errno;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::env::Variables;
use super::lines::{Found, Lines};
use super::template::Renderer;
use super::{Run, RunFailure, RunResult};
use crate::guard::{End, Guard, Guarded, Order, Output, Program, Said, StartError};
use crate::report::MAX_LINE;

/// How long a program may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long output is read on after the program's end: a process that can't be killed may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What a line begins with that says how far the program is.
const PROGRESS: &str = "::progress ";
/// What a line begins with that is the input of a child.
const CHILD: &str = "::child ";
/// What the program sees of the worker's environment.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];
/// Linux takes no longer text in an environment.
const MAX_VARIABLE: usize = 128 * 1024 - 64;

/// What every program runs under.
#[derive(Debug)]
pub(crate) struct Guards {
    pub(crate) guard: Guard,
    /// Until when programs may live, as far as is known at any time.
    pub(crate) lease: watch::Receiver<Instant>,
}

/// Runs the program to its end, and answers with `{"exitCode": …}`. After a stop the group is sent SIGTERM, then
/// SIGKILL; when the returned future is dropped, SIGKILL at once. What the program leaves behind ends with it.
pub(crate) async fn run(call: &CommandCall, run: &Run, variables: &Variables, guards: &Guards) -> RunResult {
    let program = program(call, run, variables)?;
    let (guarded, output) = Guarded::start(&guards.guard, &program, guards.lease.clone())
        .await
        .map_err(|error| not_started(error, call))?;
    let (end, stopped) = watch(guarded, output, run).await?;
    if stopped { Err(RunFailure::stopped()) } else { judge(call, end) }
}

/// Everything but starting it.
fn program(call: &CommandCall, run: &Run, variables: &Variables) -> Result<Program, RunFailure> {
    let renderer = Renderer::new(run, variables);
    let Some((program, arguments)) = call.argv.split_first() else {
        return Err(RunFailure::fatal("command is empty").code("InvalidCommand"));
    };
    let mut argv = vec![program.clone()];
    for (index, argument) in arguments.iter().enumerate() {
        argv.push(renderer.template(&format!("command[{}]", index + 1), argument)?);
    }
    let input = run.input.to_string();
    if input.len() > MAX_VARIABLE {
        let told = format!("an input of {} bytes is too large for a program's environment", input.len());
        return Err(RunFailure::fatal(told).code("InputTooLarge"));
    }
    let inherited = INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), variables.get(name)?)));
    let own = [
        ("REVEILLE_WORK_REQUEST_ID", run.id.to_string()),
        ("REVEILLE_ATTEMPT", run.attempt.to_string()),
        ("REVEILLE_JOB", run.job.clone()),
        ("REVEILLE_NAMESPACE", run.namespace.clone()),
        ("REVEILLE_SCHEDULED_FOR", run.scheduled_for.to_string()),
        ("REVEILLE_INPUT", input),
    ];
    let mut env: Vec<_> = inherited.chain(own.map(|(name, value)| (name.to_owned(), value))).collect();
    for (name, value) in &call.env {
        env.push((name.clone(), renderer.text(&format!("env.{name}"), value)?));
    }
    if let Some(folder) = call.working_dir.as_ref().filter(|folder| !Path::new(folder).is_dir()) {
        return Err(RunFailure::fatal(format!("there is no folder {folder:?} here")).code("WorkingDirNotFound"));
    }
    Ok(Program { argv, env, folder: call.working_dir.clone() })
}

fn not_started(error: StartError, call: &CommandCall) -> RunFailure {
    let program = call.argv.first().map_or("", String::as_str);
    let error = match error {
        StartError::Program(error) => error,
        StartError::Guard(error) => {
            return RunFailure::retry(format!("can't start a guard for {program:?}: {error}")).code("Spawn");
        }
    };
    match error.kind() {
        io::ErrorKind::NotFound => {
            RunFailure::fatal(format!("there is no program {program:?} here")).code("CommandNotFound")
        }
        _ if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
            RunFailure::fatal(format!("{program:?} is no program")).code("CommandNotExecutable")
        }
        io::ErrorKind::PermissionDenied => {
            RunFailure::fatal(format!("{program:?} may not be executed here")).code("CommandNotExecutable")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => {
            RunFailure::fatal(format!("{program:?} can't be given these arguments: {error}")).code("InvalidCommand")
        }
        _ => RunFailure::retry(format!("can't start {program:?}: {error}")).code("Spawn"),
    }
}

/// Reads the program's output until it has ended, and sees to it that it does. Answers also whether it was told to.
async fn watch(mut guarded: Guarded, output: Output, run: &Run) -> Result<(End, bool), RunFailure> {
    let (mut stdout, mut stderr) = (Lines::new(output.stdout), Lines::new(output.stderr));
    let mut ended: Option<End> = None;
    let (mut stopped, mut expired, mut is_gone) = (false, false, false);
    // SIGKILL after a stop; after the end, the last moment to read.
    let mut deadline: Option<Instant> = None;
    let end = loop {
        if let Some(end) = ended
            && is_gone
            && !stdout.is_open()
            && !stderr.is_open()
        {
            break end;
        }
        let overdue = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        // Of a flood, only what says how far it is must be looked at.
        let is_full = run.sink.is_full();
        tokio::select! {
            // Endless output must not keep the other branches from their turn.
            biased;
            () = overdue => match ended {
                Some(end) => break end,
                None => {
                    guarded.order(Order::Kill);
                    deadline = None;
                }
            },
            () = run.stop.cancelled(), if !stopped && ended.is_none() => {
                stopped = true;
                guarded.order(Order::Term);
                deadline = Some(Instant::now() + TERM_GRACE);
            }
            said = guarded.next(), if !is_gone => match said {
                Said::Ended(end) => {
                    ended = Some(end);
                    deadline = Some(Instant::now() + LAST_WORDS);
                }
                Said::Expired => expired = true,
                Said::Gone if ended.is_some() => is_gone = true,
                Said::Gone => {
                    let told = "the program's guard ended before it, so it was killed";
                    return Err(RunFailure::retry(told).code("GuardLost"));
                }
            },
            found = stderr.more(|_| !is_full), if stderr.is_open() => {
                let Found { lines, unwanted } = found.unwrap_or_default();
                run.sink.skip(unwanted);
                for line in lines {
                    run.sink.log(Stream::Stderr, &line).await;
                }
            }
            found = stdout.more(|line| !is_full || is_word(line, run)), if stdout.is_open() => {
                let Found { lines, unwanted } = found.unwrap_or_default();
                run.sink.skip(unwanted);
                for line in lines {
                    match (progress(&line), &run.children, line.strip_prefix(CHILD)) {
                        (Some((percent, message)), ..) => run.sink.progress(percent, message),
                        (None, Some(children), Some(input)) => children.add(child(input)?).await?,
                        (None, ..) => run.sink.log(Stream::Stdout, &line).await,
                    }
                }
            }
        }
    };
    if expired && !stopped {
        let told = "the worker stood still, or was without its database, for longer than its lease allows: the program was killed";
        return Err(RunFailure::retry(told).code("Stalled"));
    }
    Ok((end, stopped))
}

/// Whether a line is one for us, and none to keep.
fn is_word(line: &[u8], run: &Run) -> bool {
    line.starts_with(PROGRESS.as_bytes()) || run.children.is_some() && line.starts_with(CHILD.as_bytes())
}

/// Reads what follows `::child `.
fn child(text: &str) -> Result<Value, RunFailure> {
    serde_json::from_str(text).map_err(|error| {
        let told = if CHILD.len() + text.len() >= MAX_LINE {
            format!("a line with a child's input has more than {MAX_LINE} bytes")
        } else {
            format!("what follows {CHILD}is no JSON: {error}")
        };
        RunFailure::fatal(told).code("InvalidChild")
    })
}

/// Reads `::progress 40 copying`.
fn progress(line: &str) -> Option<(f32, Option<&str>)> {
    let rest = line.strip_prefix(PROGRESS)?.trim();
    let (number, message) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let percent: f32 = number.strip_suffix('%').unwrap_or(number).parse().ok()?;
    let message = Some(message.trim()).filter(|message| !message.is_empty());
    (0.0..=100.0).contains(&percent).then_some((percent, message))
}

fn judge(call: &CommandCall, end: End) -> RunResult {
    let code = match end {
        End::Exited(code) => code,
        End::Signaled(signal) => {
            return Err(RunFailure::retry(format!("ended by signal {signal}")).code("Signal"));
        }
    };
    let is_success = if call.success.is_empty() { code == 0 } else { call.success.contains(&code) };
    if is_success {
        return Ok(json!({ "exitCode": code }));
    }
    let failure = RunFailure::retry(format!("exited with code {code}")).code("ExitCode");
    Err(RunFailure { retryable: !call.no_retry.contains(&code), ..failure })
}

#[cfg(test)]
mod deaths;
#[cfg(test)]
pub(super) mod tests;
