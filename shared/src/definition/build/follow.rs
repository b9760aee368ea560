//! How what a call has begun is asked after, as it is written → as it is kept.

use serde::Deserialize;

use super::super::model::Follow;
use crate::duration::HumanDuration;

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawFollow {
    Short(bool),
    Long(Box<RawFollowMap>),
}

#[derive(Deserialize)]
pub(super) struct RawFollowMap {
    url: Option<String>,
    succeeded: Option<String>,
    failed: Option<String>,
    running: Option<String>,
    percent: Option<String>,
    #[serde(default)]
    poll: RawPoll,
    cancel: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy)]
pub(in super::super) struct RawPoll {
    pub(in super::super) min: Option<HumanDuration>,
    pub(in super::super) max: Option<HumanDuration>,
}

impl RawPoll {
    /// The shortest and the longest time, with what is not written filled in.
    pub(in super::super) fn bounds(self) -> (HumanDuration, HumanDuration) {
        let built_in = Follow::default();
        let (least, most) = (self.min.unwrap_or(built_in.least), self.max.unwrap_or(built_in.most));
        // Who writes only one of them means that one.
        match self {
            Self { max: None, .. } => (least, most.max(least)),
            Self { min: None, .. } => (least.min(most), most),
            _ => (least, most),
        }
    }
}

impl RawFollow {
    pub(super) fn read(self) -> Option<Follow> {
        let raw = match self {
            Self::Short(false) => return None,
            Self::Short(true) => return Some(Follow::default()),
            Self::Long(raw) => *raw,
        };
        let RawFollowMap { url, succeeded, failed, running, percent, poll, cancel } = raw;
        let (least, most) = poll.bounds();
        Some(Follow { url, succeeded, failed, running, percent, least, most, delete: cancel.is_some() })
    }
}
