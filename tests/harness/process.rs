//! Real programs as child processes, each in a process group of its own.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::process_tree::kill_tree;
use crate::wait::eventually;

/// How much of a program's output is printed when it is dropped, in bytes.
const PRINTED: usize = 16 * 1024;

/// A program with its arguments and environment; starts any number of times.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    name: String,
    folder: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
    output: Option<PathBuf>,
    quiet: bool,
}

impl Program {
    /// The program at `path` (or found on `PATH`), to run in `folder`, where its output goes to `name.log`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, name: &str, folder: &Path) -> Self {
        let folder = folder.to_owned();
        let (args, env) = (Vec::new(), Vec::new());
        Self { path: path.into(), name: name.to_owned(), folder, args, env, output: None, quiet: false }
    }

    /// One of this workspace's binaries.
    ///
    /// # Errors
    /// It was not built.
    pub fn of_workspace(binary: &str, name: &str, folder: &Path) -> Result<Self> {
        Ok(Self::new(workspace_binary(binary)?, name, folder))
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds an environment variable. Of the test's own environment, the program sees all but what begins
    /// with `REVEILLE_`.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Writes its output to this file instead of its log.
    #[must_use]
    pub fn output(mut self, path: impl Into<PathBuf>) -> Self {
        self.output = Some(path.into());
        self
    }

    /// Prints no log when a process is dropped.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// What names the program in messages and its log file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What all processes of this program have written to standard output and error so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// Starts a process.
    ///
    /// # Errors
    /// The program can't be executed, or its log file not be written.
    pub fn start(&self) -> Result<Process> {
        let output = self.output.clone().unwrap_or_else(|| self.log_file());
        let log = OpenOptions::new().create(true).append(true).open(output);
        let log = log.context("opening a log file")?;
        let mut command = Command::new(&self.path);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REVEILLE_")) {
            command.env_remove(name);
        }
        command.current_dir(&self.folder).args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("starting {}", self.path.display()))?;
        let pid = Pid::from_child(&child);
        let mut process = Process { program: self.clone(), child, pid, watchdog: None, status: None };
        process.watchdog = Some(watchdog(pid).context("starting the watchdog")?);
        Ok(process)
    }
}

/// A started program. Dropped, it is killed with its process group, and the end of its log is printed.
/// If the test itself is killed, a watchdog does the killing.
#[derive(Debug)]
pub struct Process {
    program: Program,
    child: Child,
    pid: Pid,
    watchdog: Option<Child>,
    status: Option<ExitStatus>,
}

impl Process {
    /// The process id, also the id of the process group.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What all processes of this program have written so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// How the process ended, or nothing while it runs.
    ///
    /// # Errors
    /// The system doesn't tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Sends a signal to the process alone, as a service manager would.
    ///
    /// # Errors
    /// The process has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.exit_status()? {
            bail!("{} has ended already, with {status}", self.program.name);
        }
        kill_process(self.pid, signal).with_context(|| format!("sending {signal:?} to {}", self.program.name))
    }

    /// Ends the whole process group with SIGKILL and waits until the process is gone. Harmless if it is.
    ///
    /// # Errors
    /// The process can't be waited for.
    pub fn kill9(&mut self) -> Result<()> {
        if self.status.is_none() {
            // Not reaped yet, so the id is still its own; the group may be gone though.
            let _ = kill_process_group(self.pid, Signal::KILL);
            self.status = Some(self.child.wait()?);
        }
        self.dismiss_watchdog();
        Ok(())
    }

    /// Ends the process, if it runs, and starts the program again.
    ///
    /// # Errors
    /// As [`Program::start`] and [`Process::kill9`].
    pub fn restart(&mut self) -> Result<()> {
        self.restart_as(&self.program.clone())
    }

    /// The same for another program in its place, such as the same one in another environment.
    ///
    /// # Errors
    /// As [`Program::start`] and [`Process::kill9`].
    pub fn restart_as(&mut self, program: &Program) -> Result<()> {
        self.kill9()?;
        let successor = program.start()?;
        // The log goes on, so only the last process prints it.
        std::mem::replace(self, successor).program.quiet = true;
        Ok(())
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// It still runs after `limit`: the text holds the end of its log.
    pub async fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.program.name);
        eventually(&what, limit, async || match self.exit_status() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("it runs; its log ends with:\n{}", tail(&self.log(), 2000))),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    fn dismiss_watchdog(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            // Fails only if it has ended by itself.
            let _ = watchdog.kill();
            let _ = watchdog.wait();
        }
    }
}

impl Drop for Process {
    #[allow(clippy::print_stderr, reason = "the test runner shows it if the test failed")]
    fn drop(&mut self) {
        let name = self.program.name.clone();
        let quiet = self.program.quiet;
        let end = match self.exit_status() {
            Ok(Some(status)) => format!("had ended with {status}"),
            _ => {
                // What it runs for its users has left its group.
                kill_tree(self.pid);
                "was still running".to_owned()
            }
        };
        if let Err(error) = self.kill9() {
            eprintln!("{name} can't be killed: {error:#}");
        }
        if quiet {
            return;
        }
        eprintln!("--- {name} {end}; its log:\n{}", tail(&self.log(), PRINTED));
    }
}

/// Kills the process group as soon as this process, which holds the pipe's other end, is gone.
fn watchdog(group: Pid) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", "read -r line; kill -KILL \"-$1\" 2>/dev/null", "watchdog"])
        .arg(group.as_raw_nonzero().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// The path of a binary of this workspace, of the same profile as the running test.
///
/// # Errors
/// It was not built.
pub fn workspace_binary(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("looking for the test's own path")?;
    // A test is target/PROFILE/deps/NAME, a binary target/PROFILE/NAME.
    let folders = here.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| File::open(path).is_ok());
    found.with_context(|| {
        let folder = here.parent().unwrap_or(&here).display();
        format!("the binary {name} is neither in {folder} nor above; build it: cargo build --workspace --bins")
    })
}

/// The last `bytes` of a text, from the start of a line.
#[must_use]
pub fn tail(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = &text[text.ceil_char_boundary(text.len() - bytes)..];
    end.split_once('\n').map_or(end, |(_, lines)| lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_names_the_command_that_builds_it() {
        let text = workspace_binary("reveille-nonexistent").unwrap_err().to_string();
        assert!(text.contains("reveille-nonexistent") && text.ends_with("cargo build --workspace --bins"), "{text}");
    }

    #[test]
    fn a_tail_begins_with_a_whole_line() {
        assert_eq!(tail("one\ntwo\nthree\n", 8), "three\n");
        assert_eq!(tail("one\ntwo\n", 100), "one\ntwo\n");
        assert_eq!(tail("ääää", 3), "ä");
    }
}
