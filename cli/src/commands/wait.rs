//! Waits for the end of what was begun. Ctrl-C ends the waiting and leaves it alone.

use std::time::Duration;

use reveille_shared::clock::{Clock as _, SystemClock};
use reveille_shared::state::Status;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::client::{Answer, Client, ClientError};
use crate::failure::{Exit, Failure, say};
use crate::output::{Output, printable, span};
use crate::progress::Progress;
use crate::view::Run;

/// How long a server that restarts is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can be waited for.
pub(super) trait Awaited: DeserializeOwned {
    /// How far it is in percent, and a printable text.
    fn progress(&self) -> (f64, String);
    /// Whether it has ended.
    fn is_over(&self) -> bool;
}

impl Awaited for Run {
    fn progress(&self) -> (f64, String) {
        let words = self.message.as_deref().or(self.waiting_for.as_deref()).unwrap_or_default();
        let attempt = if self.attempt > 1 { format!(" (attempt {})", self.attempt) } else { String::new() };
        (self.percent_complete, format!("{}{attempt}  {}", self.status, printable(words)))
    }

    fn is_over(&self) -> bool {
        self.status.is_terminal()
    }
}

/// Polls until what is at `path` is over; none after Ctrl-C.
pub(super) async fn until_over<T: Awaited>(
    client: &Client,
    path: &[&str],
    begun: &T,
    first: Duration,
) -> Result<Option<Answer>, ClientError> {
    let mut progress = Progress::new();
    let (percent, text) = begun.progress();
    progress.show(percent, &text);
    let over = tokio::select! {
        over = poll::<T>(client, path, first, &mut progress) => Some(over),
        _ = tokio::signal::ctrl_c() => None,
    };
    progress.close();
    over.transpose()
}

async fn poll<T: Awaited>(
    client: &Client,
    path: &[&str],
    first: Duration,
    progress: &mut Progress,
) -> Result<Answer, ClientError> {
    let mut pause = first;
    let mut silent_since: Option<Instant> = None;
    loop {
        tokio::time::sleep(pause).await;
        match client.get(path, &[]).await {
            Ok(answer) => {
                silent_since = None;
                let seen: T = answer.read()?;
                let (percent, text) = seen.progress();
                progress.show(percent, &text);
                if seen.is_over() {
                    return Ok(answer);
                }
                pause = answer.retry_after;
            }
            Err(error) if error.is_passing() && silent_since.is_none_or(|since| since.elapsed() < PATIENCE) => {
                if silent_since.is_none() {
                    progress.remark("the server does not answer; what you wait for is not affected, trying again");
                    silent_since = Some(Instant::now());
                }
                pause = Duration::from_secs(1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits for runs, one after the other, and tells how each has ended. Answers their documents, and how the process is to
/// exit: as the worst of them.
pub(super) async fn until_end(
    client: &Client,
    accepted: &[Run],
    first: Duration,
    output: &mut Output,
) -> Result<(Vec<Value>, Exit), Failure> {
    let mut ended = Vec::new();
    let mut exit = Exit::Done;
    if !output.json {
        accepted.iter().try_for_each(|run| output.line(&format!("{}  {}", run.id, run.status)))?;
        output.finish()?;
    }
    for run in accepted {
        let Some(answer) = until_over(client, &["workRequests", &run.id], run, first).await? else {
            let goes_on = if accepted.len() == 1 { "the run goes on" } else { "the runs go on" };
            say(&format!(
                "{goes_on}; follow it with: reveille logs -f {0}, or stop it with: reveille cancel {0}",
                run.id
            ));
            return Ok((ended, Exit::Interrupted));
        };
        let run: Run = answer.read()?;
        exit = exit.or_worse(Exit::of(run.status));
        ended.push(answer.body);
        if !output.json {
            tell(&run, output)?;
        }
    }
    Ok((ended, exit))
}

fn tell(run: &Run, output: &mut Output) -> Result<(), Failure> {
    let took = run.took(SystemClock.now()).map(|took| format!(" after {}", span(took))).unwrap_or_default();
    output.line(&format!("{}  {}{took}", run.id, run.status))?;
    output.finish()?;
    if let Some(error) = run.error.as_ref().filter(|_| run.status != Status::Succeeded) {
        say(&format!("{}: {}", printable(&error.code), printable(&error.message)));
    }
    Ok(())
}
