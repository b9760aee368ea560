//! A whole worker against a real store (SQLite) and a real broker (the embedded one).

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod deliveries;
mod leaving;
mod runs;
mod stack;
