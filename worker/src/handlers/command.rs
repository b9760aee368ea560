//! Runs a program under a guard, in a process group of its own, never through a shell.

use std::io;
use std::path::Path;
use std::time::Duration;

use reveille_shared::definition::CommandCall;
use reveille_shared::work_request::Stream;
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::env::{self, Variables};
use super::lines::Pipe;
use super::printed;
use super::template::Renderer;
use super::{Run, RunFailure, RunResult};
use crate::guard::{End, Guard, Guarded, Order, Output, Program, Said, StartError};
use crate::policy::{Clue, Policy};

/// How long a program may take to end after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// How long output is read on after the program's end: a process that can't be killed may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// What the program sees of the worker's environment.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ"];

/// What every program runs under.
#[derive(Debug)]
pub(crate) struct Guards {
    pub(crate) guard: Guard,
    /// Until when programs may live, as far as is known at any time.
    pub(crate) lease: watch::Receiver<Instant>,
    /// Which of them may run, and how.
    pub(crate) policy: Policy,
}

/// Runs the program to its end, and answers with `{"exitCode": …}`. After a stop the group is sent SIGTERM, then
/// SIGKILL; when the returned future is dropped, SIGKILL at once. What the program leaves behind ends with it.
pub(crate) async fn run(call: &CommandCall, run: &Run, variables: &Variables, guards: &Guards) -> RunResult {
    let program = program(call, run, variables, &guards.policy)?;
    let (guarded, output) = Guarded::start(&guards.guard, &program, guards.lease.clone())
        .await
        .map_err(|error| not_started(error, call, &guards.policy))?;
    let Watched { end, stopped, clue } = watch(guarded, output, run).await?;
    if stopped {
        return Err(RunFailure::stopped());
    }
    judge(call, end).map_err(|failure| explained(failure, end, clue, &guards.policy))
}

/// Everything but starting it.
fn program(call: &CommandCall, run: &Run, variables: &Variables, policy: &Policy) -> Result<Program, RunFailure> {
    let renderer = Renderer::new(run, variables);
    if call.argv.is_empty() {
        return Err(RunFailure::fatal("command is empty").code("InvalidCommand"));
    }
    let mut argv = renderer.argv("command", &call.argv)?;
    let path = variables.get("PATH");
    argv[0] = policy.program(call, &argv[1..], path.as_deref())?;
    let account = policy.account();
    let inherited = |name: &str| match (name, account) {
        ("HOME", Some(account)) => Some(account.home.clone()),
        _ => variables.get(name),
    };
    let inherited = INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), inherited(name)?)));
    let env = inherited.chain(env::of_run(run)?).chain(renderer.env(&call.env)?).collect();
    if let Some(folder) = call.working_dir.as_ref().filter(|folder| !Path::new(folder).is_dir()) {
        return Err(RunFailure::fatal(format!("there is no folder {folder:?} here")).code("WorkingDirNotFound"));
    }
    Ok(Program { argv, env, folder: call.working_dir.clone(), confinement: policy.confinement() })
}

fn not_started(error: StartError, call: &CommandCall, policy: &Policy) -> RunFailure {
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
            let told = match policy.account() {
                None => format!("{program:?} may not be executed here"),
                Some(account) => format!("{account} may not execute {program:?} here"),
            };
            RunFailure::fatal(told).code("CommandNotExecutable")
        }
        io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => {
            RunFailure::fatal(format!("{program:?} can't be given these arguments: {error}")).code("InvalidCommand")
        }
        _ => RunFailure::retry(format!("can't start {program:?}: {error}")).code("Spawn"),
    }
}

/// How a program has ended.
struct Watched {
    end: End,
    /// It was told to.
    stopped: bool,
    /// What it has said of a limit, last.
    clue: Option<Clue>,
}

/// Reads the program's output until it has ended, and sees to it that it does.
async fn watch(mut guarded: Guarded, output: Output, run: &Run) -> Result<Watched, RunFailure> {
    let (mut stdout, mut stderr) = (Pipe::new(output.stdout), Pipe::new(output.stderr));
    let mut ended: Option<End> = None;
    let mut clue = None;
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
                    return Err(RunFailure::in_doubt(told).code("GuardLost"));
                }
            },
            found = stderr.more(printed::is_wanted(run, Stream::Stderr)), if stderr.is_open() => {
                let found = found.unwrap_or_default();
                clue = found.lines.iter().rev().find_map(|line| Clue::of_line(line)).or(clue);
                printed::tell(run, Stream::Stderr, found).await?;
            }
            found = stdout.more(printed::is_wanted(run, Stream::Stdout)), if stdout.is_open() => {
                printed::tell(run, Stream::Stdout, found.unwrap_or_default()).await?;
            }
        }
    };
    if expired && !stopped {
        let told = "the worker stood still, or was without its database, for longer than its lease allows: the program was killed";
        return Err(RunFailure::in_doubt(told).code("Stalled"));
    }
    Ok(Watched { end, stopped, clue })
}

fn judge(call: &CommandCall, end: End) -> RunResult {
    match end {
        End::Exited(code) => printed::judge(code, &call.success, &call.no_retry),
        End::Signaled(signal) => Err(printed::signaled(signal)),
    }
}

/// Adds which limit a program has probably met. Its signal tells for sure, what it has printed does not.
fn explained(failure: RunFailure, end: End, said: Option<Clue>, policy: &Policy) -> RunFailure {
    let met = Clue::of_end(end).and_then(|clue| Some((policy.limit(clue)?, "")));
    let Some((limit, hedge)) = met.or_else(|| Some((policy.limit(said?)?, "probably "))) else { return failure };
    let message = format!("{}: {hedge}it met {limit}", failure.message);
    RunFailure { code: "LimitExceeded".into(), message, ..failure }
}

#[cfg(test)]
mod confined;
#[cfg(test)]
mod deaths;
#[cfg(test)]
pub(super) mod tests;
