//! Time as a parameter. The only file that may ask the machine what time it is.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::Duration;

use jiff::{Timestamp, TimestampRound, Unit};

/// A wall clock. Instants are whole microseconds, the finest that both databases keep.
pub trait Clock: Debug + Send + Sync {
    /// The present instant. It may go backwards, as wall clocks do.
    fn now(&self) -> Timestamp;
}

/// Cuts an instant to the whole microseconds that both databases keep.
#[must_use]
pub fn whole_micros(at: Timestamp) -> Timestamp {
    at.round(TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc)).unwrap_or(at)
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        whole_micros(Timestamp::now())
    }
}

/// A clock that stands still until it is told to move; it can go back.
#[derive(Debug)]
pub struct TestClock(Mutex<Timestamp>);

impl TestClock {
    /// A clock that shows `start`.
    #[must_use]
    pub fn at(start: Timestamp) -> Self {
        Self(Mutex::new(whole_micros(start)))
    }

    /// Shows `now` from here on, be it later or earlier than before.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = whole_micros(now);
    }

    /// Moves forward by `step`.
    pub fn advance(&self, step: Duration) {
        let mut shown = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *shown = shown
            .saturating_add(jiff::SignedDuration::try_from(step).unwrap_or(jiff::SignedDuration::MAX))
            .unwrap_or(Timestamp::MAX);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
