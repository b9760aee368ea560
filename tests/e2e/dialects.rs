//! Clients that others have written: what they say and hear, byte by byte, and the clients themselves where they can be had.

pub(crate) mod clients;
mod transcript;

use anyhow::{Context as _, Result};
use harness::stack::{Builder, Stack};

const JOBS: &str = "
version: 1
defaults: { retry: { max_attempts: 1 } }
jobs:
  good: { command: ['true'] }
  bad: { command: ['false'] }
  hold: { command: [sleep, '600'] }
";

fn stack(builder: Builder) -> Builder {
    builder.schedules(JOBS).slots(8)
}

/// `http://127.0.0.1:PORT`
pub(crate) fn base(stack: &Stack) -> Result<String> {
    let request = stack.api.request(reqwest::Method::GET, "/").build().context("a request")?;
    Ok(request.url().origin().ascii_serialization())
}
