//! The step between a guard and a confined program: this very program run once more, which binds itself and then becomes
//! that program. So the guard itself is never bound, and stays able to kill.
//!
//! It tells the guard over its standard input why it could not become the program; the line closes without a word if it
//! could.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use rustix::stdio::dup2_stdin;

use super::Confinement;

/// The first argument of a program that is to become another one.
pub(super) const ARGUMENT: &str = "reveille-launch";
/// What stands before the name of each variable of the program until it begins: the programs between it and the worker,
/// which may be root's, must not heed any of them, as the loader heeds `LD_PRELOAD`.
const HIDDEN: &str = "~";

/// Hides a variable from the processes between the worker and the program.
pub(super) fn hidden(name: &str) -> String {
    format!("{HIDDEN}{name}")
}

/// This process's hidden variables, as the program is to see them.
fn shown() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.to_str()?.strip_prefix(HIDDEN)?.into(), value)))
}

/// A program with its folder and its environment.
pub(super) fn command(folder: &OsStr, program: &OsStr, arguments: &[OsString]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(shown());
    if !folder.is_empty() {
        command.current_dir(folder);
    }
    command
}

/// Starts a confined program; answers when it has begun.
pub(super) fn spawn(
    confinement: &Confinement,
    folder: &OsStr,
    program: &OsStr,
    arguments: &[OsString],
) -> io::Result<Child> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("reveille")
        .arg(ARGUMENT)
        .arg(confinement.encode())
        .args([folder, program])
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .process_group(0)
        .spawn()?;
    let mut reason = Vec::new();
    let told = ours.read_to_end(&mut reason);
    if let (Ok(_), []) = (&told, &reason[..]) {
        return Ok(child);
    }
    child.kill()?;
    child.wait()?;
    told?;
    let reason = <[u8; 4]>::try_from(reason).map_err(|_| io::ErrorKind::InvalidData)?;
    Err(io::Error::from_raw_os_error(i32::from_le_bytes(reason)))
}

/// Becomes the program, or tells why not and ends the process.
#[allow(clippy::print_stderr, reason = "said to who tries it by hand")]
pub(super) fn run(mut arguments: impl Iterator<Item = OsString>) -> ! {
    let confinement = arguments.next().and_then(|text| Confinement::decode(text.to_str()?));
    let line = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let (Some(confinement), Some(folder), Some(program), Ok(mut line)) =
        (confinement, arguments.next(), arguments.next(), line)
    else {
        eprintln!("only guards start programs");
        std::process::exit(2)
    };
    let command = command(&folder, &program, &arguments.collect::<Vec<_>>());
    let error = become_it(&confinement, command).raw_os_error().unwrap_or(0);
    let _gone = line.write_all(&error.to_le_bytes()).is_err();
    std::process::exit(1)
}

/// Returns only if that fails.
fn become_it(confinement: &Confinement, mut command: Command) -> io::Error {
    let prepared = File::open("/dev/null").and_then(|nowhere| {
        dup2_stdin(&nowhere)?;
        confinement.give_away(&mut command, [&io::stdout(), &io::stderr()])?;
        Ok(confinement.bind()?)
    });
    match prepared {
        Ok(()) => command.exec(),
        Err(error) => error,
    }
}
