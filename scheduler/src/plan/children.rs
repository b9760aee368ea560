//! Inputs → a run's children, and the run that ends with them.

use jiff::Timestamp;
use reveille_shared::definition::Job;
use reveille_shared::store::{Births, FanOut, InputChunk, NewWorkRequest, Versioned};
use reveille_shared::work_request::{Asker, WorkRequestId};

use super::{Ask, request};

/// A run that does nothing but end with its children. The job's limits are theirs, not its own.
#[must_use]
pub fn parent(job: &Versioned<Job>, by: Asker, now: Timestamp) -> NewWorkRequest {
    NewWorkRequest { expires: None, ..NewWorkRequest::new(WorkRequestId::new(now), &job.item, job.version, by) }
}

/// The children that a chunk of inputs makes. `job` is what they run, as it was when their parent was accepted.
#[must_use]
pub fn children(fan_out: &FanOut, job: &Versioned<Job>, chunk: InputChunk, now: Timestamp) -> Births {
    let parent = fan_out.parent;
    let child = |input| {
        let by = format!("parent {parent}").into();
        request(job, Ask { input, by, parent: Some(parent), follow: true, ..Ask::default() }, now)
    };
    Births { parent, chunk: chunk.number, requests: chunk.inputs.into_iter().map(child).collect() }
}

/// How many children of one run may be under way, where workers of their queue have so many slots. As many more as these
/// slots wait for one, so that no worker is idle; not all of them, as who comes later would have to wait for them all.
#[must_use]
pub fn window(slots: u32) -> u32 {
    const ROUNDS: u32 = 4;
    const LEAST: u32 = 200;
    const MOST: u32 = 20_000;
    slots.saturating_mul(ROUNDS).clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_slots_within_bounds() {
        assert_eq!([0, 4, 50, 1_000, 100_000, u32::MAX].map(window), [200, 200, 200, 4_000, 20_000, 20_000]);
    }
}
