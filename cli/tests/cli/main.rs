//! The real binary, as people and scripts call it.
#![allow(clippy::unwrap_used, reason = "in a test")]

mod backfill;
mod check;
mod dev;
mod doctor;
mod explain;
mod fan_out;
mod keys;
mod next;
mod operate;
mod pause;
mod plan;
mod policy;
mod stub;
mod usage;
mod workbench;
