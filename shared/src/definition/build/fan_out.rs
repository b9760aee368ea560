//! What a job's runs call for when their handler has succeeded, as it is written → as it is kept.

use serde::Deserialize;

use super::super::model::FanOut;
use crate::fan_out::{FailPolicy, MAX_CHILDREN};

#[derive(Deserialize)]
pub(super) struct RawFanOut {
    job: String,
    from: Option<String>,
    #[serde(default)]
    fail: FailPolicy,
    max: Option<u32>,
}

impl From<RawFanOut> for FanOut {
    fn from(RawFanOut { job, from, fail, max }: RawFanOut) -> Self {
        Self { job, from, fail, max: max.unwrap_or(MAX_CHILDREN) }
    }
}
