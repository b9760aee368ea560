//! A command on its host, from the script to its end.

use std::time::Duration;

use reveille_shared::definition::SshCall;
use reveille_shared::telemetry::chain;
use reveille_shared::work_request::Stream;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::{Connection, Target};
use super::outcome::{self, End, Why};
use super::script::{SHELL, Script};
use crate::handlers::lines::Lines;
use crate::handlers::{Run, RunFailure, RunResult, printed};

/// How long a command may take to end after SIGTERM, and to be reported after SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How long output is waited for after the command's end: what has left its group may hold it open.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long output is read on at most, as much of it may be under way.
const LAST_WORDS_MOST: Duration = Duration::from_secs(30);
/// How long handing a word to the connection may take.
const HANDOVER: Duration = Duration::from_secs(1);
/// A word of the worker may be under way for so long.
const TRANSIT: Duration = Duration::from_secs(1);
/// The number of standard error in SSH.
const STDERR: u32 = 1;

/// What is to run, and until when it must have begun.
pub(super) struct Attempt<'a> {
    pub(super) call: &'a SshCall,
    pub(super) run: &'a Run,
    pub(super) script: Script,
    pub(super) begin_by: Instant,
    pub(super) target: &'a Target,
}

/// How far the command is, and what is done if nothing comes until an instant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// The script was sent.
    Beginning,
    /// It is being told to end if it prints nothing for too long.
    Running,
    /// It was sent SIGTERM, and will be SIGKILL.
    Terminated(Instant),
    /// It was sent SIGKILL; then its end is not waited for any more.
    Killed(Instant),
    /// It ended at that instant; nobody reads on for long.
    Over(End, Instant),
}

/// A command on its host.
pub(super) struct Remote {
    connection: Connection,
    output: ChannelReadHalf,
    /// To the keeper.
    line: ChannelWriteHalf<Msg>,
    /// Until when commands may live, as far as is known now.
    lease: watch::Receiver<Instant>,
    /// Until when this one does without further news, as far as the keeper was told.
    granted: Instant,
}

impl Remote {
    /// Sends the script.
    pub(super) async fn start(
        connection: Connection,
        target: &Target,
        script: &Script,
        mut lease: watch::Receiver<Instant>,
    ) -> Result<Self, RunFailure> {
        let refused = |why: String| {
            let told = format!("{}:{} runs no command for {}: {why}", target.host, target.port, target.user);
            RunFailure::retry(told).code("SshRefused")
        };
        let begin = async {
            let (mut output, line) = connection.channel().await?.split();
            line.exec(true, SHELL).await?;
            loop {
                match output.wait().await {
                    Some(ChannelMsg::Success) => return Ok((output, line)),
                    Some(ChannelMsg::Failure) | None => return Err(russh::Error::RequestDenied),
                    Some(_) => {}
                }
            }
        };
        let (output, line) = begin.await.map_err(|error| refused(chain(&error)))?;
        let granted = *lease.borrow_and_update();
        line.data_bytes(script.text(left(granted))).await.map_err(|error| refused(chain(&error)))?;
        Ok(Self { connection, output, line, lease, granted })
    }

    /// Tells the keeper. That it can't be told shows in what comes next.
    async fn say(&self, word: &str) {
        let _told = timeout(HANDOVER, self.line.data_bytes(format!("{word}\n"))).await.is_ok();
    }

    /// Lets the command live on for as long as the lease is known to be good.
    async fn grant(&mut self) {
        self.granted = *self.lease.borrow_and_update();
        self.say(&format!("live {}", left(self.granted).as_secs())).await;
    }

    async fn terminate(&self) -> Phase {
        self.say("term").await;
        Phase::Terminated(Instant::now() + GRACE)
    }

    async fn kill(&self) -> Phase {
        self.say("kill").await;
        // Should the command have ended its keeper.
        let _told = timeout(HANDOVER, self.line.signal(Sig::KILL)).await.is_ok();
        Phase::Killed(Instant::now() + GRACE)
    }

    /// Keeps what the command prints until it has ended, and sees to it that it does.
    pub(super) async fn until_end(mut self, attempt: &Attempt<'_>) -> RunResult {
        let Attempt { call, run, script, begin_by, target } = attempt;
        let (mut stdout, mut stderr) = (Lines::default(), Lines::default());
        let (mut phase, mut why, mut said) = (Phase::Beginning, None, None);
        let mut heard = Instant::now();
        loop {
            let deadline = match &phase {
                Phase::Beginning => Some(*begin_by),
                Phase::Running => call.idle_timeout.map(|idle| heard + idle.get()),
                Phase::Terminated(at) | Phase::Killed(at) => Some(*at),
                Phase::Over(_, ended) => Some((heard.max(*ended) + LAST_WORDS).min(*ended + LAST_WORDS_MOST)),
            };
            let overdue = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let is_alive = matches!(phase, Phase::Beginning | Phase::Running | Phase::Terminated(_));
            tokio::select! {
                // Endless output must not keep the other branches from their turn.
                biased;
                () = overdue => phase = match phase {
                    Phase::Beginning => {
                        why = Some(Why::TooSlow);
                        self.kill().await
                    }
                    Phase::Running => {
                        why = Some(Why::Idle);
                        self.terminate().await
                    }
                    Phase::Terminated(_) => self.kill().await,
                    Phase::Killed(_) | Phase::Over(..) => break,
                },
                () = run.stop.cancelled(), if why.is_none() && is_alive => {
                    why = Some(Why::Stopped);
                    phase = if said.is_some() { self.terminate().await } else { self.kill().await };
                }
                Ok(()) = self.lease.changed(), if is_alive => self.grant().await,
                message = self.output.wait() => match message {
                    Some(ChannelMsg::Data { data }) => {
                        heard = Instant::now();
                        let found = if said.is_some() {
                            stdout.cut(&data, printed::is_wanted(run, Stream::Stdout))
                        } else {
                            let mut found = stdout.cut(&data, |_| true);
                            if let Some(at) = found.lines.iter().position(|line| script.said(line).is_some()) {
                                said = script.said(&found.lines.remove(at));
                                phase = if phase == Phase::Beginning { Phase::Running } else { phase };
                            }
                            found
                        };
                        printed::tell(run, Stream::Stdout, found).await?;
                    }
                    Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => {
                        heard = Instant::now();
                        let found = stderr.cut(&data, printed::is_wanted(run, Stream::Stderr));
                        printed::tell(run, Stream::Stderr, found).await?;
                    }
                    Some(ChannelMsg::ExitStatus { exit_status }) => phase = self.over(End::Exited(exit_status)).await,
                    Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                        phase = self.over(End::Signaled(name(signal_name))).await;
                    }
                    Some(ChannelMsg::Close) | None => break,
                    Some(_) => {}
                },
            }
        }
        printed::tell(run, Stream::Stdout, stdout.rest(printed::is_wanted(run, Stream::Stdout))).await?;
        printed::tell(run, Stream::Stderr, stderr.rest(printed::is_wanted(run, Stream::Stderr))).await?;
        match phase {
            Phase::Over(end, _) => {
                let is_stalled = end == End::Signaled("KILL".to_owned()) && Instant::now() >= self.granted;
                self.connection.close().await;
                outcome::of_end(call, target, end, said, why, is_stalled)
            }
            _ => Err(self.without_end(call, target, why).await),
        }
    }

    /// The failure of a command of whose end nothing was heard: told only when the command can't live any more.
    async fn without_end(mut self, call: &SshCall, target: &Target, why: Option<Why>) -> RunFailure {
        let failure = match why {
            Some(why) => outcome::made_to(call, target, why),
            None => outcome::lost(target, &self.connection.why_closed().await),
        };
        let gone = self.granted + TRANSIT;
        // A host that hears anything ends the command now, and any other one when it was told to.
        drop(self);
        sleep_until(gone).await;
        failure
    }

    /// What the command leaves behind in its group ends when the keeper's line does. OpenSSH closes it by itself.
    async fn over(&self, end: End) -> Phase {
        let _told = timeout(HANDOVER, self.line.eof()).await.is_ok();
        Phase::Over(end, Instant::now())
    }
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn name(signal: Sig) -> String {
    match signal {
        Sig::Custom(name) => name,
        known => format!("{known:?}"),
    }
}
