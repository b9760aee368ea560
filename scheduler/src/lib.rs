//! The scheduler: definitions and the clock → work requests → triggers on the broker. In reading order:
//!
//! - [`plan`]: the only way in which a work request is born. Pure.
//! - [`planner`]: pass: schedules that are due → decisions and work requests.
//! - [`leader`]: which of several schedulers plans.
//! - [`probe`]: is the database there, and do the clocks agree?
//! - [`status`]: what an operator is told.

pub mod leader;
pub mod plan;
pub mod planner;
pub mod probe;
pub mod status;
