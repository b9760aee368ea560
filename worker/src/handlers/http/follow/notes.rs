//! What one lease notes for the next one, and when that is to ask.

use std::time::Duration;

use reveille_shared::definition::Follow;
use serde::{Deserialize, Serialize};

use super::super::operation::{Found, Said, Way};
use super::{RunFailure, RunResult};

/// How many answers in a row that are of no use, and not likely to become so, are enough.
pub(super) const FEW: u32 = 5;
/// The interval grows by half with each question that finds it running: an end is noticed after at most half as long again
/// as it took.
const GROWTH: f64 = 1.5;
/// From here on it grows no more, whatever its bounds.
const GROWN: u32 = 40;

/// Kept in the store, and shown by nobody: the URL may carry a signature of the callee's. It is kept as the callee wrote
/// it, so that what a relative one takes from the job's own URL is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notes {
    pub(super) url: String,
    pub(super) way: Way,
    /// Where the result will be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<String>,
    /// How often it was found running.
    running: u32,
    /// How often in a row there was no answer that says anything.
    pub(super) failed: u32,
    /// How often since the last good one the answer was of no use, and not likely to become so.
    refused: u32,
}

/// What follows an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Ended(RunResult),
    Again { after: Duration },
}

impl Notes {
    pub(super) const fn new(url: String, way: Way, result: Option<String>) -> Self {
        Self { url, way, result, running: 0, failed: 0, refused: 0 }
    }

    /// Whether the last question has failed.
    pub(super) const fn is_in_trouble(&self) -> bool {
        self.failed > 0 || self.refused > 0
    }

    /// Takes note of what an answer says.
    pub(super) fn next(&mut self, said: Said, follow: &Follow) -> Next {
        let (least, most) = (follow.least.get(), follow.most.get());
        let refusal = match said {
            Said::Succeeded(Found::Here(output)) => return Next::Ended(Ok(output)),
            Said::Ended(failure) => return Next::Ended(Err(failure)),
            Said::Running { wait, .. } => {
                let grown = least.mul_f64(GROWTH.powi(i32::try_from(self.running.min(GROWN)).unwrap_or_default()));
                (self.running, self.failed, self.refused) = (self.running.saturating_add(1), 0, 0);
                return Next::Again { after: wait.unwrap_or(grown).clamp(least, most) };
            }
            Said::Failing(failure) => {
                let grown = least.saturating_mul(1 << self.failed.min(20));
                self.failed = self.failed.saturating_add(1);
                return Next::Again { after: failure.not_before.unwrap_or(grown).clamp(least, most) };
            }
            // It was known: whoever has forgotten it will not remember.
            Said::Unknown(failure) if self.running > 0 => {
                let message = format!("the callee has forgotten what was begun: {}", failure.message);
                return Next::Ended(Err(RunFailure::fatal(message).code("OperationGone")));
            }
            Said::Unknown(failure) | Said::Refused(failure) => failure,
            // A place of a result that is behind another one.
            Said::Succeeded(Found::At { .. }) => RunFailure::fatal("the result is behind more than one redirect"),
        };
        self.refused = self.refused.saturating_add(1);
        if self.refused >= FEW {
            let message = format!("what was begun can't be asked after: {}", refusal.message);
            let code = if refusal.code == "HttpStatus" { "OperationRefused".to_owned() } else { refusal.code };
            return Next::Ended(Err(RunFailure::fatal(message).code(code)));
        }
        Next::Again { after: least.saturating_mul(1 << (self.refused - 1)).clamp(least, most) }
    }
}
