//! The scheduler's parts on a real store and a real broker.

mod app;
mod dispatching;
mod folder;
mod leading;
mod planning;
mod reconciling;
mod world;
