//! How many deliveries a worker asks the broker for. Decides only; the consumer acts.
//!
//! A worker whose slots stay full must not sit on messages that another one could run, and a fast flow of short
//! runs must never stop. So: unclaimed deliveries are held for at most [`HOLD`], then all are given back and the flow is
//! shut. It opens again with as much as there are free slots. If it fills at once and no slot comes free
//! soon, it is shut again before anything has to be given back; if slots do come free soon, the demand
//! doubles with every full round that was served quickly, up to the number of slots.

use std::time::Duration;

use tokio::time::Instant;

/// How long an unclaimed delivery is held.
pub(crate) const HOLD: Duration = Duration::from_millis(500);
/// A delivery that got its slot within this time was served quickly.
const QUICK: Duration = Duration::from_millis(250);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Deliveries may wait for a slot.
    Open,
    /// Only as many deliveries as there were free slots; shut before one has to wait.
    Probing,
    /// No deliveries.
    Shut { since: Instant },
}

/// What the consumer is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ask for so many unsettled deliveries.
    Demand(u16),
    /// Ask for none, and give back those that wait for a slot.
    Shut,
}

/// The state of the flow.
#[derive(Debug)]
pub(crate) struct Flow {
    slots: u16,
    demand: u16,
    /// Deliveries served quickly in a row, since the demand was changed.
    quick: u16,
    mode: Mode,
}

impl Flow {
    /// Shut, as subscriptions start.
    pub(crate) fn new(slots: u16, now: Instant) -> Self {
        Self { slots, demand: 0, quick: 0, mode: Mode::Shut { since: now } }
    }

    /// A delivery got its slot after this wait.
    pub(crate) fn served(&mut self, waited: Duration) {
        self.quick = if waited <= QUICK { self.quick.saturating_add(1) } else { 0 };
    }

    /// Whether as many deliveries as were asked for are unsettled.
    pub(crate) fn is_used_up(&self, unsettled: usize) -> bool {
        self.demand > 0 && unsettled >= usize::from(self.demand)
    }

    /// What to do at `now`, with so many slots free and the oldest delivery waiting for one since `oldest`.
    pub(crate) fn step(&mut self, now: Instant, free: u16, oldest: Option<Instant>) -> Option<Action> {
        match self.mode {
            Mode::Open => {
                if free == 0 && oldest.is_some_and(|since| now.duration_since(since) >= HOLD) {
                    return Some(self.shut(now));
                }
                let doubled = self.demand.saturating_mul(2).min(self.slots);
                (self.demand < doubled && self.quick >= self.demand).then(|| self.demand(doubled))
            }
            Mode::Probing if free == 0 => {
                // One that has come all the same (in place of a lower priority's) may wait for a moment.
                oldest.is_none_or(|since| now.duration_since(since) >= HOLD).then(|| self.shut(now))
            }
            Mode::Probing => {
                if self.is_mostly_free(free) {
                    self.mode = Mode::Open;
                    return Some(self.demand(self.slots));
                }
                // Not for each slot that comes free: a change costs a round trip.
                (free / 2 >= self.demand).then(|| self.demand(free))
            }
            Mode::Shut { since } if free > 0 => {
                if self.is_mostly_free(free) {
                    self.mode = Mode::Open;
                    return Some(self.demand(self.slots));
                }
                self.mode = if now.duration_since(since) <= QUICK { Mode::Open } else { Mode::Probing };
                Some(self.demand(free))
            }
            Mode::Shut { .. } => None,
        }
    }

    /// The flow has been shut for another reason.
    pub(crate) fn shut(&mut self, now: Instant) -> Action {
        (self.demand, self.quick) = (0, 0);
        self.mode = Mode::Shut { since: now };
        Action::Shut
    }

    fn is_mostly_free(&self, free: u16) -> bool {
        free > (self.slots / 2).max(1)
    }

    fn demand(&mut self, demand: u16) -> Action {
        (self.demand, self.quick) = (demand, 0);
        Action::Demand(demand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn short_runs_keep_the_flow_open() {
        let start = Instant::now();
        let mut flow = Flow::new(100, start);
        assert_eq!(flow.step(start, 100, None), Some(Action::Demand(100)));
        for at in 1..10_000 {
            let now = start + at * MS;
            flow.served(20 * MS);
            assert_eq!(flow.step(now, 0, Some(now - 20 * MS)), None);
        }
    }

    #[tokio::test]
    async fn a_full_worker_gives_back_once_and_then_takes_only_what_it_can_run() {
        let start = Instant::now();
        let mut flow = Flow::new(9, start);
        assert_eq!(flow.step(start, 9, None), Some(Action::Demand(9)));
        assert_eq!(flow.step(start + 499 * MS, 0, Some(start)), None);
        assert_eq!(flow.step(start + HOLD, 0, Some(start)), Some(Action::Shut));
        assert_eq!(flow.step(start + 2 * HOLD, 0, None), None);
        for second in 2..10 {
            let now = start + second * 1000 * MS;
            assert_eq!(flow.step(now, 1, None), Some(Action::Demand(1)));
            assert_eq!(flow.step(now + MS, 1, None), None);
            assert_eq!(flow.step(now + 2 * MS, 0, None), Some(Action::Shut), "before one has to wait");
        }
        assert_eq!(flow.step(start + 20_000 * MS, 6, None), Some(Action::Demand(9)), "mostly idle");
    }

    #[tokio::test]
    async fn demand_grows_as_long_as_deliveries_are_served_quickly() {
        let start = Instant::now();
        let mut flow = Flow::new(500, start);
        flow.shut(start);
        assert_eq!(flow.step(start + 10 * MS, 1, None), Some(Action::Demand(1)));
        let mut demand = 1;
        for _ in 0..4 {
            for _ in 0..demand {
                assert_eq!(flow.step(start + 11 * MS, 0, Some(start)), None);
                flow.served(QUICK);
            }
            demand *= 2;
            assert_eq!(flow.step(start + 12 * MS, 0, None), Some(Action::Demand(demand)));
        }
        for _ in 0..1000 {
            flow.served(QUICK + MS);
            assert_eq!(flow.step(start + 13 * MS, 0, None), None);
        }
    }

    #[tokio::test]
    async fn a_shut_flow_with_an_empty_queue_comes_back_to_full_demand() {
        let start = Instant::now();
        let mut flow = Flow::new(16, start);
        flow.shut(start);
        let demands: Vec<_> = (1..=16).filter_map(|free| flow.step(start + 1000 * MS, free, None)).collect();
        assert_eq!(demands, [1, 2, 4, 8, 16].map(Action::Demand));
    }
}
