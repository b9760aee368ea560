//! How a command has ended on its host → what its run comes to.

use reveille_shared::definition::{RemoteCommand, SshCall};

use super::connection::Target;
use super::script::Said;
use crate::handlers::{RunFailure, RunResult, printed};

/// How the command has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Exited(u32),
    Signaled(String),
}

/// Why the command was made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Stopped,
    Idle,
    TooSlow,
}

pub(super) fn made_to(call: &SshCall, target: &Target, why: Why) -> RunFailure {
    match why {
        Why::Stopped => RunFailure::stopped(),
        Why::Idle => {
            let idle = call.idle_timeout.unwrap_or_default();
            RunFailure::retry(format!("printed nothing for {idle}, its idle_timeout")).code("SshIdle")
        }
        Why::TooSlow => too_slow(call, target),
    }
}

pub(super) fn too_slow(call: &SshCall, Target { host, port, .. }: &Target) -> RunFailure {
    let told = format!("{host}:{port} did not begin the command within {}, its connect_timeout", call.connect_timeout);
    RunFailure::retry(told).code("SshConnectTimeout")
}

pub(super) fn lost(Target { host, port, .. }: &Target, why: &str) -> RunFailure {
    let told = format!("the connection to {host}:{port} was lost, and with it how the command ended: {why}");
    RunFailure::in_doubt(told).code("SshConnectionLost")
}

/// `is_stalled` if the host has killed the command as it had not heard of the worker for too long.
pub(super) fn of_end(
    call: &SshCall,
    target: &Target,
    end: End,
    said: Option<Said>,
    why: Option<Why>,
    is_stalled: bool,
) -> RunResult {
    if let Some(why) = why {
        return Err(made_to(call, target, why));
    }
    let host = &target.host;
    let lacks = |what: &str, name: &str, code: &str| {
        Err(RunFailure::fatal(format!("there is no {what} {name:?} on {host}")).code(code))
    };
    match (said, end) {
        (Some(Said::NoFolder), _) => {
            lacks("folder", call.working_dir.as_deref().unwrap_or_default(), "WorkingDirNotFound")
        }
        (Some(Said::NoProgram), _) => match &call.command {
            RemoteCommand::Argv(argv) => lacks("program", argv.first().map_or("", String::as_str), "CommandNotFound"),
            RemoteCommand::Shell(_) => lacks("program", "/bin/sh", "CommandNotFound"),
        },
        (None, end) => {
            let end = match end {
                End::Exited(code) => format!("exited with code {code}"),
                End::Signaled(signal) => format!("ended by signal {signal}"),
            };
            let told = format!(
                "{host} gave {} no /bin/sh to run the command with, but something that {end}: is it a user without a shell, \
                 or a key with a command of its own?",
                target.user
            );
            Err(RunFailure::fatal(told).code("SshNoShell"))
        }
        (Some(Said::Begun), _) if is_stalled => {
            let told = "the worker stood still, or was not heard on the host, for longer than its lease allows: the command was killed";
            Err(RunFailure::in_doubt(told).code("Stalled"))
        }
        (Some(Said::Begun), End::Exited(code)) => {
            printed::judge(i32::try_from(code).unwrap_or(i32::MAX), &call.success, &call.no_retry)
        }
        (Some(Said::Begun), End::Signaled(signal)) => Err(printed::signaled(signal)),
    }
}
