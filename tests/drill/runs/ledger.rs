//! What handlers write down themselves, apart from what Reveille records of them: one line for each thing, added to one
//! file by all of them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use reveille_shared::clock::{Clock as _, SystemClock};
use uuid::Uuid;

/// How often a handler that works says so.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// What a handler does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// It begins.
    Start,
    /// It works.
    Tick,
    /// It has taken effect.
    Done,
    /// It gives up.
    Failed,
}

/// One line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Uuid,
    pub(crate) attempt: u32,
    pub(crate) what: What,
    /// Unix microseconds, by the machine's clock, which is also the database's.
    pub(crate) at_us: i64,
    /// The process that works; 0 if it is the drill's own.
    pub(crate) pid: u32,
}

impl Entry {
    /// Of this instant.
    pub(crate) fn now(id: Uuid, attempt: u32, what: What, pid: u32) -> Self {
        Self { id, attempt, what, at_us: SystemClock.now().as_microsecond(), pid }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, attempt, what, at_us, pid } = self;
        write!(f, "{id} {attempt} {} {at_us} {pid}", what.name())
    }
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let parse = || {
            let [id, attempt, what, at_us, pid] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            Some(Self {
                id: id.parse().ok()?,
                attempt: attempt.parse().ok()?,
                what: What::ALL.into_iter().find(|known| known.name() == what)?,
                at_us: at_us.parse().ok()?,
                pid: pid.parse().ok()?,
            })
        };
        parse().ok_or_else(|| format!("not a line of the ledger: {line:?}"))
    }
}

impl What {
    const ALL: [Self; 4] = [Self::Start, Self::Tick, Self::Done, Self::Failed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Tick => "tick",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let entry =
            Entry { id: Uuid::from_u128(7), attempt: 2, what: What::Done, at_us: 1_700_000_000_000_001, pid: 9 };
        assert_eq!(entry.to_string().parse(), Ok(entry));
        "".parse::<Entry>().unwrap_err();
        "x 1 tick 2 3".parse::<Entry>().unwrap_err();
    }
}
