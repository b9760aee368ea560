//! What dies in mid-run, and what is missing at the start: every work request reaches its end all the same (I2),
//! exactly one for each fire and job (I1).

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod at_start;
#[cfg(debug_assertions)]
mod crash;
mod drill;
mod flapping;
mod isolation;
mod killed;
mod long_runs;
mod orphans;
mod purged;
mod streams;
mod transitions;
mod verify;
