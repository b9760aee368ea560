//! What the host's shell is given: the command, and a keeper that ends it.
//!
//! It goes over the command's standard input, so that nobody on the host sees values of the environment in a list of
//! processes. The rest of that input is the line by which the worker commands the keeper.

use std::fmt::Write as _;
use std::time::Duration;

use reveille_shared::definition::{RemoteCommand, SshCall};
use uuid::Uuid;

use crate::handlers::env;
use crate::handlers::template::Renderer;
use crate::handlers::{Run, RunFailure};

/// What the user's login shell, whichever it is, is given to run. The shell that reads the script leads a process group:
/// of OpenSSH's making, or else by the help of setsid.
pub(super) const SHELL: &str = "exec /bin/sh -c 'kill -0 -$$ 2>/dev/null || exec setsid /bin/sh; exec /bin/sh'";

const KEEPER: &str = include_str!("keeper.sh");

/// What the script has to say before the command has the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Begun,
    NoFolder,
    NoProgram,
}

impl Said {
    const ALL: [Self; 3] = [Self::Begun, Self::NoFolder, Self::NoProgram];

    const fn word(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::NoFolder => "no folder",
            Self::NoProgram => "no program",
        }
    }
}

/// A script for one attempt.
pub(super) struct Script {
    /// Known to nobody but the script and those who descend from the command.
    mark: String,
    /// What becomes the command.
    body: String,
}

impl Script {
    pub(super) fn of(call: &SshCall, run: &Run, renderer: &Renderer<'_>) -> Result<Self, RunFailure> {
        let mark = Uuid::new_v4().simple().to_string();
        let mut script = Self { body: String::new(), mark };
        if let Some(folder) = &call.working_dir {
            script.line(&format!("cd {} || {}", quoted(folder)?, script.say(Said::NoFolder, "exit 1")));
        }
        let own = env::of_run(run)?.chain([("REVEILLE_TREE".to_owned(), script.mark.clone())]);
        for (name, value) in own.chain(renderer.env(&call.env)?) {
            script.line(&format!("export {name}={}", quoted(&value)?));
        }
        let argv = match &call.command {
            RemoteCommand::Argv(argv) => renderer.argv("command", argv)?,
            RemoteCommand::Shell(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
        };
        let argv = argv.iter().map(|argument| quoted(argument)).collect::<Result<Vec<_>, _>>()?;
        if let Some(program) = argv.first() {
            script.line(&format!("command -v {program} >/dev/null || {}", script.say(Said::NoProgram, "exit 127")));
        }
        script.line(&script.say(Said::Begun, ":"));
        script.line(&format!("exec {}", argv.join(" ")));
        Ok(script)
    }

    /// The text, for a command that may live for so long without news of the worker.
    pub(super) fn text(&self, allowed: Duration) -> String {
        let Self { mark, body } = self;
        let seconds = allowed.as_secs();
        format!(
            "{{\nexec 3<&0 </dev/null\n(\nmark={mark} seconds={seconds}\n{KEEPER}) <&3 3<&- >/dev/null 2>&1 &\nexec 3<&-\n{body}}}\n"
        )
    }

    /// What a line of the output says, if it is one of the script's own.
    pub(super) fn said(&self, line: &str) -> Option<Said> {
        let word = line.strip_prefix(&self.mark)?.trim();
        Said::ALL.into_iter().find(|said| said.word() == word)
    }

    fn line(&mut self, line: &str) {
        // Writing to a text can't fail.
        let _written = writeln!(self.body, "{line}").is_ok();
    }

    fn say(&self, said: Said, then: &str) -> String {
        format!("{{ echo {} {}; {then}; }}", self.mark, said.word())
    }
}

/// Between quotes of a POSIX shell, which touches nothing within them.
fn quoted(text: &str) -> Result<String, RunFailure> {
    if text.contains('\0') {
        return Err(RunFailure::fatal("a text with a NUL in it can't be given to a program").code("InvalidCommand"));
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests;
