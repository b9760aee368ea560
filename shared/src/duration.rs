//! Durations as people write them: `500ms`, `30s`, `1h30m`, `2d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A span of time with millisecond resolution, written like `1h30m`.
///
/// Units are `d` (24 hours), `h`, `m`, `s` and `ms`, each at most once and from large to small.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(Duration);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write it like 500ms, 30s, 10m, 1h30m or 2d")]
pub struct InvalidDuration(String);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The longest duration that can be written: 100 years of 365 days.
pub const LONGEST: HumanDuration = HumanDuration(Duration::from_secs(100 * 365 * 86_400));

impl HumanDuration {
    /// No time at all.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// A duration of `millis` thousandths of a second.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// A duration of whole seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// The same span for the standard library.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// The same span for arithmetic on timestamps.
    #[must_use]
    pub fn signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::try_from(self.0).unwrap_or(jiff::SignedDuration::MAX)
    }

    /// Whole milliseconds.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl FromStr for HumanDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut rest = text;
        let mut next_unit = 0;
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
            let count: u64 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let unit = UNITS.iter().position(|(name, _)| *name == &rest[..letters]).ok_or_else(invalid)?;
            if unit < next_unit {
                return Err(invalid());
            }
            total = count.checked_mul(UNITS[unit].1).and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
            next_unit = unit + 1;
            rest = &rest[letters..];
        }
        let parsed = Self::from_millis(total);
        if next_unit == 0 || parsed > LONGEST { Err(invalid()) } else { Ok(parsed) }
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (name, size) in UNITS {
            if millis >= size {
                write!(f, "{}{name}", millis / size)?;
                millis %= size;
            }
        }
        Ok(())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("2d", 172_800_000), ("0s", 0), ("1m1ms", 60_001)]
        {
            assert_eq!(text.parse(), Ok(HumanDuration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in
            ["", "10", "m", "1m1h", "1m1m", "-5s", "1.5h", "5 s", "1w", "99999999999999999999d", "40000d", "５s"]
        {
            assert!(text.parse::<HumanDuration>().is_err(), "{text:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(millis in 0..LONGEST.as_millis()) {
            let duration = HumanDuration::from_millis(millis);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
