//! When it is worth while to look at a run again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::Wait;
use reveille_shared::work_request::WorkRequest;

/// Seconds at least …
const FLOOR: i64 = 1;
/// … and at most: nobody hears of an end later than that.
const CEILING: i64 = 30;
/// Progress below this says little about the rest, in percent.
const LEAST_PROGRESS: f64 = 5.0;

/// Whole seconds until the next look: half of what seems to be left, so that looks come closer together as the end comes
/// near. Of what takes longer than usual, or when nobody knows how long it takes, a tenth of how long it has taken.
pub(crate) fn poll_after(request: &WorkRequest, wait: Option<&Wait>, usual: Option<Duration>, now: Timestamp) -> u32 {
    let left = match request.phase {
        _ if request.status == Status::Canceling => SignedDuration::ZERO,
        // Nothing happens before.
        Phase::Due { at } | Phase::Parked { at } if at > now => at.duration_since(now),
        Phase::Held { .. } if wait.is_some_and(|wait| wait.estimate.is_some()) => {
            wait.and_then(|wait| wait.estimate).unwrap_or_default() / 2
        }
        _ => half_of_the_rest(request, usual, now),
    };
    let seconds = left.as_secs().clamp(FLOOR, CEILING);
    u32::try_from(seconds).unwrap_or(1)
}

fn half_of_the_rest(request: &WorkRequest, usual: Option<Duration>, now: Timestamp) -> SignedDuration {
    let since = request.started_at.unwrap_or(request.accepted_at);
    let elapsed = now.duration_since(since).max(SignedDuration::ZERO);
    let percent = f64::from(request.percent);
    if (LEAST_PROGRESS..100.0).contains(&percent) {
        let rest = elapsed.as_secs_f64() * (100.0 - percent) / percent;
        return SignedDuration::try_from_secs_f64(rest / 2.0).unwrap_or(SignedDuration::MAX);
    }
    let usual = usual.and_then(|usual| SignedDuration::try_from(usual).ok());
    match usual {
        // What has not started has all of it before it.
        Some(usual) if request.started_at.is_none() => usual / 2,
        Some(usual) if usual > elapsed => (usual - elapsed) / 2,
        _ => elapsed / 10,
    }
}

#[cfg(test)]
mod tests {
    use reveille_shared::state::Hold;
    use reveille_shared::work_request::WorkRequestId;
    use serde_json::Value;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Accepted at 0, and started at 100 if it has.
    fn request(phase: Phase, started: bool, percent: f32) -> WorkRequest {
        WorkRequest {
            id: WorkRequestId::new(at(0)),
            namespace: "default".into(),
            job: "copy".into(),
            job_version: 1,
            queue: "default".into(),
            fire: None,
            chained_from: None,
            parent: None,
            retry_of: None,
            children: None,
            status: if started { Status::InProgress } else { Status::Accepted },
            phase,
            attempt: u32::from(started),
            input: Value::Null,
            resource: None,
            percent,
            message: None,
            error: None,
            expires_at: None,
            accepted_at: at(0),
            started_at: started.then(|| at(100)),
            finished_at: None,
        }
    }

    fn asked(started: bool, percent: f32, usual: Option<u64>, now: i64) -> u32 {
        let phase = Phase::Sent { at: at(0) };
        poll_after(&request(phase, started, percent), None, usual.map(Duration::from_secs), at(now))
    }

    #[test]
    fn looks_come_closer_together_as_the_end_comes_near() {
        let all: Vec<_> = [100, 130, 145, 152, 156, 158].map(|now| asked(true, 0.0, Some(60), now)).into();
        assert_eq!(all, [30, 15, 7, 4, 2, 1]);
    }

    #[test]
    fn progress_knows_better_than_what_is_usual() {
        assert_eq!(asked(true, 50.0, Some(1_000), 120), 10, "20 s for a half: 20 s are left");
        assert_eq!(asked(true, 2.0, Some(20), 110), 5, "too little progress to tell");
        assert_eq!(asked(true, 99.0, None, 110), 1);
    }

    #[test]
    fn what_takes_longer_than_usual_is_asked_after_less_and_less() {
        assert_eq!([200, 300, 1_000].map(|now| asked(true, 0.0, Some(10), now)), [10, 20, 30]);
        assert_eq!([0, 5, 50, 200, 5_000].map(|now| asked(false, 0.0, None, now)), [1, 1, 5, 20, 30], "nobody knows");
    }

    #[test]
    fn what_has_not_started_has_all_of_it_before_it() {
        assert_eq!(asked(false, 0.0, Some(40), 500), 20);
        assert_eq!(asked(false, 0.0, Some(0), 0), 1);
    }

    #[test]
    fn nothing_happens_before_its_time() {
        let due = |now| poll_after(&request(Phase::Due { at: at(20) }, false, 0.0), None, None, at(now));
        assert_eq!([0, 12, 19, 20].map(due), [20, 8, 1, 2]);
        let parked = request(Phase::Parked { at: at(900) }, true, 50.0);
        assert_eq!(poll_after(&parked, None, None, at(110)), 30);
    }

    #[test]
    fn a_held_run_is_asked_after_when_its_turn_comes() {
        let held = request(Phase::Held { since: at(0), hold: Hold::Concurrency }, false, 0.0);
        let wait = |seconds| Wait {
            key: "k".into(),
            most: 1,
            taken: 1,
            ahead: 0,
            estimate: Some(SignedDuration::from_secs(seconds)),
        };
        assert_eq!([0, 20, 900].map(|seconds| poll_after(&held, Some(&wait(seconds)), None, at(1))), [1, 10, 30]);
    }

    #[test]
    fn what_is_to_stop_does_so_soon() {
        let stopping = WorkRequest { status: Status::Canceling, ..request(Phase::Due { at: at(900) }, true, 0.0) };
        assert_eq!(poll_after(&stopping, None, Some(Duration::from_secs(60)), at(101)), 1);
    }
}
