//! The scheduler's parts on a real store and a real broker.
#![allow(clippy::unwrap_used, reason = "a test that can't go on panics")]

mod app;
mod dispatching;
mod folder;
mod following;
mod leading;
mod planning;
mod reconciling;
mod world;
