//! Decisions, runs, instants and spans in plain words.

use jiff::{SignedDuration, Timestamp};
use reveille_shared::definition::{Overlap, Schedule};
use reveille_shared::duration::HumanDuration;
use reveille_shared::state::{Phase, Status};
use reveille_shared::store::{Fire, FireOutcome, SkipReason};
use reveille_shared::work_request::{Origin, WorkRequest};

/// What was decided, and why, in one or two sentences.
#[must_use]
pub fn decision(fire: &Fire) -> String {
    match (&fire.outcome, &fire.origin) {
        (FireOutcome::Triggered(_), Origin::Manual) => format!("Fired by hand at {}.", exact(fire.due_at)),
        (FireOutcome::Triggered(_), Origin::Backfill(id)) => {
            format!("Triggered by backfill {id} at {}.", exact(fire.decided_at))
        }
        (FireOutcome::Triggered(_), Origin::Schedule) => {
            format!("Triggered {} after it was due.", span(fire.decided_at.duration_since(fire.due_at)))
        }
        (FireOutcome::Skipped(reason, detail), origin) => {
            let who = match origin {
                Origin::Backfill(id) => format!(" by backfill {id}"),
                Origin::Schedule | Origin::Manual => String::new(),
            };
            let what = match fire.count {
                1 => format!("Skipped{who}"),
                count => {
                    let (first, last) = (exact(fire.due_at), exact(fire.last_due_at));
                    format!("Skipped{who}, with all {count} due times from {first} to {last}")
                }
            };
            format!("{what}, {}.", because(*reason, detail).trim_end_matches('.'))
        }
    }
}

fn because(reason: SkipReason, detail: &str) -> String {
    match reason {
        SkipReason::Overlap => format!("as an earlier fire was not over: {detail}"),
        SkipReason::Late => format!("as no scheduler decided it in time: {detail}"),
        SkipReason::Cap => format!("as there were too many: {detail}"),
        SkipReason::Excluded => format!("as its day is excluded: {detail}"),
        SkipReason::Paused => format!("as the schedule was {}", if detail.is_empty() { "paused" } else { detail }),
        SkipReason::Superseded => format!("as the definitions changed before it was decided: {detail}"),
        SkipReason::BeforeStart => format!("as it lies {detail}"),
        SkipReason::AfterEnd => format!("as the schedule had come to its end: {detail}"),
    }
}

/// How a run is.
pub(super) fn run(run: &WorkRequest, now: Timestamp) -> String {
    let name = format!("job {} ({})", run.job, run.id);
    let attempts = if run.attempt > 1 { format!(" in {} attempts", run.attempt) } else { String::new() };
    let error = run.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let took = |end: Timestamp| span(end.duration_since(run.started_at.unwrap_or(run.accepted_at)));
    let state = match (run.status, run.finished_at) {
        (Status::Succeeded, Some(end)) => format!("succeeded after {}{attempts}", took(end)),
        (Status::Failed, Some(end)) => format!("failed after {}{attempts}{error}", took(end)),
        (Status::Canceled, _) => "was canceled".to_owned(),
        (Status::Canceling, _) => "is asked to stop".to_owned(),
        _ => match &run.phase {
            Phase::Held { since, hold } => format!("is held since {}: {}", exact(*since), hold.words()),
            Phase::Due { at } if *at > now && run.attempt > 0 => {
                format!("will be tried again at {}{error}", exact(*at))
            }
            Phase::Due { at } if *at > now => format!("goes out at {}", exact(*at)),
            Phase::Due { at } => format!("is to be sent to its queue since {}", exact(*at)),
            Phase::Sent { at } => format!("is in queue {} since {}, and no worker has taken it", run.queue, exact(*at)),
            Phase::Parked { at } => format!("goes on elsewhere, and is asked after at {}", exact(*at)),
            Phase::Children => {
                format!("waits since {} for its children", exact(run.started_at.unwrap_or(run.accepted_at)))
            }
            Phase::Leased(_) | Phase::Done => {
                let attempt = if run.attempt > 1 { format!(", attempt {}", run.attempt) } else { String::new() };
                format!("has run for {}{attempt}", took(now))
            }
        },
    };
    sentence(&format!("{name} {state}"))
}

/// What may keep a fire to come from running at once.
pub(super) fn overlap(schedule: &Schedule) -> &'static str {
    match schedule.overlap {
        Overlap::Allow => "",
        Overlap::Skip => ", unless a run of an earlier fire has not ended then (overlap: skip)",
        Overlap::QueueOne | Overlap::QueueAll => {
            ". If a run of an earlier fire has not ended then, it waits for that, or is skipped if too many wait"
        }
        Overlap::CancelRunning => ". Runs of earlier fires that have not ended then are canceled first",
    }
}

/// An instant, with what it has below a second.
pub(super) fn exact(at: Timestamp) -> String {
    if at.subsec_nanosecond() == 0 { at.to_string() } else { format!("{at:.3}") }
}

/// A span as people write it: tenths below a minute, whole seconds above.
pub(super) fn span(span: SignedDuration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(0);
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        _ => HumanDuration::from_secs(millis / 1000).to_string(),
    }
}

/// With a capital letter and a full stop.
pub(super) fn sentence(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
