//! How far something is, on standard error: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::say;

/// What people see while they wait.
pub(crate) enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// Elsewhere: a line whenever something changes.
    Lines {
        /// The last line.
        last: String,
    },
}

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new() -> Self {
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

    /// Shows how far it is, with a printable text.
    pub(crate) fn show(&mut self, percent: f64, text: &str) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 100")]
        let percent = percent.clamp(0.0, 100.0) as u64;
        match self {
            Self::Bar(bar) => {
                bar.set_position(percent);
                bar.set_message(text.to_owned());
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

    /// Says something that is no progress.
    pub(crate) fn remark(&self, text: &str) {
        match self {
            Self::Bar(bar) => bar.set_message(text.to_owned()),
            Self::Lines { .. } => say(text),
        }
    }

    /// Leaves the terminal clean.
    pub(crate) fn close(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
