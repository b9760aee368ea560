//! Which definition was in force at an instant of the past.

use jiff::Timestamp;
use reveille_shared::definition::Schedule;
use reveille_shared::due::DueTimes;
use reveille_shared::store::{Action, RecordedChange, ScheduleRow};

use super::words::exact;

/// What was in force at an instant.
#[derive(Debug, Clone)]
pub enum Then {
    /// The definition that is in force now, or nobody knows of another one.
    AsNow,
    /// An earlier version.
    Other {
        /// Which.
        version: i64,
        /// Its due times.
        due: DueTimes,
    },
    /// None: the schedule was created later.
    NotYet {
        /// When.
        created_at: Timestamp,
        /// By whom.
        by: String,
    },
    /// None: the schedule had been removed.
    Removed {
        /// When.
        at: Timestamp,
        /// By whom.
        by: String,
        /// Why, in their words.
        reason: Option<String>,
    },
}

impl Then {
    /// Looks it up in the schedule's history, newest first, that reaches back to `at` or to its beginning.
    #[must_use]
    pub fn of(row: &ScheduleRow, history: &[RecordedChange], at: Timestamp) -> Self {
        let mut before = history.iter().filter(|change| change.at <= at);
        let Some(last) = before.find(|change| change.spec.is_some() || change.action == Action::Removed) else {
            return match history.last() {
                Some(first) if first.action == Action::Created => {
                    Self::NotYet { created_at: first.at, by: first.actor.clone() }
                }
                _ => Self::AsNow,
            };
        };
        let Some(spec) = &last.spec else {
            return Self::Removed { at: last.at, by: last.actor.clone(), reason: last.reason.clone() };
        };
        if last.version == row.version {
            return Self::AsNow;
        }
        let due = serde_json::from_value::<Schedule>(spec.clone()).ok().and_then(|then| DueTimes::of(&then).ok());
        // What this build can't read tells nothing.
        due.map_or(Self::AsNow, |due| Self::Other { version: last.version, due })
    }

    /// Why nothing was due, if no definition was in force.
    pub(super) fn not_in_force(&self, name: &str) -> Option<String> {
        match self {
            Self::AsNow | Self::Other { .. } => None,
            Self::NotYet { created_at, by } => {
                Some(format!("Schedule {name} did not exist then: {by} created it at {}.", exact(*created_at)))
            }
            Self::Removed { at, by, reason } => {
                let why = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
                Some(format!("Schedule {name} was not in force then: {by} had removed it at {}{why}.", exact(*at)))
            }
        }
    }
}
