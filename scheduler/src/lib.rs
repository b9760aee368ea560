//! The scheduler.

pub mod api;
mod dashboard;
pub mod plan;
pub mod status;
