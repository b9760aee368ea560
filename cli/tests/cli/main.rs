//! The real binary, as people and scripts call it.

mod check;
mod dev;
mod next;
mod usage;
mod workbench;
