//! Failed attempt → when to try again. Pure; randomness is a parameter.

use std::time::Duration;

use crate::definition::{Backoff, OnLost, RetryPolicy};
use crate::work_request::Happening;

/// The delay before the next attempt once `failures` attempts have failed, or `None` when no more are due.
///
/// "Full jitter" (Brooker, *Exponential Backoff And Jitter*, 2015): uniform between zero and a bound that
/// doubles with each failure, which spreads simultaneous failures best. `luck` is uniform in 0 ..= 1.
#[must_use]
pub fn delay(policy: &RetryPolicy, failures: u32, luck: f64) -> Option<Duration> {
    if failures >= policy.max_attempts {
        return None;
    }
    let doublings = match policy.backoff {
        Backoff::Exponential => failures.saturating_sub(1).min(62),
        Backoff::Constant => 0,
    };
    let bound = policy.initial.as_millis().saturating_mul(1 << doublings).min(policy.max.as_millis());
    Some(Duration::from_millis(bound).mul_f64(luck.clamp(0.0, 1.0)))
}

/// The same for a run whose attempt is lost, if its job's policies grant it another one.
#[must_use]
pub fn after_loss(on_lost: OnLost, policy: &RetryPolicy, failures: u32, luck: f64) -> Option<Duration> {
    match on_lost {
        OnLost::Retry => delay(policy, failures, luck),
        OnLost::Fail => None,
    }
}

/// The same for a failure that says whether a retry may help, and how long to wait at least, within the policy's bounds.
#[must_use]
pub fn delay_after(
    policy: &RetryPolicy,
    failures: u32,
    luck: f64,
    retryable: bool,
    not_before: Duration,
) -> Option<Duration> {
    let delay = delay(policy, failures, luck).filter(|_| retryable)?;
    Some(delay.max(not_before.min(policy.max.get())))
}

/// How often it was asked in vain whether the attempt that was lost last took effect, by a run's history with the latest
/// entry first.
#[must_use]
pub fn questions<'a>(latest_first: impl Iterator<Item = &'a Happening>) -> u32 {
    let is_loss =
        |what: &&Happening| matches!(what, Happening::AttemptFailed { .. } | Happening::Released { doubt: true, .. });
    let since = latest_first.take_while(|what| !is_loss(what));
    since.filter(|what| matches!(what, Happening::Deferred { .. })).fold(0, |count, _| count + 1)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::duration::HumanDuration;
    use crate::work_request::RunError;

    #[test]
    fn doubles_up_to_the_maximum_then_ends() {
        let policy = RetryPolicy {
            max_attempts: 6,
            initial: HumanDuration::from_secs(5),
            max: HumanDuration::from_secs(30),
            backoff: Backoff::Exponential,
        };
        let bounds: Vec<_> = (1..=6).map(|failures| delay(&policy, failures, 1.0).map(|d| d.as_secs())).collect();
        assert_eq!(bounds, [Some(5), Some(10), Some(20), Some(30), Some(30), None]);
    }

    #[test]
    fn only_questions_since_the_last_loss_count() {
        let (token, retry_at) = (Uuid::nil(), Timestamp::UNIX_EPOCH);
        let started = || Happening::Started { attempt: 1, worker: token };
        let deferred = || Happening::Deferred { attempt: 1, token, reason: "busy".into(), retry_at };
        let released = |doubt| Happening::Released { attempt: 1, token, doubt };
        let failed =
            || Happening::AttemptFailed { attempt: 1, token: None, error: RunError::new("Lost", "x"), retry_at };
        let mut latest_first = vec![started(), failed(), deferred(), started(), failed()];
        assert_eq!(questions(latest_first.iter()), 0);
        // Two questions, and a worker that was to end before it had asked.
        latest_first.splice(0..0, [started(), deferred(), started(), released(false), started(), deferred()]);
        assert_eq!(questions(latest_first.iter()), 2);
        latest_first.splice(0..0, [started(), released(true)]);
        assert_eq!(questions(latest_first.iter()), 0);
    }

    proptest! {
        #[test]
        fn never_exceeds_its_bounds(max_attempts in 1u32.., failures in 0u32.., initial in 0u64..1 << 40, max in 0u64..1 << 40, luck in 0.0..=1.0) {
            let (initial, max) = (HumanDuration::from_millis(initial), HumanDuration::from_millis(max));
            let policy = RetryPolicy { max_attempts, initial, max, backoff: Backoff::Exponential };
            match delay(&policy, failures, luck) {
                Some(delay) => prop_assert!(failures < max_attempts && delay <= max.get()),
                None => prop_assert!(failures >= max_attempts),
            }
        }
    }
}
