//! The worker's side of a guard.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::line::{Answer, FRAME, Order};
use super::{ARGUMENT, Confinement, Guard, launch};

/// A program to run.
#[derive(Debug, Default)]
pub(crate) struct Program {
    pub(crate) argv: Vec<String>,
    /// All of its environment.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) folder: Option<String>,
    pub(crate) confinement: Confinement,
}

/// Where a program's output comes out.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

/// Why a program does not run.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The system refuses to run it.
    Program(io::Error),
    /// There is no guard for it.
    Guard(io::Error),
}

/// How a program has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Signaled(i32),
}

/// What a guard has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The program has ended; what it left behind is being killed.
    Ended(End),
    /// The program is being killed, as this process was not heard in time.
    Expired,
    /// Nothing more: the guard has ended.
    Gone,
}

/// A program that runs under a guard. Dropped, it is killed with all that descends from it.
#[derive(Debug)]
pub(crate) struct Guarded {
    guard: Child,
    line: UnixStream,
    /// What has come of the next frame.
    heard: Vec<u8>,
    /// The program's process group, until it has ended.
    group: Option<Pid>,
    /// Until when programs may live, as far as is known now.
    lease: watch::Receiver<Instant>,
}

impl Guarded {
    /// Starts a program. It may live until the instant that `lease` tells at any time.
    pub(crate) async fn start(
        guard: &Guard,
        program: &Program,
        mut lease: watch::Receiver<Instant>,
    ) -> Result<(Self, Output), StartError> {
        let allowed = left(*lease.borrow_and_update());
        let (ours, theirs) = Pair::pair().map_err(StartError::Guard)?;
        ours.set_nonblocking(true).map_err(StartError::Guard)?;
        let line = UnixStream::from_std(ours).map_err(StartError::Guard)?;
        // Of all of this, the guard must hold on to its own end only. So the command is gone before the answer comes.
        let mut guard = Command::new(guard.program())
            .arg0("reveille")
            .arg(ARGUMENT)
            .arg(allowed.as_millis().to_string())
            .arg(program.confinement.encode())
            .arg(program.folder.as_deref().unwrap_or_default())
            .args(&program.argv)
            .env_clear()
            .envs(program.env.iter().map(|(name, value)| (launch::hidden(name), value)))
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong => StartError::Program(error),
                _ => StartError::Guard(error),
            })?;
        let (Some(stdout), Some(stderr)) = (guard.stdout.take(), guard.stderr.take()) else {
            return Err(StartError::Guard(io::ErrorKind::BrokenPipe.into()));
        };
        let mut guarded = Self { guard, line, heard: Vec::with_capacity(FRAME), group: None, lease };
        match guarded.answer().await {
            Ok(Some(Answer::Started(pid))) => guarded.group = Pid::from_raw(pid),
            Ok(Some(Answer::Refused(errno))) => return Err(StartError::Program(io::Error::from_raw_os_error(errno))),
            Ok(_) => return Err(StartError::Guard(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => return Err(StartError::Guard(error)),
        }
        Ok((guarded, Output { stdout, stderr }))
    }

    /// Tells the guard. That it can't be told shows in what it says next.
    pub(crate) fn order(&self, order: Order) {
        let _gone = self.line.try_write(&order.encode()).is_err();
    }

    /// What the guard says next; meanwhile, tells it how long the program may live. Cancel safe.
    pub(crate) async fn next(&mut self) -> Said {
        loop {
            let mut lease = self.lease.clone();
            let answer = tokio::select! {
                answer = self.answer() => answer,
                Ok(()) = lease.changed() => {
                    let until = *self.lease.borrow_and_update();
                    self.order(Order::Live(left(until)));
                    continue;
                }
            };
            let end = match answer {
                Ok(Some(Answer::Exited(code))) => End::Exited(code),
                Ok(Some(Answer::Signaled(signal))) => End::Signaled(signal),
                Ok(Some(Answer::Expired)) => return Said::Expired,
                Ok(Some(Answer::Started(_) | Answer::Refused(_)) | None) | Err(_) => return Said::Gone,
            };
            self.group = None;
            return Said::Ended(end);
        }
    }

    /// The next frame; none when the guard has ended. Cancel safe.
    async fn answer(&mut self) -> io::Result<Option<Answer>> {
        loop {
            self.line.readable().await?;
            match self.read() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                answer => return answer,
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<Answer>> {
        loop {
            let mut rest = [0; FRAME];
            let rest = &mut rest[self.heard.len()..];
            let read = self.line.try_read(rest)?;
            if read == 0 {
                return Ok(None);
            }
            self.heard.extend_from_slice(&rest[..read]);
            if let Ok(frame) = <[u8; FRAME]>::try_from(self.heard.as_slice()) {
                self.heard.clear();
                return Answer::decode(frame).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
    }
}

impl Drop for Guarded {
    /// The guard kills what there is when the line closes. If it can't, being killed or frozen, the group is killed here.
    fn drop(&mut self) {
        if let Some(group) = self.group {
            let has_ended = std::iter::from_fn(|| self.read().ok().flatten())
                .any(|answer| matches!(answer, Answer::Exited(_) | Answer::Signaled(_)));
            if !has_ended {
                // An error says that the group is gone, which is what the signal was for.
                let _gone = kill_process_group(group, Signal::KILL).is_err();
            }
        }
        if let Some(guard) = self.guard.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _gone = kill_process(guard, Signal::CONT).is_err();
        }
    }
}

fn left(until: Instant) -> std::time::Duration {
    until.saturating_duration_since(Instant::now())
}
