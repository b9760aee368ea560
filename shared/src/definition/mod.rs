//! YAML files → jobs and schedules, or every fault at once.

pub mod model;

pub use self::model::*;
