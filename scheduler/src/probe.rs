//! Is the database there, and do its clock and ours agree?

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use reveille_shared::clock::Clock;
use reveille_shared::periodic::Pass;
use reveille_shared::store::{CLOCK_TOLERANCE, Store, StoreError};
use reveille_shared::telemetry::chain;

use crate::status::Status;

/// How often to look.
pub const PERIOD: Duration = Duration::from_millis(1500);
/// A scheduler whose clock differs by more than this from the database's does not plan.
pub const BEARABLE: SignedDuration = CLOCK_TOLERANCE;

/// How far this machine's clock is ahead of the database's, as last measured.
#[derive(Debug, Default)]
pub struct Skew(Mutex<Option<SignedDuration>>);

impl Skew {
    /// `Err` says why not to plan.
    ///
    /// # Errors
    /// The clocks differ by more than [`BEARABLE`], or have not been compared yet.
    pub fn bearable(&self) -> Result<(), String> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(skew) if skew.abs() <= BEARABLE => Ok(()),
            Some(skew) => Err(format!(
                "this machine's clock is {:.1} s {} the database's: not planning until they agree within {} s",
                skew.abs().as_secs_f64(),
                if skew.is_positive() { "ahead of" } else { "behind" },
                BEARABLE.as_secs(),
            )),
            None => Err("the database's clock has not been read yet".into()),
        }
    }

    /// Whether the clocks are known to differ by more than [`BEARABLE`].
    #[must_use]
    pub fn is_unbearable(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|skew| skew.abs() > BEARABLE)
    }

    /// Takes note of a difference.
    pub fn set(&self, skew: SignedDuration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(skew);
    }
}

/// How far our clock is ahead for certain, if the database's showed `theirs` at some instant
/// between our `before` and `after`.
#[must_use]
pub fn skew(before: Timestamp, theirs: Timestamp, after: Timestamp) -> SignedDuration {
    if theirs < before {
        before.duration_since(theirs)
    } else if theirs > after.max(before) {
        after.max(before).duration_since(theirs)
    } else {
        SignedDuration::ZERO
    }
}

/// Asks the database for its time.
///
/// - Reads: the database's clock.
/// - Writes: nothing but this process's status.
/// - Repeating is safe, as nothing is changed.
/// - A crash here leaves nothing behind.
pub struct Probe {
    /// Whom to ask.
    pub store: Store,
    /// Our own clock.
    pub clock: Arc<dyn Clock>,
    /// Where the difference is put.
    pub skew: Arc<Skew>,
    /// Who is told.
    pub status: Arc<Status>,
}

#[async_trait]
impl Pass for Probe {
    const NAME: &'static str = "probe";
    type Report = SignedDuration;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(SignedDuration, Option<Duration>), StoreError> {
        let before = self.clock.now();
        let answer = self.store.now().await;
        let after = self.clock.now();
        let theirs = answer.inspect_err(|error| self.status.tell("database", false, chain(error)))?;
        self.status.tell("database", true, "connected");
        let skew = skew(before, theirs, after);
        self.skew.set(skew);
        metrics::gauge!("reveille_clock_skew_seconds").set(skew.as_secs_f64());
        match self.skew.bearable() {
            Ok(()) => self.status.tell("clock", true, "agrees with the database's"),
            Err(why) => {
                tracing::error!("{why}");
                self.status.tell("clock", false, why);
            }
        }
        Ok((skew, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_a_certain_difference_counts() {
        assert_eq!(skew(at(10), at(10), at(10)), SignedDuration::ZERO);
        assert_eq!(skew(at(10), at(13), at(15)), SignedDuration::ZERO, "a slow answer is no difference");
        assert_eq!(skew(at(10), at(7), at(11)), SignedDuration::from_secs(3));
        assert_eq!(skew(at(10), at(17), at(11)), SignedDuration::from_secs(-6));
        assert_eq!(skew(at(10), at(10), at(5)), SignedDuration::ZERO, "our clock was put back while we asked");
    }

    #[test]
    fn an_unknown_or_large_difference_is_not_bearable() {
        let known = Skew::default();
        assert!(known.bearable().is_err());
        known.set(BEARABLE);
        assert_eq!(known.bearable(), Ok(()));
        known.set(-BEARABLE - SignedDuration::from_millis(500));
        let why = known.bearable().unwrap_err();
        assert!(why.contains("2.5 s behind the database's"), "{why}");
    }
}
