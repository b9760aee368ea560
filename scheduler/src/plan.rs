//! The only ways in which a work request is born: from a schedule's due times ([`decide`]), from a backfill
//! ([`backfill_step`]), at the end of another run ([`chained`]), as a child of one
//! ([`children`]), or by hand ([`request`], [`fire_by_hand`]).
//!
//! Pure: what is decided depends on the parameters alone. The passes and the API do the reading and the writing.

mod backfill;
mod bounds;
mod chain;
mod children;
mod fires;
mod payload;

use jiff::Timestamp;
use reveille_shared::definition::Job;
use reveille_shared::duration::HumanDuration;
use reveille_shared::store::{NewWorkRequest, Versioned};
use reveille_shared::work_request::{Asker, FireRef, RunError, WorkRequestId};
use serde_json::Value;

pub use self::backfill::backfill_step;
pub use self::chain::chained;
pub use self::children::{children, parent, window};
pub use self::fires::{GRACE, MAX_DUE_TIMES, MAX_TRIGGERS, decide, fire_by_hand, jitter};

/// What a caller asks of a job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ask {
    /// What the run is given.
    pub input: Value,
    /// What it is to create or change.
    pub resource: Option<Value>,
    /// How long to wait before the trigger goes out.
    pub delay: HumanDuration,
    /// The fire that calls for it, if any.
    pub fire: Option<FireRef>,
    /// Who asks and why, for the history.
    pub by: Asker,
    /// The run whose end calls for it, if one does.
    pub chained_from: Option<WorkRequestId>,
    /// The run whose child it is, if it is one.
    pub parent: Option<WorkRequestId>,
    /// Why it can't be run at all, if so.
    pub refused: Option<RunError>,
    /// Something waits for its end, beside the job's own chains.
    pub follow: bool,
}

/// The work request for one run of `job`.
#[must_use]
pub fn request(job: &Versioned<Job>, ask: Ask, now: Timestamp) -> NewWorkRequest {
    let mut request = NewWorkRequest {
        fire: ask.fire,
        input: ask.input,
        resource: ask.resource,
        delay: ask.delay,
        chained_from: ask.chained_from,
        parent: ask.parent,
        refused: ask.refused,
        follow: ask.follow || job.item.is_chained(),
        ..NewWorkRequest::new(WorkRequestId::new(now), &job.item, job.version, ask.by)
    };
    bounds::put(&mut request, &job.item, now);
    request
}
