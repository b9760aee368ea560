//! How an attempt has ended → what is reported. Decides only.

use std::time::Duration;

use reveille_shared::definition::{FanOut, Job, OnLost, RetryPolicy};
use reveille_shared::retry;
use reveille_shared::store::Outcome;
use reveille_shared::work_request::{MAX_OUTPUT, RunError};
use serde_json::Value;

use crate::handlers::{RunFailure, RunResult};
use crate::report::{cut, printable};
use crate::runs::Why;

/// The longest error text that is kept, in bytes.
const MAX_MESSAGE: usize = 4 * 1024;

/// What a job says about attempts that did not end well.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies {
    pub(crate) retry: RetryPolicy,
    pub(crate) on_lost: OnLost,
    /// Whether a lost attempt took effect can be asked.
    pub(crate) verify: bool,
}

impl Policies {
    pub(crate) fn of(job: &Job) -> Self {
        Self { retry: job.retry, on_lost: job.on_lost, verify: job.verify.is_some() }
    }
}

/// How the handler ended.
#[derive(Debug)]
pub(crate) enum End {
    Returned(RunResult),
    Panicked(String),
    /// Did not heed its token and was dropped.
    Dropped,
    /// It was told to stop before it had begun anything.
    NotBegun,
    /// It has succeeded, and calls for children, whose inputs are kept.
    Split(Value, Box<FanOut>, u32),
    /// What it has begun elsewhere goes on, and is to be asked after.
    Parked {
        after: Duration,
        notes: Value,
    },
    /// Nothing was run: a lost attempt is known to have taken effect.
    Verified(Value),
    /// Nothing was run: whether a lost attempt took effect is to be asked again.
    Deferred {
        after: Duration,
        reason: String,
    },
}

/// Any end → what is reported. A handler that succeeded is believed, even if it was told to stop meanwhile: it took effect.
/// One that was broken off as its lease may have ended is lost, also if the lease turns out to be good after all. So is one
/// that was broken off as its worker ends; but the next worker has it at once, and it does not count.
pub(crate) fn normalize(end: End, why: Option<Why>, policies: &Policies, failures: u32, luck: f64) -> Outcome {
    let error = |failure: &RunFailure| RunError {
        code: printable(cut(&failure.code, 64)),
        message: printable(cut(&failure.message, MAX_MESSAGE)),
    };
    let lost = |failure: &RunFailure| {
        let retry = retry::after_loss(policies.on_lost, &policies.retry, failures + 1, luck);
        Outcome::Lost { error: error(failure), retry, verify: policies.verify }
    };
    let failed = |failure: RunFailure| {
        if failure.in_doubt {
            return lost(&failure);
        }
        let not_before = failure.not_before.unwrap_or_default();
        let retry = retry::delay_after(&policies.retry, failures + 1, luck, failure.retryable, not_before);
        Outcome::Failed { error: error(&failure), retry }
    };
    match (end, why) {
        // Whoever has it next is told of a cancel, and sees that its time is over.
        (End::Parked { after, notes }, _) => Outcome::Parked { after, notes },
        (End::Returned(Ok(output)), _) => match storable(output) {
            Ok(output) => Outcome::Succeeded { output },
            Err(failure) => failed(failure),
        },
        (End::Verified(output), _) => match storable(output) {
            Ok(output) => Outcome::Verified { output },
            Err(failure) => failed(failure),
        },
        (End::Split(output, fan_out, children), _) => match storable(output) {
            Ok(output) => Outcome::Split { output, job: fan_out.job, fail: fan_out.fail, children },
            Err(failure) => failed(failure),
        },
        (_, Some(Why::Asked)) => Outcome::Stopped,
        (End::Deferred { .. }, Some(Why::Drained)) | (End::NotBegun, None | Some(Why::Drained | Why::LeaseLost)) => {
            Outcome::Released { doubt: false }
        }
        (End::Deferred { after, reason }, _) => {
            Outcome::Deferred { after, reason: printable(cut(&reason, MAX_MESSAGE)) }
        }
        (_, Some(Why::Drained)) if policies.verify || policies.on_lost == OnLost::Retry => {
            Outcome::Released { doubt: policies.verify }
        }
        (_, Some(Why::Drained)) => {
            let told = "the worker was told to end, and broke the attempt off; whether it took effect is not known";
            lost(&RunFailure::in_doubt(told).code("Lost"))
        }
        (_, Some(Why::LeaseLost)) => {
            let told =
                "the worker was cut off or stood still, and broke the attempt off; whether it took effect is not known";
            lost(&RunFailure::in_doubt(told).code("Lost"))
        }
        (End::Returned(Err(failure)), Some(Why::TimedOut)) if failure.in_doubt => {
            let told = "ran for longer than the job's time-out, and was given up; whether it took effect is not known";
            lost(&RunFailure::in_doubt(told).code("Timeout"))
        }
        (_, Some(Why::TimedOut)) => failed(RunFailure::retry("ran for longer than the job's time-out").code("Timeout")),
        (End::Returned(Err(failure)), None) => failed(failure),
        (End::Panicked(text), None) => failed(RunFailure::retry(text).code("Panic")),
        (End::Dropped, None) => failed(RunFailure::retry("was dropped").code("Stopped")),
    }
}

/// An output that every database can keep, or why there is none.
fn storable(mut output: Value) -> Result<Value, RunFailure> {
    if output.is_null() {
        return Ok(output);
    }
    let text = output.to_string();
    if text.len() > MAX_OUTPUT {
        let told = format!("the output has {} bytes of JSON; {MAX_OUTPUT} are kept at most", text.len());
        return Err(RunFailure::fatal(told).code("OutputTooLarge"));
    }
    // PostgreSQL keeps no NUL in JSON.
    if text.contains("\\u0000") {
        without_nul(&mut output);
    }
    Ok(output)
}

fn without_nul(value: &mut Value) {
    match value {
        Value::String(text) => *text = printable(text),
        Value::Array(items) => items.iter_mut().for_each(without_nul),
        Value::Object(members) => {
            *members = std::mem::take(members)
                .into_iter()
                .map(|(key, mut item)| {
                    without_nul(&mut item);
                    (printable(&key), item)
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The word for metrics.
pub(crate) fn label(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Verified { .. } => "verified",
        Outcome::Deferred { .. } => "deferred",
        Outcome::Parked { .. } => "parked",
        Outcome::Split { .. } => "split",
        Outcome::Failed { retry: None, .. } => "failed",
        Outcome::Failed { retry: Some(_), .. } => "retried",
        Outcome::Stopped => "canceled",
        Outcome::Released { .. } => "released",
        Outcome::Lost { .. } => "lost",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use reveille_shared::definition::Backoff;
    use reveille_shared::duration::HumanDuration;
    use serde_json::json;

    use super::*;

    const POLICIES: Policies = Policies {
        retry: RetryPolicy {
            max_attempts: 2,
            initial: HumanDuration::from_secs(4),
            max: HumanDuration::from_secs(60),
            backoff: Backoff::Exponential,
        },
        on_lost: OnLost::Retry,
        verify: false,
    };

    pub(crate) fn ended(end: End, why: Option<Why>, failures: u32) -> Outcome {
        normalize(end, why, &POLICIES, failures, 0.5)
    }

    fn failed(code: &str, outcome: Outcome) -> (String, Option<Duration>) {
        match outcome {
            Outcome::Failed { error, retry } if error.code == code => (error.message, retry),
            other => panic!("expected {code}, got {other:?}"),
        }
    }

    #[test]
    fn every_end_has_one_outcome() {
        let ok = || End::Returned(Ok(json!(1)));
        let failure = || End::Returned(Err(RunFailure::retry("x")));
        let succeeded = Outcome::Succeeded { output: json!(1) };
        for why in [None, Some(Why::TimedOut), Some(Why::Asked), Some(Why::Drained), Some(Why::LeaseLost)] {
            assert_eq!(ended(ok(), why, 0), succeeded, "{why:?}");
        }
        for end in [failure, || End::Dropped, || End::Panicked("x".into())] {
            assert_eq!(ended(end(), Some(Why::Asked), 0), Outcome::Stopped);
            assert_eq!(ended(end(), Some(Why::Drained), 0), Outcome::Released { doubt: false });
            assert!(matches!(ended(end(), Some(Why::LeaseLost), 0), Outcome::Lost { .. }));
            failed("Timeout", ended(end(), Some(Why::TimedOut), 0));
        }
        failed("Panic", ended(End::Panicked("x".into()), None, 0));
        for why in [Why::Drained, Why::LeaseLost] {
            assert_eq!(ended(End::NotBegun, Some(why), 0), Outcome::Released { doubt: false });
        }
        assert_eq!(ended(End::NotBegun, Some(Why::Asked), 0), Outcome::Stopped);
        failed("Timeout", ended(End::NotBegun, Some(Why::TimedOut), 0));
    }

    #[test]
    fn what_was_broken_off_goes_on_as_the_job_says_of_what_is_lost() {
        let broken_off = |policies: &Policies, failures| {
            let stalled = End::Returned(Err(RunFailure::in_doubt("x").code("Stalled")));
            let by_itself = normalize(stalled, None, policies, failures, 0.5);
            let told = normalize(End::Dropped, Some(Why::LeaseLost), policies, failures, 0.5);
            [(by_itself, "Stalled"), (told, "Lost")].map(|(outcome, code)| match outcome {
                Outcome::Lost { error, retry, verify } if error.code == code => (retry, verify),
                other => panic!("expected {code}, got {other:?}"),
            })
        };
        assert_eq!(broken_off(&POLICIES, 0), [(Some(Duration::from_secs(2)), false); 2]);
        assert_eq!(broken_off(&POLICIES, 1), [(None, false); 2], "two attempts in all");
        let asks = Policies { on_lost: OnLost::Fail, verify: true, ..POLICIES };
        assert_eq!(broken_off(&asks, 0), [(None, true); 2]);
    }

    #[test]
    fn what_is_broken_off_as_its_worker_ends_goes_on_likewise_and_does_not_count() {
        let drained = |policies: &Policies, end| normalize(end, Some(Why::Drained), policies, 1, 0.5);
        let released = |doubt| Outcome::Released { doubt };
        let ends = || [End::Dropped, End::Panicked("x".into()), End::Returned(Err(RunFailure::stopped()))];
        let asks = Policies { on_lost: OnLost::Fail, verify: true, ..POLICIES };
        let fails = Policies { on_lost: OnLost::Fail, ..POLICIES };
        for end in ends() {
            assert_eq!(drained(&asks, end), released(true));
        }
        for end in ends() {
            assert_eq!(drained(&POLICIES, end), released(false), "although no attempt is left");
        }
        for end in ends() {
            let lost = drained(&fails, end);
            assert!(
                matches!(&lost, Outcome::Lost { error, retry: None, verify: false } if error.code == "Lost"),
                "{lost:?}"
            );
        }
        for policies in [&asks, &fails, &POLICIES] {
            assert_eq!(drained(policies, End::NotBegun), released(false));
        }
    }

    #[test]
    fn a_call_that_is_given_up_when_time_is_over_is_in_doubt() {
        let fails = Policies { on_lost: OnLost::Fail, ..POLICIES };
        let timed_out = |failure| normalize(End::Returned(Err(failure)), Some(Why::TimedOut), &fails, 0, 0.5);
        let given_up = timed_out(RunFailure::given_up());
        assert!(
            matches!(&given_up, Outcome::Lost { error, retry: None, .. } if error.code == "Timeout"),
            "{given_up:?}"
        );
        assert_eq!(failed("Timeout", timed_out(RunFailure::stopped())).1, Some(Duration::from_secs(2)));
    }

    #[test]
    fn the_retry_policy_decides_within_its_bounds() {
        let retry =
            |failure: RunFailure, failures| failed("Failed", ended(End::Returned(Err(failure)), None, failures)).1;
        let secs = Duration::from_secs;
        assert_eq!(retry(RunFailure::retry("x"), 0), Some(secs(2)));
        assert_eq!(retry(RunFailure::retry("x"), 1), None, "two attempts in all");
        assert_eq!(retry(RunFailure::fatal("x"), 0), None);
        assert_eq!(retry(RunFailure::fatal("x").not_before(secs(9)), 0), None);
        assert_eq!(retry(RunFailure::retry("x").not_before(secs(9)), 0), Some(secs(9)));
        assert_eq!(retry(RunFailure::retry("x").not_before(secs(9999)), 0), Some(secs(60)));
    }

    #[test]
    fn outputs_are_bounded_and_storable() {
        let largest = json!("x".repeat(MAX_OUTPUT - 2));
        assert_eq!(ended(End::Returned(Ok(largest.clone())), None, 0), Outcome::Succeeded { output: largest });
        let larger = json!("x".repeat(MAX_OUTPUT - 1));
        assert_eq!(failed("OutputTooLarge", ended(End::Returned(Ok(larger)), None, 0)).1, None);
        let odd = json!({"a\0": ["b\0", 1, "\\u0000"]});
        let output = json!({"a\u{fffd}": ["b\u{fffd}", 1, "\\u0000"]});
        assert_eq!(ended(End::Returned(Ok(odd)), None, 0), Outcome::Succeeded { output });
    }
}
