//! Token buckets. Pure: time comes in from outside.

use std::time::Duration;

use tokio::time::Instant;

/// So many requests in a second, and no more at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    per_second: u32,
}

/// When a bucket is full again; one that is full is like one that there is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bucket {
    full_at: Instant,
}

/// What is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    /// So many requests at once.
    pub(crate) limit: u32,
    /// Of which so many may be made now.
    pub(crate) remaining: u32,
    /// When all of them may be again.
    pub(crate) reset: Duration,
    /// When the next one may be made, if none may now.
    pub(crate) wait: Option<Duration>,
}

impl Rate {
    /// Zero: no limit.
    pub(crate) fn new(per_second: u32) -> Option<Self> {
        (per_second > 0).then_some(Self { per_second })
    }

    /// In what time one more may be made.
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second
    }

    /// What is left in a bucket.
    pub(crate) fn look(self, bucket: Option<Bucket>, now: Instant) -> Level {
        let reset = bucket.map_or(Duration::ZERO, |bucket| bucket.full_at.saturating_duration_since(now));
        let whole = self.interval() * self.per_second;
        let missing = reset.as_nanos().div_ceil(self.interval().as_nanos());
        let remaining = self.per_second.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX));
        let wait = (remaining == 0).then(|| (reset + self.interval()).saturating_sub(whole));
        Level { limit: self.per_second, remaining, reset, wait }
    }

    /// Takes one; whoever calls this has seen that there is one.
    pub(crate) fn take(self, bucket: Option<Bucket>, now: Instant) -> Bucket {
        let from = bucket.map_or(now, |bucket| bucket.full_at.max(now));
        Bucket { full_at: from + self.interval() }
    }
}

impl Bucket {
    /// Whether it can be forgotten.
    pub(crate) fn is_full(self, now: Instant) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However requests come: in no span are more let through than the rate allows and the bucket holds.
        #[test]
        fn never_more_than_the_rate_and_what_is_saved(
            per_second in 1u32..2_000,
            gaps in prop::collection::vec(0u64..30_000_000, 1..300),
        ) {
            let rate = Rate::new(per_second).unwrap();
            let begin = Instant::now();
            let (mut now, mut bucket, mut taken) = (begin, None, Vec::new());
            for gap in gaps {
                now += Duration::from_nanos(gap);
                let level = rate.look(bucket, now);
                prop_assert_eq!(level.remaining == 0, level.wait.is_some());
                prop_assert!(level.remaining <= per_second);
                if level.remaining > 0 {
                    bucket = Some(rate.take(bucket, now));
                    prop_assert_eq!(rate.look(bucket, now).remaining, level.remaining - 1);
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, until) in taken.iter().enumerate().skip(first) {
                    let span = (*until - *from).as_secs_f64();
                    let most = f64::from(per_second) * (1.0 + span) + 1.0;
                    prop_assert!((last - first + 1) as f64 <= most, "{} in {span} s", last - first + 1);
                }
            }
        }

        /// Who waits as long as it is told is let through, and not much sooner.
        #[test]
        fn the_wait_is_exact(per_second in 1u32..5_000) {
            let rate = Rate::new(per_second).unwrap();
            let now = Instant::now();
            let mut bucket = None;
            while rate.look(bucket, now).remaining > 0 {
                bucket = Some(rate.take(bucket, now));
            }
            let wait = rate.look(bucket, now).wait.unwrap();
            prop_assert!(rate.look(bucket, now + wait).remaining > 0);
            if let Some(sooner) = wait.checked_sub(Duration::from_nanos(1)) {
                prop_assert_eq!(rate.look(bucket, now + sooner).remaining, 0);
            }
            let reset = rate.look(bucket, now).reset;
            prop_assert_eq!(rate.look(bucket, now + reset).remaining, per_second);
            prop_assert!(bucket.unwrap().is_full(now + reset));
        }
    }

    #[test]
    fn a_rate_of_zero_is_none() {
        assert_eq!(Rate::new(0), None);
    }
}
