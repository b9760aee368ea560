//! What an operator is told about this scheduler: for `/readyz`, the dashboard and the metrics.
//!
//! The parts tell, [`Status`] remembers the last word of each. Reading it asks neither the database nor the broker.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reveille_shared::broker::{Broker, Health};
use reveille_shared::clock::Clock;
use reveille_shared::periodic::Vitals;
use reveille_shared::store::Generation;
use serde::Serialize;
use tokio::time::Instant;

use crate::leader::Leadership;

/// A database that does not answer can hold up one round of a pass for so long, and that is no reason to end the process.
const HELD_UP: Duration = Duration::from_secs(60);

/// One part of the scheduler, and whether it does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// `broker`, `clock`, `database`, `definitions`, `dispatcher`, `leader`, or the name of a pass such as `planner`.
    pub name: &'static str,
    /// Whether it does its work. A scheduler that waits while another one leads is ready.
    pub ready: bool,
    /// It does, and somebody has to look into something all the same.
    pub attention: bool,
    /// For people: what it does, or what is wrong and what to do. Without secrets.
    pub detail: String,
}

/// The last word of each part. A part that never spoke, as it has no role in this process, is not listed.
pub struct Status {
    clock: Arc<dyn Clock>,
    broker: Arc<dyn Broker>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    parts: BTreeMap<&'static str, Part>,
    passes: Vec<WatchedPass>,
    faults: Vec<String>,
    leadership: Option<Arc<Leadership>>,
    last_decision: Option<Timestamp>,
}

struct WatchedPass {
    name: &'static str,
    vitals: Vitals,
    patience: Duration,
    since: Instant,
}

impl WatchedPass {
    /// How long ago it finished a round, well or with an error.
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.vitals.last().map_or(self.since, |vital| vital.finished))
    }
}

/// Whether this process leads, and what it has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leading {
    /// As which generation it leads, if it does.
    pub generation: Option<Generation>,
    /// When it decided a due time last.
    pub last_decision: Option<Timestamp>,
}

impl Status {
    /// Nothing is known yet, except what the broker says of itself.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, broker: Arc<dyn Broker>) -> Self {
        Self { clock, broker, told: Mutex::default() }
    }

    /// All parts, ordered by name.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let now = self.clock.now();
        let told = self.told();
        let patience = |pass: &WatchedPass| SignedDuration::try_from(pass.patience).unwrap_or(SignedDuration::MAX);
        let mut parts: Vec<Part> = told.parts.values().cloned().collect();
        parts.extend(told.passes.iter().map(|pass| {
            let (ready, detail) = match pass.vitals.last() {
                None => (false, "has not run yet".into()),
                Some(vital) => {
                    let age = now.duration_since(vital.at);
                    match vital.outcome {
                        Err(error) => (false, error),
                        Ok(_) if age > patience(pass) => (false, format!("has not run for {} s", age.as_secs())),
                        Ok(report) => (true, report),
                    }
                }
            };
            Part { name: pass.name, ready, attention: false, detail }
        }));
        drop(told);
        parts.push(match self.broker.health() {
            Health::Up => Part { name: "broker", ready: true, attention: false, detail: "connected".into() },
            Health::Down(why) => Part { name: "broker", ready: false, attention: false, detail: why },
        });
        parts.sort_by_key(|part| part.name);
        parts
    }

    /// Whether every part does its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.parts().iter().all(|part| part.ready)
    }

    /// Everything that is wrong with the definitions as they are on disk, one text of some lines for each fault: the place,
    /// the line itself and what was expected. Empty when they are good; the last good ones stay in force.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.told().faults.clone()
    }

    /// A part's word.
    pub fn tell(&self, name: &'static str, ready: bool, detail: impl Into<String>) {
        self.keep(Part { name, ready, attention: false, detail: detail.into() });
    }

    /// The word of a part that does its work, and on which somebody should look all the same.
    pub fn tell_attention(&self, name: &'static str, detail: impl Into<String>) {
        self.keep(Part { name, ready: true, attention: true, detail: detail.into() });
    }

    fn keep(&self, part: Part) {
        let before = self.told().parts.insert(part.name, part.clone());
        if before.as_ref() != Some(&part) {
            tracing::debug!(part = part.name, ready = part.ready, detail = part.detail, "status");
        }
    }

    /// Replaces the faults of the definitions.
    pub fn tell_faults(&self, faults: Vec<String>) {
        self.told().faults = faults;
    }

    /// Lists a background pass from now on. It is not ready when its last run failed, or is `patience` ago.
    pub fn watch(&self, name: &'static str, vitals: Vitals, patience: Duration) {
        self.told().passes.push(WatchedPass { name, vitals, patience, since: Instant::now() });
    }

    /// The passes that have not finished a round in time, and for how long: well or with an error, as errors are for
    /// [`Status::parts`] to tell. A process with such a pass is stuck, and only a new one helps.
    #[must_use]
    pub fn stuck(&self, now: Instant) -> Vec<(&'static str, Duration)> {
        let told = self.told();
        let ages = told.passes.iter().map(|pass| (pass.name, pass.age(now), pass.patience.saturating_add(HELD_UP)));
        ages.filter(|(_, age, patience)| age > patience).map(|(name, age, _)| (name, age)).collect()
    }

    /// How long ago each pass finished a round.
    #[must_use]
    pub fn ages(&self, now: Instant) -> Vec<(&'static str, Duration)> {
        self.told().passes.iter().map(|pass| (pass.name, pass.age(now))).collect()
    }

    /// From now on [`Status::leading`] tells of this leadership.
    pub fn may_lead(&self, leadership: Arc<Leadership>) {
        self.told().leadership = Some(leadership);
    }

    /// A due time was decided.
    pub fn tell_decision(&self, at: Timestamp) {
        self.told().last_decision = Some(at);
    }

    /// Whether this process leads; none if it never can, as it does not plan.
    #[must_use]
    pub fn leading(&self) -> Option<Leading> {
        let told = self.told();
        let leadership = told.leadership.as_ref()?;
        Some(Leading { generation: leadership.current(), last_decision: told.last_decision })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts()).finish()
    }
}

#[cfg(test)]
mod tests {
    use reveille_shared::clock::SystemClock;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_pass_that_finishes_no_round_is_stuck_after_its_patience_and_what_a_database_may_take() {
        let broker = reveille_shared::broker::connect("embedded", "test", CancellationToken::new()).unwrap();
        let status = Status::new(Arc::new(SystemClock), broker);
        status.watch("planner", Vitals::default(), Duration::from_secs(8));
        let begin = Instant::now();
        assert_eq!(status.stuck(begin + Duration::from_secs(67)), []);
        let stuck = status.stuck(begin + Duration::from_secs(69));
        assert_eq!(stuck.iter().map(|(name, age)| (*name, age.as_secs())).collect::<Vec<_>>(), [("planner", 69)]);
    }
}
