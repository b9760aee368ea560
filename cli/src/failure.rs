//! What can go wrong, how people are told, and the exit code.

use std::io;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use reveille_shared::state::Status;
use reveille_shared::telemetry::chain;

use crate::client::ClientError;
use crate::output::{is_colourful, printable};

/// The exit codes, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done; `--wait`: the run SUCCEEDED, or the backfill is done;
       `plan`: nothing would change; `doctor`: all is well
  1    faults were found, the server refused the request, or something failed;
       `doctor`: something is wrong
  2    wrong usage; `plan`: there are changes, and they are on standard output
  3    `trigger --wait`: the run FAILED
  4    `--wait`: the run, or the backfill, was CANCELED
  5    the server can't be reached (`doctor`, which looks for that, says 1)
  130  Ctrl-C while waiting; the run, or the backfill, goes on";

/// How the process ends when it did what it was asked to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Exit {
    /// All is well.
    Done,
    /// What was checked has faults.
    Faults,
    /// What was planned changes something.
    Changes,
    /// The run that was waited for FAILED.
    RunFailed,
    /// What was waited for was CANCELED.
    Canceled,
    /// Ctrl-C.
    Interrupted,
    /// As the process's own life ended.
    Process(ExitCode),
}

impl Exit {
    /// How a command that waited for a run ends.
    pub(crate) fn of(status: Status) -> Self {
        match status {
            Status::Failed => Self::RunFailed,
            Status::Canceled => Self::Canceled,
            Status::Succeeded | Status::Accepted | Status::InProgress | Status::Canceling => Self::Done,
        }
    }

    /// How a command that waited for several runs ends: FAILED outweighs CANCELED.
    pub(crate) fn or_worse(self, other: Self) -> Self {
        match (self, other) {
            (Self::RunFailed, _) | (Self::Canceled, Self::Done) => self,
            _ => other,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Faults => Self::from(1),
            Exit::Changes => Self::from(2),
            Exit::RunFailed => Self::from(3),
            Exit::Canceled => Self::from(4),
            Exit::Interrupted => Self::from(130),
            Exit::Process(code) => code,
        }
    }
}

/// Why a command could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An argument that can only be judged when all of them are known.
    #[error("{0}")]
    Usage(String),
    /// The server refused, or could not be reached.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Standard output is gone or full.
    #[error("can't write the output")]
    Output(#[from] io::Error),
    /// Something else, with what to do about it.
    #[error("{message}")]
    Other {
        /// What failed and why.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl Failure {
    /// A failure for which the user can do something.
    pub(crate) fn with_hint(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Other { message: message.into(), hint: Some(hint.into()) }
    }

    /// Tells people on standard error. Who closed our output (`| head`) has read enough: that ends quietly.
    pub(crate) fn report(&self) -> ExitCode {
        if let Self::Output(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            return ExitCode::SUCCESS;
        }
        let (code, hint) = match self {
            Self::Usage(_) => (2, Some("see --help".to_owned())),
            Self::Client(error) => (if error.is_unreachable() { 5 } else { 1 }, error.hint()),
            Self::Output(_) => (1, None),
            Self::Other { hint, .. } => (1, hint.clone()),
        };
        let (red, plain) = if is_colourful(io::stderr().is_terminal()) { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
        let text = chain(self);
        let lines: Vec<_> = text.lines().map(printable).collect();
        say(&format!("{red}reveille:{plain} {}", lines.join("\n")));
        if let Some(hint) = hint {
            say(&format!("  {}", printable(&hint)));
        }
        ExitCode::from(code)
    }
}

/// A line for people on standard error; nothing can be done when that is closed.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_runs_the_worst_counts() {
        let exit = |runs: &[Status]| {
            let worst = runs.iter().fold(Exit::Done, |exit, status| exit.or_worse(Exit::of(*status)));
            format!("{worst:?}")
        };
        assert_eq!(exit(&[Status::Succeeded, Status::Succeeded]), "Done");
        assert_eq!(exit(&[Status::Canceled, Status::Succeeded]), "Canceled");
        assert_eq!(exit(&[Status::Succeeded, Status::Canceled, Status::Failed]), "RunFailed");
        assert_eq!(exit(&[Status::Failed, Status::Canceled]), "RunFailed");
    }
}
