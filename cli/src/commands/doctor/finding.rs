//! What the doctor has found, with a mark.

use serde::Serialize;

use crate::client::ClientError;
use crate::failure::Failure;
use crate::output::{Output, printable};
use reveille_shared::telemetry::chain;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Well,
    /// Worth knowing; may be on purpose.
    Note,
    /// Somebody has to do something.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// What it is about.
    pub(super) name: String,
    pub(super) state: State,
    /// What was found.
    pub(super) detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    pub(super) fn well(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Well, detail: detail.into(), advice: None }
    }

    pub(super) fn note(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { state: State::Note, ..Self::well(name, detail) }
    }

    pub(super) fn wrong(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { state: State::Wrong, ..Self::well(name, detail) }
    }

    /// The server did not tell.
    pub(super) fn failed(name: &str, error: &ClientError) -> Self {
        Self { advice: error.hint(), ..Self::wrong(name, chain(error)) }
    }

    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// For people: a mark, the name, what was found; then what to do.
    pub(super) fn show(&self, output: &mut Output) -> Result<(), Failure> {
        let (mark, colour) = match self.state {
            State::Well => ("✓", "32"),
            State::Note => ("!", "33"),
            State::Wrong => ("✗", "1;31"),
        };
        let mark = output.paint(colour, mark);
        let lines: Vec<_> = self.detail.lines().map(printable).collect();
        output.line(&format!("{mark} {:<18} {}", self.name, lines.join("\n                       ")))?;
        match &self.advice {
            Some(advice) => output.line(&format!("                     → {}", printable(advice))),
            None => Ok(()),
        }
    }
}
