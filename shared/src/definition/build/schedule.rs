//! A schedule without faults → the same with all defaults filled in.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::super::days;
use super::super::schedule::{CatchUp, CatchUpPolicy, DayRule, Dst, Overlap, Schedule, Timing};
use super::super::text::timezone;
use super::{DEFAULT_TIMEZONE, OneOrMany};
use crate::duration::HumanDuration;

#[derive(Deserialize)]
pub(super) struct RawSchedule {
    description: Option<String>,
    #[serde(flatten)]
    timing: RawTiming,
    timezone: Option<String>,
    #[serde(default)]
    dst: Dst,
    trigger: OneOrMany<String>,
    #[serde(default)]
    input: Value,
    overlap: Option<RawOverlap>,
    catch_up: Option<RawCatchUp>,
    #[serde(default)]
    jitter: HumanDuration,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    max_fires: Option<u64>,
    #[serde(default)]
    except: Vec<RawDay>,
    #[serde(default)]
    only: Vec<RawDay>,
    pause_after_failures: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawTiming {
    Cron(String),
    Every(HumanDuration),
    At(Timestamp),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawOverlap {
    Short(Overlap),
    Long {
        #[serde(default)]
        policy: Overlap,
        max: Option<u32>,
        #[serde(default)]
        count_manual: bool,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawCatchUp {
    Short(CatchUpPolicy),
    Long { policy: Option<CatchUpPolicy>, window: Option<HumanDuration>, max: Option<u32> },
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct RawDay(DayRule);

impl TryFrom<String> for RawDay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        days::read(&text).map(Self).map_err(|complaint| complaint.message)
    }
}

impl RawSchedule {
    pub(super) fn finish(self, namespace: &str, name: String) -> Schedule {
        let zone = self.timezone.as_deref().unwrap_or(DEFAULT_TIMEZONE);
        let timing = match self.timing {
            RawTiming::Cron(text) => Timing::Cron(text),
            RawTiming::Every(interval) => Timing::Every(interval),
            RawTiming::At(at) => Timing::At(at),
        };
        let (overlap, queue_max, count_manual) = match self.overlap {
            None => (Overlap::default(), None, false),
            Some(RawOverlap::Short(policy)) => (policy, None, false),
            Some(RawOverlap::Long { policy, max, count_manual }) => (policy, max, count_manual),
        };
        Schedule {
            description: self.description,
            timezone: timezone(zone).unwrap_or_else(|_| zone.to_owned()),
            dst: self.dst,
            trigger: self.trigger.into_vec(),
            input: self.input,
            overlap,
            queue_max: queue_max.unwrap_or(Schedule::QUEUE_MAX),
            count_manual,
            catch_up: self.catch_up.map(RawCatchUp::finish).unwrap_or_default(),
            jitter: self.jitter,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            max_fires: self.max_fires,
            except: self.except.into_iter().map(|RawDay(rule)| rule).collect(),
            only: self.only.into_iter().map(|RawDay(rule)| rule).collect(),
            pause_after_failures: self.pause_after_failures,
            ..Schedule::new(namespace, name, timing, "")
        }
    }
}

impl RawCatchUp {
    fn finish(self) -> CatchUp {
        let built_in = CatchUp::default();
        match self {
            Self::Short(policy) => CatchUp { policy, ..built_in },
            Self::Long { policy, window, max } => CatchUp {
                policy: policy.unwrap_or(built_in.policy),
                window: window.unwrap_or(built_in.window),
                max: max.unwrap_or(built_in.max),
            },
        }
    }
}
