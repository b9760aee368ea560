//! Equal cron texts of equal zones share one compiled form.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{DueTimes, InvalidTiming};
use crate::definition::{Dst, Schedule, Timing};

/// Compiles timings and remembers cron texts, so that 100,000 schedules with few distinct texts
/// hold few compiled ones.
#[derive(Debug)]
pub struct Compiler {
    capacity: usize,
    known: Mutex<HashMap<(String, String, Dst), DueTimes>>,
}

impl Compiler {
    /// A compiler that remembers at most `capacity` (and at least one) pairs of cron text and time zone.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, known: Mutex::default() }
    }

    /// The same as [`DueTimes::of`], shared with earlier results for an equal timing.
    ///
    /// # Errors
    ///
    /// The same as those of [`DueTimes::new`].
    pub fn compile(&self, schedule: &Schedule) -> Result<DueTimes, InvalidTiming> {
        let Timing::Cron(text) = &schedule.timing else {
            return DueTimes::of(schedule);
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (text.clone(), schedule.timezone.clone(), schedule.dst);
        if let Some(due_times) = known.get(&key) {
            return Ok(due_times.clone());
        }
        let due_times = DueTimes::of(schedule)?;
        if known.len() >= self.capacity {
            // What is in use lives on with its users.
            known.clear();
        }
        known.insert(key, due_times.clone());
        Ok(due_times)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn equal_texts_of_one_zone_share_one_form() {
        let compiler = Compiler::new(2);
        let schedule = |text: &str, zone: &str| Schedule {
            timezone: zone.to_owned(),
            ..Schedule::new("default", "s", Timing::Cron(text.to_owned()), "job")
        };
        let compile = |text, zone| compiler.compile(&schedule(text, zone)).unwrap();
        let first = compile("0 9 * * *", "UTC");
        assert!(Arc::ptr_eq(&first.0, &compile("0 9 * * *", "UTC").0));
        assert!(!Arc::ptr_eq(&first.0, &compile("0 9 * * *", "Europe/Berlin").0));
        compile("1 9 * * *", "UTC");
        assert_eq!(compiler.known.lock().unwrap().len(), 1, "a full memory starts anew");
        assert!(compiler.compile(&schedule("nonsense", "UTC")).is_err());
    }
}
