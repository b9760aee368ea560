//! What an operator is told about this scheduler: for `/readyz`, the dashboard and the metrics.
//!
//! The parts tell, [`Status`] remembers the last word of each. Reading it asks neither the database nor the broker.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::SignedDuration;
use reveille_shared::broker::{Broker, Health};
use reveille_shared::clock::Clock;
use reveille_shared::periodic::Vitals;
use serde::Serialize;

/// One part of the scheduler, and whether it does its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// `broker`, `clock`, `database`, `definitions`, `dispatcher`, `leader`, or the name of a pass such as `planner`.
    pub name: &'static str,
    /// Whether it does its work. A scheduler that waits while another one leads is ready.
    pub ready: bool,
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
}

struct WatchedPass {
    name: &'static str,
    vitals: Vitals,
    patience: SignedDuration,
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
        let mut parts: Vec<Part> = told.parts.values().cloned().collect();
        parts.extend(told.passes.iter().map(|pass| {
            let (ready, detail) = match pass.vitals.last() {
                None => (false, "has not run yet".into()),
                Some(vital) => {
                    let age = now.duration_since(vital.at);
                    match vital.outcome {
                        Err(error) => (false, error),
                        Ok(_) if age > pass.patience => (false, format!("has not run for {} s", age.as_secs())),
                        Ok(report) => (true, report),
                    }
                }
            };
            Part { name: pass.name, ready, detail }
        }));
        drop(told);
        parts.push(match self.broker.health() {
            Health::Up => Part { name: "broker", ready: true, detail: "connected".into() },
            Health::Down(why) => Part { name: "broker", ready: false, detail: why },
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
        let part = Part { name, ready, detail: detail.into() };
        let before = self.told().parts.insert(name, part.clone());
        if before.as_ref() != Some(&part) {
            tracing::debug!(part = name, ready, detail = part.detail, "status");
        }
    }

    /// Replaces the faults of the definitions.
    pub fn tell_faults(&self, faults: Vec<String>) {
        self.told().faults = faults;
    }

    /// Lists a background pass from now on. It is not ready when its last run failed, or is `patience` ago.
    pub fn watch(&self, name: &'static str, vitals: Vitals, patience: std::time::Duration) {
        let patience = SignedDuration::try_from(patience).unwrap_or(SignedDuration::MAX);
        self.told().passes.push(WatchedPass { name, vitals, patience });
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
