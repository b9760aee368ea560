//! Who is asked whether a lost run took effect, as it is written → as it is kept.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::model::{Verify, VerifyCall, VerifyHttp};
use super::job::RawCommand;
use crate::duration::HumanDuration;

const DEFAULT_TIMEOUT: HumanDuration = HumanDuration::from_secs(10);

#[derive(Deserialize)]
pub(super) struct RawVerify {
    #[serde(flatten)]
    how: RawHow,
    timeout: Option<HumanDuration>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawHow {
    Http(RawHttp),
    Command(RawCommand),
}

#[derive(Deserialize)]
struct RawHttp {
    url: String,
    headers: Option<BTreeMap<String, String>>,
    succeeded: String,
    failed: Option<String>,
    running: Option<String>,
}

impl From<RawVerify> for Verify {
    fn from(RawVerify { how, timeout }: RawVerify) -> Self {
        let how = match how {
            RawHow::Http(RawHttp { url, headers, succeeded, failed, running }) => {
                VerifyCall::Http(VerifyHttp { url, headers: headers.unwrap_or_default(), succeeded, failed, running })
            }
            RawHow::Command(command) => VerifyCall::Command(command.into()),
        };
        Self { how, timeout: timeout.unwrap_or(DEFAULT_TIMEOUT) }
    }
}
