//! The limits of a job as they are written → as they are kept.

use serde::Deserialize;

use super::super::limits;
use super::super::model::{Concurrency, OnLost, Priority, Rate, Unique, UniqueSpan};
use crate::duration::HumanDuration;

/// What a job and the defaults of its file may both say.
#[derive(Deserialize, Default, Clone)]
pub(super) struct RawLimits {
    pub(super) priority: Option<Priority>,
    pub(super) concurrency: Option<RawConcurrency>,
    pub(super) rate: Option<RawRate>,
    pub(super) on_lost: Option<OnLost>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
pub(super) enum RawConcurrency {
    Short(u32),
    Long { limit: u32, key: Option<String> },
}

impl From<RawConcurrency> for Concurrency {
    fn from(raw: RawConcurrency) -> Self {
        match raw {
            RawConcurrency::Short(limit) => Self { limit, key: None },
            RawConcurrency::Long { limit, key } => Self { limit, key },
        }
    }
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
pub(super) enum RawRate {
    Short(PerSpan),
    Long { limit: PerSpan, key: Option<String> },
}

impl From<RawRate> for Rate {
    fn from(raw: RawRate) -> Self {
        let (PerSpan(limit, per), key) = match raw {
            RawRate::Short(limit) => (limit, None),
            RawRate::Long { limit, key } => (limit, key),
        };
        Self { limit, per, key }
    }
}

/// How many, and within what span.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "String")]
pub(super) struct PerSpan(u32, HumanDuration);

impl TryFrom<String> for PerSpan {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        limits::rate(&text).map(|(limit, per)| Self(limit, per)).map_err(|complaint| complaint.message)
    }
}

#[derive(Deserialize)]
pub(super) struct RawUnique {
    key: String,
    #[serde(rename = "while")]
    span: RawSpan,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct RawSpan(UniqueSpan);

impl TryFrom<String> for RawSpan {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        limits::unique_span(&text).map(Self).map_err(|complaint| complaint.message)
    }
}

impl From<RawUnique> for Unique {
    fn from(RawUnique { key, span: RawSpan(span) }: RawUnique) -> Self {
        Self { key, span }
    }
}
