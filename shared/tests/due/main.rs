//! Due times against known tables, an independent model and another library.

#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

mod changes;
mod days;
mod model;
mod page;
mod properties;
mod reasons;
mod stretches;
mod tables;
mod texts;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use reveille_shared::definition::{Dst, Timing};
use reveille_shared::due::{DueTimes, InvalidTiming};

fn cron(text: &str, zone: &str) -> Result<DueTimes, InvalidTiming> {
    DueTimes::new(&Timing::Cron(text.to_owned()), zone, Dst::default())
}

fn utc(local: &str) -> Timestamp {
    TimeZone::UTC.to_timestamp(local.parse::<DateTime>().expect("a civil time")).expect("a time in range")
}

/// The due times in `(after, until]`; fails as soon as one is not later than the one before.
fn all_between(due_times: &DueTimes, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let mut last = after;
    let increasing = |due: &Timestamp| {
        assert!(*due > last && *due <= until, "{due} follows {last}, up to {until}");
        last = *due;
    };
    due_times.between(after, until).inspect(increasing).collect()
}
