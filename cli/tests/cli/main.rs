//! The real binary, as people and scripts call it.
#![allow(clippy::unwrap_used, reason = "in a test")]

mod check;
mod dev;
mod next;
mod usage;
mod workbench;
