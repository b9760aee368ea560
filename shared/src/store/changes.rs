//! Who changed what, when and why: definitions, keys, webhooks.

use std::str::FromStr;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::definitions::Versioned;
use super::schedules::{ScheduleKey, ScheduleRow};
use super::{Result, Store};
use crate::definition::{Job, Schedule};

/// What kind of thing a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DefinitionKind {
    /// A job.
    Job,
    /// A schedule.
    Schedule,
    /// An API key, by its prefix.
    Key,
    /// A webhook, by its id.
    Webhook,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It came into force, for the first time or again.
    Created,
    /// It has another definition.
    Changed,
    /// It is out of force.
    Removed,
    /// A schedule is not due until it is resumed.
    Paused,
    /// A schedule is due again.
    Resumed,
    /// A key has another secret.
    Rotated,
    /// A key is good for nothing any more.
    Revoked,
}

impl DefinitionKind {
    const ALL: [Self; 4] = [Self::Job, Self::Schedule, Self::Key, Self::Webhook];

    /// The text in the store and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Schedule => "schedule",
            Self::Key => "key",
            Self::Webhook => "webhook",
        }
    }
}

impl FromStr for DefinitionKind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| text.to_owned())
    }
}

impl Action {
    const ALL: [Self; 7] =
        [Self::Created, Self::Changed, Self::Removed, Self::Paused, Self::Resumed, Self::Rotated, Self::Revoked];

    /// The text in the store and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Removed => "removed",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Rotated => "rotated",
            Self::Revoked => "revoked",
        }
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL.into_iter().find(|action| action.as_str() == text).ok_or_else(|| text.to_owned())
    }
}

/// A change to be recorded, at the transaction's instant.
#[derive(Debug, Clone)]
pub(crate) struct Change<'a> {
    pub(crate) key: ScheduleKey,
    pub(crate) kind: DefinitionKind,
    pub(crate) version: i64,
    pub(crate) action: Action,
    pub(crate) actor: &'a str,
    pub(crate) reason: Option<&'a str>,
    pub(crate) spec: Option<Spec<'a>>,
}

/// The definition from then on.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(untagged)]
pub(crate) enum Spec<'a> {
    Job(&'a Job),
    Schedule(&'a Schedule),
    Other(&'a Value),
}

impl<'a> Change<'a> {
    pub(crate) fn of_schedule(row: &'a ScheduleRow, action: Action, actor: &'a str, reason: Option<&'a str>) -> Self {
        let spec = matches!(action, Action::Created | Action::Changed).then_some(Spec::Schedule(&row.schedule));
        let kind = DefinitionKind::Schedule;
        Self { key: row.key(), kind, version: row.version, action, actor, reason, spec }
    }

    pub(crate) fn of_job(job: &Versioned<&'a Job>, action: Action, actor: &'a str, reason: Option<&'a str>) -> Self {
        let spec = (action != Action::Removed).then_some(Spec::Job(job.item));
        let (key, kind) = (ScheduleKey::of_job(job.item), DefinitionKind::Job);
        Self { key, kind, version: job.version, action, actor, reason, spec }
    }
}

/// A change that was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedChange {
    /// Orders the changes of one definition.
    pub seq: i64,
    /// The definition's version from then on.
    pub version: i64,
    /// What was done.
    pub action: Action,
    /// When, by the database's clock.
    pub at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// Why, in their words.
    pub reason: Option<String>,
    /// The definition from then on, where it changed.
    pub spec: Option<Value>,
}

/// A change of something in a namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedChange {
    /// What kind of thing.
    pub kind: DefinitionKind,
    /// Which.
    pub name: String,
    /// What was done to it.
    pub change: RecordedChange,
}

impl Store {
    /// Up to `limit` changes of anything in a namespace before number `before`, newest first.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn changes_of_namespace(&self, namespace: &str, before: i64, limit: i64) -> Result<Vec<NamedChange>> {
        self.db.changes_of_namespace(namespace, before, limit).await
    }

    /// Up to `limit` changes of a job or schedule before number `before`, newest first, be it in force or not.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn changes(
        &self,
        kind: DefinitionKind,
        key: &ScheduleKey,
        before: i64,
        limit: i64,
    ) -> Result<Vec<RecordedChange>> {
        self.db.changes(kind, key, before, limit).await
    }
}
