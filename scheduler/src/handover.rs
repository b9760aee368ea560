//! What the planner, the follow-ups and the API of a process hand to its dispatcher: triggers that are marked as sent already, so
//! that they need not be found and marked by it first.

use std::sync::Arc;

use reveille_shared::broker::Route;
use reveille_shared::store::Outgoing;
use tokio::sync::mpsc;

use crate::window::Windows;

/// Batches that a planner may be ahead of the dispatcher.
const PLANNED: usize = 4;
/// Triggers of callers, and batches of follow-ups, that may be ahead of it.
const ASKED_FOR: usize = 256;
/// So many triggers of callers and follow-ups make a batch.
const BATCH: usize = ASKED_FOR;

/// What a dispatcher is told.
#[derive(Debug)]
pub enum Handed {
    /// These triggers are marked as sent, and to be published.
    Sent(Vec<Outgoing>),
    /// Some may be, and nobody knows which: the answer to the commit was lost, or nobody was there to hear it.
    Unknown,
}

/// The side of those who hand over.
#[derive(Debug, Clone)]
pub struct Handover(mpsc::Sender<Handed>, Arc<Windows>);

/// A place with the dispatcher, taken before triggers are marked as sent. Dropped unused, some may have been.
#[derive(Debug)]
pub struct Place<'a>(Option<mpsc::Permit<'a, Handed>>, &'a Windows);

/// The dispatcher's side.
#[derive(Debug)]
pub struct Intake {
    planned: mpsc::Receiver<Handed>,
    asked_for: mpsc::Receiver<Handed>,
    /// Among what callers and follow-ups handed over were some that nobody knows.
    unknown: bool,
    /// How many more may go out.
    pub(crate) windows: Arc<Windows>,
}

/// Who hands over: the planner; callers and follow-ups; and to whom.
#[must_use]
pub fn channels(windows: Windows) -> (Handover, Handover, Intake) {
    let (planner, planned) = mpsc::channel(PLANNED);
    let (callers, asked_for) = mpsc::channel(ASKED_FOR);
    let windows = Arc::new(windows);
    let (planner, callers) = (Handover(planner, Arc::clone(&windows)), Handover(callers, Arc::clone(&windows)));
    (planner, callers, Intake { planned, asked_for, unknown: false, windows })
}

impl Handover {
    /// A place, if the dispatcher has room.
    #[must_use]
    pub fn place(&self) -> Option<Place<'_>> {
        self.0.try_reserve().ok().map(|permit| Place(Some(permit), &self.1))
    }

    /// A place for one trigger, if there is room on its route too.
    #[must_use]
    pub fn place_on(&self, route: &Route) -> Option<Place<'_>> {
        if self.1.admit(route) { self.place() } else { None }
    }
}

impl Place<'_> {
    /// Whether there is room for one more trigger on this route; if so, it is taken.
    #[must_use]
    pub fn admits(&self, route: &Route) -> bool {
        self.1.admit(route)
    }

    /// Hands over all that was marked.
    pub fn hand_over(mut self, sent: Vec<Outgoing>) {
        if let Some(permit) = self.0.take()
            && !sent.is_empty()
        {
            permit.send(Handed::Sent(sent));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.0.take() {
            permit.send(Handed::Unknown);
        }
    }
}

/// Whether there is room for one more trigger on a route; without a place there is none.
pub fn admits<'a>(place: Option<&'a Place<'_>>) -> impl Fn(&Route) -> bool + Send + Sync + 'a {
    move |route| place.is_some_and(|place| place.admits(route))
}

/// Hands over all that was marked on a place.
pub fn hand_over(place: Option<Place<'_>>, sent: Vec<Outgoing>) {
    if let Some(place) = place {
        place.hand_over(sent);
    }
}

impl Intake {
    /// What is there: a batch of the planner first, else all that others have handed over as one batch.
    pub fn try_next(&mut self) -> Option<Handed> {
        if let Ok(handed) = self.planned.try_recv() {
            return Some(handed);
        }
        if std::mem::take(&mut self.unknown) {
            return Some(Handed::Unknown);
        }
        let first = self.asked_for.try_recv().ok()?;
        Some(self.collect(first))
    }

    /// The same as soon as there is something; none when nobody hands over any more. Nothing is lost when it is given up.
    pub async fn next(&mut self) -> Option<Handed> {
        if let Some(handed) = self.try_next() {
            return Some(handed);
        }
        tokio::select! {
            biased;
            Some(handed) = self.planned.recv() => Some(handed),
            Some(first) = self.asked_for.recv() => Some(self.collect(first)),
            else => None,
        }
    }

    /// Takes nothing new; what was handed over, or has a place, can still be had.
    pub fn close(&mut self) {
        self.planned.close();
        self.asked_for.close();
    }

    /// Triggers of callers come one by one, and go to the broker together, with those of follow-ups.
    fn collect(&mut self, first: Handed) -> Handed {
        let Handed::Sent(mut batch) = first else { return first };
        while batch.len() < BATCH
            && let Ok(next) = self.asked_for.try_recv()
        {
            match next {
                Handed::Sent(sent) => batch.extend(sent),
                Handed::Unknown => self.unknown = true,
            }
        }
        Handed::Sent(batch)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use reveille_shared::broker::Route;
    use reveille_shared::definition::Priority;
    use reveille_shared::trigger::{self, Trigger};
    use reveille_shared::work_request::WorkRequestId;

    use super::*;

    fn outgoing(n: u32) -> Outgoing {
        let id = WorkRequestId::new(Timestamp::UNIX_EPOCH);
        Outgoing {
            route: Route { queue: "default".into(), priority: Priority::Normal },
            trigger: Trigger { v: trigger::VERSION, id, n, namespace: "default".into(), job: "job".into() },
            due_at: Timestamp::UNIX_EPOCH,
            fire: None,
        }
    }

    fn numbers(handed: Option<Handed>) -> Vec<u32> {
        match handed {
            Some(Handed::Sent(batch)) => batch.iter().map(|out| out.trigger.n).collect(),
            Some(Handed::Unknown) => vec![0],
            None => Vec::new(),
        }
    }

    #[tokio::test]
    async fn the_planner_goes_first_and_callers_go_together() {
        let (planner, callers, mut intake) = channels(Windows::new(0));
        for n in 1..=3 {
            callers.place().unwrap().hand_over(vec![outgoing(n)]);
        }
        callers.place().unwrap().hand_over(Vec::new());
        planner.place().unwrap().hand_over(vec![outgoing(8), outgoing(9)]);
        assert_eq!(numbers(intake.next().await), [8, 9]);
        assert_eq!(numbers(intake.next().await), [1, 2, 3]);
        assert!(intake.try_next().is_none());
    }

    #[tokio::test]
    async fn a_place_that_is_dropped_is_told_and_none_is_lost_when_it_closes() {
        let (planner, callers, mut intake) = channels(Windows::new(0));
        callers.place().unwrap().hand_over(vec![outgoing(1)]);
        drop(callers.place().unwrap());
        callers.place().unwrap().hand_over(vec![outgoing(2)]);
        let late = planner.place().unwrap();
        intake.close();
        assert!(callers.place().is_none());
        assert_eq!(numbers(intake.next().await), [1, 2]);
        assert_eq!(numbers(intake.next().await), [0]);
        late.hand_over(vec![outgoing(3)]);
        assert_eq!(numbers(intake.next().await), [3]);
        assert!(intake.next().await.is_none());
    }

    #[test]
    fn who_has_no_room_gives_no_place() {
        let (planner, _callers, mut intake) = channels(Windows::new(0));
        for n in 0..4 {
            planner.place().unwrap().hand_over(vec![outgoing(n)]);
        }
        assert!(planner.place().is_none());
        assert_eq!(numbers(intake.try_next()), [0]);
        assert!(planner.place().is_some());
    }
}
