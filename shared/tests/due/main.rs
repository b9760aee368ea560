//! Due times against known tables, an independent model and another library.

mod model;
mod properties;
mod tables;
mod texts;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use reveille_shared::definition::Timing;
use reveille_shared::due::{DueTimes, InvalidTiming};

fn cron(text: &str, zone: &str) -> Result<DueTimes, InvalidTiming> {
    DueTimes::new(&Timing::Cron(text.to_owned()), zone)
}

fn utc(local: &str) -> Timestamp {
    TimeZone::UTC.to_timestamp(local.parse::<DateTime>().expect("a civil time")).expect("a time in range")
}
