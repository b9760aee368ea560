//! Who gives no sign of life, by our own monotonic clock. Pure.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// Between two looks there is no more time than this, unless we were frozen.
const GAP: Duration = Duration::from_secs(5);

/// Whose beat stands still, and since when, by our own monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Beats {
    known: HashMap<Uuid, (i64, Instant)>,
    seen_at: Option<Instant>,
}

/// What a look at a worker found: who, its beat, and how long it may stand still.
pub(super) type Look = (Uuid, i64, Duration);

impl Beats {
    /// The workers whose beat has stood still for their time-to-live. For one whose time-to-live is less than four times
    /// the time between two looks, that begins anew: we may have been frozen or cut off, and it with us. A worker that does
    /// not reach the store relies on this: see `worker/src/isolation.rs`.
    pub(super) fn dead(&mut self, workers: impl Iterator<Item = Look>, now: Instant) -> Vec<Uuid> {
        let gap = self.seen_at.replace(now).map(|seen_at| now.duration_since(seen_at));
        let before = std::mem::take(&mut self.known);
        let mut dead = Vec::new();
        for (worker, beat, ttl) in workers {
            let since = match before.get(&worker) {
                Some((last, since)) if *last == beat && gap.is_some_and(|gap| gap <= ttl / 4) => *since,
                _ => now,
            };
            if now.duration_since(since) >= ttl {
                dead.push(worker);
            }
            self.known.insert(worker, (beat, since));
        }
        dead
    }

    /// To be called when a read failed, or not all workers could be told of it: a database that was away must not
    /// end every lease.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Since when the store was read without a failure and without a gap, by our own monotonic clock.
///
/// A worker in another language that can't reach the API, or whose events wait in the broker, is silent through no fault of
/// its own. So its lease ends only when all of this has been in order for as long as it may be silent: it has had the
/// time for a sign of life.
#[derive(Debug, Default)]
pub(super) struct Steadiness {
    since: Option<Instant>,
    seen_at: Option<Instant>,
}

impl Steadiness {
    /// Takes note of a good look; answers for how long all looks have been good.
    pub(super) fn look(&mut self, now: Instant) -> Duration {
        let has_gap = self.seen_at.replace(now).is_none_or(|seen_at| now.duration_since(seen_at) > GAP);
        let since = if has_gap { self.since.insert(now) } else { self.since.get_or_insert(now) };
        now.duration_since(*since)
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(15);

    /// Looks at one worker at the given seconds with the given beats; answers when it was found dead.
    fn found_dead(looks: &[(u64, i64)]) -> Option<u64> {
        let (start, worker) = (Instant::now(), Uuid::from_u128(1));
        let mut beats = Beats::default();
        looks.iter().find_map(|(second, beat)| {
            let now = start + Duration::from_secs(*second);
            (!beats.dead(std::iter::once((worker, *beat, TTL)), now).is_empty()).then_some(*second)
        })
    }

    #[test]
    fn a_beat_that_stands_still_for_the_ttl_is_death() {
        let looks =
            |beat_at: fn(u64) -> i64| (0..60).step_by(3).map(|second| (second, beat_at(second))).collect::<Vec<_>>();
        assert_eq!(found_dead(&looks(|_| 1)), Some(15));
        assert_eq!(found_dead(&looks(|second| if second < 9 { 1 } else { 2 })), Some(24));
        assert_eq!(found_dead(&looks(|second| i64::try_from(second).unwrap())), None);
    }

    #[test]
    fn a_gap_between_looks_proves_nothing() {
        assert_eq!(found_dead(&[(0, 1), (3, 1), (6, 1), (9, 1), (12, 1), (16, 1), (19, 1), (22, 1), (25, 1)]), None);
        assert_eq!(found_dead(&[(0, 1), (3, 1), (60, 1), (63, 1), (66, 1), (69, 1), (72, 1), (75, 1)]), Some(75));
    }

    #[test]
    fn silence_counts_only_while_all_looks_are_good() {
        let start = Instant::now();
        let mut steadiness = Steadiness::default();
        let mut look = |second| steadiness.look(start + Duration::from_secs(second)).as_secs();
        assert_eq!([look(0), look(2), look(4), look(9)], [0, 2, 4, 9]);
        assert_eq!([look(15), look(17)], [0, 2], "we, or the store, were away");
        steadiness.forget();
        let mut look = |second| steadiness.look(start + Duration::from_secs(second)).as_secs();
        assert_eq!([look(18), look(20)], [0, 2], "a look has failed");
    }

    #[test]
    fn after_a_failed_read_everyone_starts_anew() {
        let (now, worker) = (Instant::now(), Uuid::from_u128(1));
        let mut beats = Beats::default();
        for second in 0..15 {
            assert!(beats.dead(std::iter::once((worker, 1, TTL)), now + Duration::from_secs(second)).is_empty());
        }
        beats.forget();
        assert!(beats.dead(std::iter::once((worker, 1, TTL)), now + TTL).is_empty());
    }
}
