//! What a program prints → the run's log and its progress; how it ends → the run's result.

use reveille_shared::work_request::Stream;
use serde_json::{Value, json};

use super::lines::Found;
use super::{Run, RunFailure, RunResult};
use crate::report::MAX_LINE;

/// What a line begins with that says how far the program is.
const PROGRESS: &str = "::progress ";
/// What a line begins with that is the input of a child.
const CHILD: &str = "::child ";

/// Whether a line is worth a look: of a flood, only words to us.
pub(super) fn is_wanted(run: &Run, stream: Stream) -> impl Fn(&[u8]) -> bool + use<> {
    let (is_full, has_children) = (run.sink.is_full(), run.children.is_some());
    move |line| {
        let is_word = || line.starts_with(PROGRESS.as_bytes()) || has_children && line.starts_with(CHILD.as_bytes());
        !is_full || stream == Stream::Stdout && is_word()
    }
}

/// Keeps lines, and what those of the standard output say of progress and children.
pub(super) async fn tell(run: &Run, stream: Stream, found: Found) -> Result<(), RunFailure> {
    let Found { lines, unwanted } = found;
    run.sink.skip(unwanted);
    for line in lines {
        match (stream, progress(&line), &run.children, line.strip_prefix(CHILD)) {
            (Stream::Stdout, Some((percent, message)), ..) => run.sink.progress(percent, message),
            (Stream::Stdout, None, Some(children), Some(input)) => children.add(child(input)?).await?,
            _ => run.sink.log(stream, &line).await,
        }
    }
    Ok(())
}

/// Reads what follows `::child `.
fn child(text: &str) -> Result<Value, RunFailure> {
    serde_json::from_str(text).map_err(|error| {
        let told = if CHILD.len() + text.len() >= MAX_LINE {
            format!("a line with a child's input has more than {MAX_LINE} bytes")
        } else {
            format!("what follows {CHILD}is no JSON: {error}")
        };
        RunFailure::fatal(told).code("InvalidChild")
    })
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
