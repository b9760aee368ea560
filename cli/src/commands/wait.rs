//! Waits for the end of a run: a progress bar on a terminal, plain lines elsewhere, both on standard error.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reveille_shared::clock::{Clock as _, SystemClock};
use tokio::time::Instant;

use crate::client::{Answer, Client, ClientError};
use crate::failure::{Exit, Failure, say};
use crate::output::{Output, printable, span};
use crate::view::Run;

/// How long a server that restarts is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until the run has ended, and answers as it ended. Ctrl-C ends the waiting and leaves the run alone.
pub(crate) async fn until_end(
    client: &Client,
    accepted: &Run,
    first: Duration,
    output: &mut Output,
) -> Result<Exit, Failure> {
    if !output.json {
        output.line(&format!("{}  {}", accepted.id, accepted.status))?;
        output.finish()?;
    }
    let mut progress = Progress::new();
    let ended = tokio::select! {
        ended = poll(client, accepted, first, &mut progress) => ended,
        _ = tokio::signal::ctrl_c() => {
            progress.close();
            say(&format!("the run goes on; follow it with: reveille logs -f {0}, or stop it with: reveille cancel {0}", accepted.id));
            return Ok(Exit::Interrupted);
        }
    };
    progress.close();
    let answer = ended?;
    let run: Run = answer.read()?;
    if output.json {
        output.document(&answer.body)?;
        return Ok(Exit::of(run.status));
    }
    let took = run.took(SystemClock.now()).map(|took| format!(" after {}", span(took))).unwrap_or_default();
    output.line(&format!("{}  {}{took}", run.id, run.status))?;
    output.finish()?;
    if let Some(error) = run.error.filter(|_| run.status != reveille_shared::state::Status::Succeeded) {
        say(&format!("{}: {}", printable(&error.code), printable(&error.message)));
    }
    Ok(Exit::of(run.status))
}

async fn poll(
    client: &Client,
    accepted: &Run,
    first: Duration,
    progress: &mut Progress,
) -> Result<Answer, ClientError> {
    let mut pause = first;
    let mut silent_since: Option<Instant> = None;
    progress.show(accepted);
    loop {
        tokio::time::sleep(pause).await;
        match client.get(&["workRequests", &accepted.id], &[]).await {
            Ok(answer) => {
                silent_since = None;
                let run: Run = answer.read()?;
                progress.show(&run);
                if run.status.is_terminal() {
                    return Ok(answer);
                }
                pause = answer.retry_after;
            }
            Err(error) if error.is_passing() && silent_since.is_none_or(|since| since.elapsed() < PATIENCE) => {
                if silent_since.is_none() {
                    progress.remark("the server does not answer; the run is not affected, trying again");
                    silent_since = Some(Instant::now());
                }
                pause = Duration::from_secs(1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// What people see while they wait.
enum Progress {
    Bar(ProgressBar),
    Lines { last: String },
}

impl Progress {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: String::new() };
        }
        let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:30}] {pos:>3} %  {elapsed}  {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self::Bar(bar)
    }

    fn show(&mut self, run: &Run) {
        let words = run.message.as_deref().or(run.waiting_for.as_deref()).unwrap_or_default();
        let attempt = if run.attempt > 1 { format!(" (attempt {})", run.attempt) } else { String::new() };
        let text = format!("{}{attempt}  {}", run.status, printable(words));
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 100")]
        let percent = run.percent_complete.clamp(0.0, 100.0) as u64;
        match self {
            Self::Bar(bar) => {
                bar.set_position(percent);
                bar.set_message(text);
            }
            Self::Lines { last } => {
                let line = format!("{percent:>3} %  {}", text.trim_end());
                if *last != line {
                    say(&line);
                    *last = line;
                }
            }
        }
    }

    fn remark(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.set_message(text.to_owned()),
            Self::Lines { .. } => say(text),
        }
    }

    fn close(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
