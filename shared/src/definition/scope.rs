//! Where templates may stand, and what they know there.

/// What renders a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The scheduler, when a schedule is due.
    Fire,
    /// The scheduler, when a run has ended and another job is called.
    Chain,
    /// The scheduler, when a run is accepted: what tells it apart from others.
    Key,
    /// The worker, for a run.
    Run,
    /// The worker, when a handler has succeeded: the inputs of children.
    Children,
    /// The worker, when it was told whether a lost run took effect, or how far something is: a condition.
    Answer,
    /// The worker, when a call has begun something: where to ask after it.
    Begun,
}

/// What is known of a run on its worker.
const RUN: [&str; 8] =
    ["input", "scheduled_for", "fired_at", "work_request_id", "attempt", "job", "namespace", "schedule"];

impl Scope {
    /// The variables that there are.
    pub(super) fn variables(self) -> Vec<&'static str> {
        let with_run = |more: &[&'static str]| [more, &RUN].concat();
        match self {
            Self::Fire => vec!["scheduled_for", "fired_at", "schedule", "namespace"],
            Self::Chain => {
                vec!["output", "input", "error", "parent", "namespace", "schedule", "scheduled_for", "fired_at"]
            }
            Self::Key => vec!["input", "job", "namespace", "schedule", "scheduled_for"],
            Self::Run => RUN.to_vec(),
            Self::Children => with_run(&["output"]),
            Self::Begun => with_run(&["status", "body", "headers"]),
            Self::Answer => with_run(&["status", "body"]),
        }
    }
}
