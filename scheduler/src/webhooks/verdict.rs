//! What follows an attempt to deliver. Pure; time and randomness are parameters.

use jiff::{SignedDuration, Timestamp};
use reveille_shared::store::Next;

use super::poster::Answer;

/// The delay after the first failure; each further one makes it four times as long.
const FIRST: SignedDuration = SignedDuration::from_secs(2);
const LONGEST: SignedDuration = SignedDuration::from_hours(4);
/// The longest that a target may ask to be left alone.
const LONGEST_WISH: SignedDuration = SignedDuration::from_hours(24);

/// What follows the answer to attempt `tries` of a delivery that is tried for `patience` from `queued_at` on. `luck` is
/// uniform in 0 ..= 1: it makes the delay up to a quarter shorter or longer, so that not all come back at once.
pub(super) fn next(
    answer: &Answer,
    tries: u32,
    queued_at: Timestamp,
    patience: SignedDuration,
    now: Timestamp,
    luck: f64,
) -> Next {
    if answer.is_taken() {
        return Next::Taken;
    }
    if answer.is_gone() {
        return Next::Gone;
    }
    let deadline = queued_at.saturating_add(patience).unwrap_or(Timestamp::MAX);
    if now >= deadline {
        return Next::GivenUp;
    }
    let seconds = delay(tries).as_secs_f64() * (0.75 + luck.clamp(0.0, 1.0) / 2.0);
    let delay = SignedDuration::try_from_secs_f64(seconds).unwrap_or(LONGEST);
    let delay = delay.max(answer.retry_after.unwrap_or_default().min(LONGEST_WISH));
    // The last attempt is at the deadline.
    Next::Again(now.saturating_add(delay).unwrap_or(Timestamp::MAX).min(deadline))
}

fn delay(tries: u32) -> SignedDuration {
    let factor = 4_i32.checked_pow(tries.saturating_sub(1)).unwrap_or(i32::MAX);
    FIRST.checked_mul(factor).unwrap_or(LONGEST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use reveille_shared::store::DeliveryAttempt;

    use super::*;

    const PATIENCE: SignedDuration = SignedDuration::from_hours(72);

    fn answer(status: u16, retry_after: Option<i64>) -> Answer {
        let error = (status >= 300).then(|| "no".to_owned());
        let attempt = DeliveryAttempt { at: Timestamp::UNIX_EPOCH, ms: 1, status: Some(status), error };
        Answer { attempt, retry_after: retry_after.map(SignedDuration::from_secs) }
    }

    fn after(answer: &Answer, tries: u32, seconds: i64, luck: f64) -> Next {
        let now = Timestamp::from_second(seconds).unwrap();
        next(answer, tries, Timestamp::UNIX_EPOCH, PATIENCE, now, luck)
    }

    fn again(seconds: f64) -> Next {
        Next::Again(Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(seconds))
    }

    #[test]
    fn delays_grow_to_four_hours_and_vary_by_a_quarter() {
        let failed = answer(500, None);
        let delays = (1..12).map(|tries| after(&failed, tries, 0, 0.5));
        let expected = [2, 8, 32, 128, 512, 2_048, 8_192, 14_400, 14_400, 14_400, 14_400].map(|s| again(f64::from(s)));
        assert!(delays.eq(expected));
        assert_eq!((after(&failed, 1, 0, 0.0), after(&failed, 1, 0, 1.0)), (again(1.5), again(2.5)));
        assert_eq!(after(&failed, u32::MAX, 0, 0.5), again(14_400.0));
    }

    #[test]
    fn the_last_attempt_is_at_the_end_of_patience() {
        let (failed, end) = (answer(500, None), PATIENCE.as_secs());
        assert_eq!(after(&failed, 20, end - 60, 0.5), again(end as f64));
        assert_eq!(after(&failed, 20, end, 0.5), Next::GivenUp);
        assert_eq!(after(&answer(204, None), 20, end, 0.5), Next::Taken);
    }

    #[test]
    fn a_target_may_ask_for_more_time_up_to_a_day() {
        assert_eq!(after(&answer(429, Some(60)), 1, 0, 0.5), again(60.0));
        assert_eq!(after(&answer(503, Some(1)), 2, 0, 0.5), again(8.0), "not for less");
        assert_eq!(after(&answer(503, Some(1_000_000)), 1, 0, 0.5), again(86_400.0));
        assert_eq!(after(&answer(410, Some(60)), 1, 0, 0.5), Next::Gone);
    }
}
