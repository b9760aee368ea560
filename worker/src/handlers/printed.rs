//! What a program prints → the run's log and its progress; how it ends → the run's result.

use reveille_shared::work_request::Stream;
use serde_json::json;

use super::lines::Found;
use super::{RunFailure, RunResult};
use crate::report::Sink;

/// What a line begins with that says how far the program is.
const PROGRESS: &str = "::progress ";

/// Whether a line is worth a look: of a flood, only what says how far the program is.
pub(super) fn is_wanted(sink: &Sink, stream: Stream) -> impl Fn(&[u8]) -> bool + use<> {
    let is_full = sink.is_full();
    move |line| !is_full || stream == Stream::Stdout && line.starts_with(PROGRESS.as_bytes())
}

/// Keeps lines, and what they say of the progress.
pub(super) async fn tell(sink: &Sink, stream: Stream, found: Found) {
    let Found { lines, unwanted } = found;
    sink.skip(unwanted);
    for line in lines {
        match progress(&line) {
            Some((percent, message)) if stream == Stream::Stdout => sink.progress(percent, message),
            _ => sink.log(stream, &line).await,
        }
    }
}

/// Reads `::progress 40 copying`.
fn progress(line: &str) -> Option<(f32, Option<&str>)> {
    let rest = line.strip_prefix(PROGRESS)?.trim();
    let (number, message) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let percent: f32 = number.strip_suffix('%').unwrap_or(number).parse().ok()?;
    let message = Some(message.trim()).filter(|message| !message.is_empty());
    (0.0..=100.0).contains(&percent).then_some((percent, message))
}

/// The result of a program that has exited; no success listed means 0.
pub(super) fn judge(code: i32, success: &[i32], no_retry: &[i32]) -> RunResult {
    let is_success = if success.is_empty() { code == 0 } else { success.contains(&code) };
    if is_success {
        return Ok(json!({ "exitCode": code }));
    }
    let failure = RunFailure::retry(format!("exited with code {code}")).code("ExitCode");
    Err(RunFailure { retryable: !no_retry.contains(&code), ..failure })
}

/// The failure of a program that a signal has ended.
pub(super) fn signaled(signal: impl std::fmt::Display) -> RunFailure {
    RunFailure::retry(format!("ended by signal {signal}")).code("Signal")
}
