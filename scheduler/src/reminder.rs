//! A word in the log on something that may come in floods: at once, and then not more often than it can be read.

use std::time::Duration;

use tokio::time::Instant;

/// How often the log mentions the same kind of thing.
const REMIND: Duration = Duration::from_secs(60);

/// Counts what is not mentioned.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    last: Option<Instant>,
    since: u64,
}

impl Reminder {
    /// Counts some more; answers how many there were since the last word if it is time for another.
    pub(crate) fn more(&mut self, count: u64, now: Instant) -> Option<u64> {
        self.since += count;
        if self.last.is_some_and(|last| now.duration_since(last) < REMIND) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_mentioned_at_once_and_a_flood_once_a_minute() {
        let (mut reminder, start) = (Reminder::default(), Instant::now());
        assert_eq!(reminder.more(1, start), Some(1));
        assert_eq!((1..50).filter_map(|second| reminder.more(2, start + Duration::from_secs(second))).count(), 0);
        assert_eq!(reminder.more(1, start + REMIND), Some(99));
    }
}
