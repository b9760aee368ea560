//! What is to run meanwhile: jobs of every kind and with every limit, and the schedules that call for some of them. What
//! these say in a schedule file is told by `definitions`.

use std::fmt;

use serde_json::{Value, json};

/// What works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    Command,
    Function,
    Http,
    Ssh,
    /// Workers that are not Reveille's.
    External,
}

/// How many runs of a job may be under way at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtOnce {
    pub(crate) most: usize,
    /// For each tenant, not for all together.
    pub(crate) each_tenant: bool,
}

/// How many of them may be sent within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) most: usize,
    pub(crate) seconds: i64,
}

/// What failed children mean for their parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fail {
    Fast,
    AtEnd,
    Tolerate(u32),
    /// Of all of them.
    TolerateParts(u32),
}

impl Fail {
    /// All kinds.
    pub(crate) const ALL: [Self; 4] = [Self::Fast, Self::AtEnd, Self::Tolerate(2), Self::TolerateParts(10)];

    /// How many of so many may fail.
    pub(crate) fn most(self, children: u32) -> u32 {
        match self {
            Self::Fast | Self::AtEnd => 0,
            Self::Tolerate(most) => most,
            Self::TolerateParts(percent) => children * percent / 100,
        }
    }

    /// As callers and jobs write it.
    pub(crate) fn json(self) -> Value {
        match self {
            Self::Fast => json!("fast"),
            Self::AtEnd => json!("at_end"),
            Self::Tolerate(most) => json!({ "tolerate": most }),
            Self::TolerateParts(percent) => json!({ "tolerate": format!("{percent}%") }),
        }
    }
}

/// As the store has it.
impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fast => f.write_str("fast"),
            Self::AtEnd => f.write_str("at_end"),
            Self::Tolerate(most) => write!(f, "tolerate:{most}"),
            Self::TolerateParts(percent) => write!(f, "tolerate:{percent}%"),
        }
    }
}

/// Who gives the inputs of the children that a job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Children {
    /// The caller: its runs are the children.
    OfCaller,
    /// Its handler, which finds them in its own input.
    OfHandler(Fail),
}

/// A job of the drill.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) name: &'static str,
    pub(crate) handler: Handler,
    /// How many of a hundred or so runs that callers start; without a weight it is only chained.
    pub(crate) weight: u32,
    /// How long it works at least and at most, in milliseconds.
    pub(crate) works: (u64, u64),
    /// It fails for good whatever happens.
    pub(crate) is_doomed: bool,
    /// No worker's policy allows what it asks for.
    pub(crate) is_refused: bool,
    /// Its call begins what goes on by itself, and is asked after.
    pub(crate) follows: bool,
    pub(crate) children: Option<Children>,
    /// It is not repeated when it is lost.
    pub(crate) fails_when_lost: bool,
    pub(crate) at_once: Option<AtOnce>,
    pub(crate) rate: Option<Rate>,
    /// It is not started later than so many seconds after its acceptance.
    pub(crate) expires: Option<i64>,
    /// What was lost is asked after before it is run again.
    pub(crate) asks: bool,
    /// Which job its success calls for.
    pub(crate) then: Option<&'static str>,
    pub(crate) priority: &'static str,
}

const fn job(name: &'static str, handler: Handler, weight: u32, works: (u64, u64)) -> Job {
    Job {
        name,
        handler,
        weight,
        works,
        is_doomed: false,
        is_refused: false,
        follows: false,
        children: None,
        fails_when_lost: false,
        at_once: None,
        rate: None,
        expires: None,
        asks: false,
        then: None,
        priority: "normal",
    }
}

const fn at_once(most: usize, each_tenant: bool) -> Option<AtOnce> {
    Some(AtOnce { most, each_tenant })
}

/// All of them. `stubborn` runs under a shell that ignores SIGTERM, as does what it starts. What is asked after goes on for a
/// while when it has taken effect, so that it can be lost between the two, and a call may still be at work when it is asked
/// after. Runs of `part` are children, of low priority, so that others need not wait for them.
pub(crate) const JOBS: [Job; 31] = [
    job("short", Handler::Command, 26, (20, 200)),
    job("long", Handler::Command, 8, (2_000, 12_000)),
    job("flaky", Handler::Command, 7, (50, 400)),
    job("stubborn", Handler::Command, 4, (1_000, 4_000)),
    Job { priority: "low", ..job("chatty", Handler::Command, 5, (100, 1_000)) },
    Job { is_doomed: true, ..job("doomed", Handler::Command, 3, (20, 200)) },
    Job { fails_when_lost: true, ..job("once", Handler::Command, 6, (500, 3_000)) },
    Job { priority: "high", ..job("call", Handler::Http, 12, (20, 300)) },
    job("slow-call", Handler::Http, 5, (1_000, 10_000)),
    job("broken-call", Handler::Http, 4, (50, 500)),
    job("function", Handler::Function, 12, (20, 200)),
    Job { priority: "low", ..job("long-function", Handler::Function, 4, (1_000, 10_000)) },
    job("deaf-function", Handler::Function, 3, (500, 3_000)),
    Job { fails_when_lost: true, ..job("function-once", Handler::Function, 3, (500, 2_000)) },
    Job { at_once: at_once(2, false), priority: "high", ..job("two-at-once", Handler::Command, 12, (1_000, 4_000)) },
    Job { at_once: at_once(1, true), ..job("one-of-each", Handler::Function, 12, (500, 3_000)) },
    Job { rate: Some(Rate { most: 2, seconds: 4 }), ..job("rare", Handler::Command, 5, (20, 200)) },
    Job { expires: Some(3), at_once: at_once(1, false), ..job("fleeting", Handler::Command, 6, (500, 2_500)) },
    Job { asks: true, ..job("asked", Handler::Command, 8, (200, 2_000)) },
    Job { asks: true, priority: "low", ..job("asked-call", Handler::Http, 8, (200, 12_000)) },
    Job { then: Some("second"), ..job("first", Handler::Command, 8, (20, 1_000)) },
    Job { then: Some("third"), ..job("second", Handler::Function, 0, (0, 0)) },
    Job { priority: "high", ..job("third", Handler::Http, 0, (0, 0)) },
    Job { follows: true, ..job("operation", Handler::Http, 12, (500, 8_000)) },
    job("notice", Handler::Http, 4, (20, 300)),
    Job { children: Some(Children::OfCaller), priority: "low", ..job("part", Handler::Function, 2, (20, 400)) },
    Job { children: Some(Children::OfHandler(Fail::Tolerate(2))), ..job("album", Handler::Command, 3, (20, 1_000)) },
    Job { children: Some(Children::OfHandler(Fail::Fast)), ..job("gather", Handler::Function, 3, (20, 1_000)) },
    job("foreign", Handler::External, 10, (200, 4_000)),
    job("remote", Handler::Ssh, 10, (200, 4_000)),
    Job { is_refused: true, ..job("forbidden", Handler::Command, 3, (20, 200)) },
];

/// The job whose runs are children.
pub(crate) const CHILD: &str = "part";

/// A schedule of the drill, due at every instant whose Unix time is a multiple of so many seconds.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) name: &'static str,
    pub(crate) every: i64,
    pub(crate) jobs: &'static [&'static str],
}

/// All of them.
pub(crate) const SCHEDULES: [Schedule; 3] = [
    Schedule { name: "second", every: 1, jobs: &["short"] },
    Schedule { name: "pair", every: 3, jobs: &["function", "call"] },
    Schedule { name: "slow", every: 5, jobs: &["long"] },
];

/// The job of this name.
pub(crate) fn find(name: &str) -> Option<&'static Job> {
    JOBS.iter().find(|job| job.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chained_and_called_for_is_there() {
        let chained = JOBS.iter().filter_map(|job| job.then);
        assert!(
            chained.chain(SCHEDULES.iter().flat_map(|schedule| schedule.jobs).copied()).all(|job| find(job).is_some())
        );
    }

    #[test]
    fn as_many_may_fail_as_a_policy_says() {
        let of = |children| Fail::ALL.map(|fail| fail.most(children));
        assert_eq!((of(9), of(40)), ([0, 0, 2, 0], [0, 0, 2, 4]));
    }
}
