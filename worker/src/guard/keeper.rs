//! The guard's own process: two threads, one that listens to the worker and one that waits for the program.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use rustix::stdio::{dup2_stderr, dup2_stdout};

use super::line::{Answer, FRAME, Order};
use super::{Confinement, launch};

/// What a guard is started with, after the word that makes it one.
struct Task {
    /// How long the program may live if nothing is said.
    allowed: Duration,
    confinement: Confinement,
    /// Where it runs; empty for here.
    folder: OsString,
    program: OsString,
    arguments: Vec<OsString>,
}

impl Task {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let allowed = arguments.next()?.to_str()?.parse().ok()?;
        let confinement = Confinement::decode(arguments.next()?.to_str()?)?;
        let (folder, program) = (arguments.next()?, arguments.next()?);
        let arguments = arguments.collect();
        Some(Self { allowed: Duration::from_millis(allowed), confinement, folder, program, arguments })
    }

    /// Starts the program in a group of its own.
    fn start(&self) -> io::Result<Child> {
        let Self { confinement, folder, program, arguments, .. } = self;
        if confinement.is_none() {
            return launch::command(folder, program, arguments).stdin(Stdio::null()).process_group(0).spawn();
        }
        launch::spawn(confinement, folder, program, arguments)
    }
}

/// Guards one program to its end, and ends the process.
#[allow(clippy::print_stderr, reason = "said to who tries it by hand")]
pub(super) fn run(arguments: impl Iterator<Item = OsString>) -> ! {
    let worker = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let (Some(task), Ok(worker)) = (Task::parse(arguments), worker) else {
        eprintln!("only workers start guards");
        std::process::exit(2)
    };
    let code = match keep(&task, worker) {
        Ok(()) => 0,
        // To whom? The worker is gone, or sees that this process is.
        Err(_) => 1,
    };
    std::process::exit(code)
}

fn keep(task: &Task, mut worker: UnixStream) -> io::Result<()> {
    // Nothing can go wrong for want of a name.
    let _unnamed = rustix::thread::set_name(c"reveille-guard").is_err();
    set_child_subreaper(Some(getpid()))?;
    let nowhere = File::options().write(true).open("/dev/null")?;
    let ward = Arc::new(Ward::default());
    let listener =
        Listener { worker: worker.try_clone()?, ward: Arc::clone(&ward), until: Instant::now() + task.allowed };
    thread::Builder::new().spawn(move || listener.run())?;

    let leader = match ward.start(task) {
        Ok(leader) => leader,
        Err(error) => return worker.write_all(&Answer::Refused(error.raw_os_error().unwrap_or(0)).encode()),
    };
    // The program has the worker's pipes now; whether they are open is its affair. They stay open if this fails.
    let _open = dup2_stdout(&nowhere).and_then(|()| dup2_stderr(&nowhere)).is_err();
    let told = worker.write_all(&Answer::Started(leader.as_raw_nonzero().get()).encode());
    let status = reap_until(leader)?;
    ward.finish();
    let end = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Answer::Exited(code),
        (None, signal) => Answer::Signaled(signal.unwrap_or(0)),
    };
    let told = told.and_then(|()| worker.write_all(&end.encode()));
    sweep()?;
    told
}

/// The program's process group, for as long as its number is the group's and no other's.
#[derive(Default)]
struct Ward(Mutex<State>);

#[derive(Default)]
struct State {
    leader: Option<Pid>,
    /// It was to be killed, perhaps before it had begun.
    is_doomed: bool,
}

impl Ward {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, task: &Task) -> io::Result<Pid> {
        let mut state = self.state();
        if state.is_doomed {
            return Err(Errno::CANCELED.into());
        }
        let leader = Pid::from_child(&task.start()?);
        state.leader = Some(leader);
        Ok(leader)
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.state().leader {
            // An error says that the group is gone, which is what the signal was for.
            let _gone = kill_process_group(leader, signal).is_err();
        }
    }

    /// Kills the group and what has left it.
    fn kill(&self) {
        self.state().is_doomed = true;
        self.signal(Signal::KILL);
        kill_children();
    }

    /// Kills what is left in the group. To be called right after the leader's end: later its number may be another's.
    fn finish(&self) {
        self.signal(Signal::KILL);
        self.state().leader = None;
    }
}

/// Does what the worker says, and what is to be done when it says nothing.
struct Listener {
    worker: UnixStream,
    ward: Arc<Ward>,
    until: Instant,
}

impl Listener {
    fn run(mut self) {
        loop {
            match self.next() {
                Ok(Order::Live(time)) => self.until = Instant::now() + time,
                Ok(Order::Term) => self.ward.signal(Signal::TERM),
                Ok(Order::Kill) => self.ward.kill(),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    // It may hear that when it wakes up.
                    let _gone = self.worker.write_all(&Answer::Expired.encode()).is_err();
                    return self.ward.kill();
                }
                Err(_) => return self.ward.kill(),
            }
        }
    }

    fn next(&mut self) -> io::Result<Order> {
        let mut frame = [0; FRAME];
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.worker.set_read_timeout(Some(left))?;
            match self.worker.read_exact(&mut frame) {
                Ok(()) => return Order::decode(frame).ok_or_else(|| ErrorKind::InvalidData.into()),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reaps whatever ends, until the leader does.
fn reap_until(leader: Pid) -> io::Result<WaitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == leader => return Ok(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills and reaps all that has left the program's group. What this process may not kill (a program of another user)
/// it waits for: the worker does not.
fn sweep() -> io::Result<()> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => continue,
            Ok(None) => kill_children(),
            Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // The end of a child may make its own children ours.
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR | Errno::CHILD) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Kills every child of this process. Their children become its own.
fn kill_children() {
    let own = getpid();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // A process that ends while we look is not there any more.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if parent(&stat) == Some(own) {
            let _gone = kill_process(pid, Signal::KILL).is_err();
        }
    }
}

/// Reads `42 (name) S 7 …`: process, name (may hold spaces and brackets), state, parent.
fn parent(stat: &str) -> Option<Pid> {
    let (_, rest) = stat.rsplit_once(')')?;
    Pid::from_raw(rest.split_ascii_whitespace().nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent("42 (a) b (c) S 7 42 42 0"), Pid::from_raw(7));
        assert_eq!(parent("1 (init) S 0 1 1 0"), None);
        assert_eq!(parent("rubbish"), None);
    }

    #[test]
    fn a_task_needs_its_time_its_confinement_its_folder_and_its_program() {
        let task = |words: &[&str]| Task::parse(words.iter().map(OsString::from));
        let whole = task(&["1500", ",,,,,,", "", "sleep", "1"]).unwrap();
        assert_eq!((whole.allowed, whole.arguments), (Duration::from_millis(1500), vec!["1".into()]));
        assert!(whole.confinement.is_none());
        for words in [&["1500", ",,,,,,", ""][..], &["soon", ",,,,,,", "", "sleep"], &["1500", "", "", "sleep"]] {
            assert!(task(words).is_none(), "{words:?}");
        }
    }
}
