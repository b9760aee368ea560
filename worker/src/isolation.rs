//! Whether a worker that the store does not hear is about to lose its leases.
//!
//! Leases end when the leading scheduler has read the store well and without a gap for a lease's whole time-to-live, in
//! which the worker's beat stood still. After each good read it sends a pulse over the broker, and what it
//! can't send counts as a gap (`scheduler/src/reconcile/beats.rs`). So there are two ways in which a worker can know that no
//! lease of its ends before an instant and the time-to-live after it:
//!
//! - it has sent a beat at that instant, and the store has answered;
//! - it has called itself over the broker at that instant, has heard the call, and no pulse for so long before it that
//!   the scheduler must have had a gap: the database is down for everyone, and whoever comes back begins anew.
//!
//! A worker that knows nothing recent is cut off: it stops its runs in time, and takes no more until a beat is good.

use std::sync::Arc;
use std::time::Duration;

use reveille_shared::broker::{Heard, Pulses};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::heartbeat::LastBeat;
use crate::lease::Ttl;
use crate::runs::{Runs, Why};

/// What was heard over the broker, and what follows from it.
#[derive(Debug, Default)]
struct Ear {
    /// No pulse after this instant was missed.
    tuned: Option<Instant>,
    last_pulse: Option<Instant>,
    /// The last call of ours and when it was sent, until it is heard.
    call: Option<(u64, Instant)>,
    calls: u64,
}

impl Ear {
    /// Takes in something heard at `now`. Answers the instant at which all was quiet, if that is proved now.
    fn hear(&mut self, heard: Heard, now: Instant, ttl: Ttl) -> Option<Instant> {
        match heard {
            Heard::Tuned => *self = Self { tuned: Some(now), calls: self.calls, ..Self::default() },
            Heard::Pulse => self.last_pulse = Some(now),
            Heard::Echo(number) => {
                let (_, sent) = self.call.take_if(|(called, _)| *called == number)?;
                let quiet_since = self.last_pulse.max(self.tuned).filter(|_| self.tuned.is_some())?;
                return (sent.saturating_duration_since(quiet_since) >= ttl.quiet()).then_some(sent);
            }
        }
        None
    }

    /// The number of a call to make at `now`, unless one is under way. One that is not heard in time is forgotten.
    fn call(&mut self, now: Instant, ttl: Ttl) -> Option<u64> {
        if self.call.is_some_and(|(_, sent)| now.saturating_duration_since(sent) < ttl.period()) {
            return None;
        }
        self.calls += 1;
        self.call = Some((self.calls, now));
        Some(self.calls)
    }
}

/// What to do about the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The store hears us.
    Heard,
    /// It does not, but there is time: find out whether it hears others.
    Ask,
    /// Our leases may end soon.
    Stop,
}

/// What follows from the age of the last instant at which all was well.
fn judge(age: Duration, ttl: Ttl) -> Verdict {
    match age {
        age if age >= ttl.stop() => Verdict::Stop,
        age if age >= ttl.worry() => Verdict::Ask,
        _ => Verdict::Heard,
    }
}

/// Listens for pulses, and stops the runs of a worker that is cut off.
pub(crate) struct Isolation {
    pub(crate) pulses: Box<dyn Pulses>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) last: LastBeat,
    pub(crate) ttl: Ttl,
}

impl Isolation {
    /// Watches until `stop`, or until the broker has shut down for good.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ear = Ear::default();
        let mut ticks = interval(self.ttl.look());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return,
                heard = self.pulses.next() => Some(heard),
                _ = ticks.tick() => None,
            };
            match heard {
                Some(Some(heard)) => {
                    if let Some(quiet_at) = ear.hear(heard, Instant::now(), self.ttl) {
                        self.last.nobody_is_heard(quiet_at);
                    }
                }
                // The process ends.
                Some(None) => return stop.cancelled().await,
                None => self.look(&mut ear, &stop).await,
            }
        }
    }

    async fn look(&mut self, ear: &mut Ear, stop: &CancellationToken) {
        let now = Instant::now();
        match judge(self.last.age(now), self.ttl) {
            Verdict::Heard => {}
            Verdict::Ask => {
                let Some(number) = ear.call(now, self.ttl) else { return };
                tokio::select! {
                    // What is not sent is not heard.
                    _ = timeout(self.ttl.period(), self.pulses.call(number)) => {}
                    () = stop.cancelled() => {}
                }
            }
            Verdict::Stop => {
                if self.last.cut_off() {
                    tracing::error!(
                        "this worker was cut off or stood still, and its leases may have ended: its runs are stopped, and it \
                         takes no more until the database hears it again"
                    );
                }
                // Again at each look, for those that were being claimed.
                self.runs.stop_all(Why::LeaseLost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Ttl = Ttl::new(Duration::from_secs(15));

    fn secs(start: Instant, secs: f64) -> Instant {
        start + Duration::from_secs_f64(secs)
    }

    /// Hears pulses at some seconds, then makes a call that is heard a moment later: is that a proof?
    fn proved(tuned: Option<f64>, pulses: &[f64], called: f64) -> bool {
        let (start, mut ear) = (Instant::now(), Ear::default());
        if let Some(tuned) = tuned {
            assert_eq!(ear.hear(Heard::Tuned, secs(start, tuned), TTL), None);
        }
        for pulse in pulses.iter().filter(|pulse| **pulse <= called) {
            assert_eq!(ear.hear(Heard::Pulse, secs(start, *pulse), TTL), None);
        }
        let number = ear.call(secs(start, called), TTL).unwrap();
        for pulse in pulses.iter().filter(|pulse| **pulse > called) {
            assert_eq!(ear.hear(Heard::Pulse, secs(start, *pulse), TTL), None);
        }
        let proof = ear.hear(Heard::Echo(number), secs(start, called + 0.1), TTL);
        assert!(proof.is_none_or(|proof| proof == secs(start, called)));
        proof.is_some()
    }

    #[test]
    fn only_a_long_quiet_that_was_listened_to_is_a_proof() {
        assert!(proved(Some(0.0), &[1.0, 3.0], 9.1));
        assert!(!proved(Some(0.0), &[1.0, 3.0], 8.9), "too short");
        assert!(!proved(Some(0.0), &[1.0, 3.0, 9.15], 9.1), "a pulse came before the call was heard");
        assert!(proved(Some(0.0), &[], 6.1) && !proved(Some(0.0), &[], 5.9), "nobody leads");
        assert!(!proved(Some(5.0), &[], 9.0), "pulses may have been missed before");
        assert!(!proved(None, &[], 60.0), "not tuned in at all");
    }

    #[test]
    fn a_lost_connection_and_an_old_call_prove_nothing() {
        let (start, mut ear) = (Instant::now(), Ear::default());
        ear.hear(Heard::Tuned, start, TTL);
        let old = ear.call(secs(start, 7.0), TTL).unwrap();
        assert_eq!(ear.call(secs(start, 8.9), TTL), None, "one is under way");
        let new = ear.call(secs(start, 9.0), TTL).unwrap();
        assert_eq!(ear.hear(Heard::Echo(old), secs(start, 9.1), TTL), None);
        assert_eq!(ear.hear(Heard::Echo(new), secs(start, 9.1), TTL), Some(secs(start, 9.0)));
        assert_eq!(ear.hear(Heard::Echo(new), secs(start, 9.2), TTL), None, "heard twice");
        let lost = ear.call(secs(start, 20.0), TTL).unwrap();
        ear.hear(Heard::Tuned, secs(start, 21.0), TTL);
        assert_eq!(ear.hear(Heard::Echo(lost), secs(start, 30.0), TTL), None);
    }

    #[test]
    fn it_asks_in_time_and_stops_in_time() {
        let verdicts = [0, 3, 5, 10, 11, 60].map(|age| judge(Duration::from_secs(age), TTL));
        let expected = [Verdict::Heard, Verdict::Heard, Verdict::Ask, Verdict::Ask, Verdict::Stop, Verdict::Stop];
        assert_eq!(verdicts, expected);
    }
}
