//! Pass: what has happened to runs → whoever has subscribed, as CloudEvents.

pub(crate) mod cloud_event;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reveille_shared::broker::Broker;
use reveille_shared::crash::{self, Act};
use reveille_shared::periodic::Pass;
use reveille_shared::store::{Generation, Store, StoreError, Untold};
use reveille_shared::work_request::WorkRequestId;

use crate::leader::Leadership;

/// How often to look whether something has happened.
pub const PERIOD: Duration = Duration::from_millis(250);
/// How long to wait when the broker has not taken all.
const AGAIN: Duration = Duration::from_secs(1);
/// The most entries told in one round.
const BATCH: i64 = 2_000;

/// What a pass has told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnnounceReport {
    /// Entries that are with the broker.
    pub told: usize,
    /// Runs whose next entry the broker has not taken.
    pub kept: usize,
}

impl fmt::Display for AnnounceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { told, kept } = self;
        write!(f, "{told} transitions told, those of {kept} runs kept for later in the last round")
    }
}

/// Tells what happens to runs, while this process leads.
///
/// - Reads: the outbox.
/// - Writes: whether there is to be one; announcements; takes out what the broker has confirmed.
/// - Repeating is safe: what is told twice has the same id, and who forgets repetitions sees each run's entries in order.
/// - A crash here leaves entries that were told in the outbox: they are told again.
pub struct Announcer {
    store: Store,
    broker: Arc<dyn Broker>,
    leadership: Arc<Leadership>,
    /// Whether somebody wants to know.
    wanted: bool,
    /// Under which generation the store was told so.
    said: Option<Generation>,
    /// Nobody wants to know, and what was to be told before is told.
    is_done: bool,
}

impl Announcer {
    /// A pass that has told nothing yet.
    #[must_use]
    pub fn new(store: Store, broker: Arc<dyn Broker>, leadership: Arc<Leadership>, wanted: bool) -> Self {
        Self { store, broker, leadership, wanted, said: None, is_done: false }
    }

    /// Tells entries, of each run the next one only when the one before is with the broker. Answers the numbers of those
    /// that were told, and of how many runs some were not.
    async fn tell(&self, untold: Vec<Untold>) -> (Vec<i64>, usize) {
        let mut told = Vec::with_capacity(untold.len());
        let mut stuck = HashSet::new();
        for mut wave in waves(untold) {
            wave.retain(|entry| !stuck.contains(&entry.id));
            let announcements = wave.iter().map(cloud_event::announcement).collect();
            for (entry, verdict) in wave.iter().zip(self.broker.announce(announcements).await) {
                match verdict {
                    Ok(()) => told.push(entry.number),
                    Err(_) => {
                        stuck.insert(entry.id);
                    }
                }
            }
        }
        crash::at(Act::Telling);
        (told, stuck.len())
    }

    /// Tells all that is to be told while this generation leads: what comes next is read, and what was told before is taken
    /// out, while the broker confirms.
    async fn tell_all(&self, generation: Generation) -> Result<AnnounceReport, StoreError> {
        let mut report = AnnounceReport::default();
        let mut untold = self.store.untold(&[], BATCH).await?;
        let mut told = Vec::new();
        while !untold.is_empty() && self.leadership.current() == Some(generation) {
            let in_flight: Vec<i64> = told.iter().copied().chain(untold.iter().map(|entry| entry.number)).collect();
            let next = self.store.untold(&in_flight, BATCH);
            let (next, (telling, kept), taken_out) = tokio::join!(next, self.tell(untold), self.store.told(&told));
            report = AnnounceReport { told: report.told + telling.len(), kept };
            told = telling;
            taken_out?;
            if kept > 0 {
                break;
            }
            untold = next?;
        }
        self.store.told(&told).await?;
        Ok(report)
    }
}

/// Entries in the order of their numbers → the same in waves in which each run has one at most.
fn waves(untold: Vec<Untold>) -> Vec<Vec<Untold>> {
    let mut waves: Vec<Vec<Untold>> = Vec::new();
    let mut so_far: HashMap<WorkRequestId, usize> = HashMap::new();
    for entry in untold {
        let wave = so_far.entry(entry.id).or_default();
        match waves.get_mut(*wave) {
            Some(known) => known.push(entry),
            None => waves.push(vec![entry]),
        }
        *wave += 1;
    }
    waves
}

#[async_trait]
impl Pass for Announcer {
    const NAME: &'static str = "announcer";
    type Report = AnnounceReport;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(AnnounceReport, Option<Duration>), StoreError> {
        let Some(generation) = self.leadership.current() else {
            self.said = None;
            return Ok((AnnounceReport::default(), None));
        };
        if self.said != Some(generation) {
            self.store.tell_transitions(self.wanted).await?;
            self.said = Some(generation);
            self.is_done = false;
        }
        if self.is_done {
            return Ok((AnnounceReport::default(), None));
        }
        let report = self.tell_all(generation).await?;
        metrics::counter!("reveille_transitions_told_total").increment(report.told as u64);
        self.is_done = !self.wanted && report == AnnounceReport::default();
        Ok((report, (report.kept > 0).then_some(AGAIN)))
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use reveille_shared::work_request::{Happening, HistoryEvent};

    use super::*;

    fn entry(number: i64, id: WorkRequestId, seq: i32) -> Untold {
        let event = HistoryEvent { seq, at: Timestamp::UNIX_EPOCH, what: Happening::Resent };
        Untold { number, id, namespace: "n".into(), job: "j".into(), schedule: None, event }
    }

    #[test]
    fn in_a_wave_each_run_has_one_entry_and_waves_keep_its_order() {
        let runs: Vec<_> = (0..3).map(|_| WorkRequestId::new(Timestamp::UNIX_EPOCH)).collect();
        let untold = [(1, 0, 1), (2, 0, 2), (3, 1, 7), (4, 0, 3), (5, 2, 1), (6, 1, 8)];
        let untold = untold.map(|(number, run, seq): (i64, usize, i32)| entry(number, runs[run], seq));
        let waves = waves(untold.to_vec());
        let numbers: Vec<Vec<i64>> = waves.iter().map(|wave| wave.iter().map(|entry| entry.number).collect()).collect();
        assert_eq!(numbers, [vec![1, 3, 5], vec![2, 6], vec![4]]);
    }
}
