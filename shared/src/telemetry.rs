//! Logs to standard error: for people on a terminal, one JSON object a line otherwise.

use std::error::Error;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// An error with all its sources, as one line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people when standard error is a terminal, JSON otherwise.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends logs at `filter` (`info`, `reveille_worker=debug,warn`) to standard error.
///
/// # Errors
/// The filter's text is malformed, or logging was set up already.
pub fn init(filter: &str, format: LogFormat) -> Result<(), Box<dyn Error + Send + Sync>> {
    let terminal = std::io::stderr().is_terminal();
    // What libraries remark in passing is noise here; a directive of the user's own is stronger.
    let filter = EnvFilter::try_new(format!("sqlx=warn,tokio_cron_scheduler=warn,lapin=warn,{filter}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        // It would say so by a macro that panics: a full disk must not end the process.
        .log_internal_errors(false);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Auto if !terminal => builder.json().flatten_event(true).try_init(),
        LogFormat::Auto | LogFormat::Text => builder.with_target(false).try_init(),
    }
}
