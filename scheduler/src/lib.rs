//! The scheduler: definitions and the clock → work requests → triggers on the broker. In reading order:
//!
//! - [`plan`]: the only way in which a work request is born. Pure.
//! - [`status`]: what an operator is told.

pub mod plan;
pub mod status;
