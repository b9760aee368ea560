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

impl Scope {
    /// The variables that there are.
    pub(super) const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Fire => &["scheduled_for", "fired_at", "schedule", "namespace"],
            Self::Chain => {
                &["output", "input", "error", "parent", "namespace", "schedule", "scheduled_for", "fired_at"]
            }
            Self::Key => &["input", "job", "namespace", "schedule", "scheduled_for"],
            Self::Run => {
                &["input", "scheduled_for", "fired_at", "work_request_id", "attempt", "job", "namespace", "schedule"]
            }
            Self::Children => &[
                "output",
                "input",
                "scheduled_for",
                "fired_at",
                "work_request_id",
                "attempt",
                "job",
                "namespace",
                "schedule",
            ],
            Self::Begun => &[
                "status",
                "body",
                "headers",
                "input",
                "scheduled_for",
                "fired_at",
                "work_request_id",
                "attempt",
                "job",
                "namespace",
                "schedule",
            ],
            Self::Answer => &[
                "status",
                "body",
                "input",
                "scheduled_for",
                "fired_at",
                "work_request_id",
                "attempt",
                "job",
                "namespace",
                "schedule",
            ],
        }
    }
}
