//! Equal cron texts of equal zones share one compiled form.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{DueTimes, InvalidTiming};
use crate::definition::Timing;

/// Compiles timings and remembers cron texts, so that 100,000 schedules with few distinct texts
/// hold few compiled ones.
#[derive(Debug)]
pub struct Compiler {
    capacity: usize,
    known: Mutex<HashMap<(String, String), DueTimes>>,
}

impl Compiler {
    /// A compiler that remembers at most `capacity` (and at least one) pairs of cron text and time zone.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, known: Mutex::default() }
    }

    /// The same as [`DueTimes::new`], shared with earlier results for an equal timing.
    ///
    /// # Errors
    ///
    /// The same as those of [`DueTimes::new`].
    pub fn compile(&self, timing: &Timing, timezone: &str) -> Result<DueTimes, InvalidTiming> {
        let Timing::Cron(text) = timing else {
            return DueTimes::new(timing, timezone);
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (text.clone(), timezone.to_owned());
        if let Some(due_times) = known.get(&key) {
            return Ok(due_times.clone());
        }
        let due_times = DueTimes::new(timing, timezone)?;
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
        let compile = |text: &str, zone| compiler.compile(&Timing::Cron(text.to_owned()), zone).unwrap();
        let first = compile("0 9 * * *", "UTC");
        assert!(Arc::ptr_eq(&first.0, &compile("0 9 * * *", "UTC").0));
        assert!(!Arc::ptr_eq(&first.0, &compile("0 9 * * *", "Europe/Berlin").0));
        compile("1 9 * * *", "UTC");
        assert_eq!(compiler.known.lock().unwrap().len(), 1, "a full memory starts anew");
        assert!(compiler.compile(&Timing::Cron("nonsense".to_owned()), "UTC").is_err());
    }
}
