//! Webhooks: who wants to be told what happens to runs, and where. What is told is in [`super::webhook_deliveries`].
//!
//! Whoever changes a webhook or the order of its deliveries locks its row first.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::changes::{Action, Change, DefinitionKind, Spec};
use super::database::Tx;
use super::keys::By;
use super::schedules::ScheduleKey;
use super::{Result, Store};
use crate::crash::{self, Commit};
use crate::state::Status;

/// A subscription to what happens to runs of a namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Its name.
    pub id: Uuid,
    /// The tenant.
    pub namespace: String,
    /// Where deliveries go.
    pub url: String,
    /// What it is for, in its owner's words.
    pub description: Option<String>,
    /// What it wants to be told.
    pub filter: WebhookFilter,
    /// Signs deliveries.
    pub secret: Sealed,
    /// The secret before it, which signs too until that instant.
    pub old_secret: Option<(Sealed, Timestamp)>,
    /// Counts its changes.
    pub version: i64,
    /// When it was made: what has happened before is not told.
    pub created_at: Timestamp,
    /// Since when no delivery has succeeded, if the last attempt failed.
    pub failing_since: Option<Timestamp>,
    /// Nothing is sent: since when, and why.
    pub disabled: Option<(Timestamp, String)>,
}

/// Which entries of histories a webhook wants. An empty list of names is no restriction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookFilter {
    /// Runs of these jobs …
    #[serde(default)]
    pub jobs: Vec<String>,
    /// … that these schedules called for …
    #[serde(default)]
    pub schedules: Vec<String>,
    /// … and the entries from which on a run has one of these statuses.
    pub statuses: Vec<Status>,
}

impl WebhookFilter {
    /// Whether all that it wants to be told is how runs end.
    fn is_of_ends(&self) -> bool {
        self.statuses.iter().all(|status| status.is_terminal())
    }
}

/// An encrypted secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(pub Vec<u8>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(…)")
    }
}

impl Webhook {
    /// A webhook that is enabled.
    #[must_use]
    pub fn new(id: Uuid, namespace: &str, url: &str, filter: WebhookFilter, secret: Sealed) -> Self {
        Self {
            id,
            namespace: namespace.to_owned(),
            url: url.to_owned(),
            description: None,
            filter,
            secret,
            old_secret: None,
            version: 1,
            created_at: Timestamp::UNIX_EPOCH,
            failing_since: None,
            disabled: None,
        }
    }

    /// Sends nothing from now on. One that is disabled already stays so for its first reason.
    pub fn disable(&mut self, now: Timestamp, reason: &str) {
        self.disabled.get_or_insert_with(|| (now, reason.to_owned()));
    }

    /// Sends again, and has all its patience again.
    pub fn enable(&mut self) {
        self.disabled = None;
        self.failing_since = None;
    }

    /// Signs with another secret; the one before stays good for `keep`.
    pub fn rotate(&mut self, secret: Sealed, now: Timestamp, keep: SignedDuration) {
        let old = std::mem::replace(&mut self.secret, secret);
        let until = now.saturating_add(keep).unwrap_or(Timestamp::MAX);
        self.old_secret = (until > now).then_some((old, until));
    }
}

impl Webhook {
    /// Records that something was done to it.
    pub(super) async fn record(&self, tx: &mut dyn Tx, action: Action, (actor, reason): By<'_>) -> Result<()> {
        let key = ScheduleKey { namespace: self.namespace.clone(), name: self.id.to_string() };
        let spec = json!({
            "url": self.url,
            "description": self.description,
            "filter": self.filter,
            "enabled": self.disabled.is_none(),
        });
        let spec = matches!(action, Action::Created | Action::Changed).then_some(Spec::Other(&spec));
        let (kind, version) = (DefinitionKind::Webhook, self.version);
        tx.insert_changes(&[Change { key, kind, version, action, actor, reason, spec }]).await
    }
}

/// What came of the wish for a webhook.
#[derive(Debug, Clone, PartialEq)]
pub enum NewWebhook {
    /// It is there, as it is now.
    Made(Box<Webhook>),
    /// The namespace has as many as it may have.
    TooMany,
}

impl Store {
    /// Makes a webhook known, unless its namespace has `most` already.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn create_webhook(&self, mut new: Webhook, most: i64, by: By<'_>) -> Result<NewWebhook> {
        let mut tx = self.begin().await?;
        // Whoever else counts waits for this, too.
        tx.lock_wishes().await?;
        if tx.count_webhooks(&new.namespace).await? >= most {
            return Ok(NewWebhook::TooMany);
        }
        new.created_at = tx.now();
        tx.insert_webhook(&new).await?;
        new.record(&mut *tx, Action::Created, by).await?;
        heed(&mut *tx).await?;
        crash::around(Commit::SaveWebhook, tx.commit()).await?;
        Ok(NewWebhook::Made(Box::new(new)))
    }

    /// A webhook, unless there is none of this id in the namespace.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn webhook(&self, namespace: &str, id: Uuid) -> Result<Option<Webhook>> {
        self.db.webhook(namespace, id).await
    }

    /// Up to `limit` webhooks of a namespace behind this id.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn webhooks(&self, namespace: &str, after: Uuid, limit: i64) -> Result<Vec<Webhook>> {
        self.db.webhooks(namespace, after, limit).await
    }

    /// All webhooks of all namespaces, for whoever encrypts their secrets anew.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn every_webhook(&self) -> Result<Vec<Webhook>> {
        self.db.every_webhook().await
    }

    /// Changes a webhook as `change` says, which is given the present time; answers how it is then. What one that is enabled
    /// again has not sent goes out at once. What was done, and by whom, is recorded, unless nobody's wish has changed.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn change_webhook(
        &self,
        namespace: &str,
        id: Uuid,
        change: impl FnOnce(&mut Webhook, Timestamp) + Send,
        done: Option<(Action, By<'_>)>,
    ) -> Result<Option<Webhook>> {
        let mut tx = self.begin().await?;
        tx.lock_wishes().await?;
        let locked = tx.lock_webhooks(&[id]).await?.pop().filter(|known| known.namespace == namespace);
        let Some(mut webhook) = locked else { return Ok(None) };
        let was_disabled = webhook.disabled.is_some();
        change(&mut webhook, tx.now());
        if let Some((action, by)) = done {
            webhook.version += 1;
            webhook.record(&mut *tx, action, by).await?;
        }
        tx.save_webhook(&webhook).await?;
        if was_disabled && webhook.disabled.is_none() {
            tx.wake_webhook(id).await?;
        }
        heed(&mut *tx).await?;
        crash::around(Commit::SaveWebhook, tx.commit()).await?;
        Ok(Some(webhook))
    }

    /// Deletes a webhook: it is sent nothing more, also no retries. False if there is none of this id in the namespace.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn delete_webhook(&self, namespace: &str, id: Uuid, by: By<'_>) -> Result<bool> {
        let mut tx = self.begin().await?;
        tx.lock_wishes().await?;
        let locked = tx.lock_webhooks(&[id]).await?.pop().filter(|known| known.namespace == namespace);
        let Some(webhook) = locked else { return Ok(false) };
        tx.delete_webhook(id).await?;
        webhook.record(&mut *tx, Action::Removed, by).await?;
        heed(&mut *tx).await?;
        crash::around(Commit::SaveWebhook, tx.commit()).await?;
        Ok(true)
    }
}

/// Has the entries that some enabled webhook may want kept from now on, and no others. The wishes are locked. One that is
/// disabled as nobody takes its deliveries narrows nothing: what is kept for it is looked at, and dropped.
async fn heed(tx: &mut dyn Tx) -> Result<()> {
    let enabled = tx.enabled_webhooks().await?;
    let wanted = match enabled.is_empty() {
        true => "none",
        false if enabled.iter().all(|webhook| webhook.filter.is_of_ends()) => "ends",
        false => "all",
    };
    tx.put_wishes(wanted).await
}
