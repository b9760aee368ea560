//! How a process stops: the whole policy on one screen.
//!
//! SIGTERM or Ctrl-C sets the *soft* token: take no new work, finish or hand back what runs, within the
//! grace period. A second signal, or the end of the grace period, sets the *hard* token: drop everything.
//! A task that ends by itself, in error or panic, drains the process and makes the exit code 1.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The tasks of a process and the two tokens that end them.
#[derive(Debug)]
pub struct Lifecycle {
    /// Take no new work.
    pub soft: CancellationToken,
    /// Drop everything.
    pub hard: CancellationToken,
    tasks: JoinSet<(&'static str, TaskResult)>,
    signals: Option<(Signal, Signal)>,
}

/// What a task of a process ends with; an error is logged and makes the exit code 1.
pub type TaskResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

impl Default for Lifecycle {
    fn default() -> Self {
        let hard = CancellationToken::new();
        Self { soft: hard.child_token(), hard, tasks: JoinSet::new(), signals: None }
    }
}

impl Lifecycle {
    /// Runs `task` until it ends; it is expected to end only after the soft token was set.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = TaskResult> + Send + 'static) {
        self.tasks.spawn(async move { (name, task.await) });
    }

    /// A group of tasks that stops when this one does. It listens to no signals: who makes it waits for it with
    /// [`Lifecycle::join`].
    #[must_use]
    pub fn child(&self) -> Self {
        Self { soft: self.soft.clone(), hard: self.hard.clone(), tasks: JoinSet::new(), signals: None }
    }

    /// Waits until all tasks have ended. The first that fails, or ends before the soft token was set, ends the
    /// waiting and aborts the others.
    ///
    /// # Errors
    /// What the task failed with.
    pub async fn join(mut self) -> TaskResult {
        while let Some(ended) = self.tasks.join_next().await {
            let (name, result) = ended?;
            result?;
            if !self.soft.is_cancelled() {
                return Err(format!("{name} ended unasked").into());
            }
        }
        Ok(())
    }

    /// From now on SIGTERM and Ctrl-C end the process no more, but wait for [`Lifecycle::run`]: for those who tell somebody
    /// that they are up before they run.
    ///
    /// # Errors
    /// The system does not let the process listen.
    pub fn heed_signals(&mut self) -> std::io::Result<()> {
        if self.signals.is_none() {
            self.signals = Some((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?));
        }
        Ok(())
    }

    /// Waits for a signal or for a task's end, then drains. At the latest `grace` after the soft token
    /// the hard one is set; tasks that outlive that by two seconds are aborted.
    pub async fn run(mut self, grace: Duration) -> ExitCode {
        let mut code = ExitCode::SUCCESS;
        let (Ok(()), Some((mut term, mut int))) = (self.heed_signals(), self.signals.take()) else {
            tracing::error!("can't listen for signals; not starting");
            return ExitCode::FAILURE;
        };
        let mut deadline: Option<tokio::time::Instant> = None;
        loop {
            let patience = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = term.recv() => self.signaled("SIGTERM", grace),
                _ = int.recv() => self.signaled("Ctrl-C", grace),
                // Whoever set it: the grace period begins.
                () = self.soft.cancelled(), if deadline.is_none() => {}
                () = patience => {
                    if self.hard.is_cancelled() {
                        tracing::error!("tasks did not end in time and are aborted");
                        return ExitCode::FAILURE;
                    }
                    tracing::warn!(grace = ?grace, "the grace period is over: dropping what still runs");
                    self.hard.cancel();
                }
                ended = self.tasks.join_next() => match ended {
                    None => return code,
                    Some(Ok((name, Ok(())))) if self.soft.is_cancelled() => tracing::debug!(task = name, "ended"),
                    Some(ended) => {
                        code = ExitCode::FAILURE;
                        match ended {
                            Ok((name, Ok(()))) => tracing::error!(task = name, "ended unasked; stopping"),
                            Ok((name, Err(error))) => tracing::error!(task = name, error = crate::telemetry::chain(&*error), "failed; stopping"),
                            Err(error) => tracing::error!(%error, "a task panicked; stopping"),
                        }
                        self.soft.cancel();
                    }
                },
            }
            if self.hard.is_cancelled() {
                deadline.replace(tokio::time::Instant::now() + Duration::from_secs(2));
            } else if self.soft.is_cancelled() && deadline.is_none() {
                deadline = Some(tokio::time::Instant::now() + grace);
            }
        }
    }

    fn signaled(&self, name: &str, grace: Duration) {
        if self.soft.is_cancelled() {
            tracing::warn!(signal = name, "second signal: dropping what still runs");
            self.hard.cancel();
        } else {
            tracing::info!(
                signal = name,
                ?grace,
                "stopping: taking no new work, and what runs has its grace period; a second signal ends at once"
            );
            self.soft.cancel();
        }
    }
}
